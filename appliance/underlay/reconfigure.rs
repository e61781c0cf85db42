//! Other gateways, routes and static neighbours of a port that runs, and ports that come and go. Enters: the new ones.
//! Leaves: destinations on their new next hops. A destination is sent to as before until its new next hop has answered, so
//! nothing is lost.
//!
//! A port that comes answers for its addresses before its routes are used, and one that goes still does so after they are
//! not: other hosts have to learn the addresses first.

use super::{
    Actions, Port, Route, Underlay, UnderlayPort,
    neighbours::State,
    routes::{Confidence, Routes},
};
use std::{collections::BTreeSet, net::IpAddr};
use stopover_net::Mac;

/// What of an underlay port can be changed while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Default gateways.
    pub gateways: Vec<IpAddr>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Static neighbours.
    pub neighbours: Vec<(IpAddr, Mac)>,
}

impl Underlay {
    /// Gives `port` these next hops instead of its present ones.
    pub fn change_next_hops(&mut self, now_ms: u64, port: usize, to: NextHops) -> Actions {
        let mut out = Actions::default();
        let Some(p) = self.ports.iter_mut().find(|p| p.config.index == port) else { return out };
        let NextHops { gateways, routes, neighbours } = to;
        (p.config.gateways, p.config.routes) = (gateways, routes);
        let before = std::mem::replace(&mut p.config.neighbours, neighbours.clone());
        for (ip, _) in before.iter().filter(|(ip, _)| neighbours.iter().all(|(other, _)| other != ip)) {
            self.cache.end_static(port, *ip, now_ms);
        }
        for (ip, mac) in neighbours.into_iter().filter(|neighbour| !before.contains(neighbour)) {
            self.cache.put_static(port, ip, mac);
        }
        self.reroute(now_ms, &mut out);
        out
    }

    /// Another port, whose link is down. Its routes are not used yet.
    pub fn add_port(&mut self, config: UnderlayPort) {
        for &(ip, mac) in &config.neighbours {
            self.cache.put_static(config.index, ip, mac);
        }
        self.ports.push(Port::new(config, false));
    }

    /// The routes of a port are used from now on, or not any more. It answers for its addresses in any case.
    pub fn use_port(&mut self, now_ms: u64, port: usize, used: bool) -> Actions {
        let mut out = Actions::default();
        if let Some(p) = self.ports.iter_mut().find(|p| p.config.index == port && p.used != used) {
            p.used = used;
            self.reroute(now_ms, &mut out);
        }
        out
    }

    /// Whether a destination is sent to by this port.
    #[must_use]
    pub fn is_sent_by(&self, port: usize) -> bool {
        self.destinations.values().any(|dst| dst.reported.is_some_and(|to| to.port == port))
    }

    /// Whether there is a route to `dst` by another port than this, with its link up.
    #[must_use]
    pub fn has_route_beside(&self, port: usize, dst: IpAddr) -> bool {
        let others = self.ports.iter().filter(|p| p.used && p.config.index != port);
        let others: Vec<_> = others.map(|p| p.config.clone()).collect();
        Routes::new(&others).resolve(dst, |port| self.is_up(port), |_| Confidence::Unknown).is_some()
    }

    /// A port is no more.
    pub fn remove_port(&mut self, now_ms: u64, port: usize) -> Actions {
        let mut out = Actions::default();
        if self.ports.iter().all(|p| p.config.index != port) {
            return out;
        }
        self.ports.retain(|p| p.config.index != port);
        self.reroute(now_ms, &mut out);
        self.cache.remove_port(port);
        out
    }

    /// Destinations take the routes that are there now.
    fn reroute(&mut self, now_ms: u64, out: &mut Actions) {
        let used = self.ports.iter().filter(|p| p.used);
        let configs: Vec<_> = used.map(|p| p.config.clone()).collect();
        self.routes = Routes::new(&configs);
        self.cache.watch_routers(&self.routes.routers(), now_ms);
        let all: BTreeSet<IpAddr> = self.destinations.keys().copied().collect();
        self.update_routes(now_ms, &all);
        let mut settled = self.send_due_requests(now_ms, out);
        self.update_routes(now_ms, &settled);
        settled.extend(self.send_due_requests(now_ms, out));
        settled.extend(all.into_iter().filter(|dst| !self.is_resolving(*dst)));
        self.report_changes(&settled, out);
    }

    /// Whether the next hop of a destination has been requested and may still answer.
    fn is_resolving(&self, dst: IpAddr) -> bool {
        let hop = self.destinations.get(&dst).and_then(|destination| destination.hop);
        hop.and_then(|hop| self.cache.get(hop.port, hop.next_hop_ip))
            .is_some_and(|neighbour| neighbour.mac().is_none() && neighbour.state() == State::Incomplete)
    }
}

//! Other gateways, routes and static neighbours of a port that runs. Enters: the new ones. Leaves: destinations on their
//! new next hops. A destination is sent to as before until its new next hop has answered, so nothing is lost.

use super::{Actions, Route, Underlay, neighbours::State, routes::Routes};
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
        let configs: Vec<_> = self.ports.iter().map(|p| p.config.clone()).collect();
        self.routes = Routes::new(&configs);
        self.cache.watch_routers(&self.routes.routers(), now_ms);
        let all: BTreeSet<IpAddr> = self.destinations.keys().copied().collect();
        self.update_routes(now_ms, &all);
        let mut settled = self.send_due_requests(now_ms, &mut out);
        self.update_routes(now_ms, &settled);
        settled.extend(self.send_due_requests(now_ms, &mut out));
        settled.extend(all.into_iter().filter(|dst| !self.is_resolving(*dst)));
        self.report_changes(&settled, &mut out);
        out
    }

    /// Whether the next hop of a destination has been requested and may still answer.
    fn is_resolving(&self, dst: IpAddr) -> bool {
        let hop = self.destinations.get(&dst).and_then(|destination| destination.hop);
        hop.and_then(|hop| self.cache.get(hop.port, hop.next_hop_ip))
            .is_some_and(|neighbour| neighbour.mac().is_none() && neighbour.state() == State::Incomplete)
    }
}

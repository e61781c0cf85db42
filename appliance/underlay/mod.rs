//! The control plane of the underlay ports. The appliance owns its VTEP addresses there: it answers ARP, neighbour
//! solicitations and pings for them, resolves the next hop and its MAC for every remote VTEP, and applies path MTU
//! messages. Enters: frames and the time in milliseconds. Leaves: [`Actions`]. No DPDK, no clock, no I/O. The packet
//! path processes VXLAN packets and frames of tenants.
//!
//! - `port.rs` configuration of a port and the addresses that follow from it
//! - `routes.rs` longest-prefix match to port, next hop and source address
//! - `neighbours.rs` the neighbour cache and its timers
//! - `frames.rs` frames to and from bytes
//! - `answer.rs` handling of received frames
//! - `paths.rs` tracked destinations: route, neighbour and path MTU put together
//! - `reconfigure.rs` other routes and neighbours of a running port; ports that come and go
//! - `show.rs` rows for the operator

mod actions;
mod answer;
mod counters;
mod frames;
mod neighbours;
mod paths;
mod port;
mod reconfigure;
mod routes;
mod show;
#[cfg(test)]
mod tests;

pub use actions::{Actions, Event, Resolution};
pub use counters::{Counters, Outcome};
pub use neighbours::State;
pub use port::{Route, UnderlayPort};
pub use reconfigure::NextHops;
pub use routes::NextHop;
pub use show::PathTo;

use counters::Bucket;
use ipnet::IpNet;
use neighbours::{Cache, Due, Solicitation};
use paths::Destination;
use routes::{Confidence, Routes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::Mac;

/// ARP, ND and ping answers of a port per second: far more than stations with caches need, and far less than would
/// occupy the control thread in a storm.
const ANSWERS_PER_S: u64 = 1_000;
/// ARP requests and solicitations of a port per second, so that a start with thousands of VTEPs on one link does not
/// flood it.
const REQUESTS_PER_S: u64 = 1_000;
/// Most requests at once.
const REQUESTS_BURST: u64 = 256;
/// Log lines per second while many events occur.
const EVENTS_PER_S: u64 = 10;
/// Most log lines at once.
const EVENTS_BURST: u64 = 100;
/// Announcements after link up (ANNOUNCE_NUM of RFC 5227 is 2, MAX_NEIGHBOR_ADVERTISEMENT of RFC 4861 is 3).
const ANNOUNCEMENTS: u8 = 3;
/// Between announcements (RetransTimer of RFC 4861 section 7.2.6).
const ANNOUNCE_INTERVAL_MS: u64 = 1_000;

/// A port and its state.
#[derive(Debug)]
struct Port {
    config: UnderlayPort,
    up: bool,
    /// Its routes are used. Not of a port that others do not know yet, or that is about to go.
    used: bool,
    /// Announcements made since link up, and when the next is due.
    announce: Option<(u8, u64)>,
    answers: Bucket,
    requests: Bucket,
    /// When an address of ours was last defended.
    defended_ms: BTreeMap<IpAddr, u64>,
    counters: Counters,
}

impl Port {
    fn new(config: UnderlayPort, used: bool) -> Self {
        Self {
            config,
            up: false,
            used,
            announce: None,
            answers: Bucket::new(ANSWERS_PER_S, ANSWERS_PER_S),
            requests: Bucket::new(REQUESTS_PER_S, REQUESTS_BURST),
            defended_ms: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    fn send(&mut self, frame: Vec<u8>, out: &mut Actions) {
        self.counters.sent += 1;
        out.send.push((self.config.index, frame));
    }
}

/// The control plane of all underlay ports of an appliance. `now_ms` in its calls is any clock that does not go back.
/// Ports begin with the link down: nothing is sent or resolved through a port before [`Underlay::link`] reports it
/// up.
#[derive(Debug)]
pub struct Underlay {
    ports: Vec<Port>,
    routes: Routes,
    cache: Cache,
    destinations: BTreeMap<IpAddr, Destination>,
    /// No learned path MTU expires before this.
    path_mtu_due_ms: u64,
    events: Bucket,
    events_suppressed: u64,
}

impl Underlay {
    /// Creates the control plane of all underlay ports; there may be none.
    #[must_use]
    pub fn new(ports: Vec<UnderlayPort>) -> Self {
        let routes = Routes::new(&ports);
        let mut cache = Cache::default();
        for port in &ports {
            for &(ip, mac) in &port.neighbours {
                cache.put_static(port.index, ip, mac);
            }
        }
        for (port, router) in routes.routers() {
            cache.watch_router(port, router, 0);
        }
        Self {
            ports: ports.into_iter().map(|config| Port::new(config, true)).collect(),
            routes,
            cache,
            destinations: BTreeMap::new(),
            path_mtu_due_ms: u64::MAX,
            events: Bucket::new(EVENTS_PER_S, EVENTS_BURST),
            events_suppressed: 0,
        }
    }

    /// The link of `port` is up or down. A repeated call has no effect. Up: our addresses are announced and
    /// neighbours requested. Down: destinations through the port take another route or are lost.
    pub fn link(&mut self, now_ms: u64, port: usize, up: bool) -> Actions {
        let mut out = Actions::default();
        let Some(p) = self.ports.iter_mut().find(|p| p.config.index == port && p.up != up) else {
            return out;
        };
        p.up = up;
        p.announce = up.then_some((0, now_ms));
        if up {
            self.cache.link_up(port, now_ms);
        }
        let all = self.destinations.keys().copied().collect();
        self.announce(now_ms, &mut out);
        self.update_destinations(now_ms, all, &mut out);
        out
    }

    /// Keeps the remote VTEP at `dst` and `udp_port` resolved. A repeated call has no effect. Several UDP ports of
    /// one address share its resolution.
    pub fn track(&mut self, now_ms: u64, dst: IpAddr, udp_port: u16) -> Actions {
        let mut out = Actions::default();
        let is_new = !self.destinations.contains_key(&dst);
        self.destinations.entry(dst).or_default().udp_ports.insert(udp_port);
        if is_new {
            if self.routes.resolve(dst, |_| true, |_| Confidence::Unknown).is_none() {
                self.push_event(now_ms, Event::NoRoute { dst }, &mut out);
            }
            self.update_destinations(now_ms, BTreeSet::from([dst]), &mut out);
        }
        out
    }

    /// The reverse of [`Underlay::track`]. Nothing is reported.
    pub fn untrack(&mut self, now_ms: u64, dst: IpAddr, udp_port: u16) {
        let Some(destination) = self.destinations.get_mut(&dst) else { return };
        destination.udp_ports.remove(&udp_port);
        if destination.udp_ports.is_empty() {
            if let Some(hop) = destination.hop {
                self.cache.detach(hop.port, hop.next_hop_ip, dst, now_ms);
            }
            self.destinations.remove(&dst);
        }
    }

    /// The neighbours with a MAC, which a successor of this process need not ask for: port, address, MAC.
    pub fn known(&self) -> impl Iterator<Item = (usize, IpAddr, Mac)> {
        self.cache.iter().filter_map(|(port, ip, n)| Some((port, ip, n.mac()?)))
    }

    /// A neighbour that a predecessor of this process knew. It is used, and verified when a destination needs it.
    pub fn inherit(&mut self, now_ms: u64, port: usize, ip: IpAddr, mac: Mac) {
        if self.ports.iter().any(|p| p.config.index == port && p.config.on_link(ip)) {
            self.cache.learn(port, ip, mac, now_ms);
        }
    }

    /// Runs what is due. Call it at [`Underlay::next_tick`] or more often; early calls cost very little.
    pub fn tick(&mut self, now_ms: u64) -> Actions {
        let mut out = Actions::default();
        self.announce(now_ms, &mut out);
        let touched = self.expire_path_mtus(now_ms);
        self.update_destinations(now_ms, touched, &mut out);
        out
    }

    /// When [`Underlay::tick`] is due next, on the caller's clock; not before `now_ms`, `u64::MAX` for never. Any
    /// other call may make it earlier.
    #[must_use]
    pub fn next_tick(&self, now_ms: u64) -> u64 {
        let announcements = self.ports.iter().filter_map(|p| p.announce).map(|(_, due_ms)| due_ms).min();
        let due_ms = self.cache.due_ms().min(self.path_mtu_due_ms).min(announcements.unwrap_or(u64::MAX));
        due_ms.max(now_ms)
    }

    /// Events that were not reported because of the limit.
    #[must_use]
    pub const fn events_suppressed(&self) -> u64 {
        self.events_suppressed
    }

    /// The resolution of a tracked destination, as last reported; `None` while unresolved.
    #[must_use]
    pub fn resolved(&self, dst: IpAddr) -> Option<Resolution> {
        self.destinations.get(&dst)?.reported
    }

    /// The counters of a port.
    #[must_use]
    pub fn counters(&self, port: usize) -> Option<&Counters> {
        self.ports.iter().find(|p| p.config.index == port).map(|p| &p.counters)
    }

    fn push_event(&mut self, now_ms: u64, event: Event, out: &mut Actions) {
        if self.events.take(now_ms) {
            out.events.push(event);
        } else {
            self.events_suppressed += 1;
        }
    }

    fn is_up(&self, port: usize) -> bool {
        self.ports.iter().any(|p| p.config.index == port && p.up)
    }

    /// Announces our addresses on every port that just came up. The first time it also sends probes, as duplicate
    /// address detection does, but does not wait: a VTEP has no other address to use.
    fn announce(&mut self, now_ms: u64, out: &mut Actions) {
        for port in &mut self.ports {
            let Some((announced, due_ms)) = port.announce else { continue };
            if now_ms < due_ms {
                continue;
            }
            let next = announced + 1;
            port.announce =
                (next < ANNOUNCEMENTS).then_some((next, now_ms.saturating_add(ANNOUNCE_INTERVAL_MS)));
            let config = port.config.clone();
            if let Some(own) = config.link_local() {
                port.send(frames::mld_report(&config, own, &config.groups()), out);
            }
            let link_local = config.link_local().map(IpAddr::V6);
            for own in config.addresses.iter().map(IpNet::addr).chain(link_local) {
                if announced == 0 {
                    let probe = match own {
                        IpAddr::V4(own) => frames::arp_request(&config, None, Ipv4Addr::UNSPECIFIED, own),
                        IpAddr::V6(own) => frames::solicit(&config, None, Ipv6Addr::UNSPECIFIED, own),
                    };
                    port.send(probe, out);
                }
                port.send(frames::announcement(&config, own), out);
            }
        }
    }

    /// Routes the `touched` destinations again, sends the requests that are due, and reports what changed.
    fn update_destinations(&mut self, now_ms: u64, mut touched: BTreeSet<IpAddr>, out: &mut Actions) {
        self.update_routes(now_ms, &touched);
        let failed = self.send_due_requests(now_ms, out);
        self.update_routes(now_ms, &failed);
        touched.extend(failed);
        // Rerouting may have created new entries, which are requested at once.
        touched.extend(self.send_due_requests(now_ms, out));
        self.report_changes(&touched, out);
    }

    /// Sends the requests that are due. Returns the destinations whose next hop failed.
    fn send_due_requests(&mut self, now_ms: u64, out: &mut Actions) -> BTreeSet<IpAddr> {
        let mut failed = BTreeSet::new();
        if now_ms < self.cache.due_ms() {
            return failed;
        }
        let ports = std::cell::RefCell::new(&mut self.ports);
        let due = self.cache.expire(
            now_ms,
            |port| ports.borrow().iter().any(|p| p.config.index == port && p.up),
            |port| {
                let mut ports = ports.borrow_mut();
                ports.iter_mut().find(|p| p.config.index == port).is_some_and(|p| p.requests.take(now_ms))
            },
        );
        for (port, ip, due) in due {
            match due {
                Due::Solicit(solicitation) => {
                    let Some(p) = self.ports.iter_mut().find(|p| p.config.index == port) else { continue };
                    let to = match solicitation {
                        Solicitation::All => None,
                        Solicitation::One(mac) => Some(mac),
                    };
                    let frame = match (p.config.source_for(ip), ip) {
                        (Some(IpAddr::V4(src)), IpAddr::V4(ip)) => {
                            frames::arp_request(&p.config, to, src, ip)
                        }
                        (Some(IpAddr::V6(src)), IpAddr::V6(ip)) => frames::solicit(&p.config, to, src, ip),
                        _ => continue,
                    };
                    p.counters.solicitations += 1;
                    p.send(frame, out);
                }
                Due::Failed => {
                    let Some(n) = self.cache.get(port, ip) else { continue };
                    failed.extend(n.users());
                    if n.is_router() || !n.users().is_empty() {
                        self.push_event(now_ms, Event::Unreachable { port, ip }, out);
                    }
                }
            }
        }
        failed
    }
}

//! The routing table of the underlay: connected prefixes, static routes and default gateways of all underlay ports.
//! Enters: the configuration of the ports, once, and a destination. Leaves: port, next hop and source address for it.
//! It knows no MAC addresses; the caller supplies whether a link is up or a next hop answers.

use super::port::{UnderlayPort, is_station};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::IpAddr;

/// The next hop for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Index of the port, as given in [`UnderlayPort::index`].
    pub port: usize,
    /// The station on that link whose MAC the packet is sent to: a router, or the destination itself.
    pub next_hop_ip: IpAddr,
    /// The source address, one of the port's own.
    pub src_ip: IpAddr,
}

/// How reliable a next hop is, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// It does not answer.
    Failed,
    /// Its state is unknown.
    Unknown,
    /// Its MAC is known, from some time ago or from others.
    Known,
    /// It answered recently, or is in use and has not failed.
    Confirmed,
}

/// The origin of a route; between prefixes of equal length the earlier kind wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Connected,
    Static,
    Gateway,
}

#[derive(Debug, Clone)]
struct Entry {
    to: IpNet,
    origin: Origin,
    port: usize,
    via: Option<IpAddr>,
    src_ip: IpAddr,
}

/// The table. It is small (an operator writes it by hand), so a sorted list is searched in order.
#[derive(Debug, Clone)]
pub struct Routes {
    /// Longest prefix first, then [`Origin`], then the order of the configuration.
    entries: Vec<Entry>,
    ports: Vec<UnderlayPort>,
}

impl Routes {
    /// Collects the routes of all ports. A route whose port has no address in the family of its next hop has no
    /// source address to send from and is left out, as is one whose prefix is of another family.
    #[must_use]
    pub fn new(ports: &[UnderlayPort]) -> Self {
        let mut entries = Vec::new();
        for port in ports {
            for &to in &port.addresses {
                let (origin, via, src_ip) = (Origin::Connected, None, to.addr());
                entries.push(Entry { to, origin, port: port.index, via, src_ip });
            }
            let mut through = |to: IpNet, origin: Origin, via: IpAddr| {
                if let Some(src_ip) = port.source_for(via).filter(|_| to.addr().is_ipv4() == via.is_ipv4()) {
                    entries.push(Entry { to, origin, port: port.index, via: Some(via), src_ip });
                }
            };
            for route in &port.routes {
                through(route.to, Origin::Static, route.via);
            }
            for &via in &port.gateways {
                through(default_prefix(via), Origin::Gateway, via);
            }
        }
        entries.sort_by_key(|e| (std::cmp::Reverse(e.to.prefix_len()), e.origin));
        Self { entries, ports: ports.to_vec() }
    }

    /// Longest-prefix match. Links that are not `up` are left out. Among matching routes of the longest prefix, the
    /// first with the most `confidence` wins. `None`: no route, or `dst` cannot be the destination of a tunnel packet
    /// (multicast, broadcast, one of our own).
    pub fn resolve(
        &self,
        dst: IpAddr,
        up: impl Fn(usize) -> bool,
        confidence: impl Fn(&NextHop) -> Confidence,
    ) -> Option<NextHop> {
        if !is_station(dst) || self.ports.iter().any(|p| p.owns(dst) || p.subnet_broadcast(dst)) {
            return None;
        }
        let matching = || self.entries.iter().filter(|e| e.to.contains(&dst) && up(e.port));
        let longest = matching().next()?.to.prefix_len();
        let mut best: Option<(Confidence, NextHop)> = None;
        for entry in matching().take_while(|e| e.to.prefix_len() == longest) {
            let next_hop_ip = entry.via.unwrap_or(dst);
            let hop = NextHop { port: entry.port, next_hop_ip, src_ip: entry.src_ip };
            let trust = confidence(&hop);
            if best.is_none_or(|(most, _)| trust > most) {
                best = Some((trust, hop));
            }
        }
        best.map(|(_, hop)| hop)
    }

    /// The routers of the configuration, as (port, address), each once. They are watched even if no destination uses
    /// them, so that the return of a better one is noticed.
    #[must_use]
    pub fn routers(&self) -> Vec<(usize, IpAddr)> {
        let mut routers: Vec<_> = self.entries.iter().filter_map(|e| Some((e.port, e.via?))).collect();
        routers.sort_unstable();
        routers.dedup();
        routers
    }
}

/// All addresses of a family.
fn default_prefix(of_family: IpAddr) -> IpNet {
    match of_family {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::port::Route;
    use super::*;
    use proptest::prelude::*;
    use stopover_net::Mac;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn port(
        index: usize,
        addresses: &[(&str, u8)],
        gateways: &[&str],
        routes: &[(&str, u8, &str)],
    ) -> UnderlayPort {
        UnderlayPort {
            index,
            mac: Mac::new([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            mtu: 1600,
            addresses: addresses.iter().map(|(a, len)| IpNet::new_assert(ip(a), *len)).collect(),
            vlan: None,
            gateways: gateways.iter().map(|a| ip(a)).collect(),
            routes: routes
                .iter()
                .map(|(to, len, via)| Route { to: IpNet::new_assert(ip(to), *len), via: ip(via) })
                .collect(),
            neighbours: vec![],
        }
    }

    fn hop(port: usize, next_hop: &str, src: &str) -> Option<NextHop> {
        Some(NextHop { port, next_hop_ip: ip(next_hop), src_ip: ip(src) })
    }

    fn two_ports() -> Routes {
        Routes::new(&[
            port(
                0,
                &[("10.0.0.1", 24), ("fd00::1", 64)],
                &["10.0.0.254", "fe80::fe"],
                &[("10.1.0.0", 16, "10.0.0.9")],
            ),
            port(7, &[("172.16.0.1", 16)], &[], &[("10.1.2.0", 24, "172.16.9.9")]),
        ])
    }

    fn resolve(r: &Routes, dst: &str) -> Option<NextHop> {
        r.resolve(ip(dst), |_| true, |_| Confidence::Known)
    }

    #[test]
    fn longest_prefix_wins_across_ports_and_origins() {
        let r = two_ports();
        assert_eq!(resolve(&r, "10.0.0.2"), hop(0, "10.0.0.2", "10.0.0.1"));
        assert_eq!(resolve(&r, "10.1.9.1"), hop(0, "10.0.0.9", "10.0.0.1"));
        assert_eq!(resolve(&r, "10.1.2.1"), hop(7, "172.16.9.9", "172.16.0.1"));
        assert_eq!(resolve(&r, "172.16.3.4"), hop(7, "172.16.3.4", "172.16.0.1"));
        assert_eq!(resolve(&r, "198.51.100.1"), hop(0, "10.0.0.254", "10.0.0.1"));
        assert_eq!(resolve(&r, "fd00::2"), hop(0, "fd00::2", "fd00::1"));
        assert_eq!(resolve(&r, "2001:db8::1"), hop(0, "fe80::fe", "fd00::1"));
    }

    #[test]
    fn a_link_that_is_down_is_not_used() {
        let r = two_ports();
        let up = |p| p == 0;
        assert_eq!(r.resolve(ip("10.1.2.1"), up, |_| Confidence::Known), hop(0, "10.0.0.9", "10.0.0.1"));
        assert_eq!(r.resolve(ip("172.16.3.4"), up, |_| Confidence::Known), hop(0, "10.0.0.254", "10.0.0.1"));
        assert_eq!(r.resolve(ip("10.1.2.1"), |_| false, |_| Confidence::Known), None);
    }

    #[test]
    fn a_gateway_that_does_not_answer_yields_to_the_next_of_the_same_length() {
        let r = Routes::new(&[port(0, &[("10.0.0.1", 24)], &["10.0.0.253", "10.0.0.254"], &[])]);
        let dst = ip("198.51.100.1");
        let first = |trust| {
            move |h: &NextHop| {
                if h.next_hop_ip == ip("10.0.0.253") { trust } else { Confidence::Known }
            }
        };
        for (trust, expected) in [
            (Confidence::Failed, "10.0.0.254"),
            (Confidence::Unknown, "10.0.0.254"),
            (Confidence::Known, "10.0.0.253"),
            (Confidence::Confirmed, "10.0.0.253"),
        ] {
            assert_eq!(r.resolve(dst, |_| true, first(trust)), hop(0, expected, "10.0.0.1"), "{trust:?}");
        }
        assert_eq!(r.routers(), vec![(0, ip("10.0.0.253")), (0, ip("10.0.0.254"))]);
    }

    #[test]
    fn invalid_destinations_have_no_route() {
        let r = two_ports();
        for bad in [
            "10.0.0.1",
            "172.16.0.1",
            "10.0.0.255",
            "10.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
            "127.0.0.1",
            "::",
            "ff02::1",
            "fd00::1",
            "fe80::ff:fe00:0",
        ] {
            assert_eq!(resolve(&r, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_family_the_port_has_no_address_of_is_not_routed() {
        let r =
            Routes::new(&[port(0, &[("10.0.0.1", 24)], &["fd00::fe"], &[("2001:db8::", 32, "10.0.0.9")])]);
        assert_eq!(resolve(&r, "2001:db8::1"), None);
        assert_eq!(r.routers(), vec![]);
    }

    proptest! {
        /// Against the definition: of all prefixes that hold the destination, the longest decides.
        #[test]
        fn agrees_with_brute_force(nets in prop::collection::vec((any::<u32>(), 0u8..=32), 1..40), low: u32, pick: prop::sample::Index) {
            let routes: Vec<_> = nets.iter().enumerate()
                .map(|(i, (net, len))| Route { to: IpNet::new_assert(IpAddr::V4((*net).into()), *len), via: IpAddr::V4((0x0a00_0002 + i as u32).into()) })
                .collect();
            let mut p = port(0, &[("10.0.0.1", 30)], &[], &[]);
            p.routes = routes.clone();
            let table = Routes::new(std::slice::from_ref(&p));
            let (net, len) = nets[pick.index(nets.len())];
            let dst = IpAddr::V4((net ^ low.checked_shr(u32::from(len)).unwrap_or(0)).into());
            prop_assume!(is_station(dst) && !p.on_link(dst));
            let mut best: Option<Route> = None;
            for r in &routes {
                if r.to.contains(&dst) && best.is_none_or(|b| r.to.prefix_len() > b.to.prefix_len()) {
                    best = Some(*r);
                }
            }
            let got = table.resolve(dst, |_| true, |_| Confidence::Known).map(|h| h.next_hop_ip);
            prop_assert_eq!(got, best.map(|b| b.via));
        }
    }
}

//! One underlay port: its configuration, and the addresses that follow from it. Enters: the validated configuration,
//! which the caller converts into [`UnderlayPort`]. No state that changes with traffic.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use stopover_net::ipv6::{ALL_NODES, multicast_mac, solicited_node};
use stopover_net::{Mac, VlanId};

/// A static route of one underlay port: `to` is reached through `via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix; host bits are ignored.
    pub to: IpNet,
    /// The next hop, of the same family. It counts as on-link even if no connected prefix contains it.
    pub via: IpAddr,
}

/// The configuration of one underlay port as this module needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderlayPort {
    /// The index of the port in the appliance, used by callers and this module.
    pub index: usize,
    /// The port's own MAC address: source of every frame sent.
    pub mac: Mac,
    /// Largest IP packet the port sends, in bytes, without Ethernet header and VLAN tag.
    pub mtu: u16,
    /// VTEP addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// The 802.1Q tag the underlay is carried in, if any.
    pub vlan: Option<VlanId>,
    /// Default gateways, the first of a family preferred while it answers.
    pub gateways: Vec<IpAddr>,
    /// Static routes.
    pub routes: Vec<Route>,
    /// Static neighbours: never requested, never changed by traffic.
    pub neighbours: Vec<(IpAddr, Mac)>,
}

impl UnderlayPort {
    /// The link-local address of the port (RFC 4291 appendix A); `None` on a port without any IPv6 address, where
    /// IPv6 stays off altogether.
    #[must_use]
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().any(|net| net.addr().is_ipv6()).then(|| self.mac.link_local())
    }

    /// The appliance answers for `ip` on this port: a VTEP address or the link-local address.
    #[must_use]
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == ip) || self.link_local().is_some_and(|own| ip == own)
    }

    /// `ip` is reached on this link without a router: a connected prefix holds it, or it is link-local.
    #[must_use]
    pub fn on_link(&self, ip: IpAddr) -> bool {
        let link_local =
            matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) && self.link_local().is_some();
        link_local || self.addresses.iter().any(|net| net.contains(&ip))
    }

    /// `ip` is the broadcast or the network address of a connected IPv4 prefix, which no station may own
    /// (RFC 1122 section 3.2.1.3; prefixes of 31 and 32 bits have neither, RFC 3021).
    #[must_use]
    pub fn subnet_broadcast(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|net| {
            net.addr().is_ipv4() && net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast())
        })
    }

    /// The source address for packets to the next hop `hop`: the one with the longest prefix that contains `hop`,
    /// else the first of that family.
    #[must_use]
    pub fn source_for(&self, hop: IpAddr) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|net| net.addr().is_ipv4() == hop.is_ipv4());
        let mut best: Option<&IpNet> = None;
        for net in family().filter(|net| net.contains(&hop)) {
            if best.is_none_or(|longest| net.prefix_len() > longest.prefix_len()) {
                best = Some(net);
            }
        }
        best.or_else(|| family().next()).map(IpNet::addr)
    }

    /// The IPv6 multicast groups the port belongs to beside all-nodes: the solicited-node groups of its addresses
    /// (RFC 4861 section 7.2.1), each once.
    #[must_use]
    pub fn groups(&self) -> Vec<Ipv6Addr> {
        let mut groups = Vec::new();
        let own = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        });
        for group in own.chain(self.link_local()).map(solicited_node) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The multicast MAC addresses that the filter of the port must accept for this module; empty on an IPv4-only
    /// port.
    #[must_use]
    pub fn multicast_macs(&self) -> Vec<Mac> {
        let groups = self.groups();
        let all_nodes = (!groups.is_empty()).then_some(ALL_NODES);
        groups.into_iter().chain(all_nodes).map(multicast_mac).collect()
    }
}

/// `ip` may belong to one station: not unspecified, loopback, multicast, broadcast, class E or IPv4-mapped.
#[must_use]
pub(super) fn is_station(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4 != Ipv4Addr::BROADCAST && v4.octets()[0] != 0 && v4.octets()[0] != 127 && v4.octets()[0] < 224
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast() && v6.to_ipv4_mapped().is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn port(addresses: &[(&str, u8)]) -> UnderlayPort {
        UnderlayPort {
            index: 0,
            mac: Mac::new([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            mtu: 1600,
            addresses: addresses.iter().map(|(a, len)| IpNet::new_assert(ip(a), *len)).collect(),
            vlan: None,
            gateways: vec![],
            routes: vec![],
            neighbours: vec![],
        }
    }

    #[test]
    fn source_prefers_the_longest_prefix_that_holds_the_next_hop() {
        let p = port(&[("10.0.0.1", 8), ("10.1.0.1", 16), ("192.168.0.1", 24), ("fd00::1", 64)]);
        assert_eq!(p.source_for(ip("10.1.2.3")), Some(ip("10.1.0.1")));
        assert_eq!(p.source_for(ip("192.168.0.9")), Some(ip("192.168.0.1")));
        assert_eq!(p.source_for(ip("172.16.0.1")), Some(ip("10.0.0.1")));
        assert_eq!(p.source_for(ip("fe80::1")), Some(ip("fd00::1")));
        assert_eq!(port(&[("10.0.0.1", 8)]).source_for(ip("fd00::2")), None);
    }

    #[test]
    fn ipv6_stays_off_on_an_ipv4_port() {
        let p = port(&[("10.0.0.1", 24)]);
        assert_eq!(p.link_local(), None);
        assert_eq!(p.multicast_macs(), vec![]);
        assert!(!p.on_link(ip("fe80::1")));
    }

    #[test]
    fn groups_and_their_macs() {
        let p = port(&[("fd00::1:2345", 64), ("fd01::1:2345", 64)]);
        let groups: Vec<_> = p.groups().iter().map(ToString::to_string).collect();
        assert_eq!(groups, ["ff02::1:ff01:2345", "ff02::1:ff12:3456"]);
        let macs: Vec<_> = p.multicast_macs().iter().map(ToString::to_string).collect();
        assert_eq!(macs, ["33:33:ff:01:23:45", "33:33:ff:12:34:56", "33:33:00:00:00:01"]);
    }

    #[test]
    fn subnet_broadcast_and_network_address() {
        let p = port(&[("10.0.0.1", 24), ("10.9.0.0", 31), ("10.8.0.7", 32)]);
        assert!(p.subnet_broadcast(ip("10.0.0.255")));
        assert!(p.subnet_broadcast(ip("10.0.0.0")));
        for fine in ["10.0.0.254", "10.9.0.0", "10.9.0.1", "10.8.0.7", "10.1.0.255"] {
            assert!(!p.subnet_broadcast(ip(fine)), "{fine}");
        }
    }

    #[test]
    fn stations() {
        for bad in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_station(ip(bad)), "{bad}");
        }
        assert!(is_station(ip("10.0.0.1")) && is_station(ip("fe80::1")));
    }
}

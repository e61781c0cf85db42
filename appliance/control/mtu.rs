//! What fits inside the underlay. Enters: a port's role and MTU, and the declared MTUs of networks. Leaves: how much
//! remains for guests, and warnings where that is too little. Pure.

use stopover_config::appliance::Role;
use stopover_ctl::Inside;
use stopover_net::outer;
use stopover_net::{IPV6_MIN_MTU, Vni, ethernet, udp, vxlan};
use stopover_tunnel::esp;

/// The largest inner IP packet, by family of a port's VTEP addresses; empty for ports of guests. `sealed`: frames may be
/// encrypted, which leaves less.
#[must_use]
pub fn inside(role: &Role, mtu: u16, sealed: bool) -> Vec<Inside> {
    let Role::Underlay(underlay) = role else { return Vec::new() };
    // The inner Ethernet header is as long as the outer one, which the MTU does not include.
    [(false, outer::V4_LEN), (true, outer::V6_LEN)]
        .into_iter()
        .filter(|(over_ipv6, _)| underlay.addresses.iter().any(|bd| bd.addr().is_ipv6() == *over_ipv6))
        .map(|(over_ipv6, outer)| Inside {
            over_ipv6,
            mtu: match sealed {
                false => mtu.saturating_sub(outer as u16),
                // The outer headers without Ethernet and VXLAN.
                true => sealed_inside(
                    mtu.saturating_sub((outer - vxlan::HEADER_LEN - ethernet::HEADER_LEN) as u16),
                ),
            },
        })
        .collect()
}

/// The largest inner IP packet in a sealed datagram of this length.
#[must_use]
pub fn sealed_inside(datagram: u16) -> u16 {
    let headers = udp::HEADER_LEN + vxlan::HEADER_LEN + ethernet::HEADER_LEN;
    esp::most_text(datagram.into()).saturating_sub(headers) as u16
}

/// A warning if guests cannot use IPv6 through an underlay port.
#[must_use]
pub fn too_small(port: &str, mtu: u16, inside: &[Inside]) -> Option<String> {
    let least = inside.iter().min_by_key(|i| i.mtu).filter(|i| i.mtu < IPV6_MIN_MTU)?;
    let needed = mtu + (IPV6_MIN_MTU - least.mtu);
    Some(format!(
        "port {port}: found MTU {mtu}, which leaves {} bytes inside {}; expected {IPV6_MIN_MTU} there, or IPv6 of guests does not work; hint: set mtu: {needed} or more, on the port and on the underlay",
        least.mtu,
        family(least)
    ))
}

/// A warning if a network's declared MTU does not fit an underlay port.
#[must_use]
pub fn does_not_fit(vni: Vni, declared: u16, port: &str, inside: &[Inside]) -> Option<String> {
    let least = inside.iter().min_by_key(|i| i.mtu).filter(|i| i.mtu < declared)?;
    Some(format!(
        "network {vni}: found MTU {declared} declared; expected at most {}, which fits port {port} inside {}; hint: raise the underlay's MTU by {}, or declare less",
        least.mtu,
        family(least),
        declared - least.mtu
    ))
}

fn family(inside: &Inside) -> &'static str {
    if inside.over_ipv6 { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn underlay(addresses: &str) -> Role {
        let text = format!(
            "(name: \"a\", eal: [\"-l\", \"0-1\"], vdevs: [\"net_null0\"], declared: (), ports: [(name: \"ul0\", device: \"net_null0\", role: underlay(addresses: [{addresses}]))])"
        );
        let file = stopover_config::appliance::parse(&text, Path::new("a.ron"));
        file.unwrap_or_else(|e| panic!("{e}")).ports.remove(0).role
    }

    #[test]
    fn inner_mtu_by_family() {
        let both = inside(&underlay("\"10.0.0.1/24\", \"fd00::1/64\""), 1600, false);
        assert_eq!(both, [Inside { over_ipv6: false, mtu: 1550 }, Inside { over_ipv6: true, mtu: 1530 }]);
        assert_eq!(inside(&underlay("\"fd00::1/64\""), 60, false), [Inside { over_ipv6: true, mtu: 0 }]);
    }

    #[test]
    fn a_seal_and_its_padding_leave_less() {
        let sealed = |address: &str, mtu| inside(&underlay(address), mtu, true)[0].mtu;
        let (v4, v6) = ("\"10.0.0.1/24\"", "\"fd00::1/64\"");
        assert_eq!((sealed(v4, 1592), sealed(v6, 1612)), (1500, 1500));
        assert_eq!((sealed(v4, 1591), sealed(v4, 1595), sealed(v4, 1596)), (1496, 1500, 1504));
        assert_eq!((sealed(v4, 60), sealed(v6, 0)), (0, 0));
    }

    #[test]
    fn mtu_below_the_ipv6_minimum_gives_a_warning_with_the_value_to_set() {
        let role = underlay("\"10.0.0.1/24\", \"fd00::1/64\"");
        assert_eq!(too_small("ul0", 1350, &inside(&role, 1350, false)), None);
        let why = too_small("ul0", 1349, &inside(&role, 1349, false)).unwrap();
        assert!(why.contains("leaves 1279 bytes inside IPv6") && why.contains("mtu: 1350 or more"), "{why}");
        let ipv4 = underlay("\"10.0.0.1/24\"");
        assert_eq!(too_small("ul0", 1330, &inside(&ipv4, 1330, false)), None);
        assert!(too_small("ul0", 1329, &inside(&ipv4, 1329, false)).is_some());
    }

    #[test]
    fn declared_mtu_that_does_not_fit_gives_a_warning() {
        let (vni, inside) = (Vni::new(100).unwrap(), inside(&underlay("\"10.0.0.1/24\""), 1500, false));
        assert_eq!(does_not_fit(vni, 1450, "ul0", &inside), None);
        assert_eq!(does_not_fit(vni, 0, "ul0", &inside), None);
        let why = does_not_fit(vni, 1500, "ul0", &inside).unwrap();
        assert!(why.contains("at most 1450") && why.contains("by 50"), "{why}");
    }
}

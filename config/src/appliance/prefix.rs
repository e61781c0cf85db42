//! Addresses with prefix lengths: the checks of what an underlay port calls its own, its routes and its next
//! hops.

use super::roles::{of, refuse};
use crate::{
    fault::{Checked, fault},
    text,
};
use std::net::IpAddr;

/// `address/length` of either family.
fn split(at: &str, port: &str, s: &str) -> Checked<(IpAddr, u8)> {
    let parsed =
        s.split_once('/').and_then(|(ip, len)| Some((ip.parse::<IpAddr>().ok()?, len.parse::<u8>().ok()?)));
    parsed.filter(|(ip, len)| *len <= bits(*ip)).ok_or_else(|| {
        fault(
            at,
            of(&format!("`{}`", s.escape_debug()), port),
            "an address with prefix length, up to 32 for IPv4 and 128 for IPv6",
            "write it as 10.0.0.1/24 or fd00::1/64",
        )
    })
}

/// An address the appliance owns here.
pub(super) fn interface(at: &str, port: &str, s: &str) -> Checked<(IpAddr, u8)> {
    let (ip, len) = split(at, port, s)?;
    // Below /31 the first and last IPv4 address of a subnet are not a host's (RFC 1122 section 3.2.1.3, RFC 3021).
    let subnet_end = matches!(ip, IpAddr::V4(_))
        && len < 31
        && (masked(ip, len) == ip || number(ip) | !mask(ip, len) & u128::from(u32::MAX) == number(ip));
    if len == 0 || subnet_end || !text::owned_by_one(ip) {
        return Err(fault(
            at,
            of(&format!("`{s}`"), port),
            "a unicast address of the subnet",
            "use the address the appliance itself has there, not the subnet's first or last",
        ));
    }
    Ok((ip, len))
}

/// A destination prefix.
pub(super) fn prefix(at: &str, port: &str, s: &str) -> Checked<(IpAddr, u8)> {
    whole(at, port, "route to ", s, split(at, port, s)?)
}

/// One address, or a prefix for all of its addresses.
pub(super) fn addresses(at: &str, port: &str, s: &str) -> Checked<(IpAddr, u8)> {
    let found = match s.parse::<IpAddr>() {
        Ok(ip) => (ip, bits(ip)),
        Err(_) => split(at, port, s)?,
    };
    whole(at, port, "", s, found)
}

fn whole(at: &str, port: &str, what: &str, s: &str, (ip, len): (IpAddr, u8)) -> Checked<(IpAddr, u8)> {
    let net = masked(ip, len);
    if net != ip {
        return Err(fault(
            at,
            of(&format!("{what}`{s}`"), port),
            "a prefix without host bits",
            format!("write {net}/{len}, or {ip}/{} for the one address", bits(ip)),
        ));
    }
    Ok((ip, len))
}

/// An address on link of one of the port's subnets (or IPv6 link-local), not the port's own.
pub(super) fn next_hop(at: &str, port: &str, what: &str, s: &str, own: &[(IpAddr, u8)]) -> Checked<IpAddr> {
    let ip = text::unicast_ip(s).map_err(refuse(at.to_owned(), &of(what, port), s.escape_debug()))?;
    if own.iter().any(|(a, _)| *a == ip) {
        return Err(fault(
            at,
            of(&format!("{what} {ip}, the port's own address"), port),
            "another machine's address",
            "correct it",
        ));
    }
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let on_link = own
        .iter()
        .any(|&(a, len)| a.is_ipv4() == ip.is_ipv4() && (link_local || masked(a, len) == masked(ip, len)));
    if !on_link {
        let subnets =
            own.iter().map(|(a, l)| format!("{}/{l}", masked(*a, *l))).collect::<Vec<_>>().join(", ");
        return Err(fault(
            at,
            of(&format!("{what} {ip}"), port),
            format!("an address on link, within {subnets}"),
            "correct it, or add the port's address in that subnet",
        ));
    }
    Ok(ip)
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// Network mask over the bits of `ip`'s family.
fn mask(ip: IpAddr, len: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(bits(ip) - len)).unwrap_or(0)
}

fn masked(ip: IpAddr, len: u8) -> IpAddr {
    let n = number(ip) & mask(ip, len);
    match ip {
        // Keeps 32 bits: `number` of an IPv4 address has no more.
        IpAddr::V4(_) => IpAddr::V4(((n & u128::from(u32::MAX)) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(n.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert_eq!(masked(ip("10.1.2.3"), 24), ip("10.1.2.0"));
        assert_eq!(masked(ip("10.1.2.3"), 0), ip("0.0.0.0"));
        assert_eq!(masked(ip("10.1.2.3"), 32), ip("10.1.2.3"));
        assert_eq!(masked(ip("fd00:1:2:3::4"), 48), ip("fd00:1:2::"));
        assert_eq!(masked(ip("fd00::4"), 128), ip("fd00::4"));
        assert_eq!(masked(ip("fd00::4"), 0), ip("::"));
    }

    #[test]
    fn first_and_last_of_a_subnet_are_no_interface() {
        for bad in [
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.3/30",
            "10.0.0.1/0",
            "224.0.0.1/24",
            "10.0.0.1",
            "10.0.0.1/33",
            "fd00::1/129",
        ] {
            assert!(interface("x", "p", bad).is_err(), "{bad}");
        }
        for good in ["10.0.0.0/31", "10.0.0.1/32", "10.0.0.254/24", "fd00::/64", "fe80::1/64"] {
            assert!(interface("x", "p", good).is_ok(), "{good}");
        }
    }
}

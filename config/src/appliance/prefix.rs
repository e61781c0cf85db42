//! Addresses with prefix lengths: the checks of an underlay port's own addresses, its routes and its next
//! hops.

use super::refusals::{of, refusal};
use crate::{
    fault::{Checked, fault},
    text,
};
use ipnet::IpNet;
use std::net::IpAddr;

/// `address/length` of either family.
fn parse(at: &str, port: &str, s: &str) -> Checked<IpNet> {
    s.parse().map_err(|_| {
        fault(
            at,
            of(&format!("`{}`", s.escape_debug()), port),
            "an address with prefix length, up to 32 for IPv4 and 128 for IPv6",
            "write it as 10.0.0.1/24 or fd00::1/64",
        )
    })
}

/// An address the appliance owns here.
pub(super) fn interface(at: &str, port: &str, s: &str) -> Checked<IpNet> {
    let net = parse(at, port, s)?;
    let ip = net.addr();
    // Below /31 the first and last IPv4 address of a subnet are not a host's (RFC 1122 section 3.2.1.3, RFC 3021).
    let subnet_end = ip.is_ipv4() && net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast());
    if net.prefix_len() == 0 || subnet_end || !text::owned_by_one(ip) {
        return Err(fault(
            at,
            of(&format!("`{s}`"), port),
            "a unicast address of the subnet",
            "use the address the appliance itself has there, not the subnet's first or last",
        ));
    }
    Ok(net)
}

/// A destination prefix.
pub(super) fn prefix(at: &str, port: &str, s: &str) -> Checked<IpNet> {
    whole(at, port, "route to ", s, parse(at, port, s)?)
}

/// One address, or a prefix for all of its addresses.
pub(super) fn addresses(at: &str, port: &str, s: &str) -> Checked<IpNet> {
    let found = match s.parse::<IpAddr>() {
        Ok(ip) => ip.into(),
        Err(_) => parse(at, port, s)?,
    };
    whole(at, port, "", s, found)
}

fn whole(at: &str, port: &str, what: &str, s: &str, found: IpNet) -> Checked<IpNet> {
    let (net, one) = (found.trunc(), IpNet::from(found.addr()));
    if net != found {
        return Err(fault(
            at,
            of(&format!("{what}`{s}`"), port),
            "a prefix without host bits",
            format!("write {net}, or {one} for the one address"),
        ));
    }
    Ok(found)
}

/// An address on link of one of the port's subnets (or IPv6 link-local), not the port's own.
pub(super) fn next_hop(at: &str, port: &str, what: &str, s: &str, own: &[IpNet]) -> Checked<IpAddr> {
    let ip = text::unicast_ip(s).map_err(refusal(at.to_owned(), &of(what, port), s.escape_debug()))?;
    if own.iter().any(|net| net.addr() == ip) {
        return Err(fault(
            at,
            of(&format!("{what} {ip}, the port's own address"), port),
            "another machine's address",
            "correct it",
        ));
    }
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let on_link = own.iter().any(|net| net.contains(&ip) || link_local && net.addr().is_ipv6());
    if !on_link {
        let subnets = own.iter().map(|net| net.trunc().to_string()).collect::<Vec<_>>().join(", ");
        return Err(fault(
            at,
            of(&format!("{what} {ip}"), port),
            format!("an address on link, within {subnets}"),
            "correct it, or add the port's address in that subnet",
        ));
    }
    Ok(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_of_a_subnet_are_refused() {
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

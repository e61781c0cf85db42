//! Checks shared by the RON documents and the CSV tables: from the text of one value to its type, with the
//! words for the message when it fails. Knows no file, no position.

use std::{net::IpAddr, str::FromStr};
use stopover_net::{HostName, Mac, Vni};

/// Most VTEP addresses of one host.
pub(crate) const MAX_VTEPS: usize = 4;
/// Most IP addresses of one node.
pub(crate) const MAX_NODE_IPS: usize = 16;
/// IANA's port for VXLAN (RFC 7348 section 8.1).
pub(crate) const VXLAN_UDP_PORT: u16 = 4789;
/// Smallest MTU an IPv4 link may have (RFC 791 section 3.2).
pub(crate) const MIN_MTU: u16 = 68;
/// Smallest MTU of a network: what every IPv4 host must be able to receive (RFC 791 section 3.1).
const MIN_NETWORK_MTU: u16 = 576;

/// A refusal: what was expected, and a hint. The caller adds what was found, as it was
/// spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub expected: String,
    pub hint: String,
}

pub(crate) fn wrong(expected: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { expected: expected.into(), hint: hint.into() }
}

pub(crate) fn vni(n: i64) -> Result<Vni, Wrong> {
    u32::try_from(n).ok().and_then(|n| Vni::new(n).ok()).ok_or_else(|| {
        wrong(
            format!("a VNI from 1 to {} (24 bits, RFC 7348)", Vni::MAX),
            "choose a network identifier within the range",
        )
    })
}

/// A MAC that one station may own.
pub(crate) fn station_mac(s: &str) -> Result<Mac, Wrong> {
    let mac = s.parse::<Mac>().map_err(|_| {
        wrong(
            "a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56",
            "write all six bytes, two digits each, separated by colons",
        )
    })?;
    mac.station().map_err(|_| {
        wrong("a unicast, non-zero MAC address", "use the station's own address; its first byte is even")
    })
}

/// An address one interface may own.
pub(crate) fn unicast_ip(s: &str) -> Result<IpAddr, Wrong> {
    let ip = IpAddr::from_str(s).map_err(|_| {
        wrong("an IPv4 or IPv6 address without prefix length", "write it as 192.0.2.1 or 2001:db8::1")
    })?;
    if owned_by_one(ip) {
        Ok(ip)
    } else {
        Err(wrong(
            "the address of one interface",
            "use a unicast address that is neither unspecified, loopback, multicast nor broadcast",
        ))
    }
}

/// Unicast in the widest sense: not unspecified, loopback, multicast or limited broadcast. An IPv4-mapped
/// IPv6 address never occurs on a wire (RFC 4291 section 2.5.5.2) and is refused with them.
pub(crate) fn owned_by_one(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast || mapped)
}

pub(crate) fn host_name(s: &str) -> Result<HostName, Wrong> {
    HostName::new(s).map_err(|_| {
        wrong(
            "a host name of 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
            "rename the host; the name appears in certificates, file names and metrics",
        )
    })
}

/// A network's free-text name.
pub(crate) fn network_name(s: &str) -> Result<&str, Wrong> {
    if s.chars().count() <= 63 && !s.chars().any(char::is_control) {
        Ok(s)
    } else {
        Err(wrong("at most 63 characters, none of them a control character", "shorten the name"))
    }
}

/// A network's MTU; zero means unset.
pub(crate) fn network_mtu(n: i64) -> Result<u16, Wrong> {
    u16::try_from(n).ok().filter(|&m| m == 0 || m >= MIN_NETWORK_MTU).ok_or_else(|| {
        wrong(
            format!("an MTU in bytes from {MIN_NETWORK_MTU} to 65535, or 0 for unset"),
            "give the largest IP packet a VM of the network may send, for example 1450",
        )
    })
}

pub(crate) fn udp_port(n: i64) -> Result<u16, Wrong> {
    u16::try_from(n).ok().filter(|&p| p != 0).ok_or_else(|| {
        wrong("a UDP port from 1 to 65535", format!("use {VXLAN_UDP_PORT} unless the far end differs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_interface() {
        for good in ["192.0.2.1", "2001:db8::1", "fe80::1"] {
            assert!(unicast_ip(good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:1.2.3.4",
            "1.2.3.4/24",
            "1.2.3",
        ] {
            assert!(unicast_ip(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        assert!(vni(0).is_err() && vni(1).is_ok() && vni(16_777_215).is_ok() && vni(16_777_216).is_err());
        assert!(vni(-1).is_err());
        assert_eq!(network_mtu(0), Ok(0));
        assert!(network_mtu(575).is_err() && network_mtu(65_536).is_err());
        assert!(udp_port(0).is_err() && udp_port(65_535).is_ok() && udp_port(65_536).is_err());
    }
}

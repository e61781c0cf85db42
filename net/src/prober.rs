//! The source MACs of the probes that a host sends to stations of its own segments. No station has one, and no table
//! holds one: a frame to such a MAC is an answer to the host.

use crate::{HostName, Mac};

/// First half of these MACs: locally administered, next to those of stand-ins and end markers.
const PREFIX: [u8; 3] = [0x02, 0x53, 0x55];

/// The MAC of a host: the same on every run, and unlike that of other hosts on the same LAN.
#[must_use]
pub fn mac(host: &HostName) -> Mac {
    // FNV-1a of the name.
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = host.as_str().bytes().fold(0x811c_9dc5, step);
    let ([x, y, z], [_, a, b, c]) = (PREFIX, hash.to_be_bytes());
    Mac::new([x, y, z, a, b, c])
}

/// Whether a MAC is one of these.
#[inline]
#[must_use]
pub fn is_prober_mac(mac: Mac) -> bool {
    let [x, y, z, ..] = mac.octets();
    [x, y, z] == PREFIX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_different_macs() {
        let [a, b] = ["gw-a", "gw-b"].map(|name| mac(&HostName::new(name).unwrap()));
        assert!(a != b && is_prober_mac(a) && is_prober_mac(b) && !a.is_group());
        assert!(!is_prober_mac(Mac::new([2, 0x53, 0x54, 1, 2, 3])));
    }
}

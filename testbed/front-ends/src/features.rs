//! The features that a front end asks for. Enters: their names in a command. Leaves: bits of virtio 1.2 (sections 5.1.3
//! and 6), which the back end must offer.

use anyhow::bail;
use serde::{Deserialize, Serialize};
use virtio_bindings::{virtio_config, virtio_net};

/// Set by vhost-user for its own protocol features; in no header of virtio.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What a command can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// A received frame can take several buffers.
    MrgRxbuf,
    /// Checksums can be left to the other side, both ways.
    Csum,
    /// TCP segments can be uncut, both ways. Needs `Csum`.
    Tso,
    /// Rings have the packed layout.
    Packed,
}

impl Feature {
    fn bits(self) -> u64 {
        let bits: &[u32] = match self {
            Self::MrgRxbuf => &[virtio_net::VIRTIO_NET_F_MRG_RXBUF],
            Self::Csum => &[virtio_net::VIRTIO_NET_F_CSUM, virtio_net::VIRTIO_NET_F_GUEST_CSUM],
            Self::Tso => &[
                virtio_net::VIRTIO_NET_F_HOST_TSO4,
                virtio_net::VIRTIO_NET_F_HOST_TSO6,
                virtio_net::VIRTIO_NET_F_GUEST_TSO4,
                virtio_net::VIRTIO_NET_F_GUEST_TSO6,
            ],
            Self::Packed => &[virtio_config::VIRTIO_F_RING_PACKED],
        };
        bits.iter().map(|bit| 1 << bit).sum()
    }
}

/// The bits to acknowledge for `wanted` and so many queue pairs.
///
/// # Errors
/// The back end does not offer all of them.
pub fn acknowledge(wanted: &[Feature], pairs: u16, offered: u64) -> anyhow::Result<u64> {
    if wanted.contains(&Feature::Tso) && !wanted.contains(&Feature::Csum) {
        bail!("tso needs csum (virtio 1.2 section 5.1.3.1)");
    }
    let mut bits = 1 << virtio_config::VIRTIO_F_VERSION_1 | PROTOCOL_FEATURES;
    if pairs > 1 {
        bits |= 1 << virtio_net::VIRTIO_NET_F_MQ;
    }
    bits = wanted.iter().fold(bits, |bits, feature| bits | feature.bits());
    if bits & !offered != 0 {
        bail!("the back end offers {offered:#x}, without {:#x} for {wanted:?}", bits & !offered);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_standard() {
        let all = [Feature::MrgRxbuf, Feature::Csum, Feature::Tso, Feature::Packed];
        assert_eq!(
            acknowledge(&all, 2, !0).unwrap(),
            1 << 15
                | 1 << 0
                | 1 << 1
                | 1 << 7
                | 1 << 8
                | 1 << 11
                | 1 << 12
                | 1 << 34
                | 1 << 22
                | 1 << 32
                | 1 << 30
        );
        assert_eq!(acknowledge(&[], 1, !0).unwrap(), 1 << 32 | 1 << 30);
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let error = acknowledge(&[Feature::MrgRxbuf], 1, 1 << 32 | 1 << 30).unwrap_err().to_string();
        assert!(error.contains("without 0x8000"), "{error}");
        assert!(acknowledge(&[], 2, 1 << 32 | 1 << 30).is_err());
        assert!(acknowledge(&[Feature::Tso], 1, !0).is_err());
    }
}

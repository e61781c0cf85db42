//! Loop probes: frames by which appliances detect that two of their segment ports are on one LAN, where they would
//! flood each other's frames in a loop. Enters: sender, port, VLAN and network. Leaves: a group frame that every bridge
//! of a LAN forwards and no appliance does.
//!
//! Behind Ethernet header and tag, all in network byte order:
//!
//! | bytes | |
//! |---|---|
//! | 0-3 | `SLP1` |
//! | 4-7 | VNI |
//! | 8-9 | port, as numbered by its sender |
//! | 10-11 | VLAN it was sent with; 0 for none |
//! | 12-19 | instance: a number that the sending process chose at random |
//! | 20 | length of the host's name, 1 to 63 |
//! | 21- | the host's name; zeros up to the shortest Ethernet frame |

use crate::bytes::{array, at, be16, be32, be64, byte};
use crate::ethernet::{self, ethertype};
use crate::{HostName, Mac, Vni};

/// Destination of probes: a locally administered group address without members, which bridges flood.
pub const DESTINATION: Mac = Mac::new([0x03, 0x53, 0x4c, 0x50, 0x00, 0x01]);

const MAGIC: [u8; 4] = *b"SLP1";
const NAME_AT: usize = 21;
/// The shortest Ethernet frame, without its check sequence.
const MIN_FRAME: usize = 60;

/// Contents of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The network.
    pub vni: Vni,
    /// The sender's number of the port.
    pub port: u16,
    /// The VLAN tag it was sent with; 0 for none.
    pub vlan: u16,
    /// Distinguishes two processes with one host name.
    pub instance: u64,
    /// The sending host.
    pub host: HostName,
}

/// Whether a frame with these first bytes is for [`DESTINATION`].
#[inline]
#[must_use]
pub fn is_probe(head: &[u8]) -> bool {
    at(head, 0).is_some_and(|dst: &[u8; 6]| *dst == DESTINATION.octets())
}

/// The frame, sent from MAC `src`.
#[must_use]
pub fn build(src: Mac, probe: &Probe) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ethernet::TAG_LEN + MIN_FRAME + 64);
    frame.extend(DESTINATION.octets());
    frame.extend(src.octets());
    if probe.vlan != 0 {
        frame.extend(ethertype::VLAN.to_be_bytes());
        frame.extend(probe.vlan.to_be_bytes());
    }
    frame.extend(ethertype::LOCAL_2.to_be_bytes());
    frame.extend(MAGIC);
    frame.extend(probe.vni.get().to_be_bytes());
    frame.extend(probe.port.to_be_bytes());
    frame.extend(probe.vlan.to_be_bytes());
    frame.extend(probe.instance.to_be_bytes());
    let name = probe.host.as_str().as_bytes();
    frame.push(name.len() as u8); // at most 63
    frame.extend(name);
    if frame.len() < MIN_FRAME {
        frame.resize(MIN_FRAME, 0);
    }
    frame
}

/// Reads a frame. Returns the VLAN of its tag (0 for none) and the probe; `None` if it is not one of ours.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<(u16, Probe)> {
    let header = ethernet::Header::new_checked(frame).ok()?;
    if header.dst() != DESTINATION {
        return None;
    }
    let mut rest = frame.get(ethernet::HEADER_LEN..)?;
    let (mut kind, mut vlan) = (header.ethertype(), 0);
    if kind == ethertype::VLAN {
        let tag = ethernet::Vlan::new_checked(rest).ok()?;
        (kind, vlan) = (tag.ethertype(), tag.tci() & 0xfff);
        rest = rest.get(ethernet::TAG_LEN..)?;
    }
    let fixed: &[u8; NAME_AT] = at(rest, 0)?;
    if kind != ethertype::LOCAL_2 || array::<0, 4, _>(fixed) != MAGIC {
        return None;
    }
    let name = rest.get(NAME_AT..)?.get(..usize::from(byte::<20, _>(fixed)))?;
    let probe = Probe {
        vni: Vni::new(be32::<4, _>(fixed)).ok()?,
        port: be16::<8, _>(fixed),
        vlan: be16::<10, _>(fixed),
        instance: be64::<12, _>(fixed),
        host: HostName::new(std::str::from_utf8(name).ok()?).ok()?,
    };
    Some((vlan, probe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn probe(vlan: u16, name: &str) -> Probe {
        let (vni, host) = (Vni::new(0x01_0203).unwrap(), HostName::new(name).unwrap());
        Probe { vni, port: 7, vlan, instance: 0x0102_0304_0506_0708, host }
    }

    #[test]
    fn bytes_of_a_probe() {
        let frame = build(Mac::new([2, 0, 0, 0, 0, 9]), &probe(10, "gw-a"));
        let expected = [
            &[3, 0x53, 0x4c, 0x50, 0, 1, 2, 0, 0, 0, 0, 9, 0x81, 0, 0, 10, 0x88, 0xb6][..],
            b"SLP1",
            &[0, 1, 2, 3, 0, 7, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4],
            b"gw-a",
        ]
        .concat();
        assert_eq!(&frame[..expected.len()], expected);
        assert!(frame.len() == 60 && frame[expected.len()..].iter().all(|byte| *byte == 0));
        assert!(is_probe(&frame) && DESTINATION.is_group());
    }

    #[test]
    fn probes_round_trip() {
        for (vlan, name) in [(0, "a"), (4094, "gw-b"), (0, &"x".repeat(63))] {
            let probe = probe(vlan, name);
            assert_eq!(parse(&build(Mac::new([2, 0, 0, 0, 0, 9]), &probe)), Some((vlan, probe)));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_probes_are_read_or_refused(
            cut in 0usize..80,
            changes in vec((0usize..80, any::<u8>()), 0..4),
        ) {
            let mut frame = build(Mac::new([2, 0, 0, 0, 0, 9]), &probe(10, "gateway-of-the-north"));
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut);
            if let Some((vlan, probe)) = parse(&frame) {
                prop_assert!(vlan < 4096 && !probe.host.as_str().is_empty());
            }
        }
    }
}

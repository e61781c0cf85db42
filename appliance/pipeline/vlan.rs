//! Adds and removes one 802.1Q tag, at the edge between a trunk and the overlay. Inside the overlay frames are
//! untagged (RFC 7348 section 6.1).

use super::packet::Packet;

/// Bytes of the two MAC addresses.
const MACS: usize = 12;
/// Bytes of a tag.
pub const TAG: usize = 4;
/// Tag protocol identifier of a customer VLAN tag (IEEE 802.1Q table 9-1).
const TPID: [u8; 2] = [0x81, 0x00];

/// Removes the outermost tag. The frame must begin with 12 bytes of MACs and the tag. False, and nothing changed, if
/// it is shorter.
pub fn pop<P: Packet>(packet: &mut P) -> bool {
    let Some(start) = packet.head_mut().get_mut(..MACS + TAG) else { return false };
    start.copy_within(..MACS, TAG);
    packet.pull(TAG)
}

/// Adds a tag with this priority (PCP and DEI, four bits). False if there is no headroom, or the frame has no MACs.
pub fn push<P: Packet>(packet: &mut P, vlan: u16, priority: u8) -> bool {
    if packet.head().len() < MACS || packet.push(TAG).is_none() {
        return false;
    }
    let Some(start) = packet.head_mut().get_mut(..MACS + TAG) else { return false };
    start.copy_within(TAG.., 0);
    let [high, low] = (u16::from(priority) << 12 | vlan).to_be_bytes();
    start[MACS..].copy_from_slice(&[TPID[0], TPID[1], high, low]);
    true
}

#[cfg(test)]
mod tests {
    use super::super::packet::VecPacket;
    use super::*;

    #[test]
    fn a_tag_is_pushed_between_macs_and_ethertype_and_popped_again() {
        let plain: Vec<u8> = (0..14).chain([0x45; 20]).collect();
        let mut p = VecPacket::new(&plain);
        assert!(push(&mut p, 0x123, 0xd));
        assert_eq!(&p.head()[..12], &plain[..12]);
        assert_eq!(&p.head()[12..18], &[0x81, 0x00, 0xd1, 0x23, 12, 13]);
        assert!(pop(&mut p));
        assert_eq!(p.head(), plain);
    }

    #[test]
    fn short_frames_are_unchanged() {
        let mut p = VecPacket::new(&[0; 11]);
        assert!(!push(&mut p, 1, 0));
        assert!(!pop(&mut p));
        assert_eq!(p.len(), 11);
    }
}

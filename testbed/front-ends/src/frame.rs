//! The frames that front ends send: IPv4 and UDP, with a stamp as payload, behind the header of virtio-net. Enters:
//! addresses, a flow and a sequence number. Leaves: bytes, and what a received frame is.

use std::net::Ipv4Addr;

/// Bytes of virtio-net's header (virtio 1.2 section 5.1.6), and its fields.
pub const NET_HEADER: usize = 12;
const NEEDS_CSUM: u8 = 1;
const CSUM_START: usize = 6;
const CSUM_OFFSET: usize = 8;
const NUM_BUFFERS: usize = 10;

/// Fields of the frame, by their distance from its begin.
const IP: usize = 14;
const UDP: usize = IP + 20;
const UDP_CHECKSUM: usize = UDP + 6;
const STAMP: usize = UDP + 8;
const STAMP_LEN: usize = 12;
/// The sequence number within the stamp, at an even distance as the checksum needs.
const SEQUENCE: usize = STAMP + 8;
/// The shortest frame of Ethernet, without its checksum.
pub const MIN_LEN: usize = 60;
/// The longest that has no VLAN tag, at an MTU of 1500.
pub const MAX_LEN: usize = 1514;

const MAGIC: u16 = 0x7669;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const PROTOCOL_UDP: u8 = 17;
/// The discard service (RFC 863).
const PORT: u16 = 9;

/// Who sends or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its MAC.
    pub mac: [u8; 6],
    /// Its address.
    pub ip: Ipv4Addr,
}

/// A frame of a flow, to be stamped and sent repeatedly.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// The sum of what the UDP checksum covers, without the sequence number; none if the device is to finish it.
    sum: Option<u32>,
}

impl Template {
    /// A frame of `len` bytes, at least [`MIN_LEN`] and at most [`MAX_LEN`]. With `unfinished`, the checksum is left to
    /// the device.
    pub fn new(from: Station, to: Station, flow: u32, len: usize, unfinished: bool) -> Self {
        let len = len.clamp(MIN_LEN, MAX_LEN);
        let ip_len = (len - IP) as u16;
        let udp_len = ip_len - 20;
        let mut frame = Vec::with_capacity(len);
        frame.extend(to.mac);
        frame.extend(from.mac);
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        // Version and length, DSCP, total length; identification, "do not fragment"; TTL, protocol, checksum.
        frame.extend([0x45, 0]);
        frame.extend(ip_len.to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
        frame.extend(from.ip.octets());
        frame.extend(to.ip.octets());
        let checksum = !fold(sum(&frame[IP..UDP]));
        frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend((1024 + (flow % 60_000) as u16).to_be_bytes());
        frame.extend(PORT.to_be_bytes());
        frame.extend(udp_len.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(MAGIC.to_be_bytes());
        frame.extend((len as u16).to_be_bytes());
        frame.extend(flow.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend((frame.len()..len).map(|n| n as u8));

        let mut header = [0; NET_HEADER];
        let mut whole = None;
        if unfinished {
            let pseudo = fold(pseudo_sum(&frame));
            frame[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&pseudo.to_be_bytes());
            header[0] = NEEDS_CSUM;
            header[CSUM_START..CSUM_START + 2].copy_from_slice(&(UDP as u16).to_le_bytes());
            header[CSUM_OFFSET..CSUM_OFFSET + 2].copy_from_slice(&6u16.to_le_bytes());
        } else {
            whole = Some(pseudo_sum(&frame) + sum(&frame[UDP..]));
        }
        Self { bytes: [&header, frame.as_slice()].concat(), sum: whole }
    }

    /// The frame with this sequence number, behind its header.
    #[inline]
    pub fn stamped(&mut self, sequence: u32) -> &[u8] {
        let at = NET_HEADER + SEQUENCE;
        self.bytes[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
        if let Some(sum) = self.sum {
            let all = fold(sum + (sequence >> 16) + (sequence & 0xFFFF));
            // 0 means that there is none (RFC 768).
            let checksum = if all == 0xFFFF { 0xFFFF } else { !all };
            let at = NET_HEADER + UDP_CHECKSUM;
            self.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        &self.bytes
    }
}

/// The sum of 16-bit words (RFC 1071), without carries.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |last| u32::from(*last) << 8);
    words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last
}

/// Adds the carries.
fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xFFFF);
    ((once >> 16) + (once & 0xFFFF)) as u16
}

/// The sum of the pseudo-header (RFC 768).
fn pseudo_sum(frame: &[u8]) -> u32 {
    sum(&frame[IP + 12..UDP]) + u32::from(PROTOCOL_UDP) + sum(&frame[UDP + 4..UDP + 6])
}

/// A broadcast ARP request for the own address (RFC 5227 section 3), behind its header: what a guest sends when its link
/// comes up.
pub fn announcement(from: Station) -> Vec<u8> {
    let mut bytes = vec![0; NET_HEADER];
    bytes.extend([0xFF; 6]);
    bytes.extend(from.mac);
    bytes.extend(ETHERTYPE_ARP.to_be_bytes());
    bytes.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(from.mac);
    bytes.extend(from.ip.octets());
    bytes.extend([0; 6]);
    bytes.extend(from.ip.octets());
    bytes.resize(NET_HEADER + MIN_LEN, 0);
    bytes
}

/// What a received frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// One of ours.
    Stamped {
        /// Its flow.
        flow: u32,
        /// Its number in the flow.
        sequence: u32,
    },
    /// One of ours that is not as it was sent.
    Damaged,
    /// Another one: ARP of the appliance, announcements.
    Other,
}

/// How many buffers a frame takes, by its header.
#[inline]
pub fn buffers(header: &[u8; NET_HEADER]) -> u16 {
    u16::from_le_bytes([header[NUM_BUFFERS], header[NUM_BUFFERS + 1]])
}

/// Reads a whole frame, behind its header.
#[inline]
pub fn read(bytes: &[u8]) -> Received {
    let Some((header, frame)) = bytes.split_first_chunk::<NET_HEADER>() else { return Received::Damaged };
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame.len() < STAMP + STAMP_LEN
        || word(12) != ETHERTYPE_IPV4
        || frame[IP] != 0x45
        || frame[IP + 9] != PROTOCOL_UDP
        || word(STAMP) != MAGIC
    {
        return Received::Other;
    }
    let expected = if header[0] & NEEDS_CSUM == 0 {
        fold(pseudo_sum(frame) + sum(&frame[UDP..])) == 0xFFFF
    } else {
        fold(pseudo_sum(frame)) == word(UDP_CHECKSUM)
    };
    if usize::from(word(STAMP + 2)) != frame.len() || !expected {
        return Received::Damaged;
    }
    let number = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    Received::Stamped { flow: number(STAMP + 4), sequence: number(SEQUENCE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: Station = Station { mac: [2, 0, 0, 0, 0, 1], ip: Ipv4Addr::new(10, 0, 0, 1) };
    const B: Station = Station { mac: [2, 0, 0, 0, 0, 2], ip: Ipv4Addr::new(10, 0, 0, 2) };

    #[test]
    fn the_ip_header_is_one() {
        let mut template = Template::new(A, B, 7, 60, false);
        let frame = &template.stamped(0)[NET_HEADER..];
        assert_eq!(&frame[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        assert_eq!(&frame[14..24], [0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
        // By hand: 4500 + 002E + 4000 + 4011 + 0A00 + 0001 + 0A00 + 0002 = D942.
        assert_eq!(frame[24..26], [0x26, 0xBD]);
        assert_eq!(fold(sum(&frame[14..34])), 0xFFFF);
    }

    #[test]
    fn an_unfinished_frame_says_where_its_checksum_belongs() {
        let mut template = Template::new(A, B, 7, 60, true);
        let bytes = template.stamped(5);
        assert_eq!(bytes[..NET_HEADER], [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0]);
        // 0A00 + 0001 + 0A00 + 0002 + 0011 + the UDP length 26
        assert_eq!(bytes[NET_HEADER + 40..NET_HEADER + 42], [0x14, 0x2E]);
        assert_eq!(read(bytes), Received::Stamped { flow: 7, sequence: 5 });
    }

    #[test]
    fn others_are_known_from_ours() {
        assert_eq!(read(&announcement(A)), Received::Other);
        assert_eq!(announcement(A).len(), NET_HEADER + 60);
        assert_eq!(read(&[0; NET_HEADER + 60]), Received::Other);
        assert_eq!(read(&[0; NET_HEADER]), Received::Other);
        assert_eq!(read(&[0; 3]), Received::Damaged);
        assert_eq!(buffers(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1]), 259);
    }

    proptest! {
        #[test]
        fn a_stamp_is_read_as_written_and_any_change_is_seen(
            flow: u32, sequence: u32, len in 0usize..2000, at in 0usize..2000, bit in 0u32..8,
        ) {
            let mut bytes = Template::new(A, B, flow, len, false).stamped(sequence).to_vec();
            prop_assert_eq!(bytes.len(), NET_HEADER + len.clamp(MIN_LEN, MAX_LEN));
            prop_assert_eq!(read(&bytes), Received::Stamped { flow, sequence });
            let covered = bytes.len() - NET_HEADER - STAMP;
            bytes[NET_HEADER + STAMP + at % covered] ^= 1 << bit;
            prop_assert_ne!(read(&bytes), Received::Stamped { flow, sequence });
            bytes.pop();
            prop_assert!(matches!(read(&bytes), Received::Damaged | Received::Other));
        }
    }
}

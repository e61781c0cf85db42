//! A checksum that the sender left to a device is the one of RFC 9293 section 3.1 and RFC 768, computed here word by
//! word, for all lengths and alignments, whatever is in its field: the fast path and the complete parser agree.

use super::{A, B};
use crate::checksum::nonzero;
use crate::fast_parse::{self, Transport};
use crate::{frame, l4_checksum::finish_l4};
use proptest::{collection::vec, prelude::*};

/// The headers of a frame to build.
#[derive(Debug, Clone, Copy)]
struct Headers {
    tagged: bool,
    ipv6: bool,
    tcp: bool,
}

impl Headers {
    const ALL: [Self; 8] = {
        let (mut all, mut n) = ([Self { tagged: false, ipv6: false, tcp: false }; 8], 0);
        while n < 8 {
            all[n] = Self { tagged: n & 1 != 0, ipv6: n & 2 != 0, tcp: n & 4 != 0 };
            n += 1;
        }
        all
    };

    /// Where the TCP or UDP header begins in the untagged frame.
    fn l4(self) -> usize {
        if self.ipv6 { 54 } else { 34 }
    }

    fn tag_len(self) -> usize {
        if self.tagged { 4 } else { 0 }
    }

    fn field(self) -> usize {
        self.l4() + if self.tcp { 16 } else { 6 }
    }

    /// A frame with these addresses, this data, this in its checksum field, and padding.
    fn frame(self, addresses: &[u8; 32], data: &[u8], field: u16, padding: &[u8]) -> Vec<u8> {
        let l4_len = data.len() as u16 + if self.tcp { 20 } else { 8 };
        let proto = if self.tcp { 6 } else { 17 };
        let mut frame = [B.octets(), A.octets()].concat();
        frame.extend(if self.tagged { &[0x81, 0, 0x20, 10][..] } else { &[] });
        if self.ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(l4_len.to_be_bytes());
            frame.extend([proto, 64]);
            frame.extend(addresses);
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((l4_len + 20).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, proto, 0, 0]);
            frame.extend(&addresses[..8]);
        }
        let l4 = frame.len();
        frame.extend([0x9c, 0x40, 0x12, 0xb5]);
        if self.tcp {
            frame.extend([0, 0, 3, 0xe8, 0, 0, 7, 0xd0, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
        } else {
            frame.extend(l4_len.to_be_bytes());
            frame.extend([0, 0]);
        }
        let at = l4 + self.field() - self.l4();
        frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
        frame.extend(data);
        frame.extend(padding);
        frame
    }

    /// The checksum of an untagged frame with so many bytes of padding: RFC 1071 section 1 over the pseudo header and
    /// the segment or datagram.
    fn expected(self, untagged: &[u8], padding: usize) -> u16 {
        let addresses = self.l4() - if self.ipv6 { 32 } else { 8 };
        let mut covered = untagged[addresses..untagged.len() - padding].to_vec();
        let field = self.field() - addresses;
        covered[field..field + 2].fill(0);
        let l4_len = untagged.len() - padding - self.l4();
        let mut sum = l4_len as u32 + if self.tcp { 6 } else { 17 };
        for pair in covered.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        if self.tcp { sum } else { nonzero(sum) }
    }
}

/// Builds the frame and compares all ways to finish it. Its bytes begin `offset` bytes into their buffer.
fn check(headers: Headers, parts: (&[u8; 32], &[u8], u16, &[u8]), offset: usize) {
    let frame = headers.frame(parts.0, parts.1, parts.2, parts.3);
    let untagged = [&frame[..12], &frame[12 + headers.tag_len()..]].concat();
    let expected = headers.expected(&untagged, parts.3.len()).to_be_bytes();

    let whole = finish_l4(&frame::parse(&frame, frame.len()).unwrap(), [&frame[..]].into_iter()).unwrap();
    assert_eq!((whole.offset, whole.value.to_be_bytes()), (headers.field() + headers.tag_len(), expected));

    let mut finished = untagged.clone();
    finished[headers.field()..headers.field() + 2].copy_from_slice(&expected);
    let mut read = vec![fast_parse::tenant(&frame, frame.len()).unwrap().transport];
    if !headers.tagged {
        read.extend(if headers.ipv6 { Transport::of_sent6(&frame) } else { Transport::of_sent(&frame) });
        assert_eq!(read.len(), 2);
    }
    for transport in read {
        let mut buffer = vec![0xa5; offset];
        buffer.extend(&untagged);
        assert_eq!(transport.fill_checksum(&mut buffer[offset..]), Some(()), "{headers:?}");
        assert!(buffer[offset..] == finished, "{headers:?}, {} bytes of data at {offset}", parts.1.len());
    }
}

#[test]
fn every_length_and_alignment() {
    let data: Vec<u8> = (0..1500_u32).map(|n| (n * 37 + n / 7) as u8 | 0x80).collect();
    for headers in Headers::ALL {
        for len in (0..300).chain([301, 511, 512, 1399, 1400, 1459, 1460]) {
            check(headers, (&[0xfe; 32], &data[..len], 0x1234, &[]), len % 8);
        }
    }
}

#[test]
fn a_computed_zero_is_written_as_all_ones_by_udp_alone() {
    for headers in Headers::ALL {
        // The word that makes the sum of all others 0xffff.
        let frame = headers.frame(&[1; 32], &[0, 0], 0, &[]);
        let untagged = [&frame[..12], &frame[12 + headers.tag_len()..]].concat();
        let word = headers.expected(&untagged, 0).to_be_bytes();
        check(headers, (&[1; 32], &word, 0xbeef, &[]), 0);
        let mut frame = headers.frame(&[1; 32], &word, 0xbeef, &[]);
        let transport = fast_parse::tenant(&frame, frame.len()).unwrap().transport;
        frame.drain(12..12 + headers.tag_len());
        transport.fill_checksum(&mut frame).unwrap();
        let zero = if headers.tcp { [0, 0] } else { [0xff, 0xff] };
        assert_eq!(frame[headers.field()..headers.field() + 2], zero, "{headers:?}");
    }
}

#[test]
fn a_frame_that_is_not_all_there_is_left_as_it_is() {
    for headers in Headers::ALL.into_iter().filter(|headers| !headers.tagged) {
        let mut frame = headers.frame(&[1; 32], &[7; 9], 0xbeef, &[]);
        let transport = fast_parse::tenant(&frame, frame.len()).unwrap().transport;
        let before = frame.clone();
        let short = frame.len() - 1;
        assert_eq!(transport.fill_checksum(&mut frame[..short]), None, "{headers:?}");
        assert_eq!(frame, before);
    }
}

proptest! {
    /// A guest should leave the sum of the pseudo header in the field (virtio 1.2 section 5.1.6.2.1). The result does not
    /// depend on it, nor on padding.
    #[test]
    fn any_frame(
        headers in proptest::sample::select(&Headers::ALL[..]),
        addresses: [u8; 32],
        data in vec(any::<u8>(), 0..1500),
        field: u16,
        padding in vec(any::<u8>(), 0..20),
        offset in 0_usize..64,
    ) {
        check(headers, (&addresses, &data, field, &padding), offset);
    }
}

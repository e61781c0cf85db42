//! The Internet checksum: fast sums over slices (RFC 1071), incremental update (RFC 1624), pseudo headers
//! (RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1). `l4_checksum` applies them to a parsed frame.
//!
//! Sums run over words in native byte order; RFC 1071 section 2(B) shows that only the final 16 bits need
//! swapping. Values handed in and out are in host byte order: store them with `to_be_bytes`.

use crate::bytes::{array, ne64};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A ones-complement sum in the making, over slices of any length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Sum of native-order words, congruent modulo 65535.
    acc: u64,
    /// An odd number of bytes was added: the next byte is the second of its 16-bit word.
    odd: bool,
}

impl Sum {
    /// Nothing added.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { acc: 0, odd: false }
    }

    /// Pseudo header of IPv4; `len` is the length of L4 header and data in bytes.
    #[inline]
    #[must_use]
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: u16) -> Self {
        let mut s = Self::new();
        s.acc += u64::from(u32::from_ne_bytes(src.octets())) + u64::from(u32::from_ne_bytes(dst.octets()));
        s.word(u16::from(protocol));
        s.word(len);
        s
    }

    /// Pseudo header of IPv6; `len` is the length of L4 header and data in bytes.
    #[inline]
    #[must_use]
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: u32) -> Self {
        let mut s = Self::pseudo_rest(protocol, len);
        s.add(&src.octets());
        s.add(&dst.octets());
        s
    }

    /// The part of either pseudo header besides the addresses. `len` as for [`Sum::pseudo_v6`].
    #[inline]
    #[must_use]
    pub fn pseudo_rest(protocol: u8, len: u32) -> Self {
        // The length as two words, both at once.
        let mut s = Self { acc: u64::from(len.to_be()), odd: false };
        s.word(u16::from(protocol));
        s
    }

    /// Adds bytes that follow, in the checksummed data, those added before.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let words = sum_words(bytes);
        let part = if self.odd { u64::from(fold(words).swap_bytes()) } else { words };
        self.acc = plus(self.acc, part);
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Of these bytes. It is compiled into the caller: for short ones.
    #[inline(always)]
    pub(crate) fn of_short(bytes: &[u8]) -> Self {
        Self { acc: sum_words(bytes), odd: bytes.len() % 2 == 1 }
    }

    /// Both together. `other` is of whole words.
    #[inline(always)]
    pub(crate) const fn with(self, other: Self) -> Self {
        Self { acc: plus(self.acc, other.acc), odd: self.odd }
    }

    /// Without one of the 16-bit words, which is given in network byte order: as if it were 0.
    #[inline(always)]
    pub(crate) const fn without(self, word: [u8; 2]) -> Self {
        Self { acc: plus(self.acc, !u16::from_ne_bytes(word) as u64), odd: self.odd }
    }

    /// Adds one 16-bit word given in host order. Only between whole words, as in pseudo headers.
    #[inline]
    fn word(&mut self, word: u16) {
        self.acc += u64::from(word.to_be());
    }

    /// The sum of 16 bits, in host order.
    #[inline]
    #[must_use]
    pub(crate) const fn value(self) -> u16 {
        u16::from_be(fold(self.acc))
    }

    /// The checksum: complement of the sum. Over data that contains a valid checksum it is 0.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !self.value()
    }
}

/// Checksum of one slice.
#[inline]
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    let mut s = Sum::new();
    s.add(bytes);
    s.finish()
}

/// Whether a slice that includes its own checksum field (an IPv4 header) is intact.
#[inline]
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    match <&[u8; 20]>::try_from(bytes) {
        Ok(header) => is_valid_header(header),
        Err(_) => of(bytes) == 0,
    }
}

/// As [`is_valid`], for an IPv4 header without options, as nearly all are.
#[inline(always)]
#[must_use]
pub fn is_valid_header(header: &[u8; 20]) -> bool {
    let last = u64::from(u32::from_ne_bytes(array::<16, 4, _>(header)));
    let (sum, carry) = ne64::<0, _>(header).overflowing_add(ne64::<8, _>(header));
    let (sum, again) = sum.overflowing_add(last + u64::from(carry));
    let sum = sum.wrapping_add(u64::from(again));
    fold(sum) == 0xffff
}

/// The checksum after one 16-bit word under it changed: RFC 1624 equation 3, HC' = ~(~HC + ~m + m').
#[inline]
#[must_use]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    let s = !checksum as u32 + !old as u32 + new as u32;
    let s = (s & 0xffff) + (s >> 16);
    !(((s & 0xffff) + (s >> 16)) as u16)
}

/// UDP writes a computed 0 as 0xffff, because 0 means "no checksum" (RFC 768).
#[inline]
#[must_use]
pub const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// From this length on vectors are faster than words.
const LONG: usize = 256;

/// Sum of `bytes` as native words of 64 bits, the last padded with zeros, congruent modulo 65535.
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    if bytes.len() >= LONG { sum_long(bytes) } else { sum_short(bytes) }
}

#[inline(never)]
fn sum_long(bytes: &[u8]) -> u64 {
    let (long, rest) = sum_blocks(bytes);
    plus(long, sum_short(rest))
}

/// By halves: frames have other lengths, and the iterations of a loop over words would be mispredicted.
#[inline(always)]
fn sum_short(bytes: &[u8]) -> u64 {
    let mut sum = 0_u128;
    let mut add = |word: u64| sum += u128::from(word);
    let (blocks, mut rest) = bytes.as_chunks::<64>();
    for block in blocks {
        block.as_chunks::<8>().0.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
    }
    if let Some((half, others)) = rest.split_first_chunk::<32>() {
        half.as_chunks::<8>().0.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
        rest = others;
    }
    if let Some((half, others)) = rest.split_first_chunk::<16>() {
        half.as_chunks::<8>().0.iter().for_each(|word| add(u64::from_ne_bytes(*word)));
        rest = others;
    }
    if let Some((word, others)) = rest.split_first_chunk::<8>() {
        add(u64::from_ne_bytes(*word));
        rest = others;
    }
    if !rest.is_empty() {
        add(padded(bytes, rest));
    }
    // 2^64 is 1 modulo 65535.
    plus(sum as u64, (sum >> 64) as u64)
}

/// Modulo 2^64 - 1, and so modulo 65535.
#[inline(always)]
const fn plus(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// The last bytes of `bytes`, up to 7, padded with zeros to a word.
#[inline(always)]
fn padded(bytes: &[u8], tail: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (word, others) = (u64::from_ne_bytes(*last), 8 * (8 - tail.len() as u32));
        return if cfg!(target_endian = "little") { word >> others } else { word << others };
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    u64::from_ne_bytes(last)
}

/// The sum of as many whole blocks as there are, and the rest. Eight independent lanes let the compiler use vector adds:
/// measured on 1448 bytes, 33 ns against 86 ns for a chain of 64-bit adds with carry.
#[inline(never)]
fn sum_blocks(bytes: &[u8]) -> (u64, &[u8]) {
    let mut lanes = [0u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    (lanes.iter().sum(), rest)
}

/// Folds the carries: 2^32 and 2^16 are 1 modulo 65535. Only 0 becomes 0.
#[inline]
const fn fold(sum: u64) -> u16 {
    // Either half plus the other and the carry of that addition; then the same once more.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Adds to `sum` the bytes `from..to` of a frame handed over in consecutive `segments`. False if the
/// segments end before `to`.
#[inline]
pub(crate) fn add_range<'a>(
    sum: &mut Sum,
    segments: impl Iterator<Item = &'a [u8]>,
    from: usize,
    to: usize,
    skip: Option<usize>,
) -> bool {
    let mut at = 0;
    for segment in segments {
        let (begin, end) = (from.saturating_sub(at), (to - at).min(segment.len()));
        // The skipped field is a whole word, and lies in one segment as all headers do.
        let hole = skip.and_then(|s| s.checked_sub(at)).filter(|&s| s >= begin && s + 2 <= end);
        match hole {
            Some(s) => {
                sum.add(segment.get(begin..s).unwrap_or_default());
                sum.add(segment.get(s + 2..end).unwrap_or_default());
            }
            None => sum.add(segment.get(begin..end).unwrap_or_default()),
        }
        at += segment.len();
        if at >= to {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 1, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc1071_section_3() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn example_of_rfc1624_section_4() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn udp_zero_becomes_all_ones() {
        assert_eq!(nonzero(0), 0xffff);
        assert_eq!(nonzero(1), 1);
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(of(&bytes), naive(&bytes));
        }

        #[test]
        fn the_segmentation_does_not_change_the_sum(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            cuts in proptest::collection::vec(0usize..300, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut sum = Sum::new();
            let mut from = 0;
            for cut in cuts {
                sum.add(&bytes[from..cut]);
                from = cut;
            }
            sum.add(&bytes[from..]);
            prop_assert_eq!(sum.finish(), naive(&bytes));
        }

        #[test]
        fn incremental_update_keeps_a_header_valid(mut header: [u8; 20], at in 0usize..9, word: u16) {
            // A header of zeros only cannot occur (version 4), and is where +0 and -0 differ.
            header[0] = 0x45;
            header[10..12].fill(0);
            let sum = of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            let at = if at == 5 { 9 } else { at } * 2;
            let old = u16::from_be_bytes([header[at], header[at + 1]]);
            let word = if at == 0 { 0x4500 | word & 0xff } else { word };
            header[at..at + 2].copy_from_slice(&word.to_be_bytes());
            header[10..12].copy_from_slice(&update16(sum, old, word).to_be_bytes());
            prop_assert!(is_valid(&header));
        }

        #[test]
        fn pseudo_headers_equal_their_bytes(s4: [u8; 4], d4: [u8; 4], s6: [u8; 16], d6: [u8; 16], proto: u8, len: u16) {
            let mut b = Vec::from(s4);
            b.extend(d4);
            b.extend([0, proto]);
            b.extend(len.to_be_bytes());
            prop_assert_eq!(Sum::pseudo_v4(s4.into(), d4.into(), proto, len).finish(), naive(&b));
            let mut b = Vec::from(s6);
            b.extend(d6);
            b.extend(u32::from(len).to_be_bytes());
            b.extend([0, 0, 0, proto]);
            prop_assert_eq!(Sum::pseudo_v6(s6.into(), d6.into(), proto, u32::from(len)).finish(), naive(&b));
        }
    }
}

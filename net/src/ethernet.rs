//! Ethernet II header (IEEE 802.3 clause 3) and the 802.1Q tag (IEEE 802.1Q clause 9) as views over bytes.

use crate::Mac;
use crate::bytes::{array, at, be16, put};
use crate::reason::Truncated;
use crate::view::view;

/// Length of an untagged header in bytes.
pub const HEADER_LEN: usize = 14;
/// Bytes that one 802.1Q tag adds.
pub const TAG_LEN: usize = 4;

/// EtherTypes (IEEE 802 numbers, IANA) that Stopover distinguishes.
pub mod ethertype {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// Reverse ARP (RFC 903); QEMU announces a migrated guest with it.
    pub const RARP: u16 = 0x8035;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// Customer VLAN tag (802.1Q C-TAG).
    pub const VLAN: u16 = 0x8100;
    /// Service VLAN tag (802.1ad S-TAG).
    pub const QINQ: u16 = 0x88a8;
    /// "Local Experimental EtherType 1" (IEEE 802-2014 section 9.2.3).
    pub const LOCAL_1: u16 = 0x88b5;
    /// "Local Experimental EtherType 2" (the same).
    pub const LOCAL_2: u16 = 0x88b6;
}

mod field {
    pub const DST: usize = 0;
    pub const SRC: usize = 6;
    pub const ETHERTYPE: usize = 12;
    pub const TCI: usize = 0;
    pub const TAGGED_TYPE: usize = 2;
}

view! {
    /// View of an untagged Ethernet header, or of the first 14 bytes of a tagged one.
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `bytes`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        at(bytes, 0).map(Self).ok_or(Truncated)
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(self) -> Mac {
        Mac::new(array::<{ field::DST }, 6, _>(self.0))
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(self) -> Mac {
        Mac::new(array::<{ field::SRC }, 6, _>(self.0))
    }

    /// EtherType, or a length if below 0x600 (IEEE 802.3 clause 3.2.6).
    #[inline]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        be16::<{ field::ETHERTYPE }, _>(self.0)
    }
}

/// Writes an untagged header.
#[inline]
pub fn emit(out: &mut [u8; HEADER_LEN], dst: Mac, src: Mac, ethertype: u16) {
    put::<{ field::DST }, 6, _>(out, dst.octets());
    put::<{ field::SRC }, 6, _>(out, src.octets());
    put::<{ field::ETHERTYPE }, 2, _>(out, ethertype.to_be_bytes());
}

/// Whether an EtherType announces an 802.1Q or 802.1ad tag.
#[inline]
#[must_use]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == ethertype::VLAN || ethertype == ethertype::QINQ
}

/// An 802.1Q tag: which kind, and its 16 bits of control information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The EtherType that announced it: 0x8100 or 0x88a8.
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
    pub tci: u16,
}

impl Tag {
    /// VLAN identifier, 0 to 4095; 0 means "priority only" (IEEE 802.1Q table 9-2).
    #[inline]
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }

    /// Priority code point and drop eligible indicator: the upper four bits.
    #[inline]
    #[must_use]
    pub const fn pcp_and_dei(self) -> u8 {
        (self.tci >> 12) as u8
    }

    /// Priority code point, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

view! {
    /// View of the four bytes that follow a tag's EtherType: control information and the next EtherType.
    pub struct Vlan[TAG_LEN];
}

impl<'a> Vlan<'a> {
    /// The tag at the start of `bytes`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        at(bytes, 0).map(Self).ok_or(Truncated)
    }

    /// Tag control information.
    #[inline]
    #[must_use]
    pub const fn tci(self) -> u16 {
        be16::<{ field::TCI }, _>(self.0)
    }

    /// EtherType of what follows the tag.
    #[inline]
    #[must_use]
    pub const fn ethertype(self) -> u16 {
        be16::<{ field::TAGGED_TYPE }, _>(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let mut b = [0; HEADER_LEN];
        emit(&mut b, Mac::new([1, 2, 3, 4, 5, 6]), Mac::new([7, 8, 9, 10, 11, 12]), ethertype::ARP);
        let h = Header::new_checked(&b).unwrap();
        assert_eq!(h.dst(), Mac::new([1, 2, 3, 4, 5, 6]));
        assert_eq!(h.src(), Mac::new([7, 8, 9, 10, 11, 12]));
        assert_eq!(h.ethertype(), 0x0806);
        assert!(Header::new_checked(&b[..13]).is_err());
    }

    #[test]
    fn tag_fields() {
        let t = Vlan::new_checked(&[0xa0, 0x64, 0x86, 0xdd]).unwrap();
        let tag = Tag { tpid: ethertype::VLAN, tci: t.tci() };
        assert_eq!((tag.priority(), tag.vid(), t.ethertype()), (5, 100, ethertype::IPV6));
        assert!(Vlan::new_checked(&[0; 3]).is_err());
    }
}

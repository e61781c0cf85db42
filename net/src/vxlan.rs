//! VXLAN header (RFC 7348 section 5) as a view over bytes, and its writer; with the flags that appliances
//! put into its reserved bytes during a migration, and the shim that one of them announces (docs/wire-formats.md,
//! "Overlay flags"). The caller knows whether the sender is an appliance, and so whether these flags are valid.

use crate::bytes::{array, at, be32, byte, put};
use crate::reason::Truncated;
use crate::view::view;
use crate::{Mac, Vni};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 8;
/// The port IANA assigned (RFC 7348 section 8).
pub const UDP_PORT: u16 = 4789;
/// "The I flag MUST be set to 1 for a valid VXLAN Network ID (VNI)" (RFC 7348 section 5).
pub const FLAG_I: u8 = 0x08;
/// Byte position of the reserved byte that carries [`OverlayFlags`].
pub const OVERLAY_FLAGS_AT: usize = field::OVERLAY_FLAGS;
/// Length of the shim in bytes: a node's MAC address and two bytes of zero, which are not read.
pub const SHIM_LEN: usize = 8;

mod field {
    pub const FLAGS: usize = 0;
    pub const VNI_RESERVED: usize = 4;
    pub const OVERLAY_FLAGS: usize = 7;
}

/// Flags about a frame between appliances, in the reserved bytes of the header: three bits in the last byte and, for a
/// group frame, in the first three bytes the nodes that were sent a copy of their own
/// ([`OverlayFlags::separate_copies`]). Other VTEPs ignore them ("ignored on receipt", RFC 7348 section 5), and are
/// sent none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OverlayFlags(u32);

impl OverlayFlags {
    /// An ordinary frame: the bytes are zero, as in RFC 7348.
    pub const NONE: Self = Self(0);
    /// Redirected once, by the node's previous host: not to be redirected again.
    pub const HOP: Self = Self(1);
    /// The inner frame is an end marker ([`crate::marker`]).
    pub const CONTROL: Self = Self(1 << 1);
    /// A shim is between header and inner frame: the frame is for the port of the node it names only.
    pub const NODE: Self = Self(1 << 2);

    const KNOWN: u8 = 7;

    /// The flags in a byte; its other bits are ignored.
    #[inline]
    #[must_use]
    pub const fn of(byte: u8) -> Self {
        Self((byte & Self::KNOWN) as u32)
    }

    /// The byte that carries them.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0 as u8
    }

    /// These, and the set of nodes that are sent a copy of their own ([`separate_copy_bit`]), of 24 bits.
    #[inline]
    #[must_use]
    pub const fn with_separate_copies(self, set: u32) -> Self {
        Self(self.0 & 0xff | set << 8)
    }

    /// The set of nodes that have been sent a copy of this group frame of their own: 24 bits, one for each
    /// ([`separate_copy_bit`]).
    #[inline]
    #[must_use]
    pub const fn separate_copies(self) -> u32 {
        self.0 >> 8
    }

    /// Whether all of `flags` are among these.
    #[inline]
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These and `flags`.
    #[inline]
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// The bit of a node in the set of those that are sent a copy of their own. Many nodes share a bit: of the nodes of a
/// set bit, only those that are migrating, or were until just now, have been sent one.
#[inline]
#[must_use]
pub const fn separate_copy_bit(node: Mac) -> u32 {
    1 << (node.to_u64() % 23)
}

view! {
    /// View of the 8 bytes of a header. Of the reserved bits only the three of [`OverlayFlags`] can be read, and none
    /// decides whether a header is valid: "MUST be set to zero on transmission and ignored on receipt" (RFC 7348
    /// section 5).
    pub struct Header[HEADER_LEN];
}

impl<'a> Header<'a> {
    /// The header at the start of `bytes`; the I flag is set.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let h = Self(at(bytes, 0).ok_or(Truncated)?);
        if h.has_vni() { Ok(h) } else { Err(Truncated) }
    }

    /// Whether the I flag is set.
    #[inline]
    #[must_use]
    pub const fn has_vni(self) -> bool {
        byte::<{ field::FLAGS }, _>(self.0) & FLAG_I != 0
    }

    /// The 24 bits of the network identifier. 0 is possible on the wire although [`Vni`] excludes it.
    #[inline]
    #[must_use]
    pub fn vni(self) -> u32 {
        be32::<{ field::VNI_RESERVED }, _>(self.0) >> 8
    }

    /// The flags in the last reserved byte, valid if the sender is an appliance.
    #[inline]
    #[must_use]
    pub const fn overlay_flags(self) -> OverlayFlags {
        OverlayFlags::of(byte::<{ field::OVERLAY_FLAGS }, _>(self.0))
    }

    /// As [`Header::overlay_flags`], with the set of nodes that are sent a copy of their own.
    #[inline]
    #[must_use]
    pub fn all_overlay_flags(self) -> OverlayFlags {
        self.overlay_flags().with_separate_copies(be32::<{ field::FLAGS }, _>(self.0) & 0x00ff_ffff)
    }
}

/// The 8 bytes of a header for `vni`, unmarked.
#[inline]
#[must_use]
pub const fn bytes(vni: Vni) -> [u8; HEADER_LEN] {
    ((FLAG_I as u64) << 56 | (vni.get() as u64) << 8).to_be_bytes()
}

/// Sets overlay flags in a header that [`bytes`] has made.
#[inline]
pub fn set_flags(header: &mut [u8; HEADER_LEN], flags: OverlayFlags) {
    let [_, copies @ ..] = flags.separate_copies().to_be_bytes();
    put::<1, 3, _>(header, copies);
    put::<OVERLAY_FLAGS_AT, 1, _>(header, [flags.bits()]);
}

/// The shim that names `node`, which precedes the inner frame under a header with [`OverlayFlags::NODE`].
#[inline]
#[must_use]
pub fn shim(node: Mac) -> [u8; SHIM_LEN] {
    let mut out = [0; SHIM_LEN];
    put::<0, 6, _>(&mut out, node.octets());
    out
}

/// The node that a shim names; `None` if it is no station: zero, or a group.
#[inline]
#[must_use]
pub fn shim_node(shim: &[u8; SHIM_LEN]) -> Option<Mac> {
    let mac = Mac::new(array::<0, 6, _>(shim));
    (!mac.is_zero() && !mac.is_group()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_round_trip() {
        let b = bytes(Vni::new(0x12_3456).unwrap());
        assert_eq!(b, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(Header::new_checked(&b).unwrap().vni(), 0x12_3456);
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_i_flag_is_not() {
        let h = Header::new_checked(&[0xff, 0xff, 0xff, 0xff, 0, 0, 7, 0xff]).unwrap();
        assert_eq!(h.vni(), 7);
        assert!(Header::new_checked(&[0xf7, 0, 0, 0, 0, 0, 7, 0]).is_err());
        assert!(Header::new_checked(&[0x08, 0, 0, 0, 0, 0, 7]).is_err());
    }

    #[test]
    fn flags_are_three_bits_that_combine() {
        assert_eq!(
            [OverlayFlags::NONE, OverlayFlags::HOP, OverlayFlags::CONTROL, OverlayFlags::NODE]
                .map(OverlayFlags::bits),
            [0, 1, 2, 4]
        );
        let both = OverlayFlags::HOP.with(OverlayFlags::NODE);
        assert_eq!(both.bits(), 5);
        assert!(both.contains(OverlayFlags::HOP) && both.contains(OverlayFlags::NODE) && both.contains(both));
        assert!(
            !both.contains(OverlayFlags::CONTROL)
                && !both.contains(OverlayFlags::HOP.with(OverlayFlags::CONTROL))
        );
        assert!(both.contains(OverlayFlags::NONE) && !OverlayFlags::NONE.contains(OverlayFlags::HOP));
        assert_eq!(OverlayFlags::of(0xf8), OverlayFlags::NONE);
    }

    #[test]
    fn a_shim_names_a_station() {
        let node = Mac::new([0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(shim(node), [0x52, 0x54, 0, 1, 2, 3, 0, 0]);
        assert_eq!(
            shim_node(&[0x52, 0x54, 0, 1, 2, 3, 0xff, 0xff]),
            Some(node),
            "the last two bytes are not read"
        );
        assert_eq!(shim_node(&[0; 8]), None);
        assert_eq!(shim_node(&shim(Mac::BROADCAST)), None);
        assert_eq!(shim_node(&[1, 0, 0x5e, 0, 0, 1, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn overlay_flags_and_vni_do_not_overlap(mut header: [u8; HEADER_LEN], vni in 1..=Vni::MAX, flags in 0u8..8) {
            let vni = Vni::new(vni).unwrap();
            let unmarked = Header::of(&header).vni();
            let theirs = Header::of(&header).overlay_flags();
            header[7] = flags;
            prop_assert_eq!(Header::of(&header).vni(), unmarked);
            prop_assert_eq!(Header::of(&header).overlay_flags().bits(), flags);
            // Nothing but the last byte is a mark.
            header[7] = theirs.bits();
            let other = !header[0];
            header[..7].fill(other);
            prop_assert_eq!(Header::of(&header).overlay_flags(), theirs);

            let mut ours = bytes(vni);
            prop_assert_eq!(Header::of(&ours).overlay_flags(), OverlayFlags::NONE);
            ours[7] |= flags | 0xf8;
            prop_assert_eq!((Header::of(&ours).vni(), Header::of(&ours).overlay_flags().bits()), (vni.get(), flags));
        }
    }
}

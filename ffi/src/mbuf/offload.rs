//! Offloads of a NIC: what it reports about a received frame, and its work on a frame it sends; checksums and
//! segmentation.

use super::Mbuf;
use crate::sys;

/// The device's result for a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csum {
    /// It did not look.
    Unknown,
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// The data is good, but the field is not filled in: a local sender left that to hardware (what Linux calls
    /// `CHECKSUM_PARTIAL`). It must be filled in before the frame is sent on a wire.
    None,
}

/// Work that a frame's sender left to a device and that is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Payload bytes per TCP segment, if segmentation is pending. `None`: only the layer 4 checksum is missing.
    pub gso: Option<u16>,
}

/// The device's report about a received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxFlags {
    /// TCP or UDP checksum.
    pub l4_csum: Csum,
    /// IPv4 header checksum.
    pub ip_csum: Csum,
    /// The frame is larger than the sender's segments: cut it into segments of `tso_segsz` payload bytes.
    pub lro: bool,
    /// Payload bytes per segment; meaningful with `lro`.
    pub tso_segsz: u16,
    /// TCI (host order) of the VLAN tag that the device removed.
    pub vlan_stripped: Option<u16>,
    /// RSS hash, where the device computed one.
    pub rss_hash: Option<u32>,
}

/// The IP header that the device finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpHeader {
    /// IPv4; `checksum`: the device fills in the header checksum.
    V4 {
        /// Fill in the header checksum.
        checksum: bool,
    },
    /// IPv6.
    V6,
}

/// The layer 4 checksum that the device fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4Offload {
    /// None.
    None,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Work of the device on a frame that is sent; lengths in bytes. The transmit queue writes the
/// pseudo-header sum that devices need in the checksum field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxOffload {
    /// Ethernet header with tags: up to 127.
    pub l2_len: u8,
    /// IP header with options or extension headers: up to 511.
    pub l3_len: u16,
    /// TCP header; needed for segmentation.
    pub l4_len: u8,
    /// Which IP.
    pub ip: IpHeader,
    /// Which checksum.
    pub l4: L4Offload,
    /// Payload bytes per TCP segment; 0: no segmentation.
    pub tso_segsz: u16,
}

impl Mbuf {
    /// The device's report about this frame.
    #[inline]
    pub fn rx_flags(&self) -> RxFlags {
        let flags = self.0.ol_flags();
        let lro = flags & sys::SHIM_RX_LRO != 0;
        RxFlags {
            l4_csum: match flags & sys::SHIM_RX_L4_CSUM_MASK {
                sys::SHIM_RX_L4_CSUM_GOOD => Csum::Good,
                sys::SHIM_RX_L4_CSUM_BAD => Csum::Bad,
                sys::SHIM_RX_L4_CSUM_NONE => Csum::None,
                _ => Csum::Unknown,
            },
            ip_csum: match flags & sys::SHIM_RX_IP_CSUM_MASK {
                sys::SHIM_RX_IP_CSUM_GOOD => Csum::Good,
                sys::SHIM_RX_IP_CSUM_BAD => Csum::Bad,
                sys::SHIM_RX_IP_CSUM_NONE => Csum::None,
                _ => Csum::Unknown,
            },
            lro,
            tso_segsz: if lro { (self.0.tx_offload() >> sys::SHIM_TSO_SEGSZ_SHIFT) as u16 } else { 0 },
            vlan_stripped: (flags & sys::SHIM_RX_VLAN_STRIPPED != 0).then(|| self.0.vlan_tci()),
            rss_hash: (flags & sys::SHIM_RX_RSS_HASH != 0).then(|| self.0.rss()),
        }
    }

    /// Whether the device reported nothing for [`rx_flags`](Self::rx_flags) except good checksums and a hash.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        // "None" is both, good and bad, so that one mask finds it as well.
        const { assert!(sys::SHIM_RX_L4_CSUM_NONE & sys::SHIM_RX_L4_CSUM_BAD != 0) };
        let odd = sys::SHIM_RX_L4_CSUM_BAD | sys::SHIM_RX_LRO | sys::SHIM_RX_VLAN_STRIPPED;
        self.0.ol_flags() & odd == 0
    }

    /// Whether the only thing that [`rx_flags`](Self::rx_flags) reports, besides good checksums and a hash, is
    /// [`Csum::None`].
    #[inline(always)]
    pub fn lacks_only_checksum(&self) -> bool {
        let marks = sys::SHIM_RX_L4_CSUM_MASK | sys::SHIM_RX_LRO | sys::SHIM_RX_VLAN_STRIPPED;
        self.0.ol_flags() & marks == sys::SHIM_RX_L4_CSUM_NONE
    }

    /// Requests checksums or segmentation from the device, in place of earlier requests and reports. `false`, and
    /// nothing changed, if a length does not fit the mbuf's field. Request only what [`Granted`](crate::Granted)
    /// allows.
    #[inline]
    pub fn set_tx_offload(&mut self, want: TxOffload) -> bool {
        if u32::from(want.l2_len) >> sys::SHIM_L2_LEN_BITS != 0
            || u32::from(want.l3_len) >> sys::SHIM_L3_LEN_BITS != 0
        {
            return false;
        }
        let tso = want.tso_segsz != 0;
        let mut flags = match want.ip {
            // Segmentation changes the total length, so the device has to redo the IPv4 header's sum as well.
            IpHeader::V4 { checksum } if checksum || tso => sys::SHIM_TX_IPV4 | sys::SHIM_TX_IP_CSUM,
            IpHeader::V4 { .. } => sys::SHIM_TX_IPV4,
            IpHeader::V6 => sys::SHIM_TX_IPV6,
        };
        flags |= match want.l4 {
            L4Offload::None => 0,
            L4Offload::Tcp => sys::SHIM_TX_TCP_CSUM,
            L4Offload::Udp => sys::SHIM_TX_UDP_CSUM,
        };
        if tso {
            flags |= sys::SHIM_TX_TCP_SEG;
        }
        self.0.set_ol_flags((self.0.ol_flags() & sys::SHIM_ATTACHED) | flags);
        self.0.set_tx_offload(
            u64::from(want.l2_len) << sys::SHIM_L2_LEN_SHIFT
                | u64::from(want.l3_len) << sys::SHIM_L3_LEN_SHIFT
                | u64::from(want.l4_len) << sys::SHIM_L4_LEN_SHIFT
                | u64::from(want.tso_segsz) << sys::SHIM_TSO_SEGSZ_SHIFT,
        );
        true
    }

    /// Work on this frame that is still left to a device: by its sender ([`Csum::None`], [`RxFlags::lro`]), or by a
    /// request ([`set_tx_offload`](Self::set_tx_offload)) to a device that did not take the frame. `None`: the frame is
    /// complete.
    ///
    /// A frame that a transmit queue returned may have changed. Its layer 4 checksum field holds one
    /// of three things: what the sender put there; the pseudo-header's sum, where the driver prepared it (see
    /// [`TxQueue::burst`](crate::TxQueue::burst)); or the whole checksum, where `net_vhost` computed it in software
    /// because the guest takes no unfinished frames, and in that case the driver removed the request from the mbuf, so
    /// that it is complete here too. Bytes and this value together describe the frame. Code that finishes it later must
    /// not read that field: request it from a device again (which prepares it again, from the headers), or compute the
    /// whole checksum.
    #[inline]
    pub fn unfinished(&self) -> Option<Unfinished> {
        let flags = self.0.ol_flags();
        let segment_size = (self.0.tx_offload() >> sys::SHIM_TSO_SEGSZ_SHIFT) as u16;
        if flags & (sys::SHIM_TX_TCP_SEG | sys::SHIM_RX_LRO) != 0 {
            return Some(Unfinished { gso: Some(segment_size) });
        }
        let requested = matches!(flags & sys::SHIM_TX_L4_MASK, sys::SHIM_TX_TCP_CSUM | sys::SHIM_TX_UDP_CSUM);
        let left = flags & sys::SHIM_RX_L4_CSUM_MASK == sys::SHIM_RX_L4_CSUM_NONE;
        (requested || left).then_some(Unfinished { gso: None })
    }

    /// Marks the frame as one whose sender left this to a device, in place of earlier requests and reports. `what` is
    /// the [`unfinished`](Self::unfinished) of the frame with these bytes. [`rx_flags`](Self::rx_flags) then has
    /// [`Csum::None`] and, with `gso`, `lro` and its `tso_segsz`.
    #[inline]
    pub fn mark_unfinished(&mut self, what: Unfinished) {
        let lro = if what.gso.is_some() { sys::SHIM_RX_LRO } else { 0 };
        self.0.set_ol_flags((self.0.ol_flags() & sys::SHIM_ATTACHED) | sys::SHIM_RX_L4_CSUM_NONE | lro);
        self.0.set_tx_offload(u64::from(what.gso.unwrap_or(0)) << sys::SHIM_TSO_SEGSZ_SHIFT);
    }

    /// Does what the frame requests from a device that is a guest, as far as the guest does not: it `takes_checksums`
    /// unfinished, or it `cuts` segments (of IPv6, or of IPv4). False if the guest cannot take the frame.
    pub(crate) fn finish_for_guest(
        &mut self,
        takes_checksums: bool,
        cuts: impl FnOnce(bool) -> bool,
    ) -> bool {
        let flags = self.0.ol_flags();
        if flags & sys::SHIM_TX_TCP_SEG != 0 {
            return cuts(flags & sys::SHIM_TX_IPV6 != 0);
        }
        let requested = matches!(flags & sys::SHIM_TX_L4_MASK, sys::SHIM_TX_TCP_CSUM | sys::SHIM_TX_UDP_CSUM);
        if takes_checksums || !requested {
            return true;
        }
        // SAFETY: an mbuf that is ours alone; the shim checks that the headers it reads are there.
        unsafe { sys::shim_finish_checksum(self.0.raw()) == 0 }
    }

    /// Clears the device's report and requests to it: the frame is an ordinary one.
    #[inline]
    pub fn clear_offload(&mut self) {
        self.0.set_ol_flags(self.0.ol_flags() & sys::SHIM_ATTACHED);
        self.0.set_tx_offload(0);
    }
}

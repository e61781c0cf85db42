//! The mbuf as the packet type of the stages.

use crate::pipeline::packet::{Packet, Pool, TxOffload};
use dpdk::{Csum, IpHeader, L4Offload, Mbuf, Mempool};
use stopover_net::VlanId;

impl Packet for Mbuf {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len()
    }
    #[inline(always)]
    fn head(&self) -> &[u8] {
        self.head()
    }
    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        self.head_mut()
    }
    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.segment_slices()
    }
    #[inline(always)]
    fn push(&mut self, n: usize) -> Option<&mut [u8]> {
        self.push(n)
    }
    #[inline(always)]
    fn pull(&mut self, n: usize) -> bool {
        self.pull(n)
    }
    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        self.truncate(len)
    }
    #[inline]
    fn replace(&mut self, bytes: &[u8]) -> bool {
        self.replace(bytes)
    }
    #[inline(always)]
    fn checksum_unfilled(&self) -> bool {
        self.rx_flags().l4_csum == Csum::None
    }
    #[inline(always)]
    fn checksum_bad(&self) -> bool {
        self.rx_flags().l4_csum == Csum::Bad
    }
    #[inline(always)]
    fn gso_size(&self) -> Option<u16> {
        let flags = self.rx_flags();
        flags.lro.then_some(flags.tso_segsz)
    }
    #[inline(always)]
    fn stripped_vlan(&self) -> Option<VlanId> {
        self.rx_flags().vlan_stripped.and_then(|tci| VlanId::new(tci & 0xfff).ok())
    }
    fn request_offload(&mut self, offload: TxOffload) -> bool {
        let TxOffload { l2_len, l3_len, l4_len, ipv6, tcp, gso_size } = offload;
        self.set_tx_offload(dpdk::TxOffload {
            l2_len,
            l3_len,
            l4_len,
            ip: if ipv6 { IpHeader::V6 } else { IpHeader::V4 { checksum: false } },
            l4: if tcp { L4Offload::Tcp } else { L4Offload::Udp },
            tso_segsz: gso_size,
        })
    }
    #[inline(always)]
    fn clear_offload(&mut self) {
        self.clear_offload();
    }
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.is_plain()
    }
    #[inline(always)]
    fn lacks_only_checksum(&self) -> bool {
        self.lacks_only_checksum()
    }
    #[inline(always)]
    fn cut(&mut self, from: usize, len: usize) -> bool {
        self.cut(from, len)
    }
}

/// The lcore's mempool as a [`Pool`].
#[derive(Debug)]
pub struct MbufPool(pub Mempool);

impl Pool<Mbuf> for MbufPool {
    fn copy(&mut self, packet: &Mbuf) -> Option<Mbuf> {
        packet.copy(&self.0)
    }

    /// The usual headroom remains free before `head`, for a tunnel header. Only a copy that does not fit one buffer
    /// uses it.
    fn copy_range(&mut self, head: &[u8], packet: &Mbuf, from: usize, len: usize) -> Option<Mbuf> {
        let mut copy = self.0.alloc()?;
        if let Some(room) = copy.extend(head.len() + len) {
            let (start, rest) = room.split_at_mut(head.len());
            start.copy_from_slice(head);
            return gather(packet, from, rest).then_some(copy);
        }
        let mut copy = packet.copy_range(&self.0, from, len)?;
        copy.push(head.len())?.copy_from_slice(head);
        copy.clear_offload();
        Some(copy)
    }

    fn make(&mut self, bytes: &[u8]) -> Option<Mbuf> {
        Mbuf::from_slice(&self.0, bytes)
    }
}

/// Fills `out` with the bytes of `packet` from `from` on. False if it has fewer.
fn gather(packet: &Mbuf, from: usize, mut out: &mut [u8]) -> bool {
    let mut skip = from;
    for segment in packet.segment_slices() {
        let Some(bytes) = segment.get(skip..) else {
            skip -= segment.len();
            continue;
        };
        skip = 0;
        let n = bytes.len().min(out.len());
        let (now, later) = out.split_at_mut(n);
        now.copy_from_slice(bytes.get(..n).unwrap_or_default());
        out = later;
        if out.is_empty() {
            break;
        }
    }
    out.is_empty()
}

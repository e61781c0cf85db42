//! The path of a frame, one file per stage, pure over buffers: frames enter as a burst from a port and leave through
//! [`Egress`]. No DPDK, no clock, no lock, no allocation (except for what a [`Tracer`] records).
//!
//! `tenant` and `underlay` are the two entry points. They call the stages in the order that [`graph`] lists. Every
//! frame that enters leaves by exactly one of: [`Egress::send`], [`Egress::punt`], [`MigrationEgress::hold`],
//! [`MigrationEgress::queue_marker`], [`Pipeline::drop`].

mod decap;
pub mod deliver;
pub mod drop_reason;
pub mod eligible;
pub mod encap;
mod fast_path;
pub mod graph;
pub mod guard;
mod lookup;
pub mod migration_egress;
mod network;
pub mod offload;
mod open;
pub mod packet;
pub mod packet_counters;
pub mod ports;
pub mod replicate;
pub mod resolve;
mod seal;
mod stations;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod too_big;
pub mod tracer;
pub mod tunnel_egress;
pub mod underlay;
pub mod vlan;

use crate::tables::{View, packed::Bd};
use arrayvec::ArrayVec;
use drop_reason::DropReason;
pub use fast_path::Scratch;
use graph::Stage;
use migration_egress::MigrationEgress;
use packet::{Packet, Pool};
use packet_counters::PacketCounters;
use ports::{Origin, Port};
use std::net::{IpAddr, Ipv6Addr};
use stopover_net::frame::{self, Frame};
use stopover_net::{Mac, Vni};
use tracer::Tracer;
use tunnel_egress::TunnelEgress;

/// Most frames in a burst.
pub const MAX_BURST: usize = 64;

/// A station, or an address of one, for the control thread to learn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Learn {
    /// The segment port, or the vif that chose a link-local address.
    pub port: u16,
    /// The network.
    pub bd: Bd,
    /// The VLAN tag of the frame; 0 for none.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
    /// An address it used in ARP or ND.
    pub ip: Option<IpAddr>,
}

/// A node that is an IPv6 router, or no longer is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouterSeen {
    /// The network.
    pub bd: Bd,
    /// The node.
    pub mac: Mac,
    /// The address of the router.
    pub ip: Ipv6Addr,
    /// Whether it is one.
    pub router: bool,
}

/// Where the stages send frames, and where they get new ones.
pub trait Egress: Pool<Self::P> + MigrationEgress<Self::P> + TunnelEgress<Self::P> {
    /// The type of the buffers.
    type P: Packet;
    /// Queues a frame for a port. From then on the implementation accounts for the frame.
    fn send(&mut self, port: u16, packet: Self::P);
    /// As [`Egress::send`], for several at once and in order.
    fn send_all(&mut self, port: u16, packets: &mut ArrayVec<Self::P, MAX_BURST>) {
        for packet in packets.drain(..) {
            self.send(port, packet);
        }
    }
    /// Hands a frame of an underlay port to the control thread. Returns it if the ring is full.
    fn punt(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P>;
    /// Reports a station to the control thread. A report may be lost: the next frame of the station repeats it.
    fn learn(&mut self, learn: Learn);
    /// Hands a loop probe from a segment port to the control thread. Returns it if the ring is full.
    fn punt_loop_probe(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P> {
        self.punt(port, packet)
    }
    /// Counts a frame that is flooded from a segment. Returns whether it repeats too often; then the control thread
    /// is notified.
    fn is_repeated(&mut self, _port: u16, _vlan: u16, _net: Bd, _packet: &Self::P) -> bool {
        false
    }
    /// Reports to the control thread whether a node is an IPv6 router, if that is not known. May be lost: the node
    /// advertises it again.
    fn report_router(&mut self, router: RouterSeen);
    /// Whether an ICMP error may be sent now (RFC 4443 section 2.4(f) requires a limit).
    fn may_send_icmp_error(&mut self) -> bool;
}

/// A frame between stages.
#[derive(Debug)]
pub struct PacketCtx<P> {
    /// Its buffer.
    pub packet: P,
    /// Its parsed headers. Offsets count from the start of the tenant's Ethernet header.
    pub frame: Frame,
    /// Its network, as numbered here.
    pub bd: Bd,
    /// Its network, as numbered on the wire.
    pub vni: Vni,
    /// Where it came from.
    pub origin: Origin,
    /// Its priority on a trunk: PCP and DEI (IEEE 802.1Q clause 9.6), the upper four bits of a tag. 0 if unknown.
    pub priority: u8,
}

/// A burst between stages.
pub type PacketBurst<P> = ArrayVec<PacketCtx<P>, MAX_BURST>;

/// The pipeline of one lcore, or of a trace.
pub struct Pipeline<'a, I: Egress, W: Tracer> {
    /// The tables as of this loop.
    pub view: &'a View,
    /// All ports.
    pub ports: &'a [Port],
    /// This lcore's counters.
    pub counters: &'a PacketCounters,
    /// Where frames go.
    pub egress: &'a mut I,
    /// Records the decisions of the stages.
    pub tracer: &'a mut W,
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Drops a frame for a reason, which is counted.
    #[inline]
    pub fn drop(&mut self, packet: I::P, reason: DropReason) {
        self.counters.drop(reason, 1);
        self.tracer.dropped(reason);
        std::mem::drop(packet);
    }

    /// Counts a copy, segment or error that was counted as made, and for which there is no buffer.
    #[inline]
    pub(super) fn drop_unmade(&mut self) {
        self.counters.drop(DropReason::PoolEmpty, 1);
        self.tracer.dropped(DropReason::PoolEmpty);
    }

    /// Reads the headers of a tenant's frame.
    #[inline]
    fn parse(&mut self, packet: &I::P) -> Result<Frame, DropReason> {
        self.tracer.enter(Stage::Parse);
        let frame = frame::parse(packet.head(), packet.len())?;
        self.tracer.note(|| tracer::describe(&frame));
        Ok(frame)
    }
}

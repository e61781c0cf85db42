//! The path of a frame, one file per stage, pure over buffers: frames come in as a burst from a port, and
//! leave through [`Egress`]. No DPDK, no clock, no lock, no allocation (but for what a [`Tracer`] writes down).
//!
//! `tenant` and `underlay` are the two ways in; they call `guard`, `resolve`, `deliver`, `encap`,
//! `replicate`, `too_big` and, for migrating nodes, `migrating`. Every frame that enters leaves by exactly one of:
//! [`Egress::send`], [`Egress::punt`], [`Egress::hold`], [`Egress::queue_behind_hold`], [`Pipeline::drop`].

pub mod deliver;
pub mod drop_reason;
pub mod encap;
mod fast_path;
pub mod guard;
pub mod migration;
pub mod offload;
pub mod packet;
pub mod ports;
pub mod replicate;
pub mod resolve;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod too_big;
pub mod tracer;
pub mod underlay;
pub mod vlan;

use crate::tables::{
    View,
    migration_record::{EndMarkerBarrier, MigrationRecord},
    packed::Bd,
};
use arrayvec::ArrayVec;
use drop_reason::{DropReason, PacketCounters};
pub use fast_path::Scratch;
use migration::Class;
use packet::{Packet, Pool};
use ports::{Network, Origin, Port};
use std::net::{IpAddr, Ipv6Addr};
use stopover_net::{Mac, Vni};
use stopover_net::{
    frame::Frame,
    marker::{MAX_PORTS, Marker},
};
use tracer::{Stage, Tracer};

/// Source ports that are in use for a node.
pub type UsedPorts = ArrayVec<u16, { MAX_PORTS as usize }>;

/// Most frames in a burst.
pub const MAX_BURST: usize = 64;

/// What a stage hands to the control thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Learn {
    /// The segment port, or the vif that chose a link-local address.
    pub port: u16,
    /// The network.
    pub bd: Bd,
    /// The VLAN tag it came with; 0 for none.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
    /// An address it used in ARP or ND.
    pub ip: Option<IpAddr>,
}

/// A node that is an IPv6 router, or is none any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouterSeen {
    /// The network.
    pub bd: Bd,
    /// The node.
    pub mac: Mac,
    /// The address that it said so from.
    pub ip: Ipv6Addr,
    /// Whether it is one.
    pub router: bool,
}

/// What became of an end marker for the lcore that sends from a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkerHandoff<P> {
    /// That is this lcore itself.
    Own(P),
    /// The other has it, or will.
    Handed,
    /// The ring to the other is full.
    Full(P),
}

/// The way out of the stages: where frames go and where further ones come from.
pub trait Egress: Pool<Self::P> {
    /// The buffers this is about.
    type P: Packet;
    /// Queues a frame for a port. From here on the frame's fate is this side's to count.
    fn send(&mut self, port: u16, packet: Self::P);
    /// As [`Egress::send`], for several at once and in order.
    fn send_all(&mut self, port: u16, packets: &mut ArrayVec<Self::P, MAX_BURST>) {
        for packet in packets.drain(..) {
            self.send(port, packet);
        }
    }
    /// Hands a frame of an underlay port to the control thread; gives it back when the ring is full.
    fn punt(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P>;
    /// Tells the control thread of a station. May be lost: the station's next frame tells again.
    fn learn(&mut self, learn: Learn);
    /// As [`Egress::learn`], of a station that a migration may wait for.
    fn learn_migrating(&mut self, learn: Learn) {
        self.learn(learn);
    }
    /// Hands a loop probe that came to a segment port to the control thread; gives it back when the ring is full.
    fn punt_loop_probe(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P> {
        self.punt(port, packet)
    }
    /// Notes a frame that is flooded from a segment. Whether it comes again and again: then the control thread is told.
    fn is_repeated(&mut self, _port: u16, _vlan: u16, _net: Bd, _packet: &Self::P) -> bool {
        false
    }
    /// Tells the control thread whether a node is an IPv6 router, if that is not known. May be lost: it says so again.
    fn report_router(&mut self, router: RouterSeen);
    /// Whether frames of host `sender` (or copies, [`migration::WINDOW`]) are held for the migrating node with this
    /// index.
    fn has_held(&self, index: u32, sender: u32) -> bool;
    /// Holds what a frame says, behind what is held already. False when the hold is full.
    fn hold(
        &mut self,
        record: &MigrationRecord,
        index: u32,
        sender: u32,
        class: Class,
        packet: &Self::P,
    ) -> bool;
    /// Holds an end marker back until every lcore has taken what its queues and rings hold now, and gives it to
    /// [`Pipeline::forward_marker`] then; gives it back if that is not to be waited for.
    fn park(&mut self, packet: Self::P, network: Network) -> Result<(), Self::P>;
    /// Hands an end marker to the lcore that sends from a port, behind all frames that went there from here.
    fn hand_off_marker(&mut self, port: u16, packet: Self::P, network: Network) -> MarkerHandoff<Self::P>;
    /// Holds an end marker behind the frames that wait for a port's device; gives it back if none does.
    fn queue_behind_device(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P>;
    /// A frame for a node that has arrived here has come by its old host.
    fn note_old_path_frame(&mut self, arrival: &EndMarkerBarrier);
    /// Holds an end marker behind what is held for a port whose node has left; gives it back if nothing is.
    fn queue_behind_hold(&mut self, port: u16, packet: Self::P) -> Result<(), Self::P>;
    /// Tells the control thread that an end marker was passed on to the node's new host. May be lost.
    fn report_relayed(&mut self, bd: Bd, marker: Marker);
    /// Tells the control thread that a node says to have arrived at another host. May be lost: it says so again.
    fn report_arrived(&mut self, bd: Bd, node: Mac, host: u32, generation: u64);
    /// Our own end marker is back from the old host, whose port had not taken a frame for `paused_us`.
    fn own_marker_returned(&mut self, arrival: &EndMarkerBarrier, paused_us: u32);
    /// The source port for a frame to a migrating node: `of_flow` if that is in use for it already or few are, otherwise
    /// one that is.
    fn bounded_source_port(&mut self, bd: Bd, node: Mac, of_flow: u16) -> u16;
    /// The source ports that this lcore has used for a node since it was locked.
    fn used_source_ports(&self, bd: Bd, node: Mac) -> UsedPorts;
    /// Whether an ICMP error may be made now (RFC 4443 section 2.4(f) wants them limited).
    fn may_send_icmp_error(&mut self) -> bool;
}

/// A frame between stages.
#[derive(Debug)]
pub struct PacketCtx<P> {
    /// Its buffer.
    pub packet: P,
    /// What its headers say. Offsets count from the start of the tenant's Ethernet header.
    pub frame: Frame,
    /// Its network, as numbered here.
    pub bd: Bd,
    /// Its network, as numbered on the wire.
    pub vni: Vni,
    /// Where it came from.
    pub origin: Origin,
    /// Its priority on a trunk: PCP and DEI (IEEE 802.1Q clause 9.6), the upper four bits of a tag. 0 if nothing is
    /// known of it.
    pub priority: u8,
}

/// A burst between stages.
pub type PacketBurst<P> = ArrayVec<PacketCtx<P>, MAX_BURST>;

/// One lcore's path, or a traced one.
pub struct Pipeline<'a, I: Egress, W: Tracer> {
    /// The tables as of this loop.
    pub view: &'a View,
    /// All ports.
    pub ports: &'a [Port],
    /// This lcore's books.
    pub counters: &'a PacketCounters,
    /// The way out.
    pub egress: &'a mut I,
    /// Who watches.
    pub tracer: &'a mut W,
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Ends a frame's way, for a reason that is counted.
    #[inline]
    pub fn drop(&mut self, packet: I::P, reason: DropReason) {
        self.counters.drop(reason, 1);
        self.tracer.note(Stage::Drop, || format!("{}: {}", reason.name(), reason.explanation()));
        std::mem::drop(packet);
    }
}

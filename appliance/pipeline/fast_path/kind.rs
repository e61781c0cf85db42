//! The kinds of frames of a vif that have an instance of the passes of their own. Enters: a frame. Leaves: what the passes
//! need of it, if it is of that kind.

use crate::pipeline::{eligible, packet::Packet, ports::Vif};
use stopover_net::{
    Mac,
    fast_parse::{Sender, Transport},
};

/// What the passes need of a frame: its destination, flow hash and type of service.
pub type Facts = (Mac, u32, u8);

/// See the module.
pub trait Kind {
    /// Frames without checksum are of this kind.
    const UNFINISHED: bool;

    /// For the frames of this vif.
    fn new(vif: &Vif) -> Self;

    /// Reads a frame of this kind.
    fn read<P: Packet>(&self, vif: &Vif, packet: &P) -> Option<Facts>;

    /// Where the checksum of a frame is that was read.
    fn transport<P: Packet>(packet: &P) -> Option<Transport>;
}

/// IPv4.
pub struct Ipv4<const UNFINISHED: bool>(Sender);

/// IPv6.
pub struct Ipv6<const UNFINISHED: bool>(Sender);

impl<const UNFINISHED: bool> Kind for Ipv4<UNFINISHED> {
    const UNFINISHED: bool = UNFINISHED;

    fn new(vif: &Vif) -> Self {
        Self(eligible::sender(vif))
    }

    #[inline(always)]
    fn read<P: Packet>(&self, vif: &Vif, packet: &P) -> Option<Facts> {
        let sent = eligible::sent(vif, &self.0, packet.head(), packet.len())?;
        is_of_kind::<UNFINISHED, P>(packet).then_some((sent.dst, sent.flow, sent.tos))
    }

    #[inline(always)]
    fn transport<P: Packet>(packet: &P) -> Option<Transport> {
        Transport::of_sent(packet.head())
    }
}

impl<const UNFINISHED: bool> Kind for Ipv6<UNFINISHED> {
    const UNFINISHED: bool = UNFINISHED;

    fn new(vif: &Vif) -> Self {
        Self(eligible::sender(vif).over_ipv6())
    }

    #[inline(always)]
    fn read<P: Packet>(&self, vif: &Vif, packet: &P) -> Option<Facts> {
        let sent = eligible::sent6(vif, &self.0, packet.head(), packet.len())?;
        is_of_kind::<UNFINISHED, P>(packet).then_some((sent.dst, sent.flow, sent.tos))
    }

    #[inline(always)]
    fn transport<P: Packet>(packet: &P) -> Option<Transport> {
        Transport::of_sent6(packet.head())
    }
}

/// Whether a frame has no mark of a device, or only the one that this kind may have.
#[inline(always)]
fn is_of_kind<const UNFINISHED: bool, P: Packet>(packet: &P) -> bool {
    UNFINISHED && packet.lacks_only_checksum() || packet.is_plain()
}

//! What the stages need of encrypted tunnels: an lcore has keys, a trace has none. Enters: frames with room around them, UDP
//! payloads. Leaves: the same sealed or opened in place, or why not. No key and no cipher here.

use super::drop_reason::DropReason;
use crate::tables::{
    packed::Bd,
    peer::{Peer, Slot, TunnelIndex},
};
use std::{net::IpAddr, ops::Range};
use stopover_net::Mac;
use stopover_tunnel::Spi;

/// Where a frame is sealed for, and how it is sent then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealFor {
    /// The peer. Slots and tunnels may be another's later; the number of a peer is never another's.
    pub peer: Peer,
    /// Its slot.
    pub slot: Slot,
    /// Its tunnel.
    pub tunnel: TunnelIndex,
    /// The outer type of service.
    pub tos: u8,
}

/// How a datagram was opened.
#[derive(Debug)]
pub enum Unsealed<P> {
    /// Here: by the key of this peer. Where the text is in the frame.
    Here(P, Peer, Range<usize>),
    /// Another lcore has its window, and gets it.
    Handed,
    /// Not at all.
    Refused(P, DropReason),
}

/// Sealing and opening. Without tunnels nothing is sealed, and nothing is opened.
pub trait TunnelEgress<P> {
    /// Seals a whole frame in place: it is the text, and the ESP datagram afterwards. Returns the outer UDP source port of
    /// its SA.
    ///
    /// # Errors
    /// It must not be sent.
    fn seal(&mut self, _tunnel: TunnelIndex, _packet: &mut P) -> Result<u16, DropReason> {
        Err(DropReason::NoTunnel)
    }

    /// Keeps a frame, whose text is complete, until there is a tunnel, and asks for one. Returns the frame if it cannot
    /// wait.
    fn wait_for_tunnel(&mut self, _seal: SealFor, packet: P) -> Result<(), P> {
        Err(packet)
    }

    /// Whether frames wait for this tunnel: those that follow wait behind them.
    fn waits_for(&self, _tunnel: TunnelIndex) -> bool {
        false
    }

    /// Opens the UDP payload at `at` of a frame from an underlay port, in place.
    fn open(&mut self, _port: u16, packet: P, _at: Range<usize>) -> Unsealed<P> {
        Unsealed::Refused(packet, DropReason::BadVxlan)
    }

    /// ESP under an SPI that no SA has came from this address.
    fn report_unknown_spi(&mut self, _from: IpAddr, _spi: Spi) {}

    /// A plain frame of a peer was refused, which should have sealed it: there may be no tunnel yet.
    fn report_refused(&mut self, _peer: Peer) {}

    /// A frame of a node that is moving was sealed by a host where it is not, as far as is known here.
    fn report_came_from(&mut self, _bd: Bd, _mac: Mac, _peer: Peer) {}

    /// Hands a datagram of a handshake to the control thread.
    ///
    /// # Errors
    /// It is dropped.
    fn punt_handshake(&mut self, _port: u16, packet: P) -> Result<(), (P, DropReason)> {
        Err((packet, DropReason::BadVxlan))
    }
}

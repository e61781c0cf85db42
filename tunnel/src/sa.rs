//! Security associations: what one lcore needs to seal for a peer and to open from it, and the bursts that do so.
//! Enters: frames with room around them, datagrams under an SPI, the time. Leaves: datagrams, texts, or the reason of
//! a drop.
//!
//! An outbound SA belongs to one sending lcore, an inbound SA to one receiving lcore; neither is shared (RFC 9611).
//! Nothing of a datagram is read before its tag is right, except for SPI, sequence number and IV.

mod burst;
mod counters;
mod inbound;
mod near;
mod one;
mod outbound;
mod spis;

pub use burst::{BURST, OpenFrame, Opened, SealFrame, open_burst, seal_burst};
pub use counters::{SaCounters, SaStats};
pub use inbound::{InboundSa, InboundSas};
pub use one::{OpenedBy, open, seal};
pub use outbound::{Limits, OutboundSa, OutboundSas};
pub use spis::Spis;

use crate::esp::{BadTrailer, NoRoom};
use stopover_net::reasons;

reasons! {
    /// Why a frame is not sealed, or a datagram not opened.
    pub enum SaDrop {
        /// There is no outbound SA for the peer.
        NoTunnel = "no_tunnel",
        /// The outbound SA has reached a hard limit.
        SealExhausted = "seal_exhausted",
        /// No room before the frame for the ESP header.
        NoHeadroom = "no_headroom",
        /// No room behind the frame for padding, trailer and tag.
        NoTailroom = "no_tailroom",
        /// The engine refused to seal. The frame must not be sent.
        SealFailed = "seal_failed",
        /// No ESP: too short, or not aligned.
        NotEsp = "not_esp",
        /// No inbound SA has this SPI.
        UnknownSpi = "unknown_spi",
        /// The sequence number was there before, or is behind the window.
        Replayed = "replayed",
        /// The tag is wrong.
        BadSeal = "bad_seal",
        /// Authenticated, but with wrong padding.
        BadPadding = "bad_padding",
        /// Authenticated, but of another protocol than UDP.
        BadNextHeader = "bad_next_header",
    }
}

impl From<NoRoom> for SaDrop {
    fn from(room: NoRoom) -> Self {
        match room {
            NoRoom::Head => Self::NoHeadroom,
            NoRoom::Tail => Self::NoTailroom,
        }
    }
}

impl From<BadTrailer> for SaDrop {
    fn from(trailer: BadTrailer) -> Self {
        match trailer {
            BadTrailer::Padding => Self::BadPadding,
            BadTrailer::NextHeader => Self::BadNextHeader,
        }
    }
}

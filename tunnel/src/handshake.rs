//! The handshake of tunnels and the life of their keys, as a state machine. Enters: the time, random bytes, datagrams,
//! and what the host wants and sees: start, frames that came, SAs that are installed. Leaves: actions. It reads no
//! clock, opens no socket, and holds no frame.
//!
//! [`Endpoint`] is a host's side: it knows the peers, and gives each datagram to the one it is of. Each peer is a
//! machine of its own (`peer`): it agrees on sessions (`noise`, `session`), replaces them before they are old, and
//! drops none before the next one is in use. One session has the SAs of all sender queues of both hosts. Docs:
//! wire-formats.md, "Handshake".

mod cookie;
pub mod datagram;
mod endpoint;
mod keys;
mod noise;
mod peer;
mod pieces;
mod session;
#[cfg(test)]
mod tests;
mod timing;

pub use endpoint::Endpoint;
pub use noise::MOST_QUEUES;
#[cfg(any(test, feature = "exercise"))]
pub(crate) use session::Control;
pub use timing::Timing;

use crate::cipher::{Algorithm, SaSecret};
use crate::redacted;
use crate::{Millis, Spi};
use std::fmt;
use std::net::SocketAddr;
use stopover_net::{Mac, Vni, reasons};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Where random bytes come from. They must be fit for keys.
pub trait Random {
    /// Fills all of it.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// Now, on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For all waiting: it never goes back.
    pub at: Millis,
    /// For the stamps of initiations: nanoseconds since 1970. It need not be right; it should go on over a restart.
    pub wall_ns: u64,
}

/// A host's public static key (X25519, RFC 7748).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Of its bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A host's static key pair. The secret half is wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct StaticKey {
    secret: [u8; 32],
    #[zeroize(skip)]
    public: PublicKey,
}

redacted!(StaticKey);

impl StaticKey {
    /// Of its secret half.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let public = x25519_dalek::PublicKey::from(&StaticSecret::from(secret));
        Self { secret, public: PublicKey(public.to_bytes()) }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// A message or a key is wrong; a wrong one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failed;

/// What a host's side of all handshakes has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The sender queues of this host, 1 to [`MOST_QUEUES`]: each lcore that sends has one SA per peer.
    pub queues: u8,
    /// The cipher it needs at least.
    pub algorithm: Algorithm,
    /// Inbound SAs at a time at most.
    pub sas: u32,
    /// Initiations a second above which senders must show that they receive at their address.
    pub busy_above: u32,
    /// Waiting times.
    pub timing: Timing,
}

/// An SA to install.
#[derive(Debug, PartialEq, Eq)]
pub struct NewSa {
    /// The receiver's SPI.
    pub spi: Spi,
    /// Its secret.
    pub secret: SaSecret,
}

/// Why a peer is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// It answers no initiation.
    NoAnswer,
    /// It answers no probe, and sends nothing. Its SAs stay until they are too old.
    Silent,
    /// Its session is too old, and nothing replaced it.
    Expired,
    /// It, or this host, closed the tunnel.
    Closed,
}

/// What the host is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a UDP datagram, of at most [`datagram::MOST_LEN`] bytes.
    Send {
        /// To this address.
        to: SocketAddr,
        /// The UDP payload.
        datagram: Vec<u8>,
    },
    /// Install inbound SAs, on every lcore that may receive them. Then report [`Endpoint::installed`].
    InstallInbound {
        /// The peer.
        peer: u32,
        /// The session that they are of.
        session: u32,
        /// One for each sender queue of the peer.
        sas: Vec<NewSa>,
    },
    /// From now send to the peer with these SAs; those before are gone.
    Activate {
        /// The peer.
        peer: u32,
        /// The session that they are of.
        session: u32,
        /// One for each own sender queue, in their order.
        sas: Vec<NewSa>,
    },
    /// Send nothing to the peer any more.
    Deactivate {
        /// The peer.
        peer: u32,
    },
    /// Take inbound SAs out. When no lcore can use them any more, report [`Endpoint::retired`].
    Retire {
        /// The peer.
        peer: u32,
        /// Their SPIs.
        spis: Vec<Spi>,
    },
    /// The peer reports that a node has moved away from it.
    Moved {
        /// The peer.
        peer: u32,
        /// Its report.
        moved: Moved,
    },
    /// The tunnel to the peer is up.
    Up {
        /// The peer.
        peer: u32,
    },
    /// The tunnel to the peer is down.
    Down {
        /// The peer.
        peer: u32,
        /// For which reason.
        why: DownReason,
    },
}

/// A node has moved away from the host that reports it. That host repeats the report while it redirects frames of the
/// peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Of the node's lock at the board.
    pub generation: u64,
    /// The network.
    pub vni: Vni,
    /// The node: a station's address.
    pub node: Mac,
    /// The board's number of the host that it moved to.
    pub host: u32,
}

/// What the data path saw of a peer since it last reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Frames were to be sent, whether there was a tunnel or not.
    pub sent: bool,
    /// Valid frames came under this session, the newest of those that had any.
    pub received: Option<u32>,
    /// An outbound SA has reached a soft limit.
    pub wants_rekey: bool,
}

reasons! {
    /// Why a datagram of a handshake is dropped.
    pub enum HandshakeDrop {
        /// It is no datagram of a handshake.
        Malformed = "handshake_malformed",
        /// The first MAC is wrong: its sender does not know our public key.
        BadMac = "handshake_bad_mac",
        /// There are many initiations, and its sender has not shown that it receives at its address. It was sent a
        /// cookie.
        NeedsCookie = "handshake_needs_cookie",
        /// No peer of ours has the static key.
        UnknownPeer = "handshake_unknown_peer",
        /// No session of ours has the number.
        UnknownSession = "handshake_unknown_session",
        /// It cannot be opened: forged, or under another key.
        BadSeal = "handshake_bad_seal",
        /// An initiation that is not newer than one before. Its sender was sent a cookie, and can repeat it with that.
        Stale = "handshake_stale",
        /// Both initiate at once, and ours goes on.
        Crossed = "handshake_crossed",
        /// Too soon after the initiation before.
        TooSoon = "handshake_too_soon",
        /// All SPIs are taken.
        NoSpi = "handshake_no_spi",
        /// Authentic, but of no use: repeated, or not expected in this state.
        Unexpected = "handshake_unexpected",
    }
}

impl From<Failed> for HandshakeDrop {
    fn from(_: Failed) -> Self {
        Self::BadSeal
    }
}

//! What identifies another host, and what an FDB entry names. Numbers only; the records are in `entries`, the mapping
//! from peers to slots is in `slot_map`.

use std::fmt;

/// Largest station or slot number that an FDB entry can have: it has 24 bits for one.
pub const MAX_INDEX: u32 = 0x00ff_ffff;

/// Another host, by the number that the board gave it. Whoever sent a frame, it is a peer; its address is only one way
/// to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(u32);

impl Peer {
    /// The host with this number.
    #[inline]
    #[must_use]
    pub const fn new(host: u32) -> Self {
        Self(host)
    }

    /// The board's number, which is also that in end markers.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kind of path that a policy or a network asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PathClass {
    /// What a host may be sent plain: VXLAN without encryption, or sealed while there is a tunnel.
    Plain,
    /// Sealed, or not at all.
    Sealed,
}

impl PathClass {
    /// How many there are.
    pub const COUNT: usize = 2;
    /// All.
    pub const ALL: [Self; Self::COUNT] = [Self::Plain, Self::Sealed];
}

/// What is demanded of the frames of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkSeal {
    /// Nothing: what is demanded of the host decides.
    #[default]
    ByHost,
    /// They must be sealed.
    Required,
    /// They need not be, unless their host demands it.
    Off,
}

/// A peer and a path class: names the path in force between them. Dense, numbered by this appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// `None` above [`MAX_INDEX`]: an FDB entry has 24 bits for it.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number > MAX_INDEX { None } else { Some(Self(number)) }
    }

    /// The slot that an FDB entry names.
    #[inline]
    pub(super) const fn of_word(word: u64) -> Self {
        Self((word & MAX_INDEX as u64) as u32)
    }

    /// Its number, 0 to [`MAX_INDEX`].
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The number of a tunnel, dense, given by this appliance: where each lcore has the SA by which it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelIndex(u32);

impl TunnelIndex {
    /// With this number.
    #[inline]
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The isolation class of a node at another host. Nothing reads it yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct IsolationClass(pub u16);

/// Which tunnel datagrams of a peer are accepted. How frames are sent to it is independent of this, so that a change
/// from one to the other loses nothing: accept both, switch the senders, accept only the new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Only plain VXLAN.
    Plain,
    /// Only sealed datagrams.
    Sealed,
    /// Either, but in networks that must be sealed.
    Both,
    /// Only sealed datagrams, but in networks that need not be.
    SealedUnlessOff,
}

impl Accept {
    /// Whether plain VXLAN is accepted in networks of which nothing is demanded.
    #[inline]
    #[must_use]
    pub const fn plain(self) -> bool {
        matches!(self, Self::Plain | Self::Both)
    }

    /// How frames of such a network are sent, and accepted.
    #[inline]
    #[must_use]
    pub const fn class(self, network: NetworkSeal) -> PathClass {
        match (self, network) {
            (Self::Plain, _)
            | (Self::Both, NetworkSeal::ByHost | NetworkSeal::Off)
            | (Self::SealedUnlessOff, NetworkSeal::Off) => PathClass::Plain,
            _ => PathClass::Sealed,
        }
    }
}

/// The value of the VTEP tables: the peer that sends from an address in bits 0 to 31, and in bits 32 and 33 which datagrams
/// are accepted from it. So a receiver need not read the record of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedVtep(pub u64);

/// Plain VXLAN, in networks that need not be sealed.
const ACCEPTS_PLAIN: u64 = 1 << 32;
/// The networks change the rule: with the bit before, there are tunnels; without it, plain VXLAN is accepted in networks
/// that are off.
const BY_NETWORK: u64 = 1 << 33;

impl PackedVtep {
    /// Packs.
    #[must_use]
    pub const fn new(peer: Peer, accept: Accept) -> Self {
        let bits = match accept {
            Accept::Plain => ACCEPTS_PLAIN,
            Accept::Both => ACCEPTS_PLAIN | BY_NETWORK,
            Accept::SealedUnlessOff => BY_NETWORK,
            Accept::Sealed => 0,
        };
        Self(peer.0 as u64 | bits)
    }

    /// The peer.
    #[inline]
    #[must_use]
    pub const fn peer(self) -> Peer {
        Peer(self.0 as u32)
    }

    /// Whether plain VXLAN is accepted from the address, in networks of which nothing is demanded.
    #[inline]
    #[must_use]
    pub const fn accepts_plain(self) -> bool {
        self.0 & ACCEPTS_PLAIN != 0
    }

    /// Whether plain VXLAN of such a network is accepted from the address.
    #[inline]
    #[must_use]
    pub const fn accepts_plain_in(self, network: NetworkSeal) -> bool {
        let accept = match self.0 & (ACCEPTS_PLAIN | BY_NETWORK) {
            ACCEPTS_PLAIN => Accept::Plain,
            BY_NETWORK => Accept::SealedUnlessOff,
            0 => Accept::Sealed,
            _ => Accept::Both,
        };
        matches!(accept.class(network), PathClass::Plain)
    }
}

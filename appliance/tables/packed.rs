//! The keys and values of the fast tables, each packed into one 64-bit word so that a lookup is one compare and an
//! update one store. Only this module knows the bits.

use super::peer::{IsolationClass, MAX_INDEX, Slot};
use std::net::Ipv4Addr;
use stopover_net::Mac;

/// A network as this appliance numbers it: dense, from 1, so that network and MAC fit one word together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bd(u16);

impl Bd {
    /// `None` for 0, which stands for "no network" in packed tables.
    #[must_use]
    pub const fn new(index: u16) -> Option<Self> {
        if index == 0 { None } else { Some(Self(index)) }
    }
    /// The number, 1 to 65535.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Key of the node table: network in the upper 16 bits, MAC in the lower 48. Never 0, because a network is
/// never 0; never all ones, because callers look up unicast MACs only.
#[inline]
#[must_use]
pub const fn node_key(bd: Bd, mac: Mac) -> u64 {
    (bd.0 as u64) << 48 | mac.to_u64()
}

/// The reverse of [`node_key`].
#[must_use]
pub const fn node_key_parts(key: u64) -> Option<(Bd, Mac)> {
    match Bd::new((key >> 48) as u16) {
        Some(bd) => Some((bd, Mac::from_u64(key))),
        None => None,
    }
}

/// Key of the IPv4 address table: network in bits 32 to 47, address in the lower 32, bit 48 always set.
#[inline]
#[must_use]
pub const fn ipv4_key(bd: Bd, ip: Ipv4Addr) -> u64 {
    1 << 48 | (bd.0 as u64) << 32 | ip.to_bits() as u64
}

/// Where a node is: the value of the node table.
///
/// | bits  | local            | remote     |
/// |-------|------------------|------------|
/// | 0-23  | station          | slot       |
/// | 24-35 | VLAN (0 = none)  | isolation class, bits 0-11 |
/// | 36-47 | port             | isolation class, bits 12-15; then 0 |
/// | 48-59 | 0                | sync generation (see `Tables::sweep`) |
/// | 60-61 | 1                | 2          |
/// | 62    | migrating: may send elsewhere (in the table of local stations only) | migrating: may send here |
/// | 63    | 0                | departed: it was here, and stragglers for it are redirected |
///
/// Kind 3 is a migrating node that this appliance takes part in: as local, with the index of its
/// [`MigrationRecord`](crate::migration::record::MigrationRecord) in place of the station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedFdbEntry(pub u64);

const MIGRATING: u64 = 1 << 62;
const DEPARTED: u64 = 1 << 63;
const KIND_SHIFT: u32 = 60;
const SYNC_GENERATION_SHIFT: u32 = 48;
/// Largest sync generation; the next is 0 again.
pub const MAX_SYNC_GENERATION: u16 = 0xfff;
const ISOLATION_SHIFT: u32 = 24;
const INDEX_MASK: u64 = MAX_INDEX as u64;

/// An unpacked [`PackedFdbEntry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbEntry {
    /// Behind a port of this appliance.
    Local {
        /// The port.
        port: u16,
        /// The VLAN tag to send with on a trunk; 0 for none.
        vlan: u16,
        /// Index of the station's record.
        station: u32,
    },
    /// At another host.
    Remote {
        /// The slot, which leads to the path to its host.
        slot: Slot,
        /// Its isolation class.
        isolation: IsolationClass,
    },
    /// Leaving a port of this appliance, or arriving there.
    Migrating {
        /// The port.
        port: u16,
        /// The VLAN tag to send with on a trunk; 0 for none.
        vlan: u16,
        /// Index of its record.
        index: u32,
    },
}

impl FdbEntry {
    /// Packs; indices above [`MAX_INDEX`], ports and VLANs above 4095 lose their upper bits.
    #[must_use]
    pub const fn pack(self) -> PackedFdbEntry {
        PackedFdbEntry(match self {
            Self::Local { port, vlan, station } => 1 << KIND_SHIFT | pack_local(port, vlan, station),
            Self::Migrating { port, vlan, index } => 3 << KIND_SHIFT | pack_local(port, vlan, index),
            Self::Remote { slot, isolation } => {
                2 << KIND_SHIFT | (isolation.0 as u64) << ISOLATION_SHIFT | slot.get() as u64
            }
        })
    }
}

/// Packs port, VLAN and index.
const fn pack_local(port: u16, vlan: u16, index: u32) -> u64 {
    (port as u64 & 0xfff) << 36 | (vlan as u64 & 0xfff) << 24 | index as u64 & INDEX_MASK
}

impl PackedFdbEntry {
    /// Unpacks the word; `None` for 0 (no entry) or an unknown kind.
    #[inline]
    #[must_use]
    pub const fn unpack(self) -> Option<FdbEntry> {
        let index = (self.0 & INDEX_MASK) as u32;
        let (port, vlan) = ((self.0 >> 36) as u16 & 0xfff, (self.0 >> 24) as u16 & 0xfff);
        match (self.0 >> KIND_SHIFT) & 3 {
            1 => Some(FdbEntry::Local { port, vlan, station: index }),
            2 => Some(FdbEntry::Remote {
                slot: Slot::of_word(self.0),
                isolation: IsolationClass((self.0 >> ISOLATION_SHIFT) as u16),
            }),
            3 => Some(FdbEntry::Migrating { port, vlan, index }),
            _ => None,
        }
    }

    /// The slot of the node, if it is at another host and not locked for a migration. It costs no more than to unpack
    /// the word.
    #[inline]
    #[must_use]
    pub const fn slot_at_rest(self) -> Option<Slot> {
        match (self.0 >> KIND_SHIFT) & 7 {
            2 => Some(Slot::of_word(self.0)),
            _ => None,
        }
    }

    /// The host of the node, if that is another host.
    #[inline]
    #[must_use]
    pub const fn slot(self) -> Option<Slot> {
        match self.unpack() {
            Some(FdbEntry::Remote { slot, .. }) => Some(slot),
            _ => None,
        }
    }

    /// The port and the VLAN tag of the node, if it is behind a port of this appliance and not migrating. It costs less
    /// than to unpack the word.
    #[inline]
    #[must_use]
    pub const fn local_port(self) -> Option<(u16, u16)> {
        match (self.0 >> KIND_SHIFT) & 3 {
            1 => Some(((self.0 >> 36) as u16 & 0xfff, (self.0 >> 24) as u16 & 0xfff)),
            _ => None,
        }
    }

    /// The station's record, if it is behind this port in this VLAN (0 for none) and not migrating. It costs less than to
    /// unpack the word.
    #[inline]
    #[must_use]
    pub const fn station_at_rest(self, port: u16, vlan: u16) -> Option<u32> {
        let expected = 1 << KIND_SHIFT | pack_local(port, vlan, 0);
        if (self.0 ^ expected) & !INDEX_MASK == 0 { Some((self.0 & INDEX_MASK) as u32) } else { None }
    }

    /// Whether the node is locked for a migration.
    #[inline]
    #[must_use]
    pub const fn is_migrating(self) -> bool {
        self.0 & MIGRATING != 0
    }

    /// Whether the node was here before it was at another host.
    #[inline]
    #[must_use]
    pub const fn departed(self) -> bool {
        self.0 & DEPARTED != 0
    }

    /// The same entry, with the migrating flag set or cleared.
    #[must_use]
    pub const fn set_migrating_flag(self, on: bool) -> Self {
        Self(if on { self.0 | MIGRATING } else { self.0 & !MIGRATING })
    }

    /// The same entry, of a node that was here.
    #[must_use]
    pub const fn set_departed(self) -> Self {
        Self(self.0 | DEPARTED)
    }

    /// The same entry with the flags of `other` added.
    #[must_use]
    pub const fn with_flags_of(self, other: Self) -> Self {
        Self(self.0 | other.0 & (MIGRATING | DEPARTED))
    }

    /// The same entry with this sync generation, of which 12 bits count.
    #[must_use]
    pub const fn with_sync_generation(self, sync_generation: u16) -> Self {
        Self(
            self.0 & !((MAX_SYNC_GENERATION as u64) << SYNC_GENERATION_SHIFT)
                | sync_generation_bits(sync_generation),
        )
    }

    /// Its sync generation.
    #[must_use]
    pub const fn sync_generation(self) -> u16 {
        sync_generation_of(self.0)
    }
}

const fn sync_generation_bits(sync_generation: u16) -> u64 {
    ((sync_generation & MAX_SYNC_GENERATION) as u64) << SYNC_GENERATION_SHIFT
}

const fn sync_generation_of(word: u64) -> u16 {
    (word >> SYNC_GENERATION_SHIFT) as u16 & MAX_SYNC_GENERATION
}

/// Value of the address tables: the MAC of the owner, and the sync generation as in [`PackedFdbEntry`].
#[must_use]
pub const fn owner_word(mac: Mac, sync_generation: u16) -> u64 {
    mac.to_u64() | sync_generation_bits(sync_generation)
}

/// Set in an [`owner_word`]: the owner is an IPv6 router.
const OWNER_IS_ROUTER: u64 = 1 << 60;
/// Set in an [`owner_word`]: the owner is known to be no router.
const OWNER_IS_NO_ROUTER: u64 = 1 << 61;

/// Whether the owner of an [`owner_word`] is an IPv6 router, if that is known.
#[must_use]
pub const fn owner_router(word: u64) -> Option<bool> {
    match word & (OWNER_IS_ROUTER | OWNER_IS_NO_ROUTER) {
        OWNER_IS_ROUTER => Some(true),
        OWNER_IS_NO_ROUTER => Some(false),
        _ => None,
    }
}

/// The same [`owner_word`] with this state of the router flag.
#[must_use]
pub const fn with_router(word: u64, router: Option<bool>) -> u64 {
    let plain = word & !(OWNER_IS_ROUTER | OWNER_IS_NO_ROUTER);
    match router {
        None => plain,
        Some(true) => plain | OWNER_IS_ROUTER,
        Some(false) => plain | OWNER_IS_NO_ROUTER,
    }
}

/// The MAC of an [`owner_word`].
#[inline]
#[must_use]
pub const fn owner_mac(word: u64) -> Mac {
    Mac::from_u64(word)
}

/// The sync generation of an [`owner_word`].
#[must_use]
pub const fn owner_sync_generation(word: u64) -> u16 {
    sync_generation_of(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_round_trip(port in 0u16..4096, vlan in 0u16..4096, index in 0u32..=MAX_INDEX, class: u16, sync_generation in 0..=MAX_SYNC_GENERATION) {
            let places = [
                FdbEntry::Local { port, vlan, station: index },
                FdbEntry::Remote { slot: Slot::new(index).unwrap(), isolation: IsolationClass(class) },
                FdbEntry::Migrating { port, vlan, index },
            ];
            for place in places {
                let word = place.pack().with_sync_generation(sync_generation);
                prop_assert_eq!(word.unpack(), Some(place));
                prop_assert_eq!(word.slot_at_rest(), word.slot());
                let local = matches!(place, FdbEntry::Local { .. }).then_some((port, vlan));
                prop_assert_eq!(word.local_port(), local);
                prop_assert_eq!(word.set_departed().slot_at_rest(), word.slot());
                prop_assert_eq!(word.set_migrating_flag(true).slot_at_rest(), None);
                prop_assert_eq!(word.sync_generation(), sync_generation);
                prop_assert!(!word.is_migrating() && !word.departed());
                let flagged = word.set_migrating_flag(true).set_departed();
                prop_assert!(flagged.is_migrating() && flagged.departed());
                prop_assert_eq!(flagged.unpack(), Some(place));
                prop_assert_eq!(flagged.sync_generation(), sync_generation);
                prop_assert_eq!(word.with_flags_of(flagged), flagged);
                prop_assert!(!flagged.set_migrating_flag(false).is_migrating());
            }
        }

        #[test]
        fn keys_round_trip_and_never_take_reserved_values(bd in 1u16.., mac: [u8; 6]) {
            let (bd, mac) = (Bd::new(bd).unwrap(), Mac::new(mac));
            let key = node_key(bd, mac);
            prop_assert_eq!(node_key_parts(key), Some((bd, mac)));
            prop_assert_ne!(key, 0);
            prop_assert!(key != u64::MAX || mac.is_group());
            prop_assert_eq!(owner_mac(owner_word(mac, MAX_SYNC_GENERATION)), mac);
            prop_assert_eq!(owner_sync_generation(owner_word(mac, 7)), 7);
            for router in [None, Some(true), Some(false)] {
                let word = with_router(with_router(owner_word(mac, 7), Some(true)), router);
                prop_assert_eq!((owner_router(word), owner_mac(word), owner_sync_generation(word)), (router, mac, 7));
            }
        }
    }

    #[test]
    fn zero_is_no_entry() {
        assert_eq!(PackedFdbEntry(0).unpack(), None);
        assert_ne!(ipv4_key(Bd(1), Ipv4Addr::UNSPECIFIED), 0);
    }
}

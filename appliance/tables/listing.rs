//! The contents of the tables, piece by piece, for callers that must not take long; see [`Piece`]. Nothing here
//! changes a table.

use super::{
    Tables,
    counts::Counts,
    packed::{Bd, FdbEntry, PackedFdbEntry, node_key_parts, owner_mac},
    peer::Slot,
};
#[cfg(test)]
use hashbrown::HashMap;
use std::net::IpAddr;
use stopover_lockfree::map64::Piece;
use stopover_net::Mac;

/// An address and its owner.
pub type Owned = (Bd, IpAddr, Mac);

impl Tables {
    /// Some nodes of one network or of all, from a position in the table on.
    #[must_use]
    pub fn nodes_from(&self, from: u64, at_most: usize, only: Option<Bd>) -> Piece<(Bd, Mac, FdbEntry)> {
        let wanted = |key: u64| only.is_none_or(|only| node_key_parts(key).is_some_and(|(bd, _)| bd == only));
        self.nodes.piece(from, at_most, wanted).filter_map(|(key, word)| {
            let (bd, mac) = node_key_parts(key)?;
            Some((bd, mac, PackedFdbEntry(word).unpack()?))
        })
    }

    /// The same for IPv4 addresses.
    #[must_use]
    pub fn owners4_from(&self, from: u64, at_most: usize, only: Option<Bd>) -> Piece<Owned> {
        let bd_of = |key: u64| Bd::new((key >> 32) as u16);
        self.ipv4.piece(from, at_most, |key| only.is_none_or(|only| bd_of(key) == Some(only))).filter_map(
            |(key, word)| Some((bd_of(key)?, IpAddr::from((key as u32).to_be_bytes()), owner_mac(word))),
        )
    }

    /// The same for IPv6 addresses. Unwanted ones count towards `at_most` as well.
    #[must_use]
    pub fn owners6_from(&self, from: u64, at_most: usize, only: Option<Bd>) -> Piece<Owned> {
        self.ipv6.piece(&self.writer, from, at_most).filter_map(|(key, word)| {
            let bd = Bd::new(key[0] as u16).filter(|bd| only.is_none_or(|only| only == *bd))?;
            let ip = u128::from(key[1]) << 64 | u128::from(key[2]);
            Some((bd, IpAddr::from(ip.to_be_bytes()), owner_mac(word)))
        })
    }

    /// How many networks have a number.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.vnis.len()
    }

    /// All nodes at other hosts that a local station shadows: few.
    pub fn shadowed(&self) -> impl Iterator<Item = (Bd, Mac, Slot)> + '_ {
        self.shadowed.iter().filter_map(|(key, word)| {
            let (bd, mac) = node_key_parts(*key)?;
            Some((bd, mac, word.slot()?))
        })
    }

    /// How many nodes and addresses there are.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.nodes.counts
    }

    /// All nodes, in no order.
    #[cfg(test)]
    pub fn nodes(&self) -> impl Iterator<Item = (Bd, Mac, FdbEntry)> + '_ {
        self.nodes.iter().filter_map(|(key, word)| {
            let (bd, mac) = node_key_parts(key)?;
            Some((bd, mac, PackedFdbEntry(word).unpack()?))
        })
    }

    /// All addresses with their owners, in no order. Scans the whole tables.
    pub fn owners(&self) -> impl Iterator<Item = (Bd, IpAddr, Mac)> + '_ {
        let ipv4 = self.ipv4.iter().filter_map(|(key, word)| {
            Some((Bd::new((key >> 32) as u16)?, IpAddr::from((key as u32).to_be_bytes()), owner_mac(word)))
        });
        let ipv6 = self.ipv6.iter(&self.writer).filter_map(|(key, word)| {
            let ip = u128::from(key[1]) << 64 | u128::from(key[2]);
            Some((Bd::new(key[0] as u16)?, IpAddr::from(ip.to_be_bytes()), owner_mac(word)))
        });
        ipv4.chain(ipv6)
    }

    /// Checks the counts against a scan of all tables.
    #[cfg(test)]
    #[track_caller]
    pub fn check_counts(&self) {
        let (mut networks, mut slots, mut local) = (HashMap::new(), HashMap::new(), 0);
        for (bd, _, place) in self.nodes() {
            networks.entry(bd).or_insert((0, 0)).0 += 1;
            match place {
                FdbEntry::Remote { slot, .. } => *slots.entry(slot).or_insert(0) += 1,
                FdbEntry::Local { .. } | FdbEntry::Migrating { .. } => local += 1,
            }
        }
        for (bd, ..) in self.owners() {
            networks.entry(bd).or_insert((0, 0)).1 += 1;
        }
        let counts = self.counts();
        assert_eq!(counts.local(), local, "local nodes");
        for bd in (1..50).filter_map(Bd::new) {
            let count = counts.network(bd);
            let expected = networks.get(&bd).copied().unwrap_or_default();
            assert_eq!((count.nodes, count.addresses), expected, "nodes and addresses of network {bd:?}");
        }
        for slot in (0..50).filter_map(Slot::new).chain(slots.keys().copied()) {
            let expected = slots.get(&slot).copied().unwrap_or_default();
            assert_eq!(counts.at_slot(slot), expected, "nodes behind {slot:?}");
        }
    }
}

//! Counts of nodes and addresses, updated with the tables, so that no table must be scanned for a number. Enters:
//! each change of the node table and of the address tables. Leaves: counts by network and by slot.

use super::{
    packed::{Bd, FdbEntry, PackedFdbEntry, node_key_parts},
    peer::Slot,
};

/// What a network has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InNetwork {
    /// Nodes, wherever they are.
    pub nodes: u32,
    /// Addresses that have an owner.
    pub addresses: u32,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// By network index.
    networks: Vec<InNetwork>,
    /// Nodes by slot.
    slots: Vec<u32>,
    local: u32,
}

impl Counts {
    /// What a network has.
    #[must_use]
    pub fn network(&self, bd: Bd) -> InNetwork {
        self.networks.get(usize::from(bd.get())).copied().unwrap_or_default()
    }

    /// Nodes at another host, behind this slot.
    #[must_use]
    pub fn at_slot(&self, slot: Slot) -> u32 {
        self.slots.get(slot.get() as usize).copied().unwrap_or_default()
    }

    /// Nodes behind this host's own ports.
    #[must_use]
    pub fn local(&self) -> u32 {
        self.local
    }

    /// An address of network number `bd` has an owner now.
    pub(super) fn address_added(&mut self, bd: u16) {
        at(&mut self.networks, bd.into()).addresses += 1;
    }

    /// An address of network number `bd` no longer has an owner.
    pub(super) fn address_removed(&mut self, bd: u16) {
        let addresses = &mut at(&mut self.networks, bd.into()).addresses;
        *addresses = addresses.saturating_sub(1);
    }

    /// The entry of a node changed from `before` to `after`.
    pub(super) fn node_changed(&mut self, key: u64, before: Option<u64>, after: Option<u64>) {
        let place = |word: Option<u64>| PackedFdbEntry(word?).unpack();
        let (before, after) = (place(before), place(after));
        if before.is_some() != after.is_some()
            && let Some((bd, _)) = node_key_parts(key)
        {
            count(&mut at(&mut self.networks, bd.get().into()).nodes, after.is_some());
        }
        for (place, added) in [(before, false), (after, true)] {
            match place {
                Some(FdbEntry::Remote { slot, .. }) => {
                    count(at(&mut self.slots, slot.get() as usize), added);
                }
                Some(FdbEntry::Local { .. } | FdbEntry::Migrating { .. }) => count(&mut self.local, added),
                None => {}
            }
        }
    }
}

fn count(number: &mut u32, up: bool) {
    *number = if up { *number + 1 } else { number.saturating_sub(1) };
}

fn at<T: Default + Clone>(counts: &mut Vec<T>, index: usize) -> &mut T {
    if counts.len() <= index {
        counts.resize(index + 1, T::default());
    }
    &mut counts[index]
}

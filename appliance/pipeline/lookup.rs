//! Lookup: what the FDB has for the destination of a frame, for a trace.

use crate::tables::{
    View,
    packed::{Bd, FdbEntry},
    peer::Slot,
};
use stopover_net::Mac;

/// Describes a lookup for a trace.
#[must_use]
pub(super) fn describe_lookup(view: &View, dst: Mac, bd: Bd, entry: Option<FdbEntry>) -> String {
    format!("{dst} in network {} is {}", bd.get(), describe_entry(view, entry))
}

/// Describes an FDB entry for a trace.
#[must_use]
fn describe_entry(view: &View, entry: Option<FdbEntry>) -> String {
    match entry {
        Some(FdbEntry::Local { port, vlan: 0, .. }) => format!("at local port {port}"),
        Some(FdbEntry::Local { port, vlan, .. }) => format!("at local port {port}, VLAN {vlan}"),
        Some(FdbEntry::Remote { slot, .. }) => describe_slot(view, slot),
        Some(FdbEntry::Migrating { port, .. }) => format!("migrating, at local port {port}"),
        None => "not one node: a group address, or not registered".into(),
    }
}

/// Describes a slot for a trace: a reader knows the host by its number.
#[must_use]
pub(super) fn describe_slot(view: &View, slot: Slot) -> String {
    view.peer_of(slot).map_or_else(|| "at an unknown host".into(), |peer| format!("at host {peer}"))
}

//! Lookup: where the destination of a frame is. Enters: a frame, and the word of the FDB for its destination: those of
//! a burst are read at once. Leaves: the entry; nothing for a group address.

use super::{Egress, PacketCtx, Pipeline, graph::Stage, tracer::Tracer};
use crate::tables::{
    View,
    packed::{Bd, FdbEntry, PackedFdbEntry},
    peer::Slot,
};
use stopover_net::Mac;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// The FDB entry of the destination.
    #[inline]
    pub(super) fn lookup(&mut self, ctx: &PacketCtx<I::P>, word: PackedFdbEntry) -> Option<FdbEntry> {
        self.tracer.enter(Stage::Lookup);
        let entry = if ctx.frame.dst.is_group() { None } else { word.unpack() };
        let view = self.view;
        self.tracer.note(|| describe_lookup(view, ctx.frame.dst, ctx.bd, entry));
        entry
    }
}

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

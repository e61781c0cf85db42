//! Stations: where the source of a frame is. Enters: frames of a segment port, whose stations are learned, and inner
//! frames from the underlay. Leaves: the frames whose source may be there; what only a loop or a spoof can cause is
//! dropped.

use super::{
    Egress, Learn, MAX_BURST, PacketBurst, PacketCtx, Pipeline,
    drop_reason::DropReason,
    graph::Stage,
    migration_egress::MigrationEvent,
    ports::{Origin, Role},
    tracer::Tracer,
};
use crate::tables::packed::{FdbEntry, PackedFdbEntry, node_key};
use arrayvec::ArrayVec;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Learns the stations behind a segment, and drops frames that only a loop or a spoof can cause.
    pub(super) fn learn_stations(&mut self, ctxs: &mut PacketBurst<I::P>) {
        let view = self.view;
        let mut entries = [0; MAX_BURST];
        let keys: ArrayVec<u64, MAX_BURST> = ctxs.iter().map(|s| node_key(s.bd, s.frame.src)).collect();
        view.lookup_locals(&keys, &mut entries);
        let mut kept = PacketBurst::new();
        for (ctx, word) in ctxs.drain(..).zip(entries) {
            let Origin::Port { port, vlan } = ctx.origin else { continue };
            self.tracer.enter(Stage::Stations);
            match PackedFdbEntry(word).unpack() {
                Some(FdbEntry::Local { port: known_port, vlan: known_vlan, station })
                    if known_port == port && known_vlan == vlan =>
                {
                    view.touch(station);
                    // A station that has left may be back.
                    if PackedFdbEntry(word).is_migrating() {
                        let mac = ctx.frame.src;
                        let learn = Learn { port, bd: ctx.bd, vlan, mac, ip: None };
                        self.egress.report(MigrationEvent::Station(learn));
                    }
                }
                known => {
                    let known_node = view.packed_fdb_entry(ctx.bd, ctx.frame.src);
                    // A node that is locked for a migration may appear here before the board has moved it.
                    let remote = matches!(known_node.unpack(), Some(FdbEntry::Remote { .. }))
                        && !known_node.is_migrating();
                    let mac = ctx.frame.src;
                    let learn = Learn { port, bd: ctx.bd, vlan, mac, ip: None };
                    let at_vif = matches!(known, Some(FdbEntry::Local { port, .. }) if self.is_vif(port));
                    if known_node.is_migrating() || PackedFdbEntry(word).is_migrating() {
                        self.egress.report(MigrationEvent::Station(learn));
                    } else if !at_vif && self.is_closed(port, vlan) {
                        self.drop(ctx.packet, DropReason::StationLimit);
                        continue;
                    } else {
                        self.egress.learn(learn);
                    }
                    self.tracer.note(|| format!("source {mac} is new here (known: {known:?}): learned"));
                    if remote {
                        self.drop(ctx.packet, DropReason::SourceIsRemote);
                        continue;
                    }
                    if at_vif {
                        self.drop(ctx.packet, DropReason::SourceIsLocal);
                        continue;
                    }
                }
            }
            kept.push(ctx);
        }
        *ctxs = kept;
    }

    /// Whether a frame from another host comes from a station of this one. `word`: what the local stations have for its
    /// source. A frame of a local station that went by the old host of its destination returns with the HOP flag.
    #[inline]
    pub(super) fn is_from_local_station(&mut self, ctx: &PacketCtx<I::P>, word: PackedFdbEntry) -> bool {
        self.tracer.enter(Stage::Stations);
        let redirected_back = matches!(ctx.origin, Origin::Underlay { hop: true, .. });
        word.0 != 0 && !redirected_back && !word.is_migrating()
    }

    /// Whether the segment accepts no new stations.
    #[cold]
    fn is_closed(&self, port: u16, vlan: u16) -> bool {
        match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Segment(segment)) => segment.gate.is_closed(vlan),
            _ => false,
        }
    }

    pub(crate) fn is_vif(&self, port: u16) -> bool {
        matches!(self.ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Vif(_)))
    }
}

//! Tenant ingress: bursts from vif and segment ports, through the stages of [`super::graph::FROM_TENANT`]. Three passes
//! over the burst: admit each frame (parse, network, guard), look up all sources behind a segment (stations) and all
//! destinations at once, forward each frame (resolve, lookup, and the stage that it leads to).

use super::{
    Egress, MAX_BURST, PacketBurst, PacketCtx, Pipeline,
    drop_reason::DropReason,
    encap::{EncapMeta, SourcePort},
    graph::Stage,
    network::Tag,
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin, Role},
    resolve,
    tracer::Tracer,
    vlan,
};
use crate::tables::packed::{FdbEntry, PackedFdbEntry, node_key};
use arrayvec::ArrayVec;
use stopover_net::loop_probe;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes frames, at most [`MAX_BURST`], that [`super::fast_path`] does not handle.
    pub(super) fn tenant_slow(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let mut ctxs = PacketBurst::new();
        let is_segment = matches!(self.ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Segment(_)));
        for packet in burst {
            self.tracer.slow_path();
            if is_segment && loop_probe::is_probe(packet.head()) {
                self.handle_loop_probe(port, packet);
                continue;
            }
            match self.admit(port, packet) {
                Ok(ctx) => ctxs.push(ctx),
                Err((packet, reason)) => self.drop(packet, reason),
            }
        }
        if is_segment {
            self.learn_stations(&mut ctxs);
        }
        self.forward(&mut ctxs);
    }

    /// Hands a loop probe to the control thread, with the tag that it had.
    #[cold]
    fn handle_loop_probe(&mut self, port: u16, mut packet: I::P) {
        self.tracer.enter(Stage::Control);
        if let Some(vlan) = packet.stripped_vlan()
            && !vlan::push(&mut packet, vlan.get(), 0)
        {
            return self.drop(packet, DropReason::NoHeadroom);
        }
        self.tracer.note(|| "a loop probe: to the control thread".into());
        match self.egress.punt_loop_probe(port, packet) {
            Ok(()) => add(&self.counters.to_control, 1),
            Err(packet) => self.drop(packet, DropReason::ControlFull),
        }
    }

    #[inline]
    fn admit(&mut self, port: u16, mut packet: I::P) -> Result<PacketCtx<I::P>, (I::P, DropReason)> {
        let stages = |path: &mut Self, packet: &mut I::P| {
            let mut frame = path.parse(packet)?;
            let (network, tag) = path.network(port, packet, &mut frame)?;
            path.guard(port, &frame, packet.head())?;
            Ok((frame, network, tag))
        };
        match stages(self, &mut packet) {
            Ok((frame, Network { bd, vni }, Tag { vlan, priority })) => {
                Ok(PacketCtx { packet, frame, bd, vni, origin: Origin::Port { port, vlan }, priority })
            }
            Err(reason) => Err((packet, reason)),
        }
    }

    /// Looks up all destinations at once and forwards each frame.
    fn forward(&mut self, ctxs: &mut PacketBurst<I::P>) {
        let mut entries = [0; MAX_BURST];
        let keys: ArrayVec<u64, MAX_BURST> = ctxs.iter().map(|s| node_key(s.bd, s.frame.dst)).collect();
        self.view.lookup_nodes(&keys, &mut entries);
        for (ctx, word) in ctxs.drain(..).zip(entries) {
            let ctx = if resolve::is_arp_or_nd(&ctx.frame) {
                match self.resolve(ctx) {
                    Some(ctx) => ctx,
                    None => continue,
                }
            } else {
                ctx
            };
            self.forward_one(ctx, PackedFdbEntry(word));
        }
    }

    #[inline]
    fn forward_one(&mut self, ctx: PacketCtx<I::P>, word: PackedFdbEntry) {
        match self.lookup(&ctx, word) {
            Some(FdbEntry::Remote { slot, .. }) if word.is_migrating() => {
                let port = SourcePort::Bounded(ctx.frame.dst);
                self.encap_with(ctx, slot, EncapMeta { port, ..EncapMeta::PLAIN });
            }
            Some(FdbEntry::Remote { slot, .. }) => self.encap(ctx, slot),
            Some(FdbEntry::Local { port, vlan, .. }) => match ctx.origin {
                Origin::Port { port: from, .. } if from == port => {
                    self.drop(ctx.packet, DropReason::SameSegment)
                }
                _ => self.deliver(ctx, port, vlan),
            },
            Some(FdbEntry::Migrating { index, .. }) => self.migrating_node(ctx, index),
            None => self.replicate(ctx),
        }
    }
}

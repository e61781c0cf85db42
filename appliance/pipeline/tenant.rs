//! Tenant ingress: bursts from vif and segment ports. Three passes over the burst: admit (headers, VLAN, guard), look
//! up all destinations at once, forward each frame.

use super::{
    Egress, MAX_BURST, PacketBurst, PacketCtx, Pipeline,
    drop_reason::DropReason,
    encap::{EncapMeta, SourcePort},
    guard, lookup,
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin, Role},
    resolve,
    tracer::{Stage, Tracer, describe},
    vlan,
};
use crate::tables::packed::{FdbEntry, PackedFdbEntry, node_key};
use arrayvec::ArrayVec;
use stopover_net::{ethernet::Tag, frame, loop_probe};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes frames, at most [`MAX_BURST`], that [`super::fast_path`] does not handle.
    pub(super) fn tenant_slow(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let mut ctxs = PacketBurst::new();
        let is_segment = matches!(self.ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Segment(_)));
        for packet in burst {
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
        if let Some(vlan) = packet.stripped_vlan()
            && !vlan::push(&mut packet, vlan.get(), 0)
        {
            return self.drop(packet, DropReason::NoHeadroom);
        }
        self.tracer.note(Stage::Control, || "a loop probe: to the control thread".into());
        match self.egress.punt_loop_probe(port, packet) {
            Ok(()) => add(&self.counters.to_control, 1),
            Err(packet) => self.drop(packet, DropReason::ControlFull),
        }
    }

    /// Reads the headers once and decides whether the port may send this.
    #[inline]
    fn admit(&mut self, port: u16, mut packet: I::P) -> Result<PacketCtx<I::P>, (I::P, DropReason)> {
        let mut frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return Err((packet, bad.into())),
        };
        self.tracer.note(Stage::Parse, || describe(&frame));
        let (network, vlan) = match self.ingress_network(port, &packet, &frame) {
            Ok(found) => found,
            Err(reason) => return Err((packet, reason)),
        };
        let priority = frame.vlan.map_or(0, Tag::pcp_and_dei);
        if frame.vlan.is_some() {
            if frame.double_tagged || !vlan::pop(&mut packet) {
                return Err((packet, DropReason::InnerVlan));
            }
            frame = frame.retagged(None);
        }
        if let Err(reason) = guard::check_addresses(&frame) {
            return Err((packet, reason));
        }
        if let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role)
            && vif.guard
        {
            let allowed = match guard::check_vif(vif, &frame, packet.head()) {
                Ok(guard::Passed::Own) => Ok(()),
                Ok(guard::Passed::Claims) => {
                    self.claim_link_local(port, vif, guard::claims(vif, &frame, packet.head()))
                }
                Err(reason) => Err(reason),
            };
            if let Err(reason) = allowed {
                return Err((packet, reason));
            }
        }
        self.tracer.note(Stage::Guard, || format!("port {port} may send this"));
        let Network { bd, vni } = network;
        Ok(PacketCtx { packet, frame, bd, vni, origin: Origin::Port { port, vlan }, priority })
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
    fn forward_one(&mut self, ctx: PacketCtx<I::P>, packed_fdb_entry: PackedFdbEntry) {
        let view = self.view;
        let entry = if ctx.frame.dst.is_group() { None } else { packed_fdb_entry.unpack() };
        self.tracer.note(Stage::Lookup, || lookup::describe_lookup(view, ctx.frame.dst, ctx.bd, entry));
        match entry {
            Some(FdbEntry::Remote { slot, .. }) if packed_fdb_entry.is_migrating() => {
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

//! Tenant ingress: bursts from vif and segment ports. Three passes over the burst: admit (headers, VLAN, guard), look
//! up all destinations at once, forward each frame.

use super::{
    Egress, Learn, MAX_BURST, PacketBurst, PacketCtx, Pipeline,
    drop_reason::DropReason,
    encap::{EncapMeta, SourcePort},
    guard,
    migration_egress::MigrationEvent,
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin, Role, Vif},
    resolve,
    tracer::{Stage, Tracer, describe},
    vlan,
};
use crate::tables::{
    View,
    packed::{Bd, FdbEntry, PackedFdbEntry, node_key},
    peer::Slot,
};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use stopover_net::Mac;
use stopover_net::ethernet::{Tag, ethertype};
use stopover_net::frame::{self, Frame};
use stopover_net::loop_probe;

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

    /// A link-local address belongs to the first node that uses it (as in RFC 6620). An address of another node is
    /// refused; a free one is registered for the vif.
    #[cold]
    fn claim_link_local(&mut self, port: u16, vif: &Vif, claims: guard::Claims) -> Result<(), DropReason> {
        for (ip, reason) in [(claims.source, DropReason::GuardIp), (claims.target, DropReason::GuardArp)] {
            let Some(ip) = ip.map(IpAddr::V6) else { continue };
            match self.view.owner(vif.network.bd, ip) {
                Some(owner) if owner != vif.mac => return Err(reason),
                Some(_) => {}
                None => {
                    let (bd, mac) = (vif.network.bd, vif.mac);
                    self.egress.learn(Learn { port, bd, vlan: 0, mac, ip: Some(ip) });
                }
            }
        }
        Ok(())
    }

    /// The network of a frame, and its VLAN tag (0 for none).
    #[inline]
    fn ingress_network(&self, port: u16, packet: &I::P, frame: &Frame) -> Result<(Network, u16), DropReason> {
        match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Vif(vif)) => {
                // VLAN 0 only carries a priority (IEEE 802.1Q clause 6.9). Some guests send it.
                if frame.vlan.is_some_and(|tag| !is_priority(tag)) || packet.stripped_vlan().is_some() {
                    return Err(DropReason::VlanOnVif);
                }
                Ok((vif.network, 0))
            }
            Some(Role::Segment(segment)) => {
                let vid = match (frame.vlan, packet.stripped_vlan()) {
                    (Some(_), Some(_)) => return Err(DropReason::InnerVlan),
                    // A service tag (IEEE 802.1ad) has a VLAN space of its own, which the configuration does not map.
                    (Some(tag), None) if tag.tpid != ethertype::VLAN => return Err(DropReason::UnknownVlan),
                    (Some(tag), None) => tag.vid(),
                    (None, stripped) => stripped.map_or(0, |vlan| vlan.get()),
                };
                let network = segment.network(vid).ok_or(DropReason::UnknownVlan)?;
                if segment.gate.is_blocked(vid) {
                    Err(DropReason::SegmentBlocked)
                } else {
                    Ok((network, vid))
                }
            }
            Some(Role::Underlay(_)) | None => Err(DropReason::OuterUnexpected),
        }
    }

    /// Learns the stations behind a segment, and drops frames that only a loop or a spoof can cause.
    fn learn_stations(&mut self, ctxs: &mut PacketBurst<I::P>) {
        let view = self.view;
        let mut entries = [0; MAX_BURST];
        let keys: ArrayVec<u64, MAX_BURST> = ctxs.iter().map(|s| node_key(s.bd, s.frame.src)).collect();
        view.lookup_locals(&keys, &mut entries);
        let mut kept = PacketBurst::new();
        for (ctx, word) in ctxs.drain(..).zip(entries) {
            let Origin::Port { port, vlan } = ctx.origin else { continue };
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
                    self.tracer.note(Stage::Guard, || {
                        format!("source {mac} is new here (known: {known:?}): learned")
                    });
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
        self.tracer.note(Stage::Lookup, || describe_lookup(view, ctx.frame.dst, ctx.bd, entry));
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

fn is_priority(tag: Tag) -> bool {
    tag.vid() == 0 && tag.tpid == ethertype::VLAN
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

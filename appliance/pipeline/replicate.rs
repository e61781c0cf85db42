//! Replicate: a frame without one known receiver is copied to every possible receiver, according to the flood policy
//! of the network. Enters: broadcast, multicast and unicast for an unregistered MAC. Leaves: one copy for each local
//! port and, unless the frame came from the underlay (split horizon), one for each host with members. A migrating
//! node gets a separate copy of a group frame, and the copies for its host and port are not for it.

use super::{
    Egress, PacketCtx, Pipeline,
    drop_reason::DropReason,
    encap::{EncapMeta, SourcePort},
    graph::Stage,
    packet_counters::add,
    ports::{Gate, Origin, Port, Role},
    tracer::Tracer,
};
use crate::tables::{
    View,
    entries::{Member, NetworkEntry},
    packed::FdbEntry,
    peer::Slot,
};
use stopover_net::vxlan::{self, OverlayFlags};
use stopover_net::{FloodPolicy, Mac};

/// The possible receivers of a frame without a known receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Everyone,
    SegmentsOnly,
}

fn reach(policy: FloodPolicy, group: bool) -> Result<Reach, DropReason> {
    match (policy, group) {
        (FloodPolicy::Flood, _) | (FloodPolicy::ToSegments, true) => Ok(Reach::Everyone),
        (FloodPolicy::ToSegments, false) => Ok(Reach::SegmentsOnly),
        (FloodPolicy::Drop, true) => Err(DropReason::FloodDisabled),
        (FloodPolicy::Drop, false) => Err(DropReason::UnknownUnicast),
    }
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Sends a frame to every receiver except its own port.
    pub fn replicate(&mut self, ctx: PacketCtx<I::P>) {
        self.tracer.enter(Stage::Replicate);
        let Some(network) = self.view.network(ctx.bd) else {
            return self.drop(ctx.packet, DropReason::NoMembers);
        };
        let group = ctx.frame.dst.is_group();
        let reach = match reach(network.flood, group) {
            Ok(reach) => reach,
            Err(reason) => return self.drop(ctx.packet, reason),
        };
        if let Origin::Port { port, vlan } = ctx.origin
            && gate(self.ports, port).is_some()
            && self.egress.is_repeated(port, vlan, ctx.bd, &ctx.packet)
        {
            return self.drop(ctx.packet, DropReason::SegmentLoop);
        }
        self.tracer.note(|| describe(network, reach, ctx.origin));
        self.send_copies(ctx, network, reach, group);
    }

    /// One copy per receiver; the last receiver gets the frame itself.
    fn send_copies(&mut self, ctx: PacketCtx<I::P>, network: &NetworkEntry, reach: Reach, group: bool) {
        let segments_only = reach == Reach::SegmentsOnly;
        let apart = match ctx.origin {
            _ if !group => 0,
            Origin::Underlay { apart, .. } => apart,
            Origin::Port { .. } if network.migrating.is_empty() => 0,
            Origin::Port { .. } => self.send_own_copies(&ctx, network),
        };
        let (view, ports) = (self.view, self.ports);
        let blocked = |member: &Member| {
            member.segment && gate(ports, member.port).is_some_and(|gate| gate.is_blocked(member.vlan))
        };
        let wants = |member: &&Member| {
            let is_origin = matches!(ctx.origin, Origin::Port { port, .. } if port == member.port);
            let has_own = || apart != 0 && has_own_copy(view, ports, network, ctx.origin, member, apart);
            !is_origin && (!segments_only || member.segment) && !has_own()
        };
        let mut ports = network.ports.iter().filter(|member| wants(member) && !blocked(member));
        let slots: &[Slot] = match (ctx.origin, reach) {
            (Origin::Underlay { .. }, _) => &[],
            (Origin::Port { .. }, Reach::Everyone) => &network.slots,
            (Origin::Port { .. }, Reach::SegmentsOnly) => &network.segment_slots,
        };
        // Hosts first: a tag that is added for a trunk must not be there when a tunnel header is added.
        let mut slots = slots.iter();
        let mut last_port = ports.next();
        let mut last_slot = None;
        if last_port.is_none() {
            last_slot = slots.next();
        }
        for slot in slots {
            if let Some(copy) = self.copy_of(&ctx) {
                self.encap_copy(copy, *slot, (group, apart));
            }
        }
        for member in ports {
            if let Some(copy) = self.copy_of(&ctx) {
                self.deliver_copy(copy, member, group);
            }
        }
        self.tracer.enter(Stage::Replicate);
        match (last_port.take(), last_slot) {
            (Some(member), _) => self.deliver_copy(ctx, member, group),
            (None, Some(slot)) => self.encap_copy(ctx, *slot, (group, apart)),
            (None, None) if network.ports.iter().any(|member| wants(&member) && blocked(member)) => {
                self.drop(ctx.packet, DropReason::SegmentBlocked);
            }
            // All members have separate copies.
            (None, None) if apart != 0 => self.drop(ctx.packet, DropReason::ServedApart),
            (None, None) => {
                self.drop(ctx.packet, if group { DropReason::NoMembers } else { DropReason::UnknownUnicast });
            }
        }
    }

    /// A copy for a local port. If the node behind it has just arrived, the copy waits like the other frames of that
    /// node.
    fn deliver_copy(&mut self, ctx: PacketCtx<I::P>, member: &Member, group: bool) {
        if group
            && let Some(node) = vif_mac(self.ports, member)
            && let Some(FdbEntry::Migrating { index, .. }) = self.view.fdb_entry(ctx.bd, node)
        {
            return self.migrating_node(ctx, index);
        }
        self.deliver(ctx, member.port, member.vlan);
    }

    /// Sends each migrating node of this network a separate copy by the path of its other frames: it gets each frame
    /// once and in order, whichever of its hosts are members. Returns the nodes that the other copies are not for.
    #[cold]
    fn send_own_copies(&mut self, ctx: &PacketCtx<I::P>, network: &NetworkEntry) -> u32 {
        let mut apart = 0;
        for node in &network.migrating {
            if *node == ctx.frame.src || self.send_own_copy(ctx, *node) {
                apart |= vxlan::separate_copy_bit(*node);
            }
        }
        apart
    }

    /// Sends a node its own copy. False if that is not possible, and it gets a copy like any other node.
    fn send_own_copy(&mut self, ctx: &PacketCtx<I::P>, node: Mac) -> bool {
        let (view, ports) = (self.view, self.ports);
        let is_vif = |port: u16| matches!(ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Vif(_)));
        match view.fdb_entry(ctx.bd, node) {
            Some(FdbEntry::Remote { slot, .. }) => {
                let Some(entry) = view.slot(slot).filter(|entry| view.is_appliance(entry.peer)) else {
                    return false;
                };
                let room = entry.path.as_ref().map_or(0, |path| path.inner_mtu - vxlan::SHIM_LEN as u16);
                if !super::too_big::each_fits(ctx, room) {
                    return false;
                }
                let flags = OverlayFlags::NODE.with_separate_copies(vxlan::separate_copy_bit(node));
                let meta = EncapMeta { flags, node: Some(node), port: SourcePort::Bounded(node) };
                if let Some(copy) = self.copy_of(ctx) {
                    self.encap_with(copy, slot, meta);
                }
            }
            Some(FdbEntry::Local { port, vlan, .. }) if is_vif(port) => {
                if let Some(copy) = self.copy_of(ctx) {
                    self.deliver(copy, port, vlan);
                }
            }
            Some(FdbEntry::Migrating { port, index, .. }) if is_vif(port) => {
                if let Some(copy) = self.copy_of(ctx) {
                    self.migrating_node(copy, index);
                }
            }
            Some(FdbEntry::Local { .. } | FdbEntry::Migrating { .. }) | None => return false,
        }
        true
    }

    /// A copy of a unicast frame of unknown destination is flagged: the old host of its node must not redirect it,
    /// since the new host gets another copy.
    fn encap_copy(&mut self, ctx: PacketCtx<I::P>, slot: Slot, (group, apart): (bool, u32)) {
        let flags = if group { OverlayFlags::NONE.with_separate_copies(apart) } else { OverlayFlags::HOP };
        self.encap_with(ctx, slot, EncapMeta { flags, ..EncapMeta::PLAIN });
    }

    /// Copies a frame and counts the copy. If the pool is empty, that is counted as a drop.
    fn copy_of(&mut self, ctx: &PacketCtx<I::P>) -> Option<PacketCtx<I::P>> {
        self.tracer.enter(Stage::Replicate);
        add(&self.counters.copied, 1);
        let Some(packet) = self.egress.copy(&ctx.packet) else {
            self.drop_unmade();
            return None;
        };
        let PacketCtx { frame, bd, vni, origin, priority, .. } = *ctx;
        Some(PacketCtx { packet, frame, bd, vni, origin, priority })
    }
}

/// The restrictions of a port, if it is a segment.
fn gate(ports: &[Port], port: u16) -> Option<&Gate> {
    match ports.get(usize::from(port)).map(|port| &port.role) {
        Some(Role::Segment(segment)) => Some(&segment.gate),
        _ => None,
    }
}

/// The one node behind a port, if it is a vif's.
fn vif_mac(ports: &[Port], member: &Member) -> Option<Mac> {
    match ports.get(usize::from(member.port)).map(|port| &port.role) {
        Some(Role::Vif(vif)) => Some(vif.mac),
        _ => None,
    }
}

/// Whether the node behind a port gets a separate copy, and not this one. Its bit is not enough: another node may
/// have the same, and then no separate copy was sent to this one.
fn has_own_copy(
    view: &View,
    ports: &[Port],
    network: &NetworkEntry,
    origin: Origin,
    member: &Member,
    apart: u32,
) -> bool {
    let Some(node) = vif_mac(ports, member).filter(|node| vxlan::separate_copy_bit(*node) & apart != 0)
    else {
        return false;
    };
    match origin {
        Origin::Port { .. } => network.migrating.contains(&node),
        Origin::Underlay { .. } => {
            network.moved.binary_search(&node).is_ok() || view.is_migrating(network.bd, node)
        }
    }
}

fn describe(network: &NetworkEntry, reach: Reach, origin: Origin) -> String {
    let hosts = match (origin, reach) {
        (Origin::Underlay { .. }, _) => 0,
        (_, Reach::Everyone) => network.slots.len(),
        (_, Reach::SegmentsOnly) => network.segment_slots.len(),
    };
    let horizon = if origin.is_underlay() { " (split horizon: the frame is from the underlay)" } else { "" };
    format!(
        "network {} has flood policy {}: to {} local members other than the sender's port and {hosts} hosts{horizon}",
        network.vni,
        network.flood,
        network.ports.len(),
    )
}

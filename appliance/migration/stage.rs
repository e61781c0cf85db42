//! Migration: frames for nodes that are leaving this host or arriving here. Enters: a frame whose destination is
//! migrating, an end marker, a straggler for a node that has left. Leaves: the frame, delivered, held, or redirected
//! once to the new host of its node.
//!
//! Frames that the ring of a vhost port refuses are handled by the port's transmit queue, which alone knows what was
//! refused.

use super::hold::HeldKind;
use super::record::{MigrationCounters, MigrationRecord, RecordMode, RedirectTarget, WINDOW};
use crate::pipeline::{
    Egress, PacketCtx, Pipeline,
    drop_reason::DropReason,
    encap::{EncapMeta, SourcePort},
    graph,
    migration_egress::{Behind, MigrationEvent, QueuedMarker},
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin},
    tracer::Tracer,
};
use crate::tables::{
    packed::{Bd, FdbEntry, PackedFdbEntry},
    peer::{Peer, Slot},
};
use stopover_net::Mac;
use stopover_net::{
    frame,
    marker::{self, Kind, Marker, Relay},
    vxlan::OverlayFlags,
};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// A frame for a migrating node, whose record has this index.
    #[cold]
    pub fn migrating_node(&mut self, mut ctx: PacketCtx<I::P>, index: u32) {
        self.tracer.enter(graph::Stage::Migration);
        let view = self.view;
        let Some(record) = view.migrating(index) else { return self.after_migration(ctx) };
        let to_stand_in = record.stand_in == Some(ctx.frame.dst);
        if to_stand_in {
            rewrite_dst_mac(&mut ctx, record.mac);
        }
        match &record.mode {
            RecordMode::Arriving(arrival) => {
                let sender = match ctx.origin {
                    Origin::Underlay { hop: true, .. } => None,
                    Origin::Underlay { peer, .. } => Some(peer.get()),
                    Origin::Port { .. } => Some(arrival.own),
                };
                match sender {
                    Some(host) if self.egress.has_held(index, host) || !arrival.is_open(host) => {
                        self.tracer.note(|| format!("held until the end marker of host {host} arrives"));
                        self.hold(ctx.packet, record, index, host, HeldKind::Frame);
                    }
                    Some(_) => self.deliver(ctx, record.port, record.vlan),
                    None => {
                        if let Some(now) = self.egress.now() {
                            arrival.note_old_path_frame(now);
                        }
                        self.deliver(ctx, record.port, record.vlan);
                    }
                }
            }
            RecordMode::Window { .. } => {
                let from_own_segment = matches!(ctx.origin, Origin::Port { port, .. } if port == record.port);
                if from_own_segment && !to_stand_in {
                    // A bridge floods a frame of unknown destination: the node may have left.
                    self.hold_copy(&ctx, record, index);
                    return self.drop(ctx.packet, DropReason::SameSegment);
                }
                self.tracer.note(|| "delivered, and a copy held".into());
                self.hold_copy(&ctx, record, index);
                self.deliver(ctx, record.port, record.vlan);
            }
            // The host that redirected it knows that the node is here again. The control thread will be notified
            // soon.
            RecordMode::Forward(RedirectTarget::Host(_))
                if matches!(ctx.origin, Origin::Underlay { hop: true, .. }) =>
            {
                self.deliver(ctx, record.port, record.vlan);
            }
            RecordMode::Forward(target) => {
                if self.egress.has_held(index, WINDOW) {
                    return self.hold(ctx.packet, record, index, WINDOW, HeldKind::Straggler);
                }
                MigrationCounters::add(&record.counters.redirected, 1);
                self.redirect(ctx, record.mac, *target, record.vlan);
            }
        }
    }

    /// A frame whose node stopped migrating after the lookup of the burst.
    fn after_migration(&mut self, ctx: PacketCtx<I::P>) {
        let word = self.view.packed_fdb_entry(ctx.bd, ctx.frame.dst);
        match (word.unpack(), ctx.origin) {
            (Some(FdbEntry::Local { port, vlan, .. }), _) => self.deliver(ctx, port, vlan),
            (Some(FdbEntry::Remote { slot, .. }), Origin::Port { .. }) => self.encap(ctx, slot),
            (Some(FdbEntry::Remote { slot, .. }), Origin::Underlay { .. }) => {
                self.redirect_straggler(ctx, slot, word)
            }
            // Migrating again already, within one burst.
            (Some(FdbEntry::Migrating { port, vlan, .. }), _) => self.deliver(ctx, port, vlan),
            (None, _) => self.drop(ctx.packet, DropReason::NotHere),
        }
    }

    /// Holds a frame.
    fn hold(&mut self, packet: I::P, record: &MigrationRecord, index: u32, sender: u32, kind: HeldKind) {
        if self.egress.hold(record, index, sender, kind, &packet) {
            add(&self.counters.held, 1);
            if kind == HeldKind::Frame {
                MigrationCounters::add(&record.counters.held, 1);
            }
            std::mem::drop(packet);
        } else {
            MigrationCounters::add(&record.counters.dropped, 1);
            self.drop(packet, DropReason::HoldFull);
        }
    }

    /// Holds a copy of a frame that is also delivered. A copy that does not fit is a loss only if the node has left.
    fn hold_copy(&mut self, ctx: &PacketCtx<I::P>, record: &MigrationRecord, index: u32) {
        if self.egress.hold(record, index, WINDOW, HeldKind::Frame, &ctx.packet) {
            add(&self.counters.copied, 1);
            add(&self.counters.held, 1);
            MigrationCounters::add(&record.counters.held, 1);
        } else {
            MigrationCounters::add(&record.counters.uncopied, 1);
        }
    }

    /// Sends a frame to the host or port to which its node has moved.
    pub fn redirect(&mut self, ctx: PacketCtx<I::P>, node: Mac, target: RedirectTarget, vlan: u16) {
        self.tracer.enter(graph::Stage::Migration);
        match target {
            RedirectTarget::Host(host) => {
                // A frame that was flooded to the port of the node must not be flooded again at the new host.
                let only_node = (ctx.frame.dst != node).then_some(node);
                let flags = if only_node.is_some() {
                    OverlayFlags::HOP.with(OverlayFlags::NODE)
                } else {
                    OverlayFlags::HOP
                };
                self.tracer.note(|| format!("redirected to host {host}"));
                let meta = EncapMeta { flags, node: only_node, ..EncapMeta::PLAIN };
                self.encap_to_peer(ctx, Peer::new(host), meta);
            }
            RedirectTarget::Port(port) => self.deliver(ctx, port, vlan),
        }
    }

    /// A frame from the underlay for a node at another host. If the node has left from here, its sender does not know
    /// yet: the frame is redirected, once.
    pub fn redirect_straggler(&mut self, ctx: PacketCtx<I::P>, slot: Slot, word: PackedFdbEntry) {
        self.tracer.enter(graph::Stage::Migration);
        let redirected_before = matches!(ctx.origin, Origin::Underlay { hop: true, .. });
        if redirected_before || !word.departed() {
            return self.drop(ctx.packet, DropReason::NotHere);
        }
        let view = self.view;
        self.tracer.note(|| {
            let host = view.peer_of(slot).map_or_else(String::new, |peer| format!(" to host {peer}"));
            format!("its node has left from here: redirected{host}")
        });
        add(&self.counters.redirected, 1);
        self.encap_with(ctx, slot, EncapMeta { flags: OverlayFlags::HOP, ..EncapMeta::PLAIN });
    }

    /// A frame for one node only, whatever its destination MAC is: another host held it for that node.
    #[cold]
    pub fn deliver_to_node(&mut self, ctx: PacketCtx<I::P>, node: Mac) {
        self.tracer.enter(graph::Stage::Migration);
        self.tracer.note(|| format!("for {node} only"));
        let redirected_before = matches!(ctx.origin, Origin::Underlay { hop: true, .. });
        let is_apart = matches!(ctx.origin, Origin::Underlay { apart, .. } if apart != 0);
        let word = self.view.packed_fdb_entry(ctx.bd, node);
        match word.unpack() {
            // All stations of a segment receive the copy that the segment gets like any other port.
            Some(FdbEntry::Local { port, .. } | FdbEntry::Migrating { port, .. })
                if is_apart && !self.is_vif(port) =>
            {
                self.drop(ctx.packet, DropReason::ServedApart);
            }
            Some(FdbEntry::Local { port, vlan, .. }) => self.deliver(ctx, port, vlan),
            Some(FdbEntry::Migrating { index, .. }) => self.migrating_node(ctx, index),
            Some(FdbEntry::Remote { slot, .. }) if word.departed() && !redirected_before => {
                add(&self.counters.redirected, 1);
                let flags = OverlayFlags::HOP.with(OverlayFlags::NODE);
                self.encap_with(ctx, slot, EncapMeta { flags, node: Some(node), ..EncapMeta::PLAIN });
            }
            Some(FdbEntry::Remote { .. }) | None => self.drop(ctx.packet, DropReason::NotHere),
        }
    }

    /// An end marker from the underlay, without its outer headers. If it announces an arrival, that is reported at
    /// once. The marker itself waits until every lcore has processed what its queues held: an earlier frame of the
    /// same sender may be in another queue.
    #[cold]
    pub fn handle_end_marker(&mut self, packet: I::P, network: Network) {
        self.tracer.enter(graph::Stage::Migration);
        let Ok(marker) = marker::parse(packet.head()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        self.tracer.note(|| format!("{marker:?}"));
        let word = self.view.packed_fdb_entry(network.bd, marker.node);
        match word.unpack() {
            Some(FdbEntry::Local { .. } | FdbEntry::Migrating { .. }) if !marker.relayed => {
                self.report_arrived(network.bd, &marker);
            }
            Some(FdbEntry::Migrating { .. }) => {}
            Some(FdbEntry::Remote { .. }) if word.departed() && !marker.relayed => {}
            Some(FdbEntry::Local { .. } | FdbEntry::Remote { .. }) | None => {
                return self.drop(packet, DropReason::EndMarker);
            }
        }
        if let Some(packet) = self.queue_behind(packet, network, Behind::Queues) {
            self.forward_marker(packet, network);
        }
    }

    /// An end marker that no longer waits for other queues: it follows the frames of its node.
    #[cold]
    pub fn forward_marker(&mut self, packet: I::P, network: Network) {
        self.tracer.enter(graph::Stage::Migration);
        let Ok(marker) = marker::parse(packet.head()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        let view = self.view;
        let word = view.packed_fdb_entry(network.bd, marker.node);
        match word.unpack() {
            Some(FdbEntry::Local { port, .. }) if !marker.relayed => self.queue_marker(packet, network, port),
            Some(FdbEntry::Migrating { index, .. }) => match view.migrating(index) {
                Some(MigrationRecord { mode: RecordMode::Arriving(_), port, .. }) => {
                    self.queue_marker(packet, network, *port);
                }
                Some(record) => self.hold_or_relay_marker(packet, &marker, record, index),
                None => self.drop(packet, DropReason::EndMarker),
            },
            Some(FdbEntry::Remote { slot, .. }) if word.departed() && !marker.relayed => {
                self.relay_to_slot(packet, network, slot);
            }
            Some(FdbEntry::Local { .. } | FdbEntry::Remote { .. }) | None => {
                self.drop(packet, DropReason::EndMarker)
            }
        }
    }

    /// Queues an end marker behind all frames that this lcore has sent to a port.
    pub fn queue_marker(&mut self, packet: I::P, network: Network, port: u16) {
        self.tracer.enter(graph::Stage::Migration);
        if let Some(packet) = self.queue_behind(packet, network, Behind::Port(port)) {
            self.handle_marker_at_port(packet, network, port);
        }
    }

    /// Queues an end marker. Returns it if nothing is in front of it.
    fn queue_behind(&mut self, packet: I::P, network: Network, behind: Behind) -> Option<I::P> {
        match self.egress.queue_marker(packet, network, behind) {
            QueuedMarker::Passed(packet) => return Some(packet),
            QueuedMarker::Waits => add(&self.counters.held, 1),
            QueuedMarker::Handed => {}
            QueuedMarker::Full(packet) => self.drop(packet, DropReason::HandoffFull),
        }
        None
    }

    /// An end marker at the lcore that sends from the port of its node, which leaves or has arrived.
    #[cold]
    pub fn handle_marker_at_port(&mut self, packet: I::P, network: Network, port: u16) {
        self.tracer.enter(graph::Stage::Migration);
        let Ok(marker) = marker::parse(packet.head()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        let behind = if marker.relayed { Behind::Device(port) } else { Behind::Hold(port) };
        let Some(packet) = self.queue_behind(packet, network, behind) else { return };
        let word = self.view.packed_fdb_entry(network.bd, marker.node);
        match word.unpack() {
            Some(FdbEntry::Remote { slot, .. }) if word.departed() && !marker.relayed => {
                self.relay_to_slot(packet, network, slot);
            }
            _ => self.record_marker(packet, network),
        }
    }

    /// A relayed end marker from the old host of a node: all frames that its sender had sent by the old host have
    /// been delivered.
    #[cold]
    pub fn record_marker(&mut self, packet: I::P, network: Network) {
        self.tracer.enter(graph::Stage::Migration);
        let view = self.view;
        if let Ok(marker) = marker::parse(packet.head())
            && marker.relayed
            && let Some(FdbEntry::Migrating { index, .. }) = view.fdb_entry(network.bd, marker.node)
            && let Some(MigrationRecord { mode: RecordMode::Arriving(arrival), .. }) = view.migrating(index)
        {
            if marker.ends {
                arrival.expect_source();
            }
            if arrival.record_marker(&marker)
                && marker.host == arrival.own
                && let Some(now) = self.egress.now()
            {
                arrival.own_marker_returned(now, marker.paused_us);
            }
        }
        self.drop(packet, DropReason::EndMarker);
    }

    /// An end marker for a node that leaves a port whose frames each lcore holds or redirects itself.
    fn hold_or_relay_marker(&mut self, packet: I::P, marker: &Marker, record: &MigrationRecord, index: u32) {
        match &record.mode {
            RecordMode::Forward(RedirectTarget::Host(host)) if !marker.relayed => {
                if self.egress.has_held(index, WINDOW) {
                    self.hold(packet, record, index, WINDOW, HeldKind::Marker);
                } else {
                    let network = Network { bd: record.bd, vni: record.vni };
                    self.relay_marker(packet, network, Peer::new(*host), Relay::default());
                }
            }
            RecordMode::Window { .. } if !marker.relayed => {
                self.hold(packet, record, index, WINDOW, HeldKind::Marker);
            }
            RecordMode::Arriving(_) | RecordMode::Window { .. } | RecordMode::Forward(_) => {
                self.drop(packet, DropReason::EndMarker);
            }
        }
    }

    fn report_arrived(&mut self, bd: Bd, marker: &Marker) {
        if marker.kind == Kind::Arrived {
            let Marker { node, host, generation, .. } = *marker;
            self.egress.report(MigrationEvent::Arrived { bd, node, host, generation });
        }
    }

    /// Sends an end marker to a host, one copy for each source port in use for its node.
    pub fn send_end_markers(&mut self, mut packet: I::P, network: Network, peer: Peer) {
        self.tracer.enter(graph::Stage::Migration);
        let Ok(marker) = marker::parse(packet.head()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        let source_ports = self.egress.source_ports(network.bd, marker.node);
        let ports = (source_ports.len() as u8).max(1);
        for (port, source_port) in (1..).zip(source_ports.iter().skip(1)) {
            self.tracer.enter(graph::Stage::Migration);
            add(&self.counters.copied, 1);
            let bytes = marker::build(&Marker { port, ports, source_port: *source_port, ..marker });
            match self.egress.make(&bytes) {
                Some(copy) => self.send_marker(copy, network, peer, *source_port),
                None => self.drop_unmade(),
            }
        }
        self.tracer.enter(graph::Stage::Migration);
        let source_port = source_ports.first().copied().unwrap_or(0);
        let bytes = marker::build(&Marker { port: 0, ports, source_port, ..marker });
        if packet.replace(&bytes) {
            self.send_marker(packet, network, peer, source_port);
        } else {
            self.drop(packet, DropReason::NoHeadroom);
        }
    }

    fn send_marker(&mut self, packet: I::P, network: Network, peer: Peer, source_port: u16) {
        let Ok(frame) = frame::parse(packet.head(), packet.len()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        let Network { bd, vni } = network;
        let port = if source_port == 0 { SourcePort::FromFlow } else { SourcePort::Fixed(source_port) };
        let origin = Origin::Underlay { peer, hop: true, apart: 0 };
        let ctx = PacketCtx { packet, frame, bd, vni, origin, priority: 0 };
        self.encap_to_peer(ctx, peer, EncapMeta { flags: OverlayFlags::CONTROL, node: None, port });
    }

    /// Relays an end marker to the host that the entry of its node names.
    fn relay_to_slot(&mut self, packet: I::P, network: Network, slot: Slot) {
        match self.view.peer_of(slot) {
            Some(peer) => self.relay_marker(packet, network, peer, Relay::default()),
            None => self.drop(packet, DropReason::EndMarker),
        }
    }

    /// Relays an end marker to the new host of its node, behind all frames sent there before.
    pub fn relay_marker(&mut self, mut packet: I::P, network: Network, peer: Peer, relay: Relay) {
        self.tracer.enter(graph::Stage::Migration);
        let marker = match marker::parse(packet.head()) {
            Ok(marker) if !marker.relayed => marker,
            // A marker of the previous migration, for which this host waited.
            Ok(_) | Err(_) => return self.drop(packet, DropReason::EndMarker),
        };
        self.egress.report(MigrationEvent::Relayed { bd: network.bd, marker });
        marker::relay_in_place(packet.head_mut(), relay);
        let Ok(frame) = frame::parse(packet.head(), packet.len()) else {
            return self.drop(packet, DropReason::BadMarker);
        };
        let origin = Origin::Underlay { peer, hop: true, apart: 0 };
        let flags = OverlayFlags::HOP.with(OverlayFlags::CONTROL);
        let Network { bd, vni } = network;
        // A foreign VTEP does not understand it.
        if self.view.is_appliance(peer) {
            // Frames of a flow leave with the source port with which they arrived.
            let port = match marker.source_port {
                0 => SourcePort::FromFlow,
                port => SourcePort::Fixed(port),
            };
            self.encap_to_peer(
                PacketCtx { packet, frame, bd, vni, origin, priority: 0 },
                peer,
                EncapMeta { flags, node: None, port },
            );
        } else {
            self.drop(packet, DropReason::EndMarker);
        }
    }
}

/// Replaces the stand-in MAC of a node by its real one.
fn rewrite_dst_mac<P: Packet>(ctx: &mut PacketCtx<P>, mac: Mac) {
    if let Some(dst) = ctx.packet.head_mut().get_mut(..6) {
        dst.copy_from_slice(&mac.octets());
    }
    ctx.frame.dst = mac;
}

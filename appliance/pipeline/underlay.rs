//! Underlay ingress: bursts from the wire, through the stages of [`super::graph::FROM_UNDERLAY`]. Enters: any frame.
//! Leaves: the inner frames of VXLAN datagrams to our VTEP, checked (outer, decap, parse, guard, ecn) and forwarded
//! (stations, lookup, and the stage that it leads to). ARP, ND and ICMP for the VTEP go to the control thread; any
//! other frame is dropped with a reason.

use super::{
    Egress, MAX_BURST, PacketBurst, PacketCtx, Pipeline, RouterSeen,
    decap::Decapped,
    drop_reason::DropReason,
    graph::Stage,
    guard,
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin, Role, Underlay},
    tracer::Tracer,
};
use crate::tables::packed::{Bd, FdbEntry, PackedFdbEntry, node_key};
use arrayvec::ArrayVec;
use stopover_net::{
    Mac, ecn,
    frame::{Frame, Kind, L4},
    icmpv6::kind::ROUTER_ADVERT,
    underlay::{self as outer, BadOuter, Expect, Underlay as Outer, Vxlan},
    vxlan::OverlayFlags,
};

/// Result of processing the outer headers.
pub(super) enum Opened<P> {
    /// An inner frame.
    Frame(PacketCtx<P>),
    /// An inner frame for one node only.
    ForNode(PacketCtx<P>, Mac),
    /// An end marker, and its network.
    Marker(P, Network),
    /// The frame went to the control thread or to another lcore, or is dropped and counted.
    Elsewhere,
}

/// Or the frame and the reason to drop it.
pub(super) type Opening<P> = Result<Opened<P>, (P, DropReason)>;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes frames, at most [`MAX_BURST`], that [`super::fast_path`] does not handle.
    pub(super) fn underlay_slow(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let ports = self.ports;
        let Some(Role::Underlay(own)) = ports.get(usize::from(port)).map(|p| &p.role) else {
            for packet in burst {
                self.tracer.enter(Stage::Outer);
                self.drop(packet, DropReason::OuterUnexpected);
            }
            return;
        };
        let mut ctxs = PacketBurst::new();
        for packet in burst {
            match self.open(own, port, packet) {
                Ok(Opened::Frame(ctx)) => ctxs.push(ctx),
                Ok(Opened::Elsewhere) => {}
                // These must not overtake earlier frames of the burst.
                Ok(Opened::ForNode(ctx, node)) => {
                    self.forward_inner(&mut ctxs);
                    self.deliver_to_node(ctx, node);
                }
                Ok(Opened::Marker(packet, network)) => {
                    self.forward_inner(&mut ctxs);
                    self.handle_end_marker(packet, network);
                }
                Err((packet, reason)) => self.drop(packet, reason),
            }
        }
        self.forward_inner(&mut ctxs);
    }

    /// Checks and removes the outer headers.
    #[inline]
    fn open(&mut self, own: &Underlay, port: u16, packet: I::P) -> Opening<I::P> {
        self.tracer.slow_path();
        self.tracer.enter(Stage::Outer);
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        // No overlay flag is acted on here, so a foreign sender needs no other treatment.
        let packet_kind = match outer::parse(packet.head(), packet.len(), &expect) {
            Ok(packet_kind) => packet_kind,
            Err(BadOuter::BadShim) => return self.open_foreign(own, packet),
            Err(bad) => return Err((packet, bad.into())),
        };
        match packet_kind {
            Outer::Vxlan(datagram) => self.open_datagram(own, packet, &datagram),
            Outer::Datagram(other) => self.open_other(own, port, packet, &other),
            Outer::Arp(f) | Outer::Icmp(f) | Outer::Nd(f) | Outer::Icmpv6(f) => {
                if f.dst != own.mac && !f.dst.is_group() {
                    return Err((packet, DropReason::OuterNotOurs));
                }
                self.punt(port, packet);
                Ok(Opened::Elsewhere)
            }
            Outer::Other(_) => Err((packet, DropReason::OuterUnexpected)),
        }
    }

    /// A VXLAN datagram with reserved bits set, from a VTEP that gives them no meaning.
    #[cold]
    fn open_foreign(&mut self, own: &Underlay, packet: I::P) -> Opening<I::P> {
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        match outer::parse_foreign(packet.head(), packet.len(), &expect) {
            Ok(Outer::Vxlan(datagram)) => {
                if self.view.vtep(datagram.src).is_some_and(|vtep| self.view.is_appliance(vtep.peer())) {
                    return Err((packet, DropReason::BadVxlan));
                }
                self.open_datagram(own, packet, &datagram)
            }
            Ok(_) => Err((packet, DropReason::OuterUnexpected)),
            Err(bad) => Err((packet, bad.into())),
        }
    }

    #[inline]
    fn open_datagram(&mut self, own: &Underlay, mut packet: I::P, d: &Vxlan) -> Opening<I::P> {
        let (bd, peer) = match self.decap(own, &mut packet, d) {
            Ok(Decapped::Inner(bd, peer)) => (bd, peer),
            Ok(Decapped::Foreign) => {
                self.tracer.enter(Stage::Outer);
                return self.open_foreign(own, packet);
            }
            Err(reason) => return Err((packet, reason)),
        };
        if d.flags.contains(OverlayFlags::CONTROL) {
            return Ok(Opened::Marker(packet, Network { bd, vni: d.vni }));
        }
        let frame = match self.admit_inner(&mut packet, d.tos) {
            Ok(frame) => frame,
            Err(reason) => return Err((packet, reason)),
        };
        let (hop, apart) = (d.flags.contains(OverlayFlags::HOP), d.flags.separate_copies());
        let origin = Origin::Underlay { peer, hop, apart };
        let priority = if own.pcp { ecn::pcp_of(d.tos) << 1 } else { 0 };
        let ctx = PacketCtx { packet, frame, bd, vni: d.vni, origin, priority };
        Ok(match d.node {
            None => Opened::Frame(ctx),
            Some(node) => Opened::ForNode(ctx, node),
        })
    }

    /// Checks an inner frame, and sets its congestion mark. `tos`: the outer type of service.
    #[inline]
    pub(super) fn admit_inner(&mut self, packet: &mut I::P, tos: u8) -> Result<Frame, DropReason> {
        let frame = self.parse(packet)?;
        if frame.vlan.is_some() {
            return Err(DropReason::InnerVlan);
        }
        self.tracer.enter(Stage::Guard);
        guard::check_addresses(&frame)?;
        self.tracer.enter(Stage::Ecn);
        if let Some(inner_tos) = frame.tos() {
            match ecn::decap(tos, inner_tos) {
                ecn::Decap::Keep => {}
                ecn::Decap::Set(codepoint) => {
                    ecn::set(&frame, packet.head_mut(), codepoint);
                }
                ecn::Decap::Drop => return Err(DropReason::EcnViolation),
            }
        }
        Ok(frame)
    }

    fn punt(&mut self, port: u16, packet: I::P) {
        self.tracer.enter(Stage::Control);
        self.tracer.note(|| "for the VTEP itself: to the control thread".into());
        match self.egress.punt(port, packet) {
            Ok(()) => add(&self.counters.to_control, 1),
            Err(packet) => self.drop(packet, DropReason::ControlFull),
        }
    }

    /// Looks up all sources in the table of local stations and all destinations, and forwards each frame.
    fn forward_inner(&mut self, ctxs: &mut PacketBurst<I::P>) {
        let mut sources = [0; MAX_BURST];
        let mut places = [0; MAX_BURST];
        let keys = |f: fn(&PacketCtx<I::P>) -> (Bd, Mac)| -> ArrayVec<u64, MAX_BURST> {
            ctxs.iter().map(f).map(|(bd, mac)| node_key(bd, mac)).collect()
        };
        self.view.lookup_locals(&keys(|s| (s.bd, s.frame.src)), &mut sources);
        self.view.lookup_nodes(&keys(|s| (s.bd, s.frame.dst)), &mut places);
        for ((ctx, source), place) in ctxs.drain(..).zip(sources).zip(places) {
            if self.is_from_local_station(&ctx, PackedFdbEntry(source)) {
                self.drop(ctx.packet, DropReason::SourceIsLocal);
            } else {
                self.forward_inner_one(ctx, PackedFdbEntry(place));
            }
        }
    }

    #[inline]
    fn forward_inner_one(&mut self, ctx: PacketCtx<I::P>, word: PackedFdbEntry) {
        if let (L4::Icmpv6 { kind: ROUTER_ADVERT, .. }, Kind::Ipv6(ip)) = (ctx.frame.l4, &ctx.frame.kind)
            && self.view.router(ctx.bd, ip.src) != Some(true)
        {
            let (bd, mac) = (ctx.bd, ctx.frame.src);
            self.egress.report_router(RouterSeen { bd, mac, ip: ip.src, router: true });
        }
        match self.lookup(&ctx, word) {
            Some(FdbEntry::Local { port, vlan, .. }) => self.deliver(ctx, port, vlan),
            Some(FdbEntry::Migrating { index, .. }) => self.migrating_node(ctx, index),
            Some(FdbEntry::Remote { slot, .. }) => self.redirect_straggler(ctx, slot, word),
            None => self.replicate(ctx),
        }
    }
}

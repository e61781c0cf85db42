//! Underlay ingress: bursts from the wire. Enters: any frame. Leaves: the inner frames of VXLAN datagrams to our
//! VTEP, checked and forwarded. ARP, ND and ICMP for the VTEP go to the control thread; any other frame is dropped
//! with a reason.

use super::{
    Egress, MAX_BURST, PacketBurst, PacketCtx, Pipeline, RouterSeen,
    drop_reason::DropReason,
    lookup,
    packet::Packet,
    packet_counters::add,
    ports::{Network, Origin, Role, Underlay},
    tracer::{Stage, Tracer},
};
use crate::tables::packed::{Bd, FdbEntry, PackedFdbEntry, node_key};
use arrayvec::ArrayVec;
use stopover_net::{
    Mac,
    frame::{Kind, L4},
    icmpv6::kind::ROUTER_ADVERT,
    underlay::{self as outer, BadOuter, Expect, Underlay as Outer},
};

/// Result of processing the outer headers.
pub(super) enum Opened<P> {
    /// An inner frame.
    Frame(PacketCtx<P>),
    /// An inner frame for one node only.
    ForNode(PacketCtx<P>, Mac),
    /// An end marker, and its network.
    Marker(P, Network),
    /// The frame went to the control thread.
    Punted,
}

/// Or the frame and the reason to drop it.
pub(super) type Opening<P> = Result<Opened<P>, (P, DropReason)>;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes frames, at most [`MAX_BURST`], that [`super::fast_path`] does not handle.
    pub(super) fn underlay_slow(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let ports = self.ports;
        let Some(Role::Underlay(own)) = ports.get(usize::from(port)).map(|p| &p.role) else {
            for packet in burst {
                self.drop(packet, DropReason::OuterUnexpected);
            }
            return;
        };
        let mut ctxs = PacketBurst::new();
        for packet in burst {
            match self.open(own, port, packet) {
                Ok(Opened::Frame(ctx)) => ctxs.push(ctx),
                Ok(Opened::Punted) => {}
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
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        // No overlay flag is acted on here, so a foreign sender needs no other treatment.
        let packet_kind = match outer::parse(packet.head(), packet.len(), &expect) {
            Ok(packet_kind) => packet_kind,
            Err(BadOuter::BadShim) => return self.open_foreign(own, packet),
            Err(bad) => return Err((packet, bad.into())),
        };
        match packet_kind {
            Outer::Vxlan(datagram) => self.decap(own, packet, &datagram),
            Outer::Arp(f) | Outer::Icmp(f) | Outer::Nd(f) | Outer::Icmpv6(f) => {
                if f.dst != own.mac && !f.dst.is_group() {
                    return Err((packet, DropReason::OuterNotOurs));
                }
                self.punt(port, packet);
                Ok(Opened::Punted)
            }
            Outer::Other(_) => Err((packet, DropReason::OuterUnexpected)),
        }
    }

    /// A VXLAN datagram with reserved bits set, from a VTEP that gives them no meaning.
    #[cold]
    pub(super) fn open_foreign(&mut self, own: &Underlay, packet: I::P) -> Opening<I::P> {
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        match outer::parse_foreign(packet.head(), packet.len(), &expect) {
            Ok(Outer::Vxlan(datagram)) => {
                if self.view.vtep(datagram.src).is_some_and(|vtep| self.view.is_appliance(vtep.peer())) {
                    return Err((packet, DropReason::BadVxlan));
                }
                self.decap(own, packet, &datagram)
            }
            Ok(_) => Err((packet, DropReason::OuterUnexpected)),
            Err(bad) => Err((packet, bad.into())),
        }
    }

    fn punt(&mut self, port: u16, packet: I::P) {
        self.tracer.note(Stage::Control, || "for the VTEP itself: to the control thread".into());
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
            // A frame of a local station that went by the old host of its destination returns with the HOP flag.
            let redirected_back = matches!(ctx.origin, Origin::Underlay { hop: true, .. });
            if source != 0 && !redirected_back && !PackedFdbEntry(source).is_migrating() {
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
        let view = self.view;
        let entry = if ctx.frame.dst.is_group() { None } else { word.unpack() };
        self.tracer.note(Stage::Lookup, || lookup::describe_lookup(view, ctx.frame.dst, ctx.bd, entry));
        match entry {
            Some(FdbEntry::Local { port, vlan, .. }) => self.deliver(ctx, port, vlan),
            Some(FdbEntry::Migrating { index, .. }) => self.migrating_node(ctx, index),
            Some(FdbEntry::Remote { slot, .. }) => self.redirect_straggler(ctx, slot, word),
            None => self.replicate(ctx),
        }
    }
}

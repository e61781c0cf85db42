//! Underlay ingress: bursts from the wire. Enters: anything. VXLAN datagrams to our VTEP are checked, opened
//! and delivered; ARP, ND and ICMP for the VTEP go to the control thread; all else is dropped by name.

use super::{
    Io, MAX_BURST, Pipeline, RouterSeen, Slot, Slots,
    fate::{Drop, add},
    packet::Packet,
    ports::{Network, Origin, Role, Underlay},
    witness::{Stage, Witness, describe},
};
use crate::tables::words::{Net, Place, PlaceWord, node_key};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use stopover_net::underlay::{self as outer, BadOuter, Expect, UdpChecksum, Underlay as Arrival, Vxlan};
use stopover_net::{Mac, Vni};
use stopover_net::{
    ecn,
    frame::{self, Kind, L4},
    icmpv6::kind::ROUTER_ADVERT,
    vxlan::OverlayFlags,
};

/// What came of opening a frame.
enum Opened<P> {
    /// An inner frame.
    Frame(Slot<P>),
    /// An inner frame for one node only.
    ForNode(Slot<P>, Mac),
    /// An end marker, and its network.
    Marker(P, Network),
    /// The frame went to the control thread.
    HandedOver,
}

/// If nothing came of it: the frame and the reason.
type Opening<P> = Result<Opened<P>, (P, Drop)>;

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Takes frames, at most [`MAX_BURST`], that are not ordinary, or whose way is not; see [`super::short`].
    pub(super) fn underlay_long(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let ports = self.ports;
        let Some(Role::Underlay(own)) = ports.get(usize::from(port)).map(|p| &p.role) else {
            for packet in burst {
                self.drop(packet, Drop::OuterUnexpected);
            }
            return;
        };
        let mut slots = Slots::new();
        for packet in burst {
            match self.open(own, port, packet) {
                Ok(Opened::Frame(slot)) => slots.push(slot),
                Ok(Opened::HandedOver) => {}
                // These must not overtake what came before them in the burst.
                Ok(Opened::ForNode(slot, node)) => {
                    self.inward(&mut slots);
                    self.for_node(slot, node);
                }
                Ok(Opened::Marker(packet, network)) => {
                    self.inward(&mut slots);
                    self.end_marker(packet, network);
                }
                Err((packet, reason)) => self.drop(packet, reason),
            }
        }
        self.inward(&mut slots);
    }

    /// Checks the outer headers and takes them off.
    #[inline]
    fn open(&mut self, own: &Underlay, port: u16, packet: I::P) -> Opening<I::P> {
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        // Nothing here acts on overlay flags, so every sender is as good as foreign.
        let arrival = match outer::parse(packet.head(), packet.len(), &expect) {
            Ok(arrival) => arrival,
            Err(BadOuter::BadShim) => return self.open_foreign(own, packet),
            Err(bad) => return Err((packet, bad.into())),
        };
        match arrival {
            Arrival::Vxlan(datagram) => self.decap(own, packet, &datagram),
            Arrival::Arp(f) | Arrival::Icmp(f) | Arrival::Nd(f) | Arrival::Icmpv6(f) => {
                if f.dst != own.mac && !f.dst.is_group() {
                    return Err((packet, Drop::OuterNotOurs));
                }
                self.hand_over(port, packet);
                Ok(Opened::HandedOver)
            }
            Arrival::Other(_) => Err((packet, Drop::OuterUnexpected)),
        }
    }

    /// A VXLAN datagram with reserved bits set, from a VTEP that means nothing by them.
    #[cold]
    fn open_foreign(&mut self, own: &Underlay, packet: I::P) -> Opening<I::P> {
        let expect = Expect { vlan: own.vlan, udp_port: own.udp_port };
        match outer::parse_foreign(packet.head(), packet.len(), &expect) {
            Ok(Arrival::Vxlan(datagram)) => {
                let appliance = self.view.vtep(datagram.src).and_then(|host| self.view.host(host));
                if appliance.is_some_and(|entry| entry.is_appliance) {
                    return Err((packet, Drop::BadVxlan));
                }
                self.decap(own, packet, &datagram)
            }
            Ok(_) => Err((packet, Drop::OuterUnexpected)),
            Err(bad) => Err((packet, bad.into())),
        }
    }

    fn hand_over(&mut self, port: u16, packet: I::P) {
        self.witness.note(Stage::Control, || "for the VTEP itself: to the control thread".into());
        match self.io.punt(port, packet) {
            Ok(()) => add(&self.counters.to_control, 1),
            Err(packet) => self.drop(packet, Drop::ControlFull),
        }
    }

    #[inline]
    fn decap(&mut self, own: &Underlay, mut packet: I::P, d: &Vxlan) -> Opening<I::P> {
        if d.dst_mac != own.mac || !own.addresses.contains(&d.dst) {
            return Err((packet, Drop::OuterNotOurs));
        }
        if let Err(reason) = check_udp(own, &packet, d) {
            return Err((packet, reason));
        }
        let Some(host) = self.view.vtep(d.src) else { return Err((packet, Drop::UnknownVtep)) };
        if d.flags != OverlayFlags::NONE && !self.view.host(host).is_some_and(|entry| entry.is_appliance) {
            return self.open_foreign(own, packet);
        }
        let Some(net) = self.view.net_of(d.vni) else { return Err((packet, Drop::UnknownVni)) };
        if !packet.pull(usize::from(d.inner_off)) || !packet.truncate(usize::from(d.inner_len)) {
            return Err((packet, Drop::OuterMalformed));
        }
        packet.clear_offload();
        if d.flags.contains(OverlayFlags::CONTROL) {
            return Ok(Opened::Marker(packet, Network { net, vni: d.vni }));
        }
        self.witness.note(Stage::Decap, || say_decap(d.src, d.vni, usize::from(d.inner_len)));
        let frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return Err((packet, bad.into())),
        };
        self.witness.note(Stage::Parse, || describe(&frame));
        if frame.vlan.is_some() {
            return Err((packet, Drop::InnerVlan));
        }
        if let Err(reason) = super::guard::station(&frame) {
            return Err((packet, reason));
        }
        if let Some(tos) = frame.tos() {
            match ecn::decap(d.tos, tos) {
                ecn::Decap::Keep => {}
                ecn::Decap::Set(codepoint) => {
                    ecn::set(&frame, packet.head_mut(), codepoint);
                }
                ecn::Decap::Drop => return Err((packet, Drop::EcnViolation)),
            }
        }
        let (hop, apart) = (d.flags.contains(OverlayFlags::HOP), d.flags.apart());
        let origin = Origin::Underlay { host, hop, apart };
        let priority = if own.pcp { ecn::pcp_of(d.tos) << 1 } else { 0 };
        let slot = Slot { packet, frame, net, vni: d.vni, origin, priority };
        Ok(match d.node {
            None => Opened::Frame(slot),
            Some(node) => Opened::ForNode(slot, node),
        })
    }

    /// Looks up all sources among our own stations and all destinations, and sends each frame on.
    fn inward(&mut self, slots: &mut Slots<I::P>) {
        let mut sources = [0; MAX_BURST];
        let mut places = [0; MAX_BURST];
        let keys = |f: fn(&Slot<I::P>) -> (Net, Mac)| -> ArrayVec<u64, MAX_BURST> {
            slots.iter().map(f).map(|(net, mac)| node_key(net, mac)).collect()
        };
        self.view.locals(&keys(|s| (s.net, s.frame.src)), &mut sources);
        self.view.places(&keys(|s| (s.net, s.frame.dst)), &mut places);
        for ((slot, source), place) in slots.drain(..).zip(sources).zip(places) {
            // What one of our own sent by a node's old host comes back marked.
            let ours_again = matches!(slot.origin, Origin::Underlay { hop: true, .. });
            if source != 0 && !ours_again && !PlaceWord(source).on_the_move() {
                self.drop(slot.packet, Drop::SourceIsLocal);
            } else {
                self.inward_one(slot, PlaceWord(place));
            }
        }
    }

    #[inline]
    fn inward_one(&mut self, slot: Slot<I::P>, word: PlaceWord) {
        if let (L4::Icmpv6 { kind: ROUTER_ADVERT, .. }, Kind::Ipv6(ip)) = (slot.frame.l4, &slot.frame.kind)
            && self.view.router(slot.net, ip.src) != Some(true)
        {
            let (net, mac) = (slot.net, slot.frame.src);
            self.io.router(RouterSeen { net, mac, ip: ip.src, router: true });
        }
        let place = if slot.frame.dst.is_group() { None } else { word.open() };
        self.witness.note(Stage::Lookup, || super::tenant::say_lookup(slot.frame.dst, slot.net, place));
        match place {
            Some(Place::Local { port, vlan, .. }) => self.deliver(slot, port, vlan),
            Some(Place::Moving { index, .. }) => self.on_the_move(slot, index),
            Some(Place::Remote { host }) => self.straggler(slot, host, word),
            None => self.replicate(slot),
        }
    }
}

/// RFC 7348 section 5: a checksum of zero is accepted, any other must be right. RFC 8200 section 8.1 and
/// RFC 6935: over IPv6 zero is accepted only where it was configured.
#[inline]
fn check_udp<P: Packet>(own: &Underlay, packet: &P, d: &Vxlan) -> Result<(), Drop> {
    let fine = match d.checksum {
        UdpChecksum::Absent => true,
        UdpChecksum::AbsentV6 => own.udp6_zero_checksum,
        // A sender on this machine may leave it to the device: then there is nothing to verify yet.
        UdpChecksum::Present => packet.checksum_unfilled() || d.udp_checksum_ok(packet.segments()),
    };
    if fine { Ok(()) } else { Err(Drop::OuterChecksum) }
}

/// The opening of a datagram in words, for a trace.
#[must_use]
pub(super) fn say_decap(src: IpAddr, vni: Vni, inner_len: usize) -> String {
    format!("from VTEP {src}, VNI {vni}, {inner_len} inner bytes")
}

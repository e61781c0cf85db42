//! Tenant ingress: bursts from vif and segment ports. Three passes over the burst: admit (headers, VLAN,
//! guard), look up all destinations at once, send each on its way.

use super::{
    Io, Learn, MAX_BURST, Pipeline, Slot, Slots,
    encap::{Label, SourcePort},
    fate::{Drop, add},
    guard,
    packet::Packet,
    ports::{Network, Origin, Role, Vif},
    resolve, vlan,
    witness::{Stage, Witness, describe},
};
use crate::tables::words::{Net, Place, PlaceWord, node_key};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use stopover_net::Mac;
use stopover_net::ethernet::{Tag, ethertype};
use stopover_net::frame::{self, Frame};
use stopover_net::loop_probe;

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Takes frames, at most [`MAX_BURST`], that are not ordinary, or whose way is not; see [`super::short`].
    pub(super) fn tenant_long(&mut self, port: u16, burst: impl IntoIterator<Item = I::P>) {
        let mut slots = Slots::new();
        let is_segment = matches!(self.ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Segment(_)));
        for packet in burst {
            if is_segment && loop_probe::is_for_us(packet.head()) {
                self.probe(port, packet);
                continue;
            }
            match self.admit(port, packet) {
                Ok(slot) => slots.push(slot),
                Err((packet, reason)) => self.drop(packet, reason),
            }
        }
        if is_segment {
            self.stations(&mut slots);
        }
        self.forward(&mut slots);
    }

    /// Hands a loop probe to the control thread, with the tag it came with.
    #[cold]
    fn probe(&mut self, port: u16, mut packet: I::P) {
        if let Some(vlan) = packet.stripped_vlan()
            && !vlan::tag(&mut packet, vlan.get(), 0)
        {
            return self.drop(packet, Drop::NoHeadroom);
        }
        self.witness.note(Stage::Control, || "a loop probe: to the control thread".into());
        match self.io.probe(port, packet) {
            Ok(()) => add(&self.counters.to_control, 1),
            Err(packet) => self.drop(packet, Drop::ControlFull),
        }
    }

    /// Reads the headers once and decides whether the port may send this.
    #[inline]
    fn admit(&mut self, port: u16, mut packet: I::P) -> Result<Slot<I::P>, (I::P, Drop)> {
        let mut frame = match frame::parse(packet.head(), packet.len()) {
            Ok(frame) => frame,
            Err(bad) => return Err((packet, bad.into())),
        };
        self.witness.note(Stage::Parse, || describe(&frame));
        let (network, vlan) = match self.network(port, &packet, &frame) {
            Ok(found) => found,
            Err(reason) => return Err((packet, reason)),
        };
        let priority = frame.vlan.map_or(0, Tag::pcp_and_dei);
        if frame.vlan.is_some() {
            if frame.double_tagged || !vlan::untag(&mut packet) {
                return Err((packet, Drop::InnerVlan));
            }
            frame = frame.retagged(None);
        }
        if let Err(reason) = guard::station(&frame) {
            return Err((packet, reason));
        }
        if let Some(Role::Vif(vif)) = self.ports.get(usize::from(port)).map(|p| &p.role)
            && vif.guard
        {
            let may = match guard::vif(vif, &frame, packet.head()) {
                Ok(guard::Passed::Own) => Ok(()),
                Ok(guard::Passed::Claims) => self.claim(port, vif, guard::claims(vif, &frame, packet.head())),
                Err(reason) => Err(reason),
            };
            if let Err(reason) = may {
                return Err((packet, reason));
            }
        }
        self.witness.note(Stage::Guard, || format!("port {port} may send this"));
        let Network { net, vni } = network;
        Ok(Slot { packet, frame, net, vni, origin: Origin::Port { port, vlan }, priority })
    }

    /// Link-local addresses are whose they were first (as in RFC 6620): one that another node has is refused, one that
    /// nobody has is the vif's from now on.
    #[cold]
    fn claim(&mut self, port: u16, vif: &Vif, claims: guard::Claims) -> Result<(), Drop> {
        for (ip, reason) in [(claims.source, Drop::GuardIp), (claims.target, Drop::GuardArp)] {
            let Some(ip) = ip.map(IpAddr::V6) else { continue };
            match self.view.owner(vif.network.net, ip) {
                Some(owner) if owner != vif.mac => return Err(reason),
                Some(_) => {}
                None => {
                    let (net, mac) = (vif.network.net, vif.mac);
                    self.io.learn(Learn { port, net, vlan: 0, mac, ip: Some(ip) });
                }
            }
        }
        Ok(())
    }

    /// The network of a frame, and the VLAN tag with which it came (0 for none).
    #[inline]
    fn network(&self, port: u16, packet: &I::P, frame: &Frame) -> Result<(Network, u16), Drop> {
        match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Vif(vif)) => {
                // VLAN 0 is no VLAN but a priority (IEEE 802.1Q clause 6.9), which some guests send.
                if frame.vlan.is_some_and(|tag| !is_priority(tag)) || packet.stripped_vlan().is_some() {
                    return Err(Drop::VlanOnVif);
                }
                Ok((vif.network, 0))
            }
            Some(Role::Segment(segment)) => {
                let vid = match (frame.vlan, packet.stripped_vlan()) {
                    (Some(_), Some(_)) => return Err(Drop::InnerVlan),
                    // A service tag (IEEE 802.1ad) numbers other VLANs than those of the configuration.
                    (Some(tag), None) if tag.tpid != ethertype::VLAN => return Err(Drop::UnknownVlan),
                    (Some(tag), None) => tag.vid(),
                    (None, stripped) => stripped.map_or(0, |vlan| vlan.get()),
                };
                let network = segment.network(vid).ok_or(Drop::UnknownVlan)?;
                if segment.gate.is_blocked(vid) { Err(Drop::SegmentBlocked) } else { Ok((network, vid)) }
            }
            Some(Role::Underlay(_)) | None => Err(Drop::OuterUnexpected),
        }
    }

    /// Notes which stations live behind a segment, and drops what only a loop or a spoof can bring.
    fn stations(&mut self, slots: &mut Slots<I::P>) {
        let view = self.view;
        let mut places = [0; MAX_BURST];
        let keys: ArrayVec<u64, MAX_BURST> = slots.iter().map(|s| node_key(s.net, s.frame.src)).collect();
        view.locals(&keys, &mut places);
        let mut kept = Slots::new();
        for (slot, word) in slots.drain(..).zip(places) {
            let Origin::Port { port, vlan } = slot.origin else { continue };
            match PlaceWord(word).open() {
                Some(Place::Local { port: at, vlan: tag, station }) if at == port && tag == vlan => {
                    view.touch(station);
                    // One that has left, as far as is known here, may be back.
                    if PlaceWord(word).on_the_move() {
                        let mac = slot.frame.src;
                        self.io.learn_migrating(Learn { port, net: slot.net, vlan, mac, ip: None });
                    }
                }
                known => {
                    let there = view.place_word(slot.net, slot.frame.src);
                    // A node that is locked for a migration may turn up here before the board has moved it.
                    let remote = matches!(there.open(), Some(Place::Remote { .. })) && !there.on_the_move();
                    let mac = slot.frame.src;
                    let learn = Learn { port, net: slot.net, vlan, mac, ip: None };
                    let at_vif = matches!(known, Some(Place::Local { port, .. }) if self.is_vif(port));
                    if there.on_the_move() || PlaceWord(word).on_the_move() {
                        self.io.learn_migrating(learn);
                    } else if !at_vif && self.is_closed(port, vlan) {
                        self.drop(slot.packet, Drop::StationLimit);
                        continue;
                    } else {
                        self.io.learn(learn);
                    }
                    self.witness.note(Stage::Guard, || {
                        format!("source {mac} is new here (known: {known:?}): learned")
                    });
                    if remote {
                        self.drop(slot.packet, Drop::SourceIsRemote);
                        continue;
                    }
                    if at_vif {
                        self.drop(slot.packet, Drop::SourceIsLocal);
                        continue;
                    }
                }
            }
            kept.push(slot);
        }
        *slots = kept;
    }

    /// Whether no new stations may come from a segment.
    #[cold]
    fn is_closed(&self, port: u16, vlan: u16) -> bool {
        match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Segment(segment)) => segment.gate.is_closed(vlan),
            _ => false,
        }
    }

    pub(super) fn is_vif(&self, port: u16) -> bool {
        matches!(self.ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Vif(_)))
    }

    /// Looks all destinations up at once and sends each frame on.
    fn forward(&mut self, slots: &mut Slots<I::P>) {
        let mut places = [0; MAX_BURST];
        let keys: ArrayVec<u64, MAX_BURST> = slots.iter().map(|s| node_key(s.net, s.frame.dst)).collect();
        self.view.places(&keys, &mut places);
        for (slot, word) in slots.drain(..).zip(places) {
            let slot = if resolve::concerns(&slot.frame) {
                match self.resolve(slot) {
                    Some(slot) => slot,
                    None => continue,
                }
            } else {
                slot
            };
            self.forward_one(slot, PlaceWord(word));
        }
    }

    #[inline]
    fn forward_one(&mut self, slot: Slot<I::P>, place_word: PlaceWord) {
        let place = if slot.frame.dst.is_group() { None } else { place_word.open() };
        self.witness.note(Stage::Lookup, || say_lookup(slot.frame.dst, slot.net, place));
        match place {
            Some(Place::Remote { host }) if place_word.on_the_move() => {
                let port = SourcePort::Bounded(slot.frame.dst);
                self.encap_marked(slot, host, Label { port, ..Label::PLAIN });
            }
            Some(Place::Remote { host }) => self.encap(slot, host),
            Some(Place::Local { port, vlan, .. }) => match slot.origin {
                Origin::Port { port: from, .. } if from == port => self.drop(slot.packet, Drop::SameSegment),
                _ => self.deliver(slot, port, vlan),
            },
            Some(Place::Moving { index, .. }) => self.on_the_move(slot, index),
            None => self.replicate(slot),
        }
    }
}

fn is_priority(tag: Tag) -> bool {
    tag.vid() == 0 && tag.tpid == ethertype::VLAN
}

/// A lookup in words, for a trace.
#[must_use]
pub(super) fn say_lookup(dst: Mac, net: Net, place: Option<Place>) -> String {
    format!("{dst} in network {} is {}", net.get(), say(place))
}

/// A place in words, for a trace.
#[must_use]
pub fn say(place: Option<Place>) -> String {
    match place {
        Some(Place::Local { port, vlan: 0, .. }) => format!("at local port {port}"),
        Some(Place::Local { port, vlan, .. }) => format!("at local port {port}, VLAN {vlan}"),
        Some(Place::Remote { host }) => format!("at host {host}"),
        Some(Place::Moving { port, .. }) => format!("on the move, at local port {port}"),
        None => "not one node: a group address, or nobody registered it".into(),
    }
}

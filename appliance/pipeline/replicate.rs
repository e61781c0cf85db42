//! Replicate: a frame without one known receiver goes to everyone who may be it, as the network's flood
//! policy says. Enters: broadcast, multicast and unicast for an unregistered MAC. Leaves: one copy for each
//! local port and, unless it came from the underlay (split horizon), one for each host with members.

use super::{
    Io, Pipeline, Slot,
    encap::Label,
    fate::{Drop, add},
    ports::{Gate, Origin, Port, Role},
    witness::{Stage, Witness},
};
use crate::tables::entries::{Member, NetworkEntry};
use crate::wire::vxlan::Marks;
use stopover_config::net::FloodPolicy;

/// Who may receive a frame without a known receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Everyone,
    SegmentsOnly,
}

fn reach(policy: FloodPolicy, group: bool) -> Result<Reach, Drop> {
    match (policy, group) {
        (FloodPolicy::Flood, _) | (FloodPolicy::ToSegments, true) => Ok(Reach::Everyone),
        (FloodPolicy::ToSegments, false) => Ok(Reach::SegmentsOnly),
        (FloodPolicy::Drop, true) => Err(Drop::FloodDisabled),
        (FloodPolicy::Drop, false) => Err(Drop::UnknownUnicast),
    }
}

impl<I: Io, W: Witness> Pipeline<'_, I, W> {
    /// Sends a frame to every receiver but the one it came from.
    pub fn replicate(&mut self, slot: Slot<I::P>) {
        let Some(network) = self.view.network(slot.net) else {
            return self.drop(slot.packet, Drop::NoMembers);
        };
        let group = slot.frame.dst.is_group();
        let reach = match reach(network.flood, group) {
            Ok(reach) => reach,
            Err(reason) => return self.drop(slot.packet, reason),
        };
        if let Origin::Port { port, vlan } = slot.origin
            && gate(self.ports, port).is_some()
            && self.io.repeats(port, vlan, slot.net, &slot.packet)
        {
            return self.drop(slot.packet, Drop::SegmentLoop);
        }
        self.witness.note(Stage::Replicate, || describe(network, reach, slot.origin));
        self.copies(slot, network, reach, group);
    }

    /// One copy per receiver; the last receiver gets the frame itself.
    fn copies(&mut self, slot: Slot<I::P>, network: &NetworkEntry, reach: Reach, group: bool) {
        let segments_only = reach == Reach::SegmentsOnly;
        let ports = self.ports;
        let blocked = |member: &Member| {
            member.segment && gate(ports, member.port).is_some_and(|gate| gate.is_blocked(member.vlan))
        };
        let wants = |member: &&Member| {
            let came_from = matches!(slot.origin, Origin::Port { port, .. } if port == member.port);
            !came_from && (!segments_only || member.segment)
        };
        let mut ports = network.ports.iter().filter(|member| wants(member) && !blocked(member));
        let hosts: &[u32] = match (slot.origin, reach) {
            (Origin::Underlay { .. }, _) => &[],
            (Origin::Port { .. }, Reach::Everyone) => &network.hosts,
            (Origin::Port { .. }, Reach::SegmentsOnly) => &network.segment_hosts,
        };
        // Hosts come first, so that a tag put on for a trunk cannot be in the way of a tunnel header.
        let mut hosts = hosts.iter();
        let mut last_port = ports.next();
        let mut last_host = None;
        if last_port.is_none() {
            last_host = hosts.next();
        }
        for host in hosts {
            if let Some(copy) = self.copy_of(&slot) {
                self.encap_copy(copy, *host, group);
            }
        }
        for member in ports {
            if let Some(copy) = self.copy_of(&slot) {
                self.deliver(copy, member.port, member.vlan);
            }
        }
        match (last_port.take(), last_host) {
            (Some(member), _) => self.deliver(slot, member.port, member.vlan),
            (None, Some(host)) => self.encap_copy(slot, *host, group),
            (None, None) if network.ports.iter().any(|member| wants(&member) && blocked(member)) => {
                self.drop(slot.packet, Drop::SegmentBlocked);
            }
            (None, None) => {
                self.drop(slot.packet, if group { Drop::NoMembers } else { Drop::UnknownUnicast });
            }
        }
    }

    /// A copy of a unicast frame that nobody registered tells that it is one: where its node has left, another copy
    /// reaches the node's new place, and this one must not be sent on.
    fn encap_copy(&mut self, slot: Slot<I::P>, host: u32, group: bool) {
        let marks = if group { Marks::NONE } else { Marks::HOP };
        self.encap_marked(slot, host, Label { marks, node: None });
    }

    /// A copy with its own entry in the books; a copy that cannot be had is a drop of its own.
    fn copy_of(&mut self, slot: &Slot<I::P>) -> Option<Slot<I::P>> {
        add(&self.counters.copied, 1);
        let Some(packet) = self.io.copy(&slot.packet) else {
            self.counters.drop(Drop::PoolEmpty, 1);
            return None;
        };
        let Slot { frame, net, vni, origin, priority, .. } = *slot;
        Some(Slot { packet, frame, net, vni, origin, priority })
    }
}

/// What a port may do now, if it is a segment.
fn gate(ports: &[Port], port: u16) -> Option<&Gate> {
    match ports.get(usize::from(port)).map(|port| &port.role) {
        Some(Role::Segment(segment)) => Some(&segment.gate),
        _ => None,
    }
}

fn describe(network: &NetworkEntry, reach: Reach, origin: Origin) -> String {
    let hosts = match (origin, reach) {
        (Origin::Underlay { .. }, _) => 0,
        (_, Reach::Everyone) => network.hosts.len(),
        (_, Reach::SegmentsOnly) => network.segment_hosts.len(),
    };
    let horizon = if origin.is_underlay() { " (split horizon: it came from the underlay)" } else { "" };
    format!(
        "network {} has flood policy {}: to {} local members other than the sender's port and {hosts} hosts{horizon}",
        network.vni,
        network.flood,
        network.ports.len(),
    )
}

//! Replicate: a frame without one known receiver goes to everyone who may be it, as the network's flood
//! policy says. Enters: broadcast, multicast and unicast for an unregistered MAC. Leaves: one copy for each
//! local port and, unless it came from the underlay (split horizon), one for each host with members; and, of a group
//! frame, one for each node on the move, for that node alone: the copies for its host and port are not for it then.

use super::{
    Io, Pipeline, Slot,
    encap::{Label, SourcePort},
    fate::{Drop, add},
    ports::{Gate, Origin, Port, Role},
    witness::{Stage, Witness},
};
use crate::tables::{
    View,
    entries::{Member, NetworkEntry},
    words::Place,
};
use stopover_net::vxlan::{self, OverlayFlags};
use stopover_net::{FloodPolicy, Mac};

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
        let apart = match slot.origin {
            _ if !group => 0,
            Origin::Underlay { apart, .. } => apart,
            Origin::Port { .. } if network.moving.is_empty() => 0,
            Origin::Port { .. } => self.serve_apart(&slot, network),
        };
        let (view, ports) = (self.view, self.ports);
        let blocked = |member: &Member| {
            member.segment && gate(ports, member.port).is_some_and(|gate| gate.is_blocked(member.vlan))
        };
        let wants = |member: &&Member| {
            let came_from = matches!(slot.origin, Origin::Port { port, .. } if port == member.port);
            let served = || apart != 0 && has_own(view, ports, network, slot.origin, member, apart);
            !came_from && (!segments_only || member.segment) && !served()
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
                self.encap_copy(copy, *host, (group, apart));
            }
        }
        for member in ports {
            if let Some(copy) = self.copy_of(&slot) {
                self.deliver_copy(copy, member, group);
            }
        }
        match (last_port.take(), last_host) {
            (Some(member), _) => self.deliver_copy(slot, member, group),
            (None, Some(host)) => self.encap_copy(slot, *host, (group, apart)),
            (None, None) if network.ports.iter().any(|member| wants(&member) && blocked(member)) => {
                self.drop(slot.packet, Drop::SegmentBlocked);
            }
            // Those that there are have copies of their own.
            (None, None) if apart != 0 => self.drop(slot.packet, Drop::ServedApart),
            (None, None) => {
                self.drop(slot.packet, if group { Drop::NoMembers } else { Drop::UnknownUnicast });
            }
        }
    }

    /// A copy for a local port. If the one node behind it has just arrived, it waits as that node's other frames do.
    fn deliver_copy(&mut self, slot: Slot<I::P>, member: &Member, group: bool) {
        if group
            && let Some(node) = vif_mac(self.ports, member)
            && let Some(Place::Moving { index, .. }) = self.view.place(slot.net, node)
        {
            return self.on_the_move(slot, index);
        }
        self.deliver(slot, member.port, member.vlan);
    }

    /// Sends each node that is on the move in this network a copy of its own, the way of its other frames: so it gets each
    /// frame once and in order, whichever of its hosts are members. Says for which nodes the other copies are not.
    #[cold]
    fn serve_apart(&mut self, slot: &Slot<I::P>, network: &NetworkEntry) -> u32 {
        let mut apart = 0;
        for node in &network.moving {
            if *node == slot.frame.src || self.send_apart(slot, *node) {
                apart |= vxlan::apart(*node);
            }
        }
        apart
    }

    /// Sends a node its own copy. False if it cannot have one, and is to get it as any other.
    fn send_apart(&mut self, slot: &Slot<I::P>, node: Mac) -> bool {
        let (view, ports) = (self.view, self.ports);
        let is_vif = |port: u16| matches!(ports.get(usize::from(port)).map(|p| &p.role), Some(Role::Vif(_)));
        match view.place(slot.net, node) {
            Some(Place::Remote { host }) => {
                let Some(entry) = view.host(host).filter(|entry| entry.is_appliance) else { return false };
                let room = entry.way.as_ref().map_or(0, |way| usize::from(way.inner_mtu) - vxlan::SHIM_LEN);
                if super::offload::layer3_len(slot).is_some_and(|size| size > room) {
                    return false;
                }
                let flags = OverlayFlags::NODE.with_apart(vxlan::apart(node));
                let label = Label { flags, node: Some(node), port: SourcePort::Bounded(node) };
                if let Some(copy) = self.copy_of(slot) {
                    self.encap_marked(copy, host, label);
                }
            }
            Some(Place::Local { port, vlan, .. }) if is_vif(port) => {
                if let Some(copy) = self.copy_of(slot) {
                    self.deliver(copy, port, vlan);
                }
            }
            Some(Place::Moving { port, index, .. }) if is_vif(port) => {
                if let Some(copy) = self.copy_of(slot) {
                    self.on_the_move(copy, index);
                }
            }
            Some(Place::Local { .. } | Place::Moving { .. }) | None => return false,
        }
        true
    }

    /// A copy of a unicast frame that nobody registered tells that it is one: where its node has left, another copy
    /// reaches the node's new place, and this one must not be sent on.
    fn encap_copy(&mut self, slot: Slot<I::P>, host: u32, (group, apart): (bool, u32)) {
        let flags = if group { OverlayFlags::NONE.with_apart(apart) } else { OverlayFlags::HOP };
        self.encap_marked(slot, host, Label { flags, ..Label::PLAIN });
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

/// The one node behind a port, if it is a vif's.
fn vif_mac(ports: &[Port], member: &Member) -> Option<Mac> {
    match ports.get(usize::from(member.port)).map(|port| &port.role) {
        Some(Role::Vif(vif)) => Some(vif.mac),
        _ => None,
    }
}

/// Whether the node behind a port gets a copy of its own, and not this one. The bit of the node is not enough: it may be
/// that of another node, and then nobody has sent this one a copy.
fn has_own(
    view: &View,
    ports: &[Port],
    network: &NetworkEntry,
    origin: Origin,
    member: &Member,
    apart: u32,
) -> bool {
    let Some(node) = vif_mac(ports, member).filter(|node| vxlan::apart(*node) & apart != 0) else {
        return false;
    };
    match origin {
        Origin::Port { .. } => network.moving.contains(&node),
        Origin::Underlay { .. } => {
            network.moved.binary_search(&node).is_ok() || view.is_on_the_move(network.net, node)
        }
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

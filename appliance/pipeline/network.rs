//! Network: the network of a frame from a tenant port. Enters: a parsed frame. Leaves: the frame without its tag, its
//! network, VLAN and priority; or the reason why it has no network.

use super::{
    Egress, Pipeline,
    drop_reason::DropReason,
    graph::Stage,
    packet::Packet,
    ports::{Network, Role},
    tracer::Tracer,
    vlan,
};
use stopover_net::{
    ethernet::{self, ethertype},
    frame::Frame,
};

/// What the tag of a frame said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// Its VLAN identifier; 0 for none.
    pub vlan: u16,
    /// See [`super::PacketCtx::priority`].
    pub priority: u8,
}

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Finds the network of a frame and takes its tag off.
    #[inline]
    pub(super) fn network(
        &mut self,
        port: u16,
        packet: &mut I::P,
        frame: &mut Frame,
    ) -> Result<(Network, Tag), DropReason> {
        self.tracer.enter(Stage::Network);
        let (network, vlan) = self.network_and_vlan(port, packet, frame)?;
        let priority = frame.vlan.map_or(0, ethernet::Tag::pcp_and_dei);
        if frame.vlan.is_some() {
            if frame.double_tagged || !vlan::pop(packet) {
                return Err(DropReason::InnerVlan);
            }
            *frame = frame.retagged(None);
        }
        Ok((network, Tag { vlan, priority }))
    }

    /// The network of a frame, and its VLAN (0 for none).
    #[inline]
    fn network_and_vlan(
        &self,
        port: u16,
        packet: &I::P,
        frame: &Frame,
    ) -> Result<(Network, u16), DropReason> {
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
            Some(Role::Underlay(_) | Role::Absent) | None => Err(DropReason::OuterUnexpected),
        }
    }
}

fn is_priority(tag: ethernet::Tag) -> bool {
    tag.vid() == 0 && tag.tpid == ethertype::VLAN
}

//! Network: the network of a frame from a tenant port. Enters: a parsed frame. Leaves: its network and VLAN, or the
//! reason why it has none.

use super::{
    Egress, Pipeline,
    drop_reason::DropReason,
    packet::Packet,
    ports::{Network, Role},
    tracer::Tracer,
};
use stopover_net::{
    ethernet::{Tag, ethertype},
    frame::Frame,
};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// The network of a frame, and its VLAN tag (0 for none).
    #[inline]
    pub(super) fn ingress_network(
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
            Some(Role::Underlay(_)) | None => Err(DropReason::OuterUnexpected),
        }
    }
}

fn is_priority(tag: Tag) -> bool {
    tag.vid() == 0 && tag.tpid == ethertype::VLAN
}

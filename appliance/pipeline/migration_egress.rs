//! What the stages need of an lcore for migrating nodes. Enters: frames that have to wait, end markers, and what the
//! control thread has to know about a migration. Leaves: whether a frame or marker waits. `lcore::egress` has the
//! implementation; the provided methods are that of a place where nothing waits, such as a trace.

use super::{Learn, packet::Packet, ports::Network};
use crate::migration::{hold::HeldKind, record::MigrationRecord, source_ports::UsedPorts};
use crate::tables::packed::Bd;
use stopover_net::{Mac, marker::Marker};

/// What an end marker has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// What the underlay queues and rings of all lcores hold now. Then it goes to [`Pipeline::forward_marker`].
    ///
    /// [`Pipeline::forward_marker`]: super::Pipeline::forward_marker
    Queues,
    /// All that this lcore has sent to a port, at the lcore that sends from there. Then it goes to
    /// [`Pipeline::handle_marker_at_port`].
    ///
    /// [`Pipeline::handle_marker_at_port`]: super::Pipeline::handle_marker_at_port
    Port(u16),
    /// At the lcore that sends from a port: the frames that are held for it, as its node has left.
    Hold(u16),
    /// At the lcore that sends from a port: the frames that wait for its device.
    Device(u16),
}

/// Result of queueing an end marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueuedMarker<P> {
    /// Nothing is in front of it: it is the caller's again.
    Passed(P),
    /// It waits on this lcore.
    Waits,
    /// Another lcore has it.
    Handed,
    /// The ring to the other lcore is full.
    Full(P),
}

/// What the control thread has to know about a migration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MigrationEvent {
    /// A station for which a migration may wait was seen.
    Station(Learn),
    /// Another host has announced the arrival of a node.
    Arrived {
        /// The network.
        bd: Bd,
        /// The node.
        node: Mac,
        /// The host.
        host: u32,
        /// The generation of the lock that the host knows of; 0 for none.
        generation: u64,
    },
    /// An end marker was relayed to the new host of its node.
    Relayed {
        /// The network.
        bd: Bd,
        /// The marker.
        marker: Marker,
    },
}

/// See the module.
pub trait MigrationEgress<P: Packet> {
    /// Whether frames of host `sender` (or copies, [`WINDOW`](crate::migration::record::WINDOW)) are held for the
    /// migrating node with this index.
    fn has_held(&self, _index: u32, _sender: u32) -> bool {
        false
    }
    /// Holds a copy of a frame behind those of its sender that are held already. False if the hold is full.
    fn hold(
        &mut self,
        _record: &MigrationRecord,
        _index: u32,
        _sender: u32,
        _kind: HeldKind,
        _packet: &P,
    ) -> bool {
        false
    }
    /// Queues an end marker.
    fn queue_marker(&mut self, packet: P, _network: Network, _behind: Behind) -> QueuedMarker<P> {
        QueuedMarker::Passed(packet)
    }
    /// The source port for a frame to a migrating node: `of_flow` if it is in use already or few ports are, otherwise
    /// one that is in use.
    fn source_port(&mut self, _bd: Bd, _node: Mac, of_flow: u16) -> u16 {
        of_flow
    }
    /// The source ports that this lcore has used for a node since it was locked.
    fn source_ports(&self, _bd: Bd, _node: Mac) -> UsedPorts {
        UsedPorts::new()
    }
    /// Reports to the control thread. May be lost: whatever causes an event repeats it.
    fn report(&mut self, _event: MigrationEvent) {}
    /// The TSC at the beginning of this round, for the times in records. `None` where these are not to be changed.
    fn now(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::packet::VecPacket;
    use stopover_net::Vni;

    struct Trace;

    impl MigrationEgress<VecPacket> for Trace {}

    #[test]
    fn where_nothing_waits_frames_go_on_and_records_keep_their_times() {
        let (bd, vni) = (Bd::new(1).unwrap(), Vni::new(100).unwrap());
        let (node, marker) = (Mac::from_u64(2), VecPacket::new(&[1, 2, 3]));
        for behind in [Behind::Queues, Behind::Port(1), Behind::Hold(1), Behind::Device(1)] {
            let queued = Trace.queue_marker(marker.clone(), Network { bd, vni }, behind);
            assert!(matches!(queued, QueuedMarker::Passed(packet) if packet.head() == [1, 2, 3]));
        }
        assert!(!Trace.has_held(0, 1));
        assert_eq!((Trace.source_port(bd, node, 50_000), Trace.source_ports(bd, node).len()), (50_000, 0));
        assert_eq!(Trace.now(), None);
    }
}

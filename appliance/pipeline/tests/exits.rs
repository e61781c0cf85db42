//! The egress of the appliance under test. Enters: what the stages send, hold or report. Leaves: the same in lists,
//! for a test to compare; switches let a test fill a queue or a ring.

use super::*;
use crate::pipeline::tunnel_egress::{SealFor, TunnelEgress, Unsealed};
use crate::tables::peer::TunnelIndex;
use std::ops::Range;
use stopover_tunnel::{
    Millis, Spi,
    cipher::{AwsLc, Engine},
    esp,
    sa::{self, InboundSas, OpenedBy, OutboundSas},
};

/// An egress that records each call.
#[derive(Default)]
pub(super) struct Exits {
    pub pool: VecPool,
    pub sent: Vec<(u16, VecPacket)>,
    pub punted: Vec<(u16, Vec<u8>)>,
    pub learned: Vec<Learn>,
    pub routers: Vec<RouterSeen>,
    pub held: Vec<(u32, u32, HeldKind, Vec<u8>)>,
    pub relayed: Vec<(u16, Vec<u8>)>,
    pub arrived: Vec<(Bd, Mac, u32, u64)>,
    /// The port whose queue holds markers.
    pub holding_port: Option<u16>,
    /// The port that another lcore sends from: its markers are in `sent`.
    pub foreign_port: Option<u16>,
    /// Source ports of migrating nodes.
    pub used: UsedPorts,
    /// End markers wait for the barrier.
    pub barrier_on: bool,
    pub parked: Vec<(VecPacket, Network)>,
    pub hold_full: bool,
    /// The ring to the lcore that sends from a port.
    pub ring_full: bool,
    pub control_full: bool,
    pub errors_spent: bool,
    /// Every flooded frame counts as repeated too often.
    pub all_repeated: bool,
    /// Of tunnels.
    pub keys: Option<Keys>,
    /// The lcore that the stages run on.
    pub lcore: u32,
    /// Nothing is sealed, for this reason.
    pub seal_refused: Option<DropReason>,
    pub waiting: Vec<(SealFor, VecPacket)>,
    pub wait_full: bool,
    pub handed: Vec<(u16, Vec<u8>)>,
    pub unknown: Vec<IpAddr>,
}

/// The SAs of one side of a tunnel.
pub(super) struct Keys {
    pub out: OutboundSas<<AwsLc as Engine>::Key>,
    pub into: InboundSas<<AwsLc as Engine>::Key>,
}

impl TunnelEgress<VecPacket> for Exits {
    fn seal(&mut self, tunnel: TunnelIndex, packet: &mut VecPacket) -> Result<u16, DropReason> {
        if let Some(reason) = self.seal_refused {
            return Err(reason);
        }
        let Some(keys) = &mut self.keys else { return Err(DropReason::NoTunnel) };
        let len = packet.len();
        let mut buffer = [&[0; esp::HEAD_LEN], packet.head(), &[0; esp::TAIL_LEN]].concat();
        let at = esp::HEAD_LEN..esp::HEAD_LEN + len;
        let sealed = sa::seal(&mut AwsLc, &mut keys.out, tunnel.get(), (&mut buffer, at), Millis(1));
        let (range, _) = sealed?;
        *packet = VecPacket::new(&buffer[range]);
        Ok(50_007)
    }
    fn wait_for_tunnel(&mut self, seal: SealFor, packet: VecPacket) -> Result<(), VecPacket> {
        if self.wait_full {
            return Err(packet);
        }
        self.waiting.push((seal, packet));
        Ok(())
    }
    fn waits_for(&self, tunnel: TunnelIndex) -> bool {
        self.waiting.iter().any(|(seal, _)| seal.tunnel == tunnel)
    }
    fn open(&mut self, port: u16, mut packet: VecPacket, at: Range<usize>) -> Unsealed<VecPacket> {
        let Some(keys) = &mut self.keys else { return Unsealed::Refused(packet, DropReason::BadVxlan) };
        let whole = packet.head().to_vec();
        let start = at.start;
        match sa::open(&mut AwsLc, &mut keys.into, self.lcore, &mut packet.head_mut()[at]) {
            Ok(OpenedBy::Here(opened)) => {
                let text = start + opened.text.start..start + opened.text.end;
                Unsealed::Here(packet, Peer::new(opened.peer), text)
            }
            Ok(OpenedBy::Other(_)) if self.ring_full => Unsealed::Refused(packet, DropReason::HandoffFull),
            Ok(OpenedBy::Other(_)) => {
                self.handed.push((port, whole));
                Unsealed::Handed
            }
            Err(drop) => Unsealed::Refused(packet, drop.into()),
        }
    }
    fn report_unknown_spi(&mut self, from: IpAddr, _: Spi) {
        self.unknown.push(from);
    }
    fn punt_handshake(&mut self, port: u16, packet: VecPacket) -> Result<(), (VecPacket, DropReason)> {
        if self.keys.is_none() {
            return Err((packet, DropReason::BadVxlan));
        }
        self.punt(port, packet).map_err(|packet| (packet, DropReason::ControlFull))
    }
}

impl Egress for Exits {
    type P = VecPacket;
    fn send(&mut self, port: u16, packet: VecPacket) {
        self.sent.push((port, packet));
    }
    fn punt(&mut self, port: u16, packet: VecPacket) -> Result<(), VecPacket> {
        if self.control_full {
            return Err(packet);
        }
        self.punted.push((port, packet.head().to_vec()));
        Ok(())
    }
    fn learn(&mut self, learn: Learn) {
        self.learned.push(learn);
    }
    fn report_router(&mut self, router: RouterSeen) {
        self.routers.push(router);
    }
    fn may_send_icmp_error(&mut self) -> bool {
        !self.errors_spent
    }
    fn is_repeated(&mut self, _: u16, _: u16, _: Bd, _: &VecPacket) -> bool {
        self.all_repeated
    }
}

impl MigrationEgress<VecPacket> for Exits {
    fn has_held(&self, index: u32, sender: u32) -> bool {
        self.held.iter().any(|(at, from, ..)| (*at, *from) == (index, sender))
    }
    fn hold(
        &mut self,
        _: &MigrationRecord,
        index: u32,
        sender: u32,
        kind: HeldKind,
        packet: &VecPacket,
    ) -> bool {
        if self.hold_full {
            return false;
        }
        self.held.push((index, sender, kind, packet.head().to_vec()));
        true
    }
    fn queue_marker(
        &mut self,
        packet: VecPacket,
        network: Network,
        behind: Behind,
    ) -> QueuedMarker<VecPacket> {
        match behind {
            Behind::Queues if self.barrier_on => self.parked.push((packet, network)),
            Behind::Port(_) if self.ring_full => return QueuedMarker::Full(packet),
            Behind::Port(port) if self.foreign_port == Some(port) => {
                self.sent.push((port, packet));
                return QueuedMarker::Handed;
            }
            Behind::Hold(port) | Behind::Device(port) if self.holding_port == Some(port) => {
                self.relayed.push((port, packet.head().to_vec()));
            }
            _ => return QueuedMarker::Passed(packet),
        }
        QueuedMarker::Waits
    }
    fn source_port(&mut self, _: Bd, _: Mac, of_flow: u16) -> u16 {
        if !self.used.contains(&of_flow) && self.used.try_push(of_flow).is_err() {
            return self.used[0];
        }
        of_flow
    }
    fn source_ports(&self, _: Bd, _: Mac) -> UsedPorts {
        self.used.clone()
    }
    fn report(&mut self, event: MigrationEvent) {
        match event {
            MigrationEvent::Station(learn) => self.learn(learn),
            MigrationEvent::Arrived { bd, node, host, generation } => {
                self.arrived.push((bd, node, host, generation));
            }
            MigrationEvent::Relayed { .. } => {}
        }
    }
    fn now(&self) -> Option<u64> {
        Some(1)
    }
}

impl Pool<VecPacket> for Exits {
    fn copy(&mut self, packet: &VecPacket) -> Option<VecPacket> {
        self.pool.copy(packet)
    }
    fn copy_range(&mut self, head: &[u8], packet: &VecPacket, from: usize, len: usize) -> Option<VecPacket> {
        self.pool.copy_range(head, packet, from, len)
    }
    fn make(&mut self, bytes: &[u8]) -> Option<VecPacket> {
        self.pool.make(bytes)
    }
}

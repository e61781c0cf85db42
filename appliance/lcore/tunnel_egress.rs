//! The tunnels of an lcore as its stages see them.

use crate::lcore::{egress::LcoreEgress, events::DataplaneEvent};
use crate::pipeline::{
    drop_reason::DropReason,
    tunnel_egress::{SealFor, TunnelEgress, Unsealed},
};
use crate::tables::{
    packed::Bd,
    peer::{Peer, TunnelIndex},
};
use dpdk::Mbuf;
use std::{net::IpAddr, ops::Range};
use stopover_net::Mac;
use stopover_tunnel::{Spi, sa::OpenedBy};

impl TunnelEgress<Mbuf> for LcoreEgress {
    #[inline]
    fn seal(&mut self, tunnel: TunnelIndex, packet: &mut Mbuf) -> Result<u16, DropReason> {
        let now = self.now;
        let tunnels = self.tunnels.as_mut().ok_or(DropReason::NoTunnel)?;
        Ok(tunnels.seal(tunnel, packet, now)?)
    }

    #[cold]
    fn wait_for_tunnel(&mut self, seal: SealFor, packet: Mbuf) -> Result<(), Mbuf> {
        let now = self.now;
        let Some(tunnels) = &mut self.tunnels else { return Err(packet) };
        let waits = tunnels.wait(seal, packet, now);
        self.notify(DataplaneEvent::Wanted(seal.tunnel));
        waits
    }

    #[inline]
    fn waits_for(&self, tunnel: TunnelIndex) -> bool {
        self.tunnels.as_ref().is_some_and(|tunnels| tunnels.waiting() > 0 && tunnels.waits_for(tunnel))
    }

    #[inline]
    fn open(&mut self, port: u16, mut packet: Mbuf, at: Range<usize>) -> Unsealed<Mbuf> {
        let Some(tunnels) = &mut self.tunnels else {
            return Unsealed::Refused(packet, DropReason::BadVxlan);
        };
        let start = at.start;
        let Some(datagram) = packet.head_mut().get_mut(at) else {
            return Unsealed::Refused(packet, DropReason::OuterMalformed);
        };
        match tunnels.open(datagram) {
            Ok(OpenedBy::Here(opened)) if opened.dummy => {
                Unsealed::Refused(packet, DropReason::OuterUnexpected)
            }
            Ok(OpenedBy::Here(opened)) => {
                let text = start + opened.text.start..start + opened.text.end;
                Unsealed::Here(packet, Peer::new(opened.peer), text)
            }
            Ok(OpenedBy::Other(owner)) => {
                let Some(ring) = tunnels.handed.get(owner as usize) else {
                    return Unsealed::Refused(packet, DropReason::HandoffFull);
                };
                match ring.push((port, packet)) {
                    Ok(()) => Unsealed::Handed,
                    Err((_, packet)) => Unsealed::Refused(packet, DropReason::HandoffFull),
                }
            }
            Err(drop) => Unsealed::Refused(packet, drop.into()),
        }
    }

    #[cold]
    fn report_unknown_spi(&mut self, from: IpAddr, _: Spi) {
        self.notify(DataplaneEvent::UnknownSpi(from));
    }

    #[cold]
    fn report_came_from(&mut self, bd: Bd, mac: Mac, peer: Peer) {
        self.notify(DataplaneEvent::CameFrom { bd, mac, peer });
    }

    #[cold]
    fn report_refused(&mut self, peer: Peer) {
        self.notify(DataplaneEvent::Refused(peer));
    }

    #[cold]
    fn punt_handshake(&mut self, port: u16, packet: Mbuf) -> Result<(), (Mbuf, DropReason)> {
        if self.tunnels.is_none() {
            return Err((packet, DropReason::BadVxlan));
        }
        if !self.handshakes.take(self.now) {
            return Err((packet, DropReason::ControlFull));
        }
        match self.rings.handshakes.push((port, packet)) {
            Ok(()) => {
                self.rings.wake.notify();
                Ok(())
            }
            Err((_, packet)) => Err((packet, DropReason::ControlFull)),
        }
    }
}

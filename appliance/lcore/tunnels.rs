//! The tunnels of one lcore: its SAs, frames that wait for one, and the rings of datagrams whose window another lcore has.
//! Enters: frames to seal, datagrams to open, SAs from the control thread. Leaves: the same in place, or the reason why
//! not; old SAs, which the control thread frees. Nothing here allocates or waits.

use crate::pipeline::tunnel_egress::SealFor;
use crate::sealing::{AnyEngine, InboundSa, InboundSas, OutboundSa, OutboundSas};
use crate::tables::peer::TunnelIndex;
use crossbeam::queue::ArrayQueue;
use dpdk::Mbuf;
use std::{collections::VecDeque, sync::Arc};
use stopover_net::flow;
use stopover_tunnel::{
    Millis, Spi, esp,
    sa::{self, OpenedBy, SaDrop},
};

/// Most frames that wait for tunnels on one lcore.
const MOST_WAITING: usize = 2048;
/// Of these, for one tunnel.
const MOST_WAITING_OF_ONE: u16 = 512;
/// How long a frame waits for a tunnel at most. A handshake takes two round trips, and is repeated after 0.2 s.
const WAIT_MS: u64 = 3_000;
/// Places in the ring of datagrams that other lcores hand over.
const HANDED: usize = 1024;

/// Datagrams for the lcore that has the window of their SA, with the number of their port.
pub type HandedRing = Arc<ArrayQueue<(u16, Mbuf)>>;

/// The rings of all lcores, by their number.
#[must_use]
pub fn handed_rings(lcores: usize) -> Arc<[HandedRing]> {
    (0..lcores).map(|_| Arc::new(ArrayQueue::new(HANDED))).collect()
}

/// What the control thread changes of an lcore's SAs. Comes back with what it replaced inside.
#[derive(Debug)]
pub enum TunnelChange {
    /// Inbound SAs. Those that found their place taken come back.
    Install(Vec<Box<InboundSa>>),
    /// Takes inbound SAs out, by their SPIs; there is room for as many.
    Retire(Vec<Spi>, Vec<Box<InboundSa>>),
    /// The SA to send by, or none, from now on. Comes back with the one of before.
    Outbound(TunnelIndex, Option<Box<OutboundSa>>),
}

/// A change, and its number among all.
#[derive(Debug)]
pub struct TunnelOrder {
    /// Its number.
    pub number: u64,
    /// The change.
    pub change: TunnelChange,
}

/// A frame whose text is complete.
#[derive(Debug)]
struct Waiting {
    seal: SealFor,
    until_ms: u64,
    packet: Mbuf,
}

/// A frame that has waited.
#[derive(Debug)]
pub struct Waited {
    /// Where it is sealed for.
    pub seal: SealFor,
    /// The frame.
    pub packet: Mbuf,
    /// It has waited too long.
    pub is_over: bool,
}

/// See the module.
#[derive(Debug)]
pub struct LcoreTunnels {
    engine: AnyEngine,
    /// The lcore's number among all.
    number: u32,
    outbound: OutboundSas,
    inbound: InboundSas,
    pub(super) handed: Arc<[HandedRing]>,
    waiting: VecDeque<Waiting>,
    /// By tunnel, how many frames wait.
    waiting_of: Box<[u16]>,
    /// TSC cycles in a millisecond.
    cycles_per_ms: u64,
}

impl LcoreTunnels {
    /// Of the lcore with this number, with room for so many tunnels and inbound SAs.
    #[must_use]
    pub fn new(
        engine: AnyEngine,
        number: u32,
        handed: Arc<[HandedRing]>,
        (tunnels, sas): (usize, usize),
        hz: u64,
    ) -> Self {
        Self {
            engine,
            number,
            outbound: OutboundSas::new(tunnels),
            inbound: InboundSas::new(sas),
            handed,
            waiting: VecDeque::with_capacity(MOST_WAITING),
            waiting_of: vec![0; tunnels].into(),
            cycles_per_ms: (hz / 1000).max(1),
        }
    }

    /// Executes a change.
    pub fn change(&mut self, change: &mut TunnelChange) {
        match change {
            TunnelChange::Install(sas) => {
                for at in (0..sas.len()).rev() {
                    let sa = sas.swap_remove(at);
                    if let Err(sa) = self.inbound.install(sa) {
                        sas.push(sa);
                    }
                }
            }
            TunnelChange::Retire(spis, retired) => {
                retired.extend(spis.iter().filter_map(|spi| self.inbound.retire(*spi)));
            }
            TunnelChange::Outbound(tunnel, sa) => *sa = self.outbound.set(tunnel.get(), sa.take()),
        }
    }

    /// A datagram that another lcore has handed over, and its port.
    #[inline]
    pub fn next_handed(&self) -> Option<(u16, Mbuf)> {
        let ring = self.handed.get(self.number as usize)?;
        if ring.is_empty() { None } else { ring.pop() }
    }

    /// How many frames wait.
    #[inline]
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Of the first `among` frames that wait, the next that waits no longer: its tunnel is up, or its time is over. Frames
    /// of one tunnel keep their order.
    pub fn next_waited(&mut self, among: &mut usize, now: u64) -> Option<Waited> {
        let now_ms = now / self.cycles_per_ms;
        while *among > 0 {
            *among -= 1;
            let waiting = self.waiting.pop_front()?;
            let is_over = now_ms >= waiting.until_ms;
            if !is_over && self.outbound.get(waiting.seal.tunnel.get()).is_none() {
                self.waiting.push_back(waiting);
                continue;
            }
            let Waiting { seal, packet, .. } = waiting;
            if let Some(count) = self.waiting_of.get_mut(seal.tunnel.get() as usize) {
                *count = count.saturating_sub(1);
            }
            return Some(Waited { seal, packet, is_over });
        }
        None
    }

    /// Drops what waits. Returns how many frames it was.
    pub fn discard(&mut self) -> u64 {
        self.waiting_of.fill(0);
        self.waiting.drain(..).count() as u64
    }

    pub(super) fn waits_for(&self, tunnel: TunnelIndex) -> bool {
        self.waiting_of.get(tunnel.get() as usize).is_some_and(|waiting| *waiting > 0)
    }

    pub(super) fn wait(&mut self, seal: SealFor, packet: Mbuf, now: u64) -> Result<(), Mbuf> {
        let at = seal.tunnel.get() as usize;
        let Some(count) = self.waiting_of.get_mut(at) else { return Err(packet) };
        if *count >= MOST_WAITING_OF_ONE || self.waiting.len() >= MOST_WAITING {
            return Err(packet);
        }
        *count += 1;
        let until_ms = now / self.cycles_per_ms + WAIT_MS;
        self.waiting.push_back(Waiting { seal, until_ms, packet });
        Ok(())
    }

    /// Seals a frame in place.
    #[inline]
    pub(super) fn seal(&mut self, tunnel: TunnelIndex, packet: &mut Mbuf, now: u64) -> Result<u16, SaDrop> {
        if self.outbound.get(tunnel.get()).is_none() {
            return Err(SaDrop::NoTunnel);
        }
        let len = packet.len();
        let tail = esp::sealed_len(len) - esp::HEAD_LEN - len;
        packet.push(esp::HEAD_LEN).ok_or(SaDrop::NoHeadroom)?;
        packet.extend(tail).ok_or(SaDrop::NoTailroom)?;
        let text = esp::HEAD_LEN..esp::HEAD_LEN + len;
        let now = Millis(now / self.cycles_per_ms);
        let buffer = (packet.head_mut(), text);
        let (_, spi) = sa::seal(&mut self.engine, &mut self.outbound, tunnel.get(), buffer, now)?;
        Ok(source_port(spi))
    }

    /// Opens a datagram in place.
    #[inline]
    pub(super) fn open(&mut self, datagram: &mut [u8]) -> Result<OpenedBy, SaDrop> {
        sa::open(&mut self.engine, &mut self.inbound, self.number, datagram)
    }
}

/// The outer UDP source port of an SA: one, so that all its frames take one path and come to one lcore.
#[inline]
const fn source_port(spi: Spi) -> u16 {
    flow::source_port(spi.bits().wrapping_mul(0x9e37_79b1))
}

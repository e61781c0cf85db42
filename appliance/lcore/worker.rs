//! The loop of an lcore: one round after another over its queues and rings. Enters: bursts of its receive queues,
//! orders of the control thread. Leaves: what its stages send, and what waited for a migrating node.

mod change;
mod tunnels;

use super::{
    bonds::Bonds,
    capture::Capture,
    changes::SlowChanges,
    counters::LcoreCounters,
    egress::{LcoreEgress, Order},
    idle::Idle,
    rx_queue::PortRxQueue,
    tx_port,
};
use crate::migration::replay;
use crate::pipeline::{
    Pipeline, Scratch, drop_reason::DropReason, packet_counters::add, ports::Port, ports::Role,
    tracer::NoTrace,
};
use crate::tables::{View, peer::Peer};
use dpdk::{Burst, cycles};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// Everything an lcore works with.
#[derive(Debug)]
pub struct Worker {
    /// Its receive queues.
    pub rx_queues: Vec<PortRxQueue>,
    /// All ports, by number.
    pub ports: Arc<[Port]>,
    /// Its view of the tables.
    pub view: View,
    /// Its counters.
    pub counters: Arc<LcoreCounters>,
    /// Where its frames leave.
    pub egress: LcoreEgress,
    /// Vifs whose transmit queue is this lcore's.
    pub vifs: Vec<u16>,
    /// Bonds of which a transmit queue is this lcore's.
    pub bonds: Bonds,
    /// Captures frames for `stopover trace`.
    pub capture: Arc<Capture>,
    /// Changes of what it works with that take several rounds.
    pub slow_changes: SlowChanges,
    /// What it does when there is nothing to do.
    pub idle: Idle,
    /// How long the next poll of a guest's ring is deferred after one that found few frames.
    pub defer_cycles: u64,
    /// Set to stop it.
    pub stop: Arc<AtomicBool>,
    /// Whether it sleeps now; for `stopover show lcores`.
    pub asleep: Arc<AtomicBool>,
    /// Most frames per receive burst.
    pub burst: usize,
    /// Scratch space of the passes over a burst.
    pub scratch: Box<Scratch>,
}

impl Worker {
    /// Polls until `stop` is set; then sends what waits, and drops what cannot be sent, so that packet accounting holds.
    pub fn run(mut self) {
        self.reserve();
        let mut burst = Burst::new();
        let mut round_began = cycles::tsc();
        while !self.stop.load(Relaxed) {
            self.view.quiescent();
            self.egress.now = round_began;
            let work = self.round(&mut burst);
            let now = cycles::tsc();
            let time = &self.counters.time;
            add(&time.polls, 1);
            if work == 0 {
                add(&time.empty_polls, 1);
                add(&time.idle_cycles, now.wrapping_sub(round_began));
            } else {
                add(&time.busy_cycles, now.wrapping_sub(round_began));
            }
            round_began = now;
            if let Some(pause) = self.pause_after(work, now) {
                self.asleep.store(true, Relaxed);
                self.view.park_during(|| std::thread::sleep(pause));
                self.asleep.store(false, Relaxed);
                let woke = cycles::tsc();
                add(&self.counters.time.sleeps, 1);
                add(&self.counters.time.idle_cycles, woke.wrapping_sub(round_began));
                round_began = woke;
            }
        }
        self.shut_down();
    }

    /// How long to sleep after a round. Without a receive queue an lcore sleeps also where it should poll.
    #[inline]
    fn pause_after(&mut self, work: usize, now: u64) -> Option<Duration> {
        let pause = self.idle.after(work, now);
        if pause.is_none() && work == 0 && self.rx_queues.is_empty() && !self.egress.owns_shared_queue() {
            return Some(WITHOUT_QUEUES);
        }
        pause
    }

    /// One round over all queues and rings. Returns how many frames were moved or still wait.
    fn round(&mut self, burst: &mut Burst) -> usize {
        let mut work = 0;
        let is_requested = self.egress.markers.barrier.begin_round();
        for at in 0..self.rx_queues.len() {
            let rx_queue = &mut self.rx_queues[at];
            let port = rx_queue.port;
            let now = self.egress.now;
            if !is_requested && rx_queue.coalesce.is_some_and(|coalesce| coalesce.is_deferred(now)) {
                continue;
            }
            let n = rx_queue.queue.burst(burst, self.burst);
            if is_requested {
                self.egress.markers.barrier.polled(at, n);
            }
            if n == 0 {
                continue;
            }
            if let Some(coalesce) = &mut rx_queue.coalesce {
                coalesce.polled(now, n, self.burst, self.defer_cycles);
            }
            work += n;
            add(&self.counters.time.bursts, 1);
            add(&self.counters.packets.received, n as u64);
            add(&self.counters.ports[usize::from(port)].received, n as u64);
            prefetch_heads(burst, self.ports.get(usize::from(port)).map(|port| &port.role));
            self.capture.inspect(port, burst, &mut self.egress.pool);
            self.process(port, burst);
        }
        work += self.originate();
        if self.egress.tunnels.is_some() {
            work += self.serve_tunnels(burst);
        }
        let mut pipeline = Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.packets,
            egress: &mut self.egress,
            tracer: &mut NoTrace,
        };
        work += replay::replay_held(&mut pipeline, &self.vifs);
        work += self.egress.finish_round();
        if is_requested || !self.egress.markers.is_empty() {
            work += replay::release_markers(&mut self.pipeline(&mut NoTrace));
        }
        if self.bonds.are_due(self.egress.now) {
            self.egress.keep_alive(self.bonds.ports());
        }
        if self.has_slow_changes() {
            work += usize::from(self.advance_changes(is_requested));
        }
        work
    }

    #[inline]
    fn process(&mut self, port: u16, burst: &mut Burst) {
        let mut pipeline = Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.packets,
            egress: &mut self.egress,
            tracer: &mut NoTrace,
        };
        match self.ports.get(usize::from(port)).map(|p| &p.role) {
            Some(Role::Underlay(_)) => pipeline.underlay(port, burst.frames(), &mut self.scratch),
            _ => pipeline.tenant(port, burst.frames(), &mut self.scratch),
        }
    }

    fn originate(&mut self) -> usize {
        let mut n = 0;
        while let Some(change) = tx_port::try_pop(&self.egress.rings.given) {
            self.change(change);
        }
        while n < dpdk::BURST_MAX
            && let Some(order) = tx_port::try_pop(&self.egress.rings.from_control)
        {
            n += 1;
            let order = match order {
                Order::Change(change) => {
                    self.change(change);
                    continue;
                }
                Order::Tunnel(mut order) => {
                    if let Some(tunnels) = &mut self.egress.tunnels {
                        tunnels.change(&mut order.change);
                    }
                    let _ = self.egress.rings.tunnel_orders.push(order);
                    self.egress.rings.wake.notify();
                    continue;
                }
                order => order,
            };
            add(&self.counters.packets.originated, 1);
            match order {
                Order::Frame(port, packet) => self.egress.put(port, packet),
                Order::MarkerBehind(port, network, packet) => {
                    self.pipeline(&mut NoTrace).queue_marker(packet, network, port);
                }
                Order::EndPath(host, network, packet) => {
                    self.pipeline(&mut NoTrace).send_end_markers(packet, network, Peer::new(host));
                }
                Order::Change(_) | Order::Tunnel(_) => {}
            }
        }
        n
    }

    /// Sends what was received, and what other lcores hand over, which stop at the same time.
    fn drain(&mut self) {
        let began = cycles::tsc();
        let per_ms = cycles::tsc_hz() / 1000;
        let mut last_work = began;
        loop {
            let now = cycles::tsc();
            self.egress.now = now;
            if self.egress.finish_round() > 0 {
                last_work = now;
            }
            if now.wrapping_sub(last_work) > QUIET_MS * per_ms || now.wrapping_sub(began) > DRAIN_MS * per_ms
            {
                return;
            }
        }
    }

    fn pipeline<'w>(&'w mut self, no_trace: &'w mut NoTrace) -> Pipeline<'w, LcoreEgress, NoTrace> {
        Pipeline {
            view: &self.view,
            ports: &self.ports,
            counters: &self.counters.packets,
            egress: &mut self.egress,
            tracer: no_trace,
        }
    }

    fn shut_down(&mut self) {
        self.drain();
        while let Some(order) = self.egress.rings.from_control.pop() {
            drop::<Order>(order);
        }
        self.egress.discard(DropReason::Shutdown);
    }
}

/// Prefetches the cache lines of every frame that will be touched while the first frames are processed: where the
/// frame begins, and what follows there (inner headers) or precedes it (the room for outer ones).
#[inline]
fn prefetch_heads(burst: &Burst, role: Option<&Role>) {
    let other = if matches!(role, Some(Role::Underlay(_))) { CACHE_LINE } else { -CACHE_LINE };
    for packet in burst.iter() {
        packet.prefetch_head(0);
        packet.prefetch_head(other);
    }
}

/// How long an lcore sleeps that has no receive queue, and to which others hand no frames.
const WITHOUT_QUEUES: Duration = Duration::from_micros(100);

/// An lcore that stops has ended when nothing was to be sent for so long, and after this time in any case: as long as frames
/// wait for a full device.
const QUIET_MS: u64 = 1;
const DRAIN_MS: u64 = 100;

/// In bytes.
const CACHE_LINE: isize = 64;

//! Handles on running parts: a port and its device, an lcore and its rings.

use crate::control::spread::QueueAt;
use crate::lcore::{counters::LcoreCounters, egress::Rings};
use dpdk::{LcoreJob, Port, VhostPort};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// A started port, as the control thread holds it.
pub struct PortHandle {
    /// Its name in the configuration.
    pub name: String,
    /// The device.
    pub device: Port,
    /// What only a vhost-user device reports.
    pub vhost: Option<VhostPort>,
    /// Whether it has a link; read by every lcore before sending.
    pub up: Arc<AtomicBool>,
    /// Index of the lcore that sends the control thread's frames from it.
    pub sender: usize,
    /// The lcore of each receive queue.
    pub rx_lcores: Vec<u32>,
    /// It is being removed.
    pub removed: bool,
    /// Its device is in service. Otherwise the port is down, and the device is not asked.
    pub in_service: bool,
    /// Device counters when they were last cleared.
    pub cleared: dpdk::PortStats,
}

impl std::fmt::Debug for PortHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortHandle({})", self.name)
    }
}

impl PortHandle {
    /// Reads the device's link. `Some` if it has changed; the lcores see the new state from now on.
    pub fn link_changed(&self) -> Option<bool> {
        if self.removed {
            return None;
        }
        let up = self.in_service && self.device.link().up;
        (self.up.swap(up, Relaxed) != up).then_some(up)
    }
}

impl PortHandle {
    /// Frames that the device dropped since its counters were cleared, because they were not polled in time.
    pub fn missed(&self) -> u64 {
        self.device.stats().map_or(0, |now| now.rx_missed.saturating_sub(self.cleared.rx_missed))
    }
}

/// A running lcore, as the control thread holds it.
pub struct LcoreHandle {
    /// DPDK's number of it.
    pub lcore: u32,
    /// The socket of its CPU.
    pub socket: u32,
    /// Its receive queues.
    pub queues: Vec<QueueAt>,
    /// Its counters.
    pub counters: Arc<LcoreCounters>,
    /// Its rings.
    pub rings: Rings,
    /// It sleeps because there is no work.
    pub asleep: Arc<AtomicBool>,
    /// Its longest sleep, in microseconds; `None`: it polls.
    pub longest_sleep_us: Option<u32>,
    /// Set to stop it.
    pub stop: Arc<AtomicBool>,
    /// Its job.
    pub job: Option<LcoreJob<()>>,
}

impl std::fmt::Debug for LcoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LcoreHandle({})", self.lcore)
    }
}

impl LcoreHandle {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.job.as_ref().is_none_or(LcoreJob::is_finished)
    }
}

impl Drop for LcoreHandle {
    /// Stops the lcore and waits for it. EAL waits for every lcore when it ends: a running one would keep the process
    /// alive.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(Err(e)) = self.job.take().map(LcoreJob::join) {
            log::error!("lcore {}: {e}", self.lcore);
        }
    }
}

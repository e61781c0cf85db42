//! How long lcores may sleep. Enters: what the operator wants, the devices of the ports. Leaves: the longest sleep, for the
//! start and for lcores that run while ports come and go. No sleep is so long that the receive ring of a NIC overruns, or of
//! a bond of NICs, nor a bond is polled too rarely; any lcore may get any queue.

use super::{Control, ports::PortHandle};
use crate::lcore::{bonds::LONGEST_SLEEP, changes::Change, idle::longest_sleep_us};
use stopover_config::appliance as config;

/// The speed of a NIC that does not tell its own, in Mbit/s.
const USUAL_MBPS: u32 = 10_000;

/// For how long lcores poll before they sleep, in microseconds.
#[must_use]
pub const fn poll_us(idle: config::Idle) -> u32 {
    match idle {
        config::Idle::Adaptive { poll_us, .. } => poll_us,
        config::Idle::Poll => 0,
    }
}

/// The longest sleep with these ports, in microseconds; `None`: lcores poll. With the reason if it is not the operator's.
pub fn longest<'a>(
    idle: config::Idle,
    ports: impl Iterator<Item = (&'a PortHandle, &'a config::Port)>,
) -> (Option<u32>, Option<String>) {
    let config::Idle::Adaptive { cap_us, .. } = idle else { return (None, None) };
    let mut why = None;
    let mut longest_us = u64::from(cap_us);
    for (handle, port) in ports {
        let is_bond = handle.device.info().is_bond();
        if !is_bond && !matches!(port.device, config::Device::Pci(_)) {
            continue;
        }
        if is_bond {
            longest_us = longest_us.min(LONGEST_SLEEP.as_micros() as u64);
        }
        let (name, rxd) = (&handle.name, handle.device.granted().rxd);
        let mbps = handle.device.link().speed_mbps.unwrap_or(USUAL_MBPS);
        let of_ring_us = longest_sleep_us(rxd, mbps);
        if of_ring_us < longest_us {
            longest_us = of_ring_us;
            why = Some(format!(
                "port {name}: lcores sleep for {of_ring_us} us at most, in which its ring of {rxd} descriptors does not overrun at {mbps} Mbit/s"
            ));
        }
    }
    (u32::try_from(longest_us).ok().filter(|cap| *cap > 0), why)
}

impl Control {
    /// Has lcores that run sleep as long as they may with their ports and `more`.
    pub(super) fn limit_sleeps(&mut self, more: Option<(&PortHandle, &config::Port)>) {
        let (longest, why) = longest(self.config.idle, self.ports.running().chain(more));
        if self.ports.lcores().iter().all(|lcore| lcore.longest_sleep_us == longest) {
            return;
        }
        if let Some(why) = why {
            log::info!("{why}");
        }
        self.ports.lcores_mut().iter_mut().for_each(|lcore| lcore.longest_sleep_us = longest);
        self.ports.give_each(|_| vec![Change::LongestSleep(longest)]);
    }
}

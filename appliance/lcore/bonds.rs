//! Bonds among the ports of an lcore. The driver of a bond with LACP (IEEE 802.1AX) works inside receive and transmit calls,
//! and wants both every 100 ms, or partners take its links out of the bond. Receive queues are polled in each round; an
//! idle port has nothing to transmit. Enters: the ports, the time. Leaves: when the driver is to be called without a frame.

use std::time::Duration;

/// A fifth of what the driver wants ("Link Bonding Poll Mode Driver" in DPDK's guide): a round may be long.
const EVERY_MS: u64 = 20;

/// The longest sleep of an lcore, so that a bond's queues are polled in time.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// The bonds of which an lcore owns a transmit queue.
#[derive(Debug)]
pub struct Bonds {
    ports: Vec<u16>,
    every: u64,
    due: u64,
}

impl Bonds {
    /// `hz`: the TSC's frequency.
    #[must_use]
    pub const fn new(ports: Vec<u16>, hz: u64) -> Self {
        Self { ports, every: hz / 1000 * EVERY_MS, due: 0 }
    }

    /// Makes room for as many ports.
    pub fn reserve(&mut self, ports: usize) {
        self.ports.reserve(ports);
    }

    /// Sets whether a port is one of them.
    pub fn set(&mut self, port: u16, is_bond: bool) {
        self.ports.retain(|other| *other != port);
        if is_bond {
            self.ports.push(port);
        }
    }

    /// Whether their drivers are to be called now, at TSC `now`.
    #[inline]
    pub fn are_due(&mut self, now: u64) -> bool {
        !self.ports.is_empty() && self.is_time(now)
    }

    #[cold]
    fn is_time(&mut self, now: u64) -> bool {
        let is_due = now >= self.due;
        if is_due {
            self.due = now + self.every;
        }
        is_due
    }

    /// The ports.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bonds_are_due_every_20_ms() {
        let mut bonds = Bonds::new(vec![3], 1_000_000);
        assert!(bonds.are_due(5));
        assert!(!bonds.are_due(6) && !bonds.are_due(20_004));
        assert!(bonds.are_due(20_005) && !bonds.are_due(20_006));
        assert!(bonds.are_due(1_000_000), "after a long round");
    }

    #[test]
    fn without_bonds_nothing_is_due() {
        let mut bonds = Bonds::new(Vec::new(), 1_000_000);
        assert!(!bonds.are_due(0));
        bonds.set(7, true);
        bonds.set(7, true);
        assert_eq!(bonds.ports(), [7]);
        assert!(bonds.are_due(0));
        bonds.set(7, false);
        assert!(!bonds.are_due(u64::MAX));
    }
}

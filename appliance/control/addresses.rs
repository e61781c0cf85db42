//! Addresses of one learned station. Each ages by itself: a station may exist for years and change its addresses
//! every day. An address that was not seen for the segment's ageing time, or that another one may have replaced, is
//! probed with frames to the station alone; after three probes without an answer it is removed. Enters: addresses
//! seen and accepted, the time. Leaves: addresses to be probed, addresses that are silent. Pure.

use std::net::IpAddr;

/// How long an answer to a probe may take, and how long after a new address the old ones are probed, in milliseconds.
const ANSWER_MS: u64 = 1_000;
/// Probes without an answer after which an address is silent.
const PROBES: u8 = 3;
/// How long an address that another node has taken, or that the board refused, is not claimed again, in milliseconds:
/// frames still under way must not restore it.
pub(super) const QUIET_MS: u64 = 100;

#[derive(Debug, Clone)]
struct Entry {
    ip: IpAddr,
    /// When it is probed.
    next_ms: u64,
    /// Probes without an answer.
    probes: u8,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    entries: Vec<Entry>,
    quiet: Vec<(IpAddr, u64)>,
}

impl Addresses {
    /// The station uses this address; it is probed after `ageing_ms` without another sign.
    pub fn confirm(&mut self, now_ms: u64, ip: IpAddr, ageing_ms: u64) {
        let next_ms = now_ms.saturating_add(ageing_ms);
        match self.entries.iter_mut().find(|entry| entry.ip == ip) {
            Some(entry) => (entry.next_ms, entry.probes) = (next_ms, 0),
            None => self.entries.push(Entry { ip, next_ms, probes: 0 }),
        }
    }

    /// Another address was announced, and may have replaced these.
    pub fn probe_soon(&mut self, now_ms: u64, which: impl Fn(IpAddr) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| which(entry.ip)) {
            entry.next_ms = entry.next_ms.min(now_ms + ANSWER_MS);
        }
    }

    /// Removes an address.
    pub fn remove(&mut self, ip: IpAddr) {
        self.entries.retain(|entry| entry.ip != ip);
    }

    /// Removes an address that another node has now; it is not claimed again for a moment.
    pub fn mark_moved(&mut self, now_ms: u64, ip: IpAddr) {
        self.remove(ip);
        self.quiet.retain(|(_, until)| now_ms < *until);
        self.quiet.push((ip, now_ms + QUIET_MS));
    }

    /// Whether the address is not to be claimed yet.
    pub fn is_quiet(&self, now_ms: u64, ip: IpAddr) -> bool {
        self.quiet.iter().any(|(quiet, until)| *quiet == ip && now_ms < *until)
    }

    /// Whether any address is to be probed or removed.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.entries.iter().any(|entry| entry.next_ms <= now_ms)
    }

    /// The addresses to be probed now. The silent ones are removed, and added to `silent`.
    pub fn probe(&mut self, now_ms: u64, silent: &mut Vec<IpAddr>) -> Vec<IpAddr> {
        let mut probed = Vec::new();
        self.entries.retain_mut(|entry| {
            if entry.next_ms > now_ms {
                return true;
            }
            if entry.probes == PROBES {
                silent.push(entry.ip);
                return false;
            }
            (entry.probes, entry.next_ms) = (entry.probes + 1, now_ms + ANSWER_MS);
            probed.push(entry.ip);
            true
        });
        probed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    /// When it is probed and when removed, within a minute, if `answers` tells when it answers.
    fn run(addresses: &mut Addresses, answers: impl Fn(u64) -> bool) -> (Vec<u64>, Option<u64>) {
        let (mut probed, mut silent) = (Vec::new(), Vec::new());
        for now in (0..60_000).step_by(500) {
            if addresses.probe(now, &mut silent).contains(&IP) {
                probed.push(now);
                if answers(now) {
                    addresses.confirm(now, IP, 20_000);
                }
            }
            if silent.contains(&IP) {
                return (probed, Some(now));
            }
        }
        (probed, None)
    }

    #[test]
    fn silent_address_is_removed_after_three_probes() {
        let mut addresses = Addresses::default();
        addresses.confirm(0, IP, 20_000);
        assert_eq!(run(&mut addresses.clone(), |_| false), (vec![20_000, 21_000, 22_000], Some(23_000)));
        assert_eq!(run(&mut addresses.clone(), |_| true), (vec![20_000, 40_000], None));
        let late = |now| now == 22_000;
        assert_eq!(
            run(&mut addresses, late),
            (vec![20_000, 21_000, 22_000, 42_000, 43_000, 44_000], Some(45_000))
        );
    }

    #[test]
    fn possibly_replaced_address_is_probed_soon() {
        let mut addresses = Addresses::default();
        addresses.confirm(0, IP, 300_000);
        addresses.confirm(0, OTHER, 300_000);
        addresses.probe_soon(0, |ip| ip == IP);
        assert_eq!(run(&mut addresses.clone(), |_| false), (vec![1_000, 2_000, 3_000], Some(4_000)));
        assert_eq!(run(&mut addresses, |_| true).1, None, "several addresses are no fault");
    }

    #[test]
    fn moved_address_is_not_claimed_for_a_moment() {
        let mut addresses = Addresses::default();
        addresses.confirm(0, IP, 1_000);
        addresses.mark_moved(0, IP);
        assert!(!addresses.is_due(10_000));
        assert!(addresses.is_quiet(QUIET_MS - 1, IP) && !addresses.is_quiet(QUIET_MS, IP));
    }
}

//! Which refused peers get a line in the log: one for each address and reason in a while, so that a peer that comes again
//! and again fills no disk. Pure; the clock enters as an argument.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// An address gets one line for the same reason in this time.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses and reasons that are remembered. When all are new ones, further peers are counted only.
const REMEMBERED: usize = 256;

/// What to log of one peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// Nothing.
    Silent,
    /// A line.
    Log {
        /// Peers without a line since the last one for the same address and reason.
        more: u64,
    },
}

/// What was logged lately.
#[derive(Debug, Default)]
pub(super) struct RefusedPeers {
    last: HashMap<(IpAddr, &'static str), (Instant, u64)>,
}

impl RefusedPeers {
    /// A peer was refused.
    pub fn note(&mut self, now: Instant, from: IpAddr, reason: &'static str) -> Note {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= QUIET;
        if let Some((at, more)) = self.last.get_mut(&(from, reason)) {
            if is_old(at) {
                *at = now;
                return Note::Log { more: std::mem::take(more) };
            }
            *more += 1;
            return Note::Silent;
        }
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, (at, _)| !is_old(at));
        }
        if self.last.len() >= REMEMBERED {
            return Note::Silent;
        }
        self.last.insert((from, reason), (now, 0));
        Note::Log { more: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_gets_one_line_for_a_reason_in_a_minute() {
        let (mut peers, start) = (RefusedPeers::default(), Instant::now());
        let mut note = |s, last, reason| {
            peers.note(start + Duration::from_secs(s), Ipv4Addr::new(10, 0, 0, last).into(), reason)
        };
        assert_eq!(note(0, 1, "expired"), Note::Log { more: 0 });
        assert_eq!(note(1, 1, "expired"), Note::Silent);
        assert_eq!(note(59, 1, "expired"), Note::Silent);
        assert_eq!(note(59, 1, "revoked"), Note::Log { more: 0 }, "another reason");
        assert_eq!(note(59, 2, "expired"), Note::Log { more: 0 }, "another address");
        assert_eq!(note(60, 1, "expired"), Note::Log { more: 2 });
        assert_eq!(note(119, 1, "expired"), Note::Silent);
    }

    #[test]
    fn many_addresses_cost_neither_memory_nor_lines() {
        let (mut peers, start) = (RefusedPeers::default(), Instant::now());
        let lines = |peers: &mut RefusedPeers, at: Instant| {
            (0..10_000_u32).filter(|n| peers.note(at, Ipv4Addr::from(*n).into(), "x") != Note::Silent).count()
        };
        assert_eq!(lines(&mut peers, start), REMEMBERED);
        assert_eq!(peers.last.len(), REMEMBERED);
        assert_eq!(lines(&mut peers, start + QUIET), REMEMBERED, "the old are forgotten");
    }
}

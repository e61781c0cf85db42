//! Contests: two nodes claim one address, or two hosts claim one node. Declared takes precedence over learned. What is
//! declared remains with its first holder. Among learned claims the newest sender wins (RFC 7432 section 15, RFC 9161
//! section 3.7). What moves too often (a loop between segments, two stations with one address) may move further, but more
//! slowly, and an event reports it.

use super::{
    Board, Hold, Now,
    state::{NodeState, OPERATOR},
};
use crate::model::{Claim, EventKind};
use hashbrown::HashMap;
use std::{fmt, net::IpAddr};
use stopover_net::{Mac, Vni};

/// Moves within [`WINDOW_MS`] that are too many (RFC 7432 section 15.1).
const MOVES: u32 = 5;
/// See [`MOVES`].
const WINDOW_MS: u64 = 180_000;
/// Time after which something that has moved too often may move again. A true location is not refused for longer.
const SPACING_MS: u64 = 500;
/// Most nodes and addresses whose moves are remembered.
const REMEMBERED: usize = 8192;

/// The result of a contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contest {
    /// The holder loses it.
    Yields,
    /// The holder keeps it.
    Keeps,
    /// The holder loses it to a claim after this delay in milliseconds.
    Later(u64),
}

/// How firmly an address is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Learned,
    Shared,
    Declared,
}

impl Rank {
    fn of(learned: bool, hold: Hold) -> Self {
        match (learned, hold) {
            (true, _) | (_, Hold::Used) => Self::Learned,
            (false, Hold::Shared) => Self::Shared,
            (false, Hold::Own) => Self::Declared,
        }
    }
}

/// How an address of a claim is held after it is accepted.
pub(super) fn hold(claim: &Claim, ip: IpAddr) -> Hold {
    match (claim.shared.contains(&ip), claim.used.contains(&ip)) {
        (true, _) => Hold::Shared,
        (false, true) => Hold::Used,
        (false, false) => Hold::Own,
    }
}

/// The object of a contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Contested {
    /// A node, between hosts.
    Node(Mac),
    /// An address, between nodes.
    Address(IpAddr),
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(mac) => write!(f, "node {mac}"),
            Self::Address(ip) => write!(f, "IP {ip}"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct MoveCount {
    count: u32,
    since_ms: u64,
    last_ms: u64,
}

/// Nodes and addresses that moved recently, on the lease clock. Not stored: a new run begins without them.
#[derive(Debug, Default)]
pub(super) struct RecentMoves(HashMap<(Vni, Contested), MoveCount>);

impl RecentMoves {
    fn contest(&self, now_ms: u64, key: (Vni, Contested)) -> Contest {
        match self.0.get(&key) {
            Some(m) if m.count >= MOVES && now_ms < m.last_ms + SPACING_MS => {
                Contest::Later(m.last_ms + SPACING_MS - now_ms)
            }
            _ => Contest::Yields,
        }
    }

    /// Counts a move. If it is move number [`MOVES`], returns the time since the first of them in milliseconds.
    fn record_move(&mut self, now_ms: u64, key: (Vni, Contested)) -> Option<u64> {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.0.retain(|_, m| now_ms < m.last_ms + WINDOW_MS);
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
        }
        let fresh = MoveCount { count: 0, since_ms: now_ms, last_ms: now_ms };
        let m = self.0.entry(key).or_insert(fresh);
        let over = |since: u64| now_ms >= since + WINDOW_MS;
        if over(m.last_ms) || (m.count < MOVES && over(m.since_ms)) {
            *m = fresh;
        }
        m.count += 1;
        m.last_ms = now_ms;
        (m.count == MOVES).then_some(now_ms - m.since_ms)
    }
}

impl Board {
    /// A claim of a node that another host holds.
    pub(super) fn contest_node(&self, now: Now, holder: &NodeState, claim: &Claim) -> Contest {
        if holder.claimant == OPERATOR {
            return Contest::Keeps;
        }
        let learned = (holder.facts().is_learned(), claim.facts.is_learned());
        // A host may be cut off from the board and still have its VMs: what is merely learned elsewhere does not prove that
        // it has lost one.
        if !self.is_up(holder.host) && learned != (false, true) {
            return Contest::Yields;
        }
        match learned {
            _ if !claim.received => Contest::Keeps,
            (false, _) => Contest::Keeps,
            (true, false) => Contest::Yields,
            (true, true) => self.recent_moves.contest(now.lease_ms, (claim.vni, Contested::Node(claim.mac))),
        }
    }

    /// A claim of an address that another node holds, possibly on the same host.
    pub(super) fn contest_address(
        &self,
        now: Now,
        (host, claimant): (u32, u32),
        (holder, ip): (&NodeState, IpAddr),
        claim: &Claim,
    ) -> Contest {
        let unclaimed =
            if holder.host == host { holder.claimant != claimant } else { !self.is_up(holder.host) };
        let theirs = Rank::of(holder.facts().is_learned(), holder.ips.hold(ip));
        let mine = Rank::of(claim.facts.is_learned(), hold(claim, ip));
        // The same as for nodes: see `contest_node`.
        let keeps_while_away = holder.host != host && (theirs, mine) == (Rank::Declared, Rank::Learned);
        if unclaimed && holder.claimant != OPERATOR && !keeps_while_away {
            return Contest::Yields;
        }
        let announced = claim.announced.contains(&ip);
        if mine > theirs && (announced || claim.received) {
            Contest::Yields
        } else if mine == theirs && mine != Rank::Declared && announced {
            self.recent_moves.contest(now.lease_ms, (claim.vni, Contested::Address(ip)))
        } else {
            Contest::Keeps
        }
    }

    /// A learned node or address has moved between hosts that are up.
    pub(super) fn count_move(&mut self, now: Now, vni: Vni, contested: Contested, (from, to): (u32, u32)) {
        if let Some(ms) = self.recent_moves.record_move(now.lease_ms, (vni, contested)) {
            let why = match contested {
                Contested::Node(_) => "is there a loop between segments, or do two stations have this MAC?",
                Contested::Address(_) => "do two stations have this address?",
            };
            let (from, to) = (self.state.name(from), self.state.name(to));
            let text = format!(
                "{contested} in VNI {vni} has moved {MOVES} times in {ms} ms, last from host {from} to {to}: {why} From \
                 now on it moves once in {SPACING_MS} ms"
            );
            self.push_event(EventKind::Conflict, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_moves_are_delayed_and_not_refused() {
        let mut recent_moves = RecentMoves::default();
        let key = (Vni::new(1).unwrap(), Contested::Node(Mac::new([2, 0, 0, 0, 0, 1])));
        let reported: Vec<_> = (0..50).map(|n| recent_moves.record_move(n * 100, key)).collect();
        assert_eq!(reported[4], Some(400));
        assert_eq!(reported.iter().flatten().count(), 1, "reported once");
        assert_eq!(recent_moves.contest(4901, key), Contest::Later(499));
        assert_eq!(recent_moves.contest(4900 + SPACING_MS, key), Contest::Yields);
        // After a window without moves the count begins again.
        assert_eq!(recent_moves.record_move(5000 + WINDOW_MS, key), None);
        assert_eq!(recent_moves.contest(5001 + WINDOW_MS, key), Contest::Yields);
    }

    #[test]
    fn rare_moves_are_not_reported() {
        let mut recent_moves = RecentMoves::default();
        let key = (Vni::new(1).unwrap(), Contested::Address(IpAddr::from([10, 0, 0, 1])));
        for n in 0..100 {
            assert_eq!(recent_moves.record_move(n * 60_000, key), None);
            assert_eq!(recent_moves.contest(n * 60_000, key), Contest::Yields);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent_moves = RecentMoves::default();
        for n in 0..3 * REMEMBERED as u64 {
            recent_moves.record_move(n, (Vni::new(1).unwrap(), Contested::Node(Mac::from_u64(n))));
            assert!(recent_moves.0.len() <= REMEMBERED);
        }
    }
}

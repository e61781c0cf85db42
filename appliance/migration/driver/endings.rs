//! Old paths that were ended recently. Their end markers are sent again, since one may be lost on the underlay, and
//! until every lcore has received the order, since its ring may be full, the pool empty or the path lost for a
//! moment. Enters: nodes that have moved, the time. Leaves: which markers are to be sent now. Pure.

use hashbrown::HashMap;
use stopover_net::{Mac, Vni};

/// When an end marker is repeated, in milliseconds after it was sent first.
const AGAIN_MS: [u64; 3] = [10, 50, 200];
/// For how long one is tried to be sent at all, in milliseconds: no host waits longer for it.
const TRY_FOR_MS: u64 = 2_000;

/// The end of one old path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The host that the node has left.
    pub from: u32,
    /// Of the lock.
    pub generation: u64,
    /// When it began; once its markers were sent, when that was.
    since_ms: u64,
    /// How often every lcore has received the order.
    orders: usize,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderOutcome {
    /// Every lcore has the order.
    All,
    /// There is no path to the host now.
    NoPath,
    /// Rings or the pool are exhausted: the next order would fail too.
    Exhausted,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Endings(HashMap<(Vni, Mac), Ending>);

impl Endings {
    /// A node has left a host; `outcome` is the result of the first attempt.
    pub fn begin(
        &mut self,
        now_ms: u64,
        vni: Vni,
        mac: Mac,
        (from, generation): (u32, u64),
        outcome: OrderOutcome,
    ) {
        let orders = usize::from(outcome == OrderOutcome::All);
        self.0.insert((vni, mac), Ending { from, generation, since_ms: now_ms, orders });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `send` for each marker that is due.
    pub fn send(&mut self, now_ms: u64, mut send: impl FnMut(Vni, Mac, Ending) -> OrderOutcome) {
        let mut exhausted = false;
        self.0.retain(|(vni, mac), ending| {
            if !exhausted && ending.is_due(now_ms) {
                match send(*vni, *mac, *ending) {
                    OrderOutcome::All if ending.orders == 0 => {
                        (ending.orders, ending.since_ms) = (1, now_ms);
                    }
                    OrderOutcome::All => ending.orders += 1,
                    OrderOutcome::NoPath => {}
                    OrderOutcome::Exhausted => exhausted = true,
                }
            }
            ending.orders <= AGAIN_MS.len() && now_ms < ending.since_ms + TRY_FOR_MS
        });
    }
}

impl Ending {
    fn is_due(&self, now_ms: u64) -> bool {
        let after = self.orders.checked_sub(1).map_or(Some(0), |at| AGAIN_MS.get(at).copied());
        after.is_some_and(|after| self.since_ms + after <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vni() -> Vni {
        Vni::new(100).unwrap()
    }

    fn begun(n: u64, outcome: OrderOutcome) -> Endings {
        let mut endings = Endings::default();
        (0..n).for_each(|n| endings.begin(0, vni(), Mac::from_u64(n), (7, 1), outcome));
        endings
    }

    #[test]
    fn old_path_is_ended_and_again_three_times() {
        let (mut endings, mut sent) = (begun(1, OrderOutcome::All), Vec::new());
        for now in 0..3_000 {
            endings.send(now, |_, _, ending| {
                sent.push((now, ending.from));
                OrderOutcome::All
            });
        }
        assert_eq!(sent, [(10, 7), (50, 7), (200, 7)]);
        assert!(endings.0.is_empty());
    }

    #[test]
    fn marker_without_a_path_is_sent_once_there_is_one() {
        let (mut endings, mut sent) = (begun(1, OrderOutcome::NoPath), Vec::new());
        for now in 0..1_000 {
            endings.send(now, |_, _, _| {
                if now < 100 {
                    return OrderOutcome::NoPath;
                }
                sent.push(now);
                OrderOutcome::All
            });
        }
        assert_eq!(sent, [100, 110, 150, 300]);
        let mut endings = begun(1, OrderOutcome::NoPath);
        (0..=TRY_FOR_MS).for_each(|now| endings.send(now, |_, _, _| OrderOutcome::NoPath));
        assert!(endings.0.is_empty(), "not without end");
    }

    #[test]
    fn more_nodes_than_ring_places_are_all_ended_four_times() {
        let (mut endings, mut sent) = (begun(5_000, OrderOutcome::Exhausted), HashMap::<Mac, u32>::new());
        for now in 0..400 {
            let mut room = 1_024;
            endings.send(now, |_, mac, _| {
                if room == 0 {
                    return OrderOutcome::Exhausted;
                }
                room -= 1;
                *sent.entry(mac).or_default() += 1;
                OrderOutcome::All
            });
        }
        assert_eq!((sent.len(), sent.values().filter(|n| **n != 4).count()), (5_000, 0));
    }
}

//! Nodes that move while frames for them are sealed: when this host stops sending by a node's old host, and which hosts it
//! reports a node to that has left from here. Enters: what old hosts report, frames of moving nodes, tunnels that go up and
//! down, the board's news, the time. Leaves: nodes that are sent to at another host from now on, tunnels that are wanted,
//! reports that are due. The rule for one node is in `tunnel::cutover`. No board is needed. Pure: no clock, no table.

use crate::tables::packed::Bd;
use hashbrown::HashMap;
use std::{collections::VecDeque, num::NonZeroU32};
use stopover_net::Mac;
use stopover_tunnel::{cutover::Cutover, handshake::Moved};

/// Frames of a node that must come by the direct tunnel: one may be forged by nobody, a few prove that the tunnel carries.
const FRAMES: NonZeroU32 = NonZeroU32::new(3).expect("not zero");
/// When a report is sent after the node has left, in milliseconds. Each may be lost.
const REPORTS_MS: [u64; 6] = [0, 50, 200, 1000, 3000, 10_000];
/// Most nodes that are followed at once. Beyond that the board's news decides.
const MOST: usize = 4096;

/// A node that is sent to at another host from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// Its network.
    pub bd: Bd,
    /// The node.
    pub mac: Mac,
    /// The host of before.
    pub from: u32,
    /// The host.
    pub to: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct CutOvers {
    nodes: HashMap<(Bd, Mac), Cutover>,
    /// Reports that are due, by time, and which of [`REPORTS_MS`] each is.
    due: VecDeque<(u64, u64, usize, Moved)>,
}

impl CutOvers {
    /// A node has left from here for another host: other hosts may learn of it.
    pub fn left(&mut self, now_ms: u64, moved: Moved) {
        self.due.retain(|(.., other)| (other.vni, other.node) != (moved.vni, moved.node));
        self.due.push_front((now_ms, now_ms, 0, moved));
    }

    /// When a report is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<u64> {
        self.due.front().map(|(due_ms, ..)| *due_ms)
    }

    /// A report that is due.
    pub fn next_report(&mut self, now_ms: u64) -> Option<Moved> {
        self.due.front().filter(|(due_ms, ..)| *due_ms <= now_ms)?;
        let (_, since_ms, at, moved) = self.due.pop_front()?;
        if let Some(after_ms) = REPORTS_MS.get(at + 1) {
            let due_ms = since_ms + after_ms;
            let place = self.due.partition_point(|(other_ms, ..)| *other_ms <= due_ms);
            self.due.insert(place, (due_ms, since_ms, at + 1, moved));
        }
        Some(moved)
    }

    /// A host reports a node that has left from it. `at`: where this host sends its frames; `is_up`: whether the tunnel to
    /// the new host is up. Returns the host to which a tunnel is wanted.
    pub fn moved(&mut self, bd: Bd, peer: u32, moved: &Moved, at: u32, is_up: bool) -> Option<u32> {
        let key = (bd, moved.node);
        if at != peer || self.nodes.len() >= MOST && !self.nodes.contains_key(&key) {
            return None;
        }
        let node = self.nodes.entry(key).or_insert_with(|| Cutover::new(at, 0, FRAMES));
        node.moved(peer, moved.generation, moved.host, is_up);
        node.wanted().filter(|_| !is_up)
    }

    /// A frame of a node has come by the tunnel of a host where it is not, as far as is known here.
    pub fn frame(&mut self, bd: Bd, mac: Mac, peer: u32) -> Option<Switch> {
        let node = self.nodes.get_mut(&(bd, mac))?;
        let from = node.host();
        node.frame(peer).then(|| Switch { bd, mac, from, to: node.host() })
    }

    /// The tunnel to a host is up, or down.
    pub fn tunnel(&mut self, host: u32, is_up: bool) -> Vec<Switch> {
        let switch = |((bd, mac), node): (&(Bd, Mac), &mut Cutover)| {
            let from = node.host();
            node.tunnel(host, is_up).then(|| Switch { bd: *bd, mac: *mac, from, to: node.host() })
        };
        self.nodes.iter_mut().filter_map(switch).collect()
    }

    /// The board names the host of a node: from now on its word counts.
    pub fn decided(&mut self, bd: Bd, mac: Mac) {
        self.nodes.remove(&(bd, mac));
    }

    /// The board has named the hosts of all nodes.
    pub fn all_decided(&mut self) {
        self.nodes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_net::Vni;

    const NODE: Mac = Mac::new([2, 0, 0, 0, 0, 9]);

    fn bd() -> Bd {
        Bd::new(1).unwrap()
    }

    fn report(generation: u64, host: u32) -> Moved {
        Moved { generation, vni: Vni::new(100).unwrap(), node: NODE, host }
    }

    #[test]
    fn the_report_and_three_frames_switch_a_node() {
        let mut all = CutOvers::default();
        assert_eq!(all.frame(bd(), NODE, 3), None, "nobody has reported it");
        assert_eq!(all.moved(bd(), 1, &report(7, 3), 1, false), Some(3), "a tunnel is wanted");
        assert_eq!(all.tunnel(3, true), []);
        let switches: Vec<_> = (0..4).filter_map(|_| all.frame(bd(), NODE, 3)).collect();
        assert_eq!(switches, [Switch { bd: bd(), mac: NODE, from: 1, to: 3 }]);
        assert_eq!(all.frame(bd(), NODE, 1), None);
        // The direct tunnel dies before the board has spoken.
        assert_eq!(all.tunnel(3, false), [Switch { bd: bd(), mac: NODE, from: 3, to: 1 }]);
        all.decided(bd(), NODE);
        assert_eq!(all.tunnel(3, true), []);
        assert_eq!((0..9).find_map(|_| all.frame(bd(), NODE, 3)), None);
    }

    #[test]
    fn a_snapshot_decides_about_all_nodes() {
        let mut all = CutOvers::default();
        all.moved(bd(), 1, &report(7, 3), 1, true);
        assert!((0..3).find_map(|_| all.frame(bd(), NODE, 3)).is_some());
        all.all_decided();
        assert_eq!(all.tunnel(3, false), [], "the old host may redirect no more");
    }

    #[test]
    fn only_the_host_that_is_sent_to_can_report() {
        let mut all = CutOvers::default();
        assert_eq!(all.moved(bd(), 2, &report(7, 3), 1, true), None);
        assert_eq!((0..9).find_map(|_| all.frame(bd(), NODE, 3)), None);
        assert_eq!(all.moved(bd(), 1, &report(7, 3), 1, true), None, "it is there already");
        assert!((0..3).find_map(|_| all.frame(bd(), NODE, 3)).is_some());
    }

    #[test]
    fn a_report_is_repeated_for_ten_seconds() {
        let mut all = CutOvers::default();
        all.left(500, report(7, 3));
        let mut sent = Vec::new();
        for now_ms in (500..20_000).step_by(10) {
            while let Some(moved) = all.next_report(now_ms) {
                assert_eq!(moved, report(7, 3));
                sent.push(now_ms);
            }
        }
        assert_eq!(sent, [500, 550, 700, 1500, 3500, 10_500]);
        assert_eq!(all.next_timeout(), None);
        all.left(30_000, report(8, 2));
        all.left(30_020, report(9, 3));
        assert_eq!(
            (all.next_report(30_020), all.next_report(30_020)),
            (Some(report(9, 3)), None),
            "the newest"
        );
        assert_eq!(all.next_timeout(), Some(30_070));
    }
}

//! The frames sent and received, by flow: from one front end to another. Enters: sequence numbers. Leaves: how many
//! frames were lost, duplicated and reordered, by front end and in sum.

use std::collections::HashMap;
use std::ops::{AddAssign, Sub};

use serde::Serialize;
use stopover_guest_tools::sequence::SequenceTracker;

/// Counters of frames. Those of a front end count what it sent, and what it should have received.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Frames put into the sender's ring.
    pub sent: u64,
    /// Frames that arrived, without copies.
    pub received: u64,
    /// Frames that did not arrive, of those that were sent to here.
    pub lost: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Frames that arrived after a later one.
    pub reordered: u64,
    /// Frames that arrived where they were not sent to, or in no flow.
    pub astray: u64,
    /// Frames whose length or checksum was wrong.
    pub damaged: u64,
    /// Frames that are not of this program.
    pub foreign: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, more: Self) {
        self.sent += more.sent;
        self.received += more.received;
        self.lost += more.lost;
        self.duplicated += more.duplicated;
        self.reordered += more.reordered;
        self.astray += more.astray;
        self.damaged += more.damaged;
        self.foreign += more.foreign;
    }
}

impl Sub for Count {
    type Output = Self;

    /// What was counted since `before`. A late frame can make `lost` less than before; that is 0.
    fn sub(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            received: self.received - before.received,
            lost: self.lost.saturating_sub(before.lost),
            duplicated: self.duplicated - before.duplicated,
            reordered: self.reordered - before.reordered,
            astray: self.astray - before.astray,
            damaged: self.damaged - before.damaged,
            foreign: self.foreign - before.foreign,
        }
    }
}

/// A front end's number; it keeps it when it is removed and added again.
pub type Number = usize;

#[derive(Debug)]
struct Flow {
    from: Number,
    to: Number,
    sent: u32,
    arrived: SequenceTracker,
}

/// All flows since the start.
#[derive(Debug, Default)]
pub struct Flows {
    flows: Vec<Flow>,
    numbers: HashMap<(Number, Number), u32>,
    /// Beside the flows: what arrived at each front end and is in no flow to it.
    others: Vec<Count>,
}

impl Flows {
    /// The number of the flow between two front ends.
    pub fn between(&mut self, from: Number, to: Number) -> u32 {
        let next = self.flows.len() as u32;
        *self.numbers.entry((from, to)).or_insert_with(|| {
            self.flows.push(Flow { from, to, sent: 0, arrived: SequenceTracker::default() });
            next
        })
    }

    /// The sequence number of a flow's next frame.
    #[inline]
    pub fn next(&self, flow: u32) -> u32 {
        self.flows.get(flow as usize).map_or(0, |flow| flow.sent)
    }

    /// The next frame of a flow is sent.
    #[inline]
    pub fn sent(&mut self, flow: u32) {
        if let Some(flow) = self.flows.get_mut(flow as usize) {
            flow.sent += 1;
        }
    }

    /// A frame of a flow arrives.
    #[inline]
    pub fn arrived(&mut self, flow: u32, sequence: u32, at: Number) {
        let flow = self.flows.get_mut(flow as usize).filter(|flow| flow.to == at && sequence < flow.sent);
        if !flow.is_some_and(|flow| flow.arrived.record(u64::from(sequence))) {
            self.other(at).astray += 1;
        }
    }

    /// Counters of a front end beside its flows.
    pub fn other(&mut self, at: Number) -> &mut Count {
        if self.others.len() <= at {
            self.others.resize(at + 1, Count::default());
        }
        &mut self.others[at]
    }

    /// The counters of the first `front_ends` front ends.
    pub fn by_front_end(&self, front_ends: usize) -> Vec<Count> {
        let mut counts = vec![Count::default(); front_ends];
        for (count, other) in counts.iter_mut().zip(&self.others) {
            *count = *other;
        }
        for flow in &self.flows {
            if let Some(from) = counts.get_mut(flow.from) {
                from.sent += u64::from(flow.sent);
            }
            if let Some(to) = counts.get_mut(flow.to) {
                to.received += flow.arrived.received;
                to.lost += u64::from(flow.sent) - flow.arrived.received;
                to.duplicated += flow.arrived.duplicated;
                to.reordered += flow.arrived.reordered;
            }
        }
        counts
    }

    /// The sum of all.
    pub fn total(&self) -> Count {
        let ends = self.flows.iter().map(|flow| flow.from.max(flow.to) + 1);
        let all = ends.max().unwrap_or(0).max(self.others.len());
        self.by_front_end(all).into_iter().fold(Count::default(), |mut sum, count| {
            sum += count;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_counted_at_both_ends() {
        let mut flows = Flows::default();
        let (ab, ba) = (flows.between(0, 1), flows.between(1, 0));
        assert_eq!((ab, ba, flows.between(0, 1)), (0, 1, 0));
        for n in 0..5 {
            assert_eq!(flows.next(ab), n);
            flows.sent(ab);
        }
        flows.sent(ba);
        for sequence in [0, 2, 1, 1] {
            flows.arrived(ab, sequence, 1);
        }
        flows.arrived(ba, 0, 0);
        flows.other(1).foreign += 1;
        let counts = flows.by_front_end(2);
        assert_eq!(counts[0], Count { sent: 5, received: 1, ..Count::default() });
        let b = Count {
            sent: 1,
            received: 3,
            lost: 2,
            duplicated: 1,
            reordered: 1,
            foreign: 1,
            ..Count::default()
        };
        assert_eq!(counts[1], b);
        let mut sum = counts[0];
        sum += b;
        assert_eq!(flows.total(), sum);
    }

    #[test]
    fn frames_that_are_not_for_here_are_astray() {
        let mut flows = Flows::default();
        let ab = flows.between(0, 1);
        flows.sent(ab);
        flows.arrived(ab, 0, 2);
        flows.arrived(ab, 1, 1);
        flows.arrived(9, 0, 1);
        assert_eq!(flows.by_front_end(3).iter().map(|c| c.astray).collect::<Vec<_>>(), [0, 2, 1]);
        assert_eq!(flows.total(), Count { sent: 1, lost: 1, astray: 3, ..Count::default() });
    }

    #[test]
    fn a_difference_has_no_negative_losses() {
        let before = Count { sent: 5, received: 3, lost: 2, ..Count::default() };
        let now = Count { sent: 8, received: 8, lost: 0, ..Count::default() };
        assert_eq!(now - before, Count { sent: 3, received: 5, ..Count::default() });
    }
}

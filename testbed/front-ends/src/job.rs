//! A `send`: frames of several flows at a constant rate. Enters: the time. Leaves: bursts that are due, and a report.

use std::time::Instant;

use stopover_guest_tools::pace::Pace;

use crate::command::{Send, Sent};
use crate::flows::{Count, Number};
use crate::frame::Template;

/// The clock of a job has nanoseconds.
const HZ: u64 = 1_000_000_000;
/// How long a job waits for its last frames after the last arrival.
const TAIL_NS: u64 = 20_000_000;

/// A flow of a job.
pub struct JobFlow {
    /// The front end that sends.
    pub from: Number,
    /// Its number.
    pub flow: u32,
    /// Its frames.
    pub template: Template,
}

/// What a job does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A burst of this flow is due.
    Burst(usize),
    /// Nothing is due.
    Wait,
    /// It has sent all, and waited for the last frames.
    End,
}

/// A job in progress.
pub struct Job {
    /// Its flows, which send in turn.
    pub flows: Vec<JobFlow>,
    /// Frames of a burst.
    pub burst: u16,
    /// Frames that found the sender's ring full.
    pub refused: u64,
    /// Frames that a sender could not send because it is no more.
    pub absent: u64,
    began: Instant,
    pace: Pace,
    end_ns: u64,
    next: usize,
    last_arrival_ns: u64,
    before: Count,
    round_ns: u64,
    longest_ns: u64,
    idle_ns: u64,
}

impl Job {
    /// Begins now. `before` is what was counted before it.
    pub fn new(send: &Send, flows: Vec<JobFlow>, before: Count) -> Self {
        Self {
            flows,
            burst: send.burst,
            refused: 0,
            absent: 0,
            began: Instant::now(),
            pace: Pace::new(0, HZ, send.pps / f64::from(send.burst), 1).with_backlog(send.backlog),
            end_ns: send.seconds.map_or(u64::MAX, |s| (s * HZ as f64) as u64),
            next: 0,
            last_arrival_ns: 0,
            before,
            round_ns: 0,
            longest_ns: 0,
            idle_ns: 0,
        }
    }

    /// The time since its begin.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Sends no more.
    pub fn stop(&mut self) {
        self.end_ns = self.end_ns.min(self.now_ns());
    }

    /// What is to be done at a time.
    #[inline]
    pub fn step(&mut self, now_ns: u64) -> Step {
        if now_ns >= self.end_ns {
            let quiet = now_ns - self.last_arrival_ns.max(self.end_ns).min(now_ns);
            return if quiet > TAIL_NS { Step::End } else { Step::Wait };
        }
        if self.pace.due(now_ns) == 0 {
            return Step::Wait;
        }
        let flow = self.next;
        self.next = if flow + 1 == self.flows.len() { 0 } else { flow + 1 };
        Step::Burst(flow)
    }

    /// A round over all rings began at `began_ns`, ends at a time, and has received and sent so many frames.
    #[inline]
    pub fn round(&mut self, now_ns: u64, received: usize, sent: usize) {
        let took = now_ns - self.round_ns.min(now_ns);
        self.round_ns = now_ns;
        if received > 0 {
            self.last_arrival_ns = now_ns;
        }
        if now_ns < self.end_ns {
            self.longest_ns = self.longest_ns.max(took);
            if received + sent == 0 {
                self.idle_ns += took;
            }
        }
    }

    /// What became of its frames.
    pub fn report(&self, after: Count) -> Sent {
        let seconds = self.end_ns.min(self.now_ns()) as f64 / HZ as f64;
        let count = after - self.before;
        Sent {
            count,
            seconds,
            pps: count.sent as f64 / seconds.max(1e-9),
            refused: self.refused,
            skipped: self.pace.skipped * u64::from(self.burst) + self.absent,
            longest_round_us: self.longest_ns as f64 / 1e3,
            spare_percent: 100.0 * self.idle_ns as f64 / (seconds.max(1e-9) * HZ as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Station;
    use std::net::Ipv4Addr;

    fn job(pps: f64, burst: u16, seconds: Option<f64>) -> Job {
        let send = Send { flows: Vec::new(), pps, seconds, burst, backlog: 8, size: 60, unfinished: false };
        let station = Station { mac: [2; 6], ip: Ipv4Addr::LOCALHOST };
        let flow =
            |flow| JobFlow { from: 0, flow, template: Template::new(station, station, flow, 60, false) };
        Job::new(&send, vec![flow(0), flow(1), flow(2)], Count::default())
    }

    #[test]
    fn bursts_are_due_at_equal_distances_and_flows_take_turns() {
        let mut job = job(1e6, 10, Some(40e-6)); // a burst every 10 us
        let steps: Vec<_> = (0..50).map(|us| job.step(us * 1000)).collect();
        for (us, step) in steps.iter().enumerate() {
            let expected = match us {
                0 => Step::Burst(0),
                10 => Step::Burst(1),
                20 => Step::Burst(2),
                30 => Step::Burst(0),
                _ => Step::Wait,
            };
            assert_eq!(*step, expected, "{us}");
        }
    }

    #[test]
    fn it_ends_when_no_frame_has_arrived_for_a_while() {
        let mut job = job(1e6, 10, Some(1e-3));
        job.round(1_000_000, 0, 0);
        assert_eq!(job.step(1_000_001), Step::Wait);
        job.round(15_000_000, 3, 0);
        assert_eq!(job.step(15_000_000 + TAIL_NS), Step::Wait);
        assert_eq!(job.step(15_000_001 + TAIL_NS), Step::End);
    }

    #[test]
    fn a_report_has_the_difference_and_what_was_not_sent() {
        let mut job = job(1e6, 10, Some(1e-9));
        job.refused = 3;
        job.absent = 4;
        let report = job.report(Count { sent: 5, received: 4, lost: 1, ..Count::default() });
        assert_eq!((report.count.sent, report.count.lost, report.refused, report.skipped), (5, 1, 3, 4));
    }
}

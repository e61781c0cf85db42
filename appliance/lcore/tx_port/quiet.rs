//! Whether a transmit queue has passed on what it was given, so that nothing given to another queue of the port can
//! overtake it: a guest empties its rings one after another. Asked before a receive queue moves to another lcore, which
//! sends through other queues, and before an end marker lets other lcores send. Enters: the queue's buffers, what its
//! device knows. Leaves: yes or no, also to other lcores that hand frames over.

use super::{OwnQueue, STUCK_MS};
use crate::migration::markers::{Ahead, RingPosition};
use dpdk::TxQueue;

/// A guest that does not report what it has taken polls its rings. It has taken all after so long without a frame.
const POLLS_US: u64 = 100;
/// A guest that takes nothing for so long does not run.
const HANGS_US: u64 = 1_500_000;

/// When a guest was last seen to take something. It is looked at only while it is waited for.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// See [`TxQueue::progress`].
    seen: u32,
    /// TSC of the first look that saw this.
    at: u64,
}

impl Progress {
    /// After a look at `now`.
    const fn after(self, seen: u32, now: u64) -> Self {
        if self.seen == seen { self } else { Self { seen, at: now } }
    }
}

impl OwnQueue {
    /// Whether nothing waits here for the device; with `to_the_end`, whether this queue is past, too.
    #[cold]
    #[must_use]
    pub fn is_quiet(&self, now: u64, to_the_end: bool) -> bool {
        let is_empty = self.may_replay() && self.tx_hold.as_ref().is_none_or(|tx_hold| tx_hold.is_empty());
        is_empty && (!to_the_end || self.is_past(now))
    }

    /// What is here that something in another queue of the port could overtake. `sent`: how many frames were sent through
    /// here so far.
    #[cold]
    #[must_use]
    pub fn ahead(&self, sent: u64, now: u64) -> Option<Ahead> {
        let waiting = self.backlog.len() + self.staged.len();
        if self.is_apart && waiting > 0 {
            return Some(Ahead::Device(sent + waiting as u64));
        }
        (!self.is_past(now)).then(|| Ahead::Guest(self.place(now)))
    }

    /// What of that is still here.
    #[cold]
    #[must_use]
    pub fn still_ahead(&self, ahead: Ahead, sent: u64, now: u64) -> Option<Ahead> {
        match ahead {
            Ahead::Device(until) if !is_given(until, sent, !self.may_replay()) => Some(ahead),
            // Later frames may have been given with them. To wait for those, too, is harmless.
            Ahead::Device(_) => (!self.is_past(now)).then(|| Ahead::Guest(self.place(now))),
            Ahead::Guest(place) => (!self.has_reached(place, now)).then_some(ahead),
        }
    }

    /// Whether nothing in another queue of the port can overtake what the device has been given.
    #[cold]
    #[must_use]
    pub fn is_past(&self, now: u64) -> bool {
        !self.is_apart || self.is_delivered(None, self.given_at, now)
    }

    /// Whether the guest has taken what was given before `place`, or all: at `since`.
    fn is_delivered(&self, place: Option<u16>, since: u64, now: u64) -> bool {
        // A device that is reset has nothing left to send.
        let Some(queue) = &self.queue else { return true };
        match queue.has_delivered(place) {
            Some(true) => true,
            Some(false) => {
                let progressed = self.progress.get().after(queue.progress(), now);
                self.progress.set(progressed);
                self.us(since, now).min(self.us(progressed.at, now)) > HANGS_US
            }
            None => self.us(since, now) > POLLS_US,
        }
    }

    fn us(&self, since: u64, now: u64) -> u64 {
        now.wrapping_sub(since) / (self.stuck_cycles / (STUCK_MS * 1000)).max(1)
    }

    /// The place behind the last frame that the device was given.
    fn place(&self, now: u64) -> RingPosition {
        RingPosition { given: self.queue.as_ref().map_or(0, TxQueue::given), since: now }
    }

    /// Whether nothing in another queue of the port can overtake the frames before this place.
    fn has_reached(&self, place: RingPosition, now: u64) -> bool {
        self.is_delivered(Some(place.given), place.since, now)
    }

    /// Answers other lcores that asked, if this one can: see [`HandoffRing`](crate::lcore::handover::HandoffRing).
    #[inline]
    pub fn answer(&mut self, now: u64) {
        if self.asked {
            self.asked = !self.handoff.as_ref().is_none_or(|ring| ring.answer(|| self.is_quiet(now, true)));
        }
    }
}

/// Whether the frames that end with the one of number `until` were given to the device, or dropped; `waits`: some frames
/// wait before it. Dropped ones are not in `sent`, but then all that wait are dropped.
const fn is_given(until: u64, sent: u64, waits: bool) -> bool {
    !waits || sent >= until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_given_when_as_many_were_sent_or_none_waits() {
        assert!(!is_given(130, 100, true) && !is_given(130, 129, true));
        assert!(is_given(130, 130, true) && is_given(130, 140, true), "later frames may wait");
        assert!(is_given(130, 100, false), "the backlog was dropped");
    }

    #[test]
    fn progress_is_when_a_guest_was_first_seen_at_a_place() {
        let mut progress = Progress::default();
        for (seen, now, at) in [(7, 100, 100), (7, 200, 100), (8, 300, 300), (8, 900, 300), (7, 901, 901)] {
            progress = progress.after(seen, now);
            assert_eq!((progress.seen, progress.at), (seen, at));
        }
    }
}

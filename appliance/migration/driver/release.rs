//! When the hold of a vif's port ends. A VM that has just arrived runs slowly at first, so frames that its ring does
//! not accept yet are held for a while longer. But not without end: a VM that accepts nothing is treated as any other
//! such VM. Enters: what waits and what was delivered, as read now. Leaves: the mode to set. Pure.

use crate::migration::tx_hold::HoldMode;

/// How long a vif's ring must have accepted everything before its hold ends, in milliseconds.
const RELEASE_AFTER_MS: u64 = 2_000;

/// A port whose hold ends.
#[derive(Debug)]
pub(super) struct Release {
    /// The port.
    pub port: u16,
    /// How many end markers of our own lcores are still to arrive, and until when they are waited for: frames that
    /// the lcores looked up while the node was here are in front of them, in bursts and hand-over rings.
    pub markers: Option<(u32, u64)>,
    /// Since when no frame has waited.
    empty_since_ms: Option<u64>,
    /// What had been delivered when that last changed, and when that was.
    taken: Option<((u64, u64), u64)>,
}

impl Release {
    /// For this port; `markers` as in [`Release::markers`].
    pub const fn new(port: u16, markers: Option<(u32, u64)>) -> Self {
        Self { port, markers, empty_since_ms: None, taken: None }
    }

    /// Whether our own end markers, of which `markers` have arrived, are waited for.
    #[must_use]
    pub fn awaits_markers(&self, now_ms: u64, markers: u32) -> bool {
        self.markers.is_some_and(|(all, until_ms)| markers < all && now_ms < until_ms)
    }

    /// The mode to set now, if another. `HoldMode::Off` ends it. `is_empty`: no frame waits; `taken`: changes when a
    /// frame leaves; `hold_ms`: how long frames wait when none does.
    pub fn next_mode(
        &mut self,
        now_ms: u64,
        mode: HoldMode,
        is_empty: bool,
        taken: (u64, u64),
        hold_ms: u64,
    ) -> Option<HoldMode> {
        if is_empty {
            self.taken = None;
            let since = *self.empty_since_ms.get_or_insert(now_ms);
            let done = mode != HoldMode::Hold || now_ms >= since + RELEASE_AFTER_MS;
            return done.then_some(HoldMode::Off);
        }
        self.empty_since_ms = None;
        let since = match self.taken {
            Some((before, since)) if before == taken => since,
            _ => {
                self.taken = Some((taken, now_ms));
                now_ms
            }
        };
        (matches!(mode, HoldMode::Hold | HoldMode::Forward(_)) && now_ms >= since + hold_ms)
            .then_some(HoldMode::Discard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::record::RedirectTarget;

    const HOLD_MS: u64 = 10_000;

    fn look(
        release: &mut Release,
        now_ms: u64,
        mode: HoldMode,
        is_empty: bool,
        taken: u64,
    ) -> Option<HoldMode> {
        release.next_mode(now_ms, mode, is_empty, (taken, 0), HOLD_MS)
    }

    #[test]
    fn hold_ends_once_the_ring_has_accepted_everything_for_a_while() {
        let mut release = Release::new(1, None);
        assert_eq!(look(&mut release, 0, HoldMode::Hold, true, 7), None);
        assert_eq!(look(&mut release, 1_000, HoldMode::Hold, false, 8), None, "it has to start again");
        assert_eq!(look(&mut release, 1_500, HoldMode::Hold, true, 9), None);
        assert_eq!(look(&mut release, 3_499, HoldMode::Hold, true, 9), None);
        assert_eq!(look(&mut release, 3_500, HoldMode::Hold, true, 9), Some(HoldMode::Off));
        let to = HoldMode::Forward(RedirectTarget::Port(2));
        assert_eq!(
            look(&mut Release::new(1, None), 0, to, true, 9),
            Some(HoldMode::Off),
            "everything was sent on"
        );
    }

    #[test]
    fn own_end_markers_are_waited_for_within_a_limit() {
        let release = Release::new(1, Some((3, 1_500)));
        assert!(release.awaits_markers(0, 2) && release.awaits_markers(1_499, 2));
        assert!(!release.awaits_markers(0, 3) && !release.awaits_markers(1_500, 2));
        assert!(!Release::new(1, None).awaits_markers(0, 0));
    }

    #[test]
    fn undeliverable_frames_are_dropped_after_the_hold_time() {
        for mode in [HoldMode::Hold, HoldMode::Forward(RedirectTarget::Host(2))] {
            let mut release = Release::new(1, None);
            assert_eq!(look(&mut release, 0, mode, false, 0), None);
            assert_eq!(look(&mut release, 5_000, mode, false, 42), None, "it accepted one");
            assert_eq!(look(&mut release, 14_999, mode, false, 42), None);
            assert_eq!(look(&mut release, 15_000, mode, false, 42), Some(HoldMode::Discard));
            assert_eq!(look(&mut release, 15_001, HoldMode::Discard, false, 42), None, "the lcores drop it");
            assert_eq!(look(&mut release, 15_002, HoldMode::Discard, true, 42), Some(HoldMode::Off));
        }
    }
}

//! When the outlets of a vif's port go back to normal. A VM that has just come runs slowly at first, so what its ring
//! cannot take yet is kept for a while longer; but not for ever: a VM that takes nothing gets what any VM gets that
//! takes nothing. Enters: what waits and what was delivered, as read now. Leaves: the mode to set. Pure.

use crate::lcore::keeper::Mode;

/// How long a vif's ring must have taken everything before it is treated as any other's again, in milliseconds.
const RELEASE_AFTER_MS: u64 = 2_000;

/// A port whose outlets go back to normal.
#[derive(Debug)]
pub(super) struct Release {
    /// Which.
    pub port: u16,
    /// Since when nothing has waited.
    empty_since_ms: Option<u64>,
    /// When the ring last took a frame (TSC), and when that was first seen here.
    delivered: Option<(u64, u64)>,
}

impl Release {
    /// Of this port.
    pub const fn new(port: u16) -> Self {
        Self { port, empty_since_ms: None, delivered: None }
    }

    /// The mode to set now, if another. `Mode::Off` ends it. `is_empty`: nothing waits; `delivered_tsc`: when the
    /// ring last took a frame; `hold_ms`: how long frames wait for a ring that takes none.
    pub fn look(
        &mut self,
        now_ms: u64,
        mode: Mode,
        is_empty: bool,
        delivered_tsc: u64,
        hold_ms: u64,
    ) -> Option<Mode> {
        if is_empty {
            self.delivered = None;
            let since = *self.empty_since_ms.get_or_insert(now_ms);
            let done = mode != Mode::Keep || now_ms >= since + RELEASE_AFTER_MS;
            return done.then_some(Mode::Off);
        }
        self.empty_since_ms = None;
        let since = match self.delivered {
            Some((at, since)) if at == delivered_tsc => since,
            _ => {
                self.delivered = Some((delivered_tsc, now_ms));
                now_ms
            }
        };
        (mode == Mode::Keep && now_ms >= since + hold_ms).then_some(Mode::Discard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD_MS: u64 = 10_000;

    #[test]
    fn a_ring_that_takes_everything_is_as_any_other_after_a_while() {
        let mut release = Release::new(1);
        assert_eq!(release.look(0, Mode::Keep, true, 7, HOLD_MS), None);
        assert_eq!(release.look(1_000, Mode::Keep, false, 8, HOLD_MS), None, "it has to begin anew");
        assert_eq!(release.look(1_500, Mode::Keep, true, 9, HOLD_MS), None);
        assert_eq!(release.look(3_499, Mode::Keep, true, 9, HOLD_MS), None);
        assert_eq!(release.look(3_500, Mode::Keep, true, 9, HOLD_MS), Some(Mode::Off));
    }

    #[test]
    fn a_ring_that_takes_nothing_is_given_up_after_the_holds_time() {
        let mut release = Release::new(1);
        assert_eq!(release.look(0, Mode::Keep, false, 0, HOLD_MS), None);
        assert_eq!(release.look(5_000, Mode::Keep, false, 42, HOLD_MS), None, "it took one");
        assert_eq!(release.look(14_999, Mode::Keep, false, 42, HOLD_MS), None);
        assert_eq!(release.look(15_000, Mode::Keep, false, 42, HOLD_MS), Some(Mode::Discard));
        assert_eq!(release.look(15_001, Mode::Discard, false, 42, HOLD_MS), None, "the lcores drop it");
        assert_eq!(release.look(15_002, Mode::Discard, true, 42, HOLD_MS), Some(Mode::Off));
    }
}

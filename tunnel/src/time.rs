//! Time as an argument: nothing here reads a clock.

use std::time::Duration;

/// Milliseconds on a clock of the caller that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// So much later; at the end of time if that is beyond it.
    #[must_use]
    pub const fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait.as_millis() as u64))
    }

    /// Whether `wait` has passed since `earlier`.
    #[inline]
    #[must_use]
    pub const fn has_passed(self, earlier: Self, wait: Duration) -> bool {
        self.0 >= earlier.after(wait).0
    }
}

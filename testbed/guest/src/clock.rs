//! Microseconds since this program began, by the machine's monotonic clock. Clocks of two programs differ by a
//! constant, as long as neither machine is paused.

use std::time::{Duration, Instant};

/// A clock that was set to 0 when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins at 0.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    pub fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Sleeps until it shows `us`.
    pub fn sleep_until(self, us: u64) {
        let left = us.saturating_sub(self.us());
        if left > 0 {
            std::thread::sleep(Duration::from_micros(left));
        }
    }
}

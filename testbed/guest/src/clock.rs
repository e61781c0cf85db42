//! Microseconds since the start of the program, by the monotonic clock. The clocks of two programs differ by a constant
//! while neither machine is paused.

use std::time::{Duration, Instant};

/// A clock that starts at 0.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts it.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn as_micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Sleeps until the time is `us`.
    pub fn sleep_until(self, us: u64) {
        let left = us.saturating_sub(self.as_micros());
        if left > 0 {
            std::thread::sleep(Duration::from_micros(left));
        }
    }
}

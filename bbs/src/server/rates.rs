//! How often each caller may call: a token bucket each. Enters: a caller, and the time. Leaves: whether this call is one too
//! many.

use std::{collections::HashMap, time::Duration};

/// Tokens of one call, so that parts of a call can be counted.
const CALL: u64 = 1_000_000;
/// Most callers remembered. When more call within one second, those that are not known share one bucket.
const CALLERS: usize = 65_536;
/// The bucket of all others.
const OTHERS: &str = "";

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled: Duration,
}

/// The buckets. A bucket holds the calls of one second.
#[derive(Debug)]
pub(super) struct Rates {
    per_s: u64,
    callers: HashMap<String, Bucket>,
}

impl Rates {
    pub fn new(per_s: u64) -> Self {
        Self { per_s, callers: HashMap::new() }
    }

    /// Whether `caller` may call at `now`.
    pub fn take(&mut self, now: Duration, caller: &str) -> bool {
        let full = self.per_s * CALL;
        let is_known = self.callers.contains_key(caller);
        if !is_known && self.callers.len() >= CALLERS {
            // A bucket that is full again need not be remembered.
            self.callers.retain(|_, bucket| now.saturating_sub(bucket.filled) < Duration::from_secs(1));
        }
        let key = if is_known || self.callers.len() < CALLERS { caller } else { OTHERS };
        if !self.callers.contains_key(key) {
            self.callers.insert(key.to_owned(), Bucket { tokens: full, filled: now });
        }
        let Some(bucket) = self.callers.get_mut(key) else { return false };
        let passed = u64::try_from(now.saturating_sub(bucket.filled).as_micros()).unwrap_or(u64::MAX);
        bucket.tokens = bucket.tokens.saturating_add(passed.saturating_mul(self.per_s)).min(full);
        bucket.filled = now.max(bucket.filled);
        match bucket.tokens.checked_sub(CALL) {
            Some(rest) => bucket.tokens = rest,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_caller_has_the_calls_of_a_second_and_gets_them_back_in_one() {
        let mut rates = Rates::new(10);
        let taken = |rates: &mut Rates, now, caller| (0..100).filter(|_| rates.take(now, caller)).count();
        assert_eq!(taken(&mut rates, Duration::ZERO, "a"), 10);
        assert_eq!(taken(&mut rates, Duration::ZERO, "b"), 10, "another caller");
        assert_eq!(taken(&mut rates, SECOND / 2, "a"), 5);
        assert_eq!(taken(&mut rates, SECOND / 2, "a"), 0);
        assert_eq!(taken(&mut rates, Duration::ZERO, "a"), 0, "a clock that goes back gives nothing");
        assert_eq!(taken(&mut rates, 100 * SECOND, "a"), 10, "no more than a second's");
    }

    #[test]
    fn many_callers_are_bounded() {
        let mut rates = Rates::new(10);
        let taken = (0..2 * CALLERS).filter(|n| rates.take(Duration::ZERO, &n.to_string())).count();
        assert_eq!(taken, CALLERS + 10, "the others have ten together");
        assert_eq!(rates.callers.len(), CALLERS + 1);
        assert!(rates.take(SECOND, "new"));
        assert_eq!(rates.callers.len(), 1);
    }
}

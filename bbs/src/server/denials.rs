//! Which denied calls are logged. A caller that is denied tries again, perhaps a thousand times a second: it gets one line
//! per reason and interval, with how many more there were. Enters: the text of a denial, and the time. Leaves: whether to
//! log it. Every call is counted elsewhere.

use std::{collections::HashMap, time::Duration};

/// Between two lines of one caller for one reason.
const INTERVAL: Duration = Duration::from_secs(10);
/// Most texts remembered. When more come within one interval, further ones share an entry.
const TEXTS: usize = 1024;
/// The entry of all others.
const OTHERS: &str = "";

#[derive(Debug)]
struct Seen {
    logged: Duration,
    /// Not logged since then.
    silent: u64,
}

/// Texts of denials, of which each names the caller and what it asked for.
#[derive(Debug, Default)]
pub(super) struct Denials {
    seen: HashMap<String, Seen>,
}

impl Denials {
    /// Whether to log `text` at `now`: then with how many like it were not logged since its last line.
    pub fn count(&mut self, now: Duration, text: &str) -> Option<u64> {
        let is_known = self.seen.contains_key(text);
        if !is_known && self.seen.len() >= TEXTS {
            self.seen.retain(|_, seen| now.saturating_sub(seen.logged) < INTERVAL);
        }
        let key = if is_known || self.seen.len() < TEXTS { text } else { OTHERS };
        let Some(seen) = self.seen.get_mut(key) else {
            self.seen.insert(key.to_owned(), Seen { logged: now, silent: 0 });
            return Some(0);
        };
        if now.saturating_sub(seen.logged) < INTERVAL {
            seen.silent += 1;
            return None;
        }
        seen.logged = now;
        Some(std::mem::take(&mut seen.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_text_and_interval_with_the_number_of_the_others() {
        let mut denials = Denials::default();
        assert_eq!(denials.count(Duration::ZERO, "a"), Some(0));
        for n in 0..1000 {
            assert_eq!(denials.count(Duration::from_millis(n), "a"), None);
        }
        assert_eq!(denials.count(Duration::from_secs(1), "b"), Some(0), "another text");
        assert_eq!(denials.count(INTERVAL, "a"), Some(1000));
        assert_eq!(denials.count(INTERVAL, "a"), None);
        assert_eq!(denials.count(2 * INTERVAL, "a"), Some(1));
    }

    #[test]
    fn many_callers_are_bounded_in_memory_and_in_lines() {
        let mut denials = Denials::default();
        let lines = (0..100_000).filter(|n| denials.count(Duration::ZERO, &n.to_string()).is_some()).count();
        assert_eq!(lines, TEXTS + 1);
        assert!(denials.seen.len() <= TEXTS + 1);
        assert_eq!(denials.count(INTERVAL, "new"), Some(0), "older texts make room");
        assert_eq!(denials.seen.len(), 1);
    }
}

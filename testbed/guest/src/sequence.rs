//! The sequence numbers of a stream that have arrived. Exact: one bit per number.

/// Counts the sequence numbers that arrive.
#[derive(Debug, Default)]
pub struct SequenceTracker {
    seen: Vec<u64>,
    /// One more than the highest number that arrived.
    pub end: u64,
    /// Numbers that arrived.
    pub received: u64,
    /// Copies beyond the first.
    pub duplicated: u64,
    /// Numbers that arrived, for the first time, after a higher one.
    pub reordered: u64,
}

/// Higher numbers are refused: the bits would not fit into a guest.
const MOST: u64 = 1 << 28;

impl SequenceTracker {
    /// Allocates room for so many numbers in advance, so that no arrival waits for a reallocation.
    pub fn with_room(numbers: usize) -> Self {
        Self { seen: vec![0; numbers.min(MOST as usize).div_ceil(64)], ..Self::default() }
    }

    /// Counts an arrival. Returns false if the number is refused.
    pub fn record(&mut self, sequence: u64) -> bool {
        if sequence >= MOST {
            return false;
        }
        let (word, bit) = ((sequence / 64) as usize, 1u64 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return true;
        }
        self.seen[word] |= bit;
        self.received += 1;
        if sequence < self.end {
            self.reordered += 1;
        } else {
            self.end = sequence + 1;
        }
        true
    }

    /// How many numbers below the highest have not arrived.
    pub fn missing(&self) -> u64 {
        self.end - self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn counts_lost_duplicated_and_late_numbers() {
        let mut b = SequenceTracker::default();
        for n in [0, 1, 3, 2, 3, 70, 70, 70] {
            assert!(b.record(n));
        }
        assert_eq!((b.received, b.end, b.missing()), (5, 71, 66));
        assert_eq!((b.duplicated, b.reordered), (3, 1));
        assert!(!b.record(MOST));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in prop::collection::vec(0u64..300, 0..400)) {
            let (mut b, mut set, mut late) = (SequenceTracker::default(), BTreeSet::new(), 0);
            for &n in &numbers {
                let highest = set.last().copied();
                if set.insert(n) && highest.is_some_and(|h| n < h) {
                    late += 1;
                }
                b.record(n);
            }
            prop_assert_eq!(b.received, set.len() as u64);
            prop_assert_eq!(b.duplicated, (numbers.len() - set.len()) as u64);
            prop_assert_eq!(b.reordered, late);
            prop_assert_eq!(b.missing(), set.last().map_or(0, |h| h + 1) - set.len() as u64);
        }
    }
}

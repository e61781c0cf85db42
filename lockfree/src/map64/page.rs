//! Listing the map in pieces, between which it may change: in the order of the keys' hashes, which neither growth nor
//! any other change of other entries touches. So an entry that is there throughout is listed exactly once.

use super::{MapWriter, bucket::SLOTS};

/// Slots that one piece scans; it then completes the segment it has reached (at most 28,672).
const AT_ONCE: usize = 1 << 15;

/// One piece of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<T> {
    /// The entries found.
    pub rows: Vec<T>,
    /// Where the next piece begins; `None` when this was the last.
    pub next: Option<u64>,
    /// Slots that were scanned.
    pub scanned: usize,
}

impl<T> Piece<T> {
    /// The same piece with its rows converted, or left out.
    pub fn filter_map<R>(self, make: impl FnMut(T) -> Option<R>) -> Piece<R> {
        Piece {
            rows: self.rows.into_iter().filter_map(make).collect(),
            next: self.next,
            scanned: self.scanned,
        }
    }
}

impl MapWriter {
    /// Entries whose keys are `wanted`, from the hash `from` on: `at_most`, or a few more if hashes are equal,
    /// and fewer if few are wanted. The first piece begins at 0. Its time is bounded, however large the map is.
    pub fn piece(&self, from: u64, at_most: usize, wanted: impl Fn(u64) -> bool) -> Piece<(u64, u64)> {
        let mut found: Vec<(u64, u64, u64)> = Vec::new();
        let (mut at, mut scanned) = (Some(from), 0);
        while let Some(hash) = at.filter(|_| found.len() < at_most && scanned < AT_ONCE) {
            let number = self.directory[(hash >> (64 - self.directory.len().ilog2())) as usize];
            let Some(segment) = &self.segments[number as usize] else { break };
            for (_, key, value) in segment.buckets().iter().flat_map(|bucket| bucket.entries()) {
                let hash = self.shared.hasher.hash(key).0;
                if hash >= from && wanted(key) {
                    found.push((hash, key, value));
                }
            }
            scanned += segment.buckets().len() * SLOTS;
            at = match segment.depth {
                0 => None,
                depth => (segment.prefix as u64 + 1).checked_shl(64 - depth).filter(|end| *end != 0),
            };
        }
        found.sort_unstable();
        if let Some((last, ..)) = found.get(at_most.saturating_sub(1)).filter(|_| found.len() > at_most) {
            at = last.checked_add(1);
            let upto = *last;
            found.retain(|(hash, ..)| *hash <= upto);
        }
        Piece { rows: found.into_iter().map(|(_, key, value)| (key, value)).collect(), next: at, scanned }
    }
}

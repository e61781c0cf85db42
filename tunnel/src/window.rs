//! The replay window of an SA (RFC 4303 section 3.4.3), as a ring of words (RFC 6479). Enters: sequence numbers.
//! Leaves: whether one is new. One receiver owns it: two that share a window would accept what the other has had.
//!
//! The ring has one word more than the window needs, so that the newest frame moves it by whole words, without shifts.

use std::fmt;
use stopover_lockfree::prefetch;

const WORD_BITS: u64 = 64;

/// How far behind the newest frame a frame may come, in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize(u32);

impl WindowSize {
    /// The least that is accepted, and the default.
    pub const LEAST: Self = Self(2048);
    /// For paths of unlike delay.
    pub const MIXED_PATHS: Self = Self(16_384);
    /// The largest.
    pub const MOST: Self = Self(1 << 20);

    /// A window of at least so many frames; `None` below [`WindowSize::LEAST`] or above [`WindowSize::MOST`].
    #[must_use]
    pub const fn new(frames: u32) -> Option<Self> {
        if frames < Self::LEAST.0 || frames > Self::MOST.0 { None } else { Some(Self(frames)) }
    }

    /// Words of the ring: a power of two.
    #[must_use]
    pub const fn words(self) -> usize {
        (self.0.div_ceil(WORD_BITS as u32) + 1).next_power_of_two() as usize
    }

    /// Bytes of the ring.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.words() * size_of::<u64>()
    }
}

/// A sequence number that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It came before.
    Seen,
    /// It is behind the window, zero, or so far ahead that its upper half cannot be known.
    Outside,
}

/// The sequence numbers of an SA that have come.
pub struct ReplayWindow {
    /// One bit a frame: bit `n % 64` of word `n / 64` modulo the length.
    words: Box<[u64]>,
    newest: u64,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    #[must_use]
    pub fn new(size: WindowSize) -> Self {
        Self { words: vec![0; size.words()].into_boxed_slice(), newest: 0 }
    }

    /// How far behind the newest frame a frame may come.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        (self.words.len() as u64 - 1) * WORD_BITS
    }

    /// The newest sequence number so far; 0 if there is none.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// The whole sequence number of which a frame has the lower half (RFC 4303 appendix A2.2): the one that is in the
    /// window, or else ahead of it. Nothing is authenticated yet.
    #[inline]
    pub const fn whole(&self, low: u32) -> Result<u64, Replayed> {
        let high = self.newest >> 32;
        let bottom = self.newest.saturating_sub(self.frames() - 1);
        let same = high << 32 | low as u64;
        // The smallest number with this lower half that is not behind the window.
        let whole = if bottom >> 32 < high && low >= bottom as u32 {
            (high - 1) << 32 | low as u64
        } else if same >= bottom {
            same
        } else if let Some(next) = same.checked_add(1 << 32) {
            next
        } else {
            return Err(Replayed::Outside);
        };
        if whole == 0 { Err(Replayed::Outside) } else { Ok(whole) }
    }

    const fn position(&self, sequence: u64) -> usize {
        (sequence / WORD_BITS) as usize & (self.words.len() - 1)
    }

    /// Has the word of a number brought near, of which the lower half is known.
    #[inline]
    pub fn prefetch(&self, low: u32) {
        if let Some(word) = self.words.get(self.position(u64::from(low))) {
            prefetch(std::ptr::from_ref(word));
        }
    }

    /// Whether a frame of this number is new, before its tag is computed.
    #[inline]
    pub fn check(&self, sequence: u64) -> Result<(), Replayed> {
        if sequence > self.newest {
            return Ok(());
        }
        if sequence == 0 || self.newest - sequence >= self.frames() {
            return Err(Replayed::Outside);
        }
        let word = self.words.get(self.position(sequence)).copied().unwrap_or(u64::MAX);
        if word & 1 << (sequence % WORD_BITS) == 0 { Ok(()) } else { Err(Replayed::Seen) }
    }

    /// Marks the number of a frame whose tag is right. It is checked again, because a frame of the same burst may have
    /// it too.
    #[inline]
    pub fn accept(&mut self, sequence: u64) -> Result<(), Replayed> {
        self.check(sequence)?;
        if sequence > self.newest {
            self.advance(sequence);
        }
        let at = self.position(sequence);
        if let Some(word) = self.words.get_mut(at) {
            *word |= 1 << (sequence % WORD_BITS);
        }
        Ok(())
    }

    /// Clears the words between the newest frame and this one.
    fn advance(&mut self, sequence: u64) {
        let (from, to) = (self.newest / WORD_BITS, sequence / WORD_BITS);
        let fresh = (to - from).min(self.words.len() as u64);
        for word in 0..fresh {
            let at = self.position((to - word) * WORD_BITS);
            if let Some(word) = self.words.get_mut(at) {
                *word = 0;
            }
        }
        self.newest = sequence;
    }
}

impl fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayWindow").field("newest", &self.newest).field("frames", &self.frames()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn sizes_are_at_least_as_asked() {
        for (asked, words) in [(2048, 64), (4032, 64), (4033, 128), (16_384, 512), (1 << 20, 32_768)] {
            let size = WindowSize::new(asked).unwrap();
            assert_eq!((size.words(), size.bytes()), (words, words * 8));
            assert!(ReplayWindow::new(size).frames() >= u64::from(asked));
        }
        assert_eq!((WindowSize::new(2047), WindowSize::new((1 << 20) + 1)), (None, None));
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut window = ReplayWindow::new(WindowSize::LEAST);
        let frames = window.frames();
        assert_eq!(window.check(0), Err(Replayed::Outside));
        assert_eq!(window.accept(1), Ok(()));
        assert_eq!(window.accept(1), Err(Replayed::Seen));
        assert_eq!(window.accept(frames + 1), Ok(()));
        assert_eq!(window.check(1), Err(Replayed::Outside));
        assert_eq!(window.accept(2), Ok(()));
        assert_eq!(window.accept(2), Err(Replayed::Seen));
        assert_eq!(window.accept(u64::MAX), Ok(()));
        assert_eq!(window.accept(u64::MAX), Err(Replayed::Seen));
        assert_eq!(window.accept(u64::MAX - frames + 1), Ok(()));
        assert_eq!(window.check(u64::MAX - frames), Err(Replayed::Outside));
    }

    #[test]
    fn the_upper_half_is_the_nearest_that_is_not_behind() {
        let at = |newest| {
            let mut window = ReplayWindow::new(WindowSize::LEAST);
            window.accept(newest).unwrap();
            move |low| window.whole(low)
        };
        assert_eq!(ReplayWindow::new(WindowSize::LEAST).whole(0), Err(Replayed::Outside));
        assert_eq!(at(5)(6), Ok(6));
        assert_eq!(at(5)(u32::MAX), Ok(u64::from(u32::MAX)));
        let wrapped = at(0x2_0000_0010);
        assert_eq!(wrapped(0x11), Ok(0x2_0000_0011));
        assert_eq!(wrapped(0xffff_ffff), Ok(0x1_ffff_ffff));
        assert_eq!(wrapped(0x8000_0000), Ok(0x2_8000_0000));
        assert_eq!(at(0x1_ffff_ffff)(0), Ok(0x2_0000_0000));
        assert_eq!(at(u64::MAX)(0), Err(Replayed::Outside));
    }

    /// The window in a simple form: all that came, and the newest.
    #[derive(Default)]
    struct Model {
        seen: BTreeSet<u64>,
        newest: u64,
    }

    impl Model {
        fn accept(&mut self, sequence: u64, frames: u64) -> Result<(), Replayed> {
            if sequence == 0 || sequence <= self.newest && self.newest - sequence >= frames {
                return Err(Replayed::Outside);
            }
            if !self.seen.insert(sequence) {
                return Err(Replayed::Seen);
            }
            self.newest = self.newest.max(sequence);
            Ok(())
        }
    }

    /// Steps from the newest number: near, at the edges of the window, and far.
    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![6 => -70i64..70, 2 => -4100i64..-3900, 2 => -5000i64..5000, 1 => 0i64..0x2_0000_0000]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn it_does_as_the_model(
            start in prop_oneof![Just(0u64), 0xffff_f000u64..0x1_0000_1000],
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let mut window = ReplayWindow::new(WindowSize::LEAST);
            let mut model = Model::default();
            if start > 0 {
                window.accept(start).unwrap();
                model.accept(start, window.frames()).unwrap();
            }
            for step in steps {
                let sequence = model.newest.saturating_add_signed(step);
                let before = window.check(sequence);
                let accepted = window.accept(sequence);
                prop_assert_eq!(before, accepted);
                prop_assert_eq!(accepted, model.accept(sequence, window.frames()), "{}", sequence);
                prop_assert_eq!(window.newest(), model.newest);
            }
        }

        #[test]
        fn the_whole_number_is_found_from_its_lower_half(newest in 1u64.., ahead in -4031i64..0x7fff_ffff) {
            let mut window = ReplayWindow::new(WindowSize::LEAST);
            window.accept(newest).unwrap();
            let Some(sequence) = newest.checked_add_signed(ahead).filter(|n| *n > 0) else { return Ok(()) };
            prop_assert_eq!(window.whole(sequence as u32), Ok(sequence));
        }
    }
}

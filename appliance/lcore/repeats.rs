//! Repeats: a flooded frame that arrives from one segment again and again is in a loop. Until the control thread has
//! found and cut the loop ([`crate::control::loops`]), the frame must not multiply. Enters: every frame of a segment
//! port that is to be flooded. Leaves: whether it has arrived too often in a short time. One entry per hash, no
//! allocation.

use crate::tables::packed::Bd;
use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, Hasher};

/// How often the same frame may arrive within one window. Stations that announce themselves repeat a frame:
/// keepalived five times at once, QEMU five times in 400 ms.
const MAX_REPEATS: u32 = 8;
/// The window is a second divided by this: 100 ms.
const WINDOWS_PER_SECOND: u64 = 10;
/// Bytes of a frame that distinguish it from others: headers with identification, checksums and sequence numbers.
const HASHED_BYTES: usize = 256;
/// Frames that are remembered, each in the one entry that its hash selects.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    hash: u64,
    since: u64,
    times: u32,
}

/// What one lcore has flooded recently.
#[derive(Debug)]
pub struct Repeats {
    seen: Box<[Seen]>,
    hasher: DefaultHashBuilder,
    /// TSC cycles in which repetitions are counted.
    window: u64,
}

impl Repeats {
    /// `hz`: the TSC's frequency.
    #[must_use]
    pub fn new(hz: u64) -> Self {
        let seen = vec![Seen::default(); REMEMBERED].into();
        Self { seen, hasher: DefaultHashBuilder::default(), window: hz / WINDOWS_PER_SECOND }
    }

    /// Counts a frame of `len` bytes that begins with `head`, at TSC `now`. Returns whether it has arrived too often.
    pub fn is_repeat(&mut self, port: u16, bd: Bd, head: &[u8], len: usize, now: u64) -> bool {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(u64::from(port) << 48 | u64::from(bd.get()) << 32 | len as u64);
        hasher.write(head.get(..HASHED_BYTES).unwrap_or(head));
        let hash = hasher.finish();
        let Some(seen) = self.seen.get_mut(hash as usize % REMEMBERED) else { return false };
        if seen.hash != hash || now.wrapping_sub(seen.since) > self.window {
            *seen = Seen { hash, since: now, times: 0 };
        }
        seen.times = seen.times.saturating_add(1);
        seen.times > MAX_REPEATS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000;

    #[test]
    fn looping_frame_is_stopped_and_others_are_not() {
        let mut repeats = Repeats::new(HZ);
        let bd = Bd::new(1).unwrap();
        let looping = [7u8; 100];
        let passed = (0..50_000).filter(|now| !repeats.is_repeat(3, bd, &looping, 100, *now)).count();
        assert_eq!(passed, MAX_REPEATS as usize);
        // Frames that differ in one byte, as in a stream with sequence numbers; and the same frame at another port or
        // in another network.
        for n in 0..5000u32 {
            let mut frame = looping;
            frame[60..64].copy_from_slice(&n.to_be_bytes());
            assert!(!repeats.is_repeat(3, bd, &frame, 100, 50_000 + u64::from(n)));
        }
        assert!(!repeats.is_repeat(4, bd, &looping, 100, 56_000));
        assert!(!repeats.is_repeat(3, Bd::new(2).unwrap(), &looping, 100, 56_000));
        assert!(!repeats.is_repeat(3, bd, &looping, 101, 56_000));
    }

    #[test]
    fn occasional_repeats_always_pass() {
        let mut repeats = Repeats::new(HZ);
        let bd = Bd::new(1).unwrap();
        // The same ARP request every second; the same announcement five times every half second.
        for second in 0..100 {
            assert!(!repeats.is_repeat(3, bd, &[1; 60], 60, second * HZ));
            for n in 0..10 {
                assert!(!repeats.is_repeat(3, bd, &[2; 60], 60, second * HZ + n / 5 * HZ / 2));
            }
        }
    }
}

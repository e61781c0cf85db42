//! The stamp: the last 16 bytes of every frame. A DUT adds and removes headers at the beginning of a frame, so the
//! stamp remains at its end.

/// Bytes of a stamp.
pub const LEN: usize = 16;

/// Distinguishes stamped frames from frames of the DUT itself, such as ARP.
const MAGIC: u16 = 0x5709;

/// The stamp of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The time stamp counter at its sending.
    pub tsc: u64,
    /// The sequence number in the trial.
    pub sequence: u32,
    /// The number of the trial; late frames of earlier trials have another one.
    pub trial: u16,
}

impl Stamp {
    /// Writes it over the end of a frame, if that is long enough.
    #[inline]
    pub fn write(self, frame: &mut [u8]) {
        if let Some(tail) = frame.last_chunk_mut::<LEN>() {
            tail[..8].copy_from_slice(&self.tsc.to_le_bytes());
            tail[8..12].copy_from_slice(&self.sequence.to_le_bytes());
            tail[12..14].copy_from_slice(&self.trial.to_le_bytes());
            tail[14..].copy_from_slice(&MAGIC.to_le_bytes());
        }
    }

    /// Reads it from the end of a frame, if that has one.
    #[inline]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, y, z] = frame.last_chunk::<LEN>()?;
        (u16::from_le_bytes([y, z]) == MAGIC).then_some(Self {
            tsc: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            sequence: u32::from_le_bytes([i, j, k, l]),
            trial: u16::from_le_bytes([m, n]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_from_the_end_of_any_frame_and_changes_nothing_else() {
        let stamp = Stamp { tsc: 0x0123_4567_89AB_CDEF, sequence: 0xDEAD_BEEF, trial: 0x1234 };
        for len in [LEN, 60, 1514] {
            let mut frame = vec![7; len];
            stamp.write(&mut frame);
            assert_eq!(Stamp::read(&frame), Some(stamp));
            assert!(frame[..len - LEN].iter().all(|b| *b == 7));
            let tunnelled = [&[9; 50], frame.as_slice()].concat();
            assert_eq!(Stamp::read(&tunnelled), Some(stamp));
        }
    }

    #[test]
    fn is_not_read_from_frames_without_it() {
        assert_eq!(Stamp::read(&[0; 60]), None);
        assert_eq!(Stamp::read(&[0x57; LEN - 1]), None);
        let mut short = [7; LEN - 1];
        Stamp { tsc: 0, sequence: 0, trial: 0 }.write(&mut short);
        assert_eq!(short, [7; LEN - 1]);
    }
}

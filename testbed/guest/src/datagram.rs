//! The layout of a stream's datagram. Integers are in network byte order; zeros pad it to its size.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | `STOG` |
//! | 4..8 | stream |
//! | 8..16 | sequence number, from 0 |
//! | 16..24 | time of sending, in microseconds by the sender's clock |

const MAGIC: [u8; 4] = *b"STOG";
/// The least length of a datagram.
pub const LEN: usize = 24;

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the stream.
    pub stream: u32,
    /// The sequence number.
    pub sequence: u64,
    /// The time of sending.
    pub sent_us: u64,
}

impl Head {
    /// Writes it to `out`.
    pub fn write(&self, out: &mut [u8; LEN]) {
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.stream.to_be_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        out[16..].copy_from_slice(&self.sent_us.to_be_bytes());
    }

    /// Reads it; `None` if this is no datagram of a stream.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; LEN] = bytes.first_chunk()?;
        let (magic, rest) = head.split_first_chunk::<4>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, sent) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC).then_some(Self {
            stream: u32::from_be_bytes(*stream),
            sequence: u64::from_be_bytes(*sequence),
            sent_us: u64::from_be_bytes(sent.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_in_network_byte_order() {
        let mut out = [0; LEN];
        Head { stream: 1, sequence: 2, sent_us: 3 }.write(&mut out);
        assert_eq!(&out, b"STOG\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
    }

    proptest! {
        #[test]
        fn datagram_round_trip(stream: u32, sequence: u64, sent_us: u64, padding in 0usize..100) {
            let head = Head { stream, sequence, sent_us };
            let mut out = [0; LEN];
            head.write(&mut out);
            let mut bytes = out.to_vec();
            bytes.resize(LEN + padding, 0);
            prop_assert_eq!(Head::read(&bytes), Some(head));
            prop_assert_eq!(Head::read(&bytes[..LEN - 1]), None);
            bytes[0] ^= 1;
            prop_assert_eq!(Head::read(&bytes), None);
        }
    }
}

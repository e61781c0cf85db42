//! Messages that come in pieces. Enters: pieces whose first MAC is right. Leaves: whole messages. The room is bounded:
//! the oldest unfinished message makes room for a new one.

use super::datagram::{Message, Piece};
use crate::Millis;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Unfinished messages at most.
const MOST: usize = 256;
/// How long the rest of a message is awaited.
const LIFE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Of {
    from: SocketAddr,
    message: Message,
    sender: u32,
    receiver: u32,
    pieces: u8,
}

#[derive(Debug)]
struct Unfinished {
    of: Of,
    since: Millis,
    parts: Vec<Option<Vec<u8>>>,
    /// Every piece so far had a second MAC that is right.
    proven: bool,
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    /// Every piece had a second MAC that is right: its sender receives at its address.
    pub(super) proven: bool,
}

/// Unfinished messages.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    unfinished: VecDeque<Unfinished>,
}

impl Pieces {
    /// Takes a piece. Returns the message that it makes whole.
    pub(super) fn add(
        &mut self,
        piece: &Piece<'_>,
        from: SocketAddr,
        proven: bool,
        now: Millis,
    ) -> Option<Whole> {
        self.unfinished.retain(|message| !now.has_passed(message.since, LIFE));
        let Piece { message, sender, receiver, pieces, .. } = *piece;
        if pieces == 1 {
            return Some(Whole { bytes: piece.body.to_vec(), proven });
        }
        let of = Of { from, message, sender, receiver, pieces };
        let at = match self.unfinished.iter().position(|message| message.of == of) {
            Some(at) => at,
            None => {
                if self.unfinished.len() >= MOST {
                    self.unfinished.pop_front();
                }
                let parts = vec![None; usize::from(pieces)];
                self.unfinished.push_back(Unfinished { of, since: now, parts, proven: true });
                self.unfinished.len() - 1
            }
        };
        let message = self.unfinished.get_mut(at)?;
        // A piece that comes again takes the place of the one before: a retransmission may have a cookie.
        *message.parts.get_mut(usize::from(piece.number))? = Some(piece.body.to_vec());
        message.proven &= proven;
        if message.parts.iter().any(Option::is_none) {
            return None;
        }
        let whole = self.unfinished.remove(at)?;
        let bytes = whole.parts.into_iter().flatten().flatten().collect();
        Some(Whole { bytes, proven: whole.proven })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(sender: u32, number: u8, body: &[u8]) -> Piece<'_> {
        Piece { message: Message::Initiation, number, pieces: 2, sender, receiver: 0, body }
    }

    #[test]
    fn pieces_of_one_message_in_any_order() {
        let from = "192.0.2.1:1".parse().unwrap();
        let mut pieces = Pieces::default();
        assert_eq!(pieces.add(&piece(1, 1, b"b"), from, true, Millis(0)), None);
        assert_eq!(pieces.add(&piece(2, 0, b"x"), from, true, Millis(0)), None);
        assert_eq!(pieces.add(&piece(1, 1, b"b"), from, true, Millis(0)), None, "it comes again");
        let whole = Whole { bytes: b"ab".to_vec(), proven: true };
        assert_eq!(pieces.add(&piece(1, 0, b"a"), from, true, Millis(0)), Some(whole));
        assert_eq!(pieces.add(&piece(1, 0, b"a"), from, false, Millis(1)), None);
        let whole = pieces.add(&piece(1, 1, b"b"), from, true, Millis(1)).unwrap();
        assert!(!whole.proven, "one piece had no cookie");
        let other = "192.0.2.2:1".parse().unwrap();
        assert_eq!(pieces.add(&piece(2, 1, b"y"), other, true, Millis(2)), None, "of another sender");
        assert_eq!(pieces.add(&piece(2, 1, b"y"), from, true, Millis(5000)), None, "too late");
    }

    #[test]
    fn room_is_bounded() {
        let from = "192.0.2.1:1".parse().unwrap();
        let mut pieces = Pieces::default();
        for sender in 0..1000 {
            assert_eq!(pieces.add(&piece(sender, 0, b"a"), from, true, Millis(0)), None);
        }
        assert_eq!(pieces.unfinished.len(), MOST);
        assert_eq!(pieces.add(&piece(0, 1, b"b"), from, true, Millis(0)), None, "it made room");
        assert!(pieces.add(&piece(999, 1, b"b"), from, true, Millis(0)).is_some());
    }
}

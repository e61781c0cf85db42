//! What the fuzz targets do with arbitrary bytes.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use crate::{Answer, Header, Message, Piece, Record, Step};

/// Bytes as messages of a VMM, each with a first byte that is the number of its descriptors. What is kept of them sets up
/// the same again.
pub fn exercise_messages(mut input: &[u8]) {
    let mut record = Record::default();
    while let Some((fds, rest)) = input.split_first() {
        let Some(header) = rest.first_chunk().and_then(|head| Header::parse(*head).ok()) else { break };
        let Some((bytes, behind)) = rest.split_at_checked(header.total()) else { break };
        input = behind;
        let Ok(message) = Message::parse(bytes, (0..*fds).collect()) else { continue };
        // librte_vhost answers what it is asked.
        let offer = Message::parse(&reply(message.request), Vec::<u8>::new()).unwrap();
        record.sent(message);
        record.replied(&offer);
    }
    check(&record);
}

/// Nine features, or rings.
fn reply(request: u32) -> Vec<u8> {
    [&[request, 5, 8].map(u32::to_ne_bytes).concat()[..], &9_u64.to_ne_bytes()].concat()
}

/// A successor of whoever has the record gets the same, and its successor, too.
pub(crate) fn check<F: Clone + PartialEq + std::fmt::Debug>(record: &Record<F>) {
    let own = |steps: Vec<Step<&F>>| -> Vec<Step<F>> {
        steps.into_iter().map(|Step { message, answer }| Step { message: message.cloned(), answer }).collect()
    };
    let steps = own(record.steps());
    let mut next = Record::default();
    for Step { message, answer } in steps.clone() {
        let request = message.request;
        next.sent(message);
        if answer != Answer::None {
            next.replied(&Message::parse(&reply(request), Vec::<F>::new()).unwrap());
        }
    }
    assert_eq!(next.running(), record.running());
    if record.hindrance().is_none() {
        assert_eq!(next.hindrance(), None);
        let again = own(next.steps());
        let messages =
            |steps: &[Step<F>]| -> Vec<Message<F>> { steps.iter().map(|s| s.message.clone()).collect() };
        // It has seen one answer more: to the last question.
        let earlier = messages(&steps);
        assert_eq!(messages(&again)[again.len() - earlier.len()..][1..], earlier[1..]);
    }
}

/// Bytes as a piece of what a process passes on: two bytes are the number of descriptors and unused.
pub fn exercise_piece(input: &[u8]) {
    let Some((fds, bytes)) = input.split_first() else { return };
    let fds: Vec<u8> = (0..fds % 12).collect();
    match Piece::parse(bytes, fds) {
        Ok(piece) => {
            let (sent, fds) = piece.to_parts();
            assert_eq!(Piece::parse(&sent, fds.into_iter().copied().collect()), Ok(piece));
        }
        Err(e) => assert!(e.to_string().contains("hint: "), "{e}"),
    }
}

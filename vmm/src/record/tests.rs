use super::*;
use crate::exercise::check;

/// A message with descriptors of these names.
fn message(request: u32, payload: &[u8], fds: &[&'static str]) -> Message<&'static str> {
    Message::new(request, payload, fds.to_vec())
}

fn number(request: u32, number: u64, fds: &[&'static str]) -> Message<&'static str> {
    message(request, &number.to_ne_bytes(), fds)
}

fn ring(request: u32, ring: u32, value: u32) -> Message<&'static str> {
    message(request, &[ring, value].map(u32::to_ne_bytes).concat(), &[])
}

fn addresses(ring: u32, at: u8) -> Message<&'static str> {
    let mut payload = vec![at; 40];
    payload[..4].copy_from_slice(&ring.to_ne_bytes());
    message(9, &payload, &[])
}

fn region(request: u32, at: u8, fds: &[&'static str]) -> Message<&'static str> {
    let mut payload = [0; 40];
    payload[8] = at;
    message(request, &payload, fds)
}

/// What QEMU 7.2 sends of a NIC with one pair of rings, with librte_vhost's answers.
fn started() -> Record<&'static str> {
    let mut record = Record::default();
    let mut ask = |request, offered: u64| {
        record.sent(message(request, &[], &[]));
        assert!(record.is_awaited());
        record.replied(&number(request, offered, &[]));
        assert!(!record.is_awaited());
    };
    ask(1, 0x1_7000_8000);
    ask(15, 0x1_0c2b);
    ask(17, 1);
    for message in [
        number(16, 0x1_0c2b, &[]),
        message(21, &[0; 8], &["channel"]),
        message(3, &[], &[]),
        number(13, 0, &["masked"]),
        number(2, 0x1_4000_8000, &[]),
        message(5, &[&1_u32.to_ne_bytes()[..], &[0; 36]].concat(), &["memory"]),
    ] {
        record.sent(message);
    }
    for at in 0..2 {
        for message in [
            ring(8, at, 1024),
            ring(10, at, 0),
            addresses(at, 7),
            number(12, at.into(), &["kick"]),
            number(13, at.into(), &["call"]),
            ring(18, at, 1),
        ] {
            record.sent(message);
        }
    }
    record.sent(number(39, 15, &[]));
    record
}

fn requests(record: &Record<&'static str>) -> Vec<u32> {
    record.steps().iter().map(|step| step.message.request).collect()
}

#[test]
fn a_successor_sets_up_the_same_in_the_order_of_the_protocol() {
    let mut record = started();
    assert_eq!((record.hindrance(), record.running()), (None, vec![0, 1]));
    record.stopped_at(0, 500);
    record.stopped_at(1, 0x8003);
    let rings = [8, 10, 9, 13, 12, 18];
    let expected = [&[1, 3, 15, 16, 17, 21, 2, 5][..], &rings, &rings, &[39, 1]].concat();
    assert_eq!(requests(&record), expected);
    let steps = record.steps();
    assert_eq!(steps[0].answer, Answer::Exactly(0x1_7000_8000));
    assert_eq!(steps[2].answer, Answer::Exactly(0x1_0c2b));
    assert_eq!(steps[4].answer, Answer::Exactly(1));
    assert_eq!(steps[9].message, ring(10, 0, 500).borrowed());
    assert_eq!(steps[15].message, ring(10, 1, 0x8003).borrowed(), "with its wrap counter");
    let fds: Vec<&str> = steps.iter().flat_map(|step| step.message.fds()).map(|fd| **fd).collect();
    assert_eq!(fds, ["channel", "memory", "call", "kick", "call", "kick"], "the masked one was replaced");
    assert_eq!(steps.last().unwrap().answer, Answer::Exactly(0x1_7000_8000));
    assert_eq!(steps.iter().filter(|step| step.answer == Answer::None).count(), steps.len() - 4);
    check(&record);
}

#[test]
fn what_no_longer_holds_is_forgotten() {
    let mut record = started();
    record.sent(ring(11, 0, 0));
    assert!(record.is_awaited());
    record.replied(&ring(11, 0, 500));
    assert_eq!(record.running(), [1]);
    record.sent(ring(8, 0, 256));
    let sizes = |record: &Record<&str>| -> Vec<u32> {
        let steps = record.steps().into_iter().filter(|step| step.message.request == 8);
        steps.filter_map(|step| step.message.ring_state()).map(|(_, size)| size).collect()
    };
    assert_eq!(sizes(&record), [256, 1024]);
    record.sent(message(5, &0_u32.to_ne_bytes(), &[]));
    record.sent(region(37, 1, &["one"]));
    record.sent(region(37, 2, &["two"]));
    record.sent(region(38, 1, &[]));
    let fds: Vec<&str> =
        record.steps().iter().flat_map(|step| step.message.fds().to_vec()).copied().collect();
    assert_eq!(fds, ["channel", "two", "call", "call", "kick"]);
    check(&record);
    record.sent(message(4, &[], &[]));
    assert_eq!(requests(&record), [1, 15, 17, 1], "reset");
    check(&record);
}

#[test]
fn what_is_not_kept_hinders() {
    let hindered = |message| {
        let mut record = started();
        record.sent(message);
        record.hindrance()
    };
    assert_eq!(hindered(number(2, 0x1_4000_8000 | 1 << 26, &[])), Some(Hindrance::Migrates));
    assert_eq!(hindered(number(2, 0x3_4000_8000, &[])), Some(Hindrance::Iommu));
    assert_eq!(hindered(ring(11, 0, 0)), Some(Hindrance::Awaits));
    assert_eq!(hindered(message(28, &[], &[])), Some(Hindrance::Unknown(28)));
    assert_eq!(hindered(region(38, 1, &[])), Some(Hindrance::Unknown(38)), "it is in the table");
    assert_eq!(hindered(number(12, 1, &[])), Some(Hindrance::Unknown(12)), "no descriptor");
    assert_eq!(hindered(message(19, &[0; 8], &[])), None);
    let mut failed = started();
    failed.sent(number(2, 0x1_4000_8000 | 1 << 26, &[]));
    failed.sent(number(2, 0x1_4000_8000, &[]));
    assert_eq!(failed.hindrance(), None, "the migration has failed");
}

/// Requests whose replies never come do not grow without a limit.
#[test]
fn only_so_many_replies_are_awaited() {
    let mut record = Record::<()>::default();
    (0..1000).for_each(|_| record.sent(Message::new(1, &[], Vec::new())));
    assert_eq!(record.awaited.len(), MAX_AWAITED);
    assert_eq!(record.hindrance(), Some(Hindrance::Unknown(1)));
}

#[test]
fn a_reply_is_awaited_where_it_was_negotiated() {
    let needs_reply = |record: &mut Record<&'static str>| {
        let bytes = [2_u32, 9, 8].map(u32::to_ne_bytes).concat();
        let bytes = [&bytes[..], &0_u64.to_ne_bytes()].concat();
        record.sent(Message::parse(&bytes, Vec::new()).unwrap());
        record.is_awaited()
    };
    let mut record = started();
    assert!(needs_reply(&mut record));
    record.replied(&number(2, 0, &[]));
    assert!(!record.is_awaited());
    record.sent(number(16, 0, &[]));
    assert!(!needs_reply(&mut record));
}

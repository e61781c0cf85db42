//! Frames sealed by one side and opened by the other, in bursts: what arrives, and for which reason the rest does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use stopover_tunnel::cipher::{Algorithm, AwsLc, Engine, Failed, SaSecret};
use stopover_tunnel::esp::{self, SequenceBits};
use stopover_tunnel::sa::{
    self, InboundSa, InboundSas, Limits, OpenFrame, Opened, OpenedBy, OutboundSa, OutboundSas, SaCounters,
    SaDrop, SaStats, SealFrame, open_burst, seal_burst,
};
use stopover_tunnel::window::WindowSize;
use stopover_tunnel::{Millis, SaIndex, Spi};

type Key = <AwsLc as Engine>::Key;

fn spi(index: u32, generation: u16) -> Spi {
    Spi::new(SaIndex::new(index).unwrap(), generation)
}

fn secret(byte: u8) -> SaSecret {
    SaSecret::new(Algorithm::Aes128Gcm, &[byte; 16], [byte; 4]).unwrap()
}

fn outbound(limits: Limits, bits: SequenceBits) -> OutboundSas<Key> {
    let mut sas = OutboundSas::new(4);
    let sa = OutboundSa::new(&AwsLc, spi(5, 1), &secret(7), bits, limits, Millis(0)).unwrap();
    assert!(sas.set(2, Some(Box::new(sa))).is_none());
    sas
}

fn inbound(bits: SequenceBits) -> InboundSas<Key> {
    let mut sas = InboundSas::new(16);
    let sa = InboundSa::new(&AwsLc, spi(5, 1), 9, &secret(7), bits, WindowSize::LEAST).unwrap();
    sas.install(Box::new(sa)).unwrap();
    sas
}

/// A buffer with this text and room around it.
fn roomy(text: &[u8]) -> (Vec<u8>, Range<usize>) {
    let buffer = [&[0xaa; esp::HEAD_LEN + 3], text, &[0xaa; esp::TAIL_LEN]].concat();
    (buffer, esp::HEAD_LEN + 3..esp::HEAD_LEN + 3 + text.len())
}

fn seal(sas: &mut OutboundSas<Key>, text: &[u8], now: Millis) -> Result<Vec<u8>, SaDrop> {
    let (mut buffer, at) = roomy(text);
    let mut frames = [SealFrame::new(2, &mut buffer, at)];
    seal_burst(&mut AwsLc, sas, &mut frames, now);
    let range = frames[0].result.clone()?;
    Ok(buffer[range].to_vec())
}

fn open(sas: &mut InboundSas<Key>, datagram: &[u8]) -> Result<(Opened, Vec<u8>), SaDrop> {
    let mut datagram = datagram.to_vec();
    let mut frames = [OpenFrame::new(&mut datagram)];
    open_burst(&mut AwsLc, sas, &mut frames);
    let opened = frames[0].result.clone()?;
    let text = datagram[opened.text.clone()].to_vec();
    Ok((opened, text))
}

#[test]
fn a_burst_arrives_as_it_was() {
    let (mut out, mut into) =
        (outbound(Limits::HANDSHAKE, SequenceBits::Extended), inbound(SequenceBits::Extended));
    let texts: Vec<Vec<u8>> = (0..100).map(|n| vec![n; 20 + usize::from(n)]).collect();
    let mut buffers: Vec<_> = texts.iter().map(|text| roomy(text)).collect();
    let mut frames: Vec<_> =
        buffers.iter_mut().map(|(buffer, at)| SealFrame::new(2, buffer, at.clone())).collect();
    seal_burst(&mut AwsLc, &mut out, &mut frames, Millis(5));
    let ranges: Vec<_> = frames.iter().map(|frame| frame.result.clone().unwrap()).collect();
    let mut sealed: Vec<_> =
        buffers.iter().zip(&ranges).map(|((buffer, _), at)| buffer[at.clone()].to_vec()).collect();
    for (datagram, text) in sealed.iter().zip(&texts) {
        assert_eq!(datagram.len(), esp::sealed_len(text.len()));
        assert!(!datagram.windows(12).any(|part| text[..12] == *part), "no text is readable");
    }
    let mut frames: Vec<_> = sealed.iter_mut().map(|datagram| OpenFrame::new(datagram)).collect();
    open_burst(&mut AwsLc, &mut into, &mut frames);
    let opened: Vec<_> = frames.iter().map(|frame| frame.result.clone().unwrap()).collect();
    for (n, (opened, datagram)) in opened.iter().zip(&sealed).enumerate() {
        assert_eq!(
            (opened.spi, opened.peer, opened.sequence, opened.dummy),
            (spi(5, 1), 9, n as u64 + 1, false)
        );
        assert_eq!(datagram[opened.text.clone()], texts[n]);
    }
    let stats = into.get(spi(5, 1)).unwrap().stats();
    assert_eq!((stats.frames, stats.replayed, stats.bad_seal), (100, 0, 0));
    assert_eq!(out.get(2).unwrap().last(), 100);
}

#[test]
fn every_drop_has_its_reason() {
    let (mut out, mut into) =
        (outbound(Limits::HANDSHAKE, SequenceBits::Extended), inbound(SequenceBits::Extended));
    let first = seal(&mut out, b"an inner UDP datagram", Millis(0)).unwrap();
    let reason = |into: &mut InboundSas<Key>, datagram: &[u8]| open(into, datagram).map(|_| ()).unwrap_err();
    for bit in 0..first.len() * 8 {
        let mut forged = first.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            // Some bits of the SPI have one value in all.
            0 if [0, 1, 4].contains(&(bit % 8)) => None,
            0..4 => Some(SaDrop::UnknownSpi),
            // The number 0 is none.
            7 if bit % 8 == 0 => Some(SaDrop::Replayed),
            _ => Some(SaDrop::BadSeal),
        };
        let found = reason(&mut into, &forged);
        assert!(
            expected.is_none_or(|expected| expected == found) || found == SaDrop::NotEsp,
            "bit {bit}: {found}"
        );
    }
    for len in 0..first.len() {
        let found = reason(&mut into, &first[..len]);
        assert!(matches!(found, SaDrop::NotEsp | SaDrop::BadSeal), "{len}: {found}");
    }
    assert_eq!(open(&mut into, &first).unwrap().1, b"an inner UDP datagram", "forgeries moved no window");
    assert_eq!(reason(&mut into, &first), SaDrop::Replayed);
    let stats = into.get(spi(5, 1)).unwrap().stats();
    assert_eq!((stats.frames, stats.replayed), (1, 2));
    assert!(stats.bad_seal > 100);

    let second = seal(&mut out, b"second", Millis(0)).unwrap();
    for _ in 0..5000 {
        seal(&mut out, b"next", Millis(0)).unwrap();
    }
    open(&mut into, &seal(&mut out, b"far", Millis(0)).unwrap()).unwrap();
    assert_eq!(reason(&mut into, &second), SaDrop::Replayed, "behind the window");
    // With another IV its lower half is read as one of the next 2^32.
    let mut other_iv = second.clone();
    other_iv[15] ^= 1;
    assert_eq!(reason(&mut into, &other_iv), SaDrop::BadSeal);
    let mut other = inbound(SequenceBits::Extended);
    other.retire(spi(5, 1)).unwrap();
    assert_eq!(reason(&mut other, &second), SaDrop::UnknownSpi);
}

#[test]
fn a_replay_in_the_same_burst_is_seen() {
    let (mut out, mut into) =
        (outbound(Limits::HANDSHAKE, SequenceBits::Extended), inbound(SequenceBits::Extended));
    let mut first = seal(&mut out, b"once", Millis(0)).unwrap();
    let mut again = first.clone();
    let mut frames = [OpenFrame::new(&mut first), OpenFrame::new(&mut again)];
    open_burst(&mut AwsLc, &mut into, &mut frames);
    assert!(frames[0].result.is_ok());
    assert_eq!(frames[1].result, Err(SaDrop::Replayed));
}

#[test]
fn limits_end_an_sa() {
    let limits = Limits { soft_sequence: 2, hard_sequence: 3, ..Limits::HANDSHAKE };
    let mut out = outbound(limits, SequenceBits::Extended);
    seal(&mut out, b"1", Millis(0)).unwrap();
    assert!(!out.get(2).unwrap().wants_rekey());
    seal(&mut out, b"2", Millis(0)).unwrap();
    assert!(out.get(2).unwrap().wants_rekey());
    seal(&mut out, b"3", Millis(0)).unwrap();
    assert_eq!(seal(&mut out, b"4", Millis(0)), Err(SaDrop::SealExhausted));
    assert_eq!(out.get(2).unwrap().last(), 3);

    let limits = Limits { soft_bytes: 10, hard_bytes: 15, ..Limits::HANDSHAKE };
    let mut out = outbound(limits, SequenceBits::Extended);
    seal(&mut out, &[0; 10], Millis(0)).unwrap();
    assert!(out.get(2).unwrap().wants_rekey());
    assert_eq!(seal(&mut out, &[0; 6], Millis(0)), Err(SaDrop::SealExhausted));
    seal(&mut out, &[0; 5], Millis(0)).unwrap();

    let limits = Limits { hard_age: Duration::from_secs(1), ..Limits::HANDSHAKE };
    let mut out = outbound(limits, SequenceBits::Extended);
    seal(&mut out, b"1", Millis(999)).unwrap();
    assert_eq!(seal(&mut out, b"2", Millis(1000)), Err(SaDrop::SealExhausted));
    assert!(out.set(2, None).is_some());
    assert_eq!(seal(&mut out, b"2", Millis(0)), Err(SaDrop::NoTunnel));
}

#[test]
fn no_room_costs_no_sequence_number() {
    let mut out = outbound(Limits::HANDSHAKE, SequenceBits::Extended);
    for (before, behind, reason) in
        [(esp::HEAD_LEN - 1, esp::TAIL_LEN, SaDrop::NoHeadroom), (esp::HEAD_LEN, 17, SaDrop::NoTailroom)]
    {
        let mut buffer = vec![1; before + 20 + behind];
        let mut frames = [SealFrame::new(2, &mut buffer, before..before + 20)];
        seal_burst(&mut AwsLc, &mut out, &mut frames, Millis(0));
        assert_eq!(frames[0].result, Err(reason));
    }
    assert_eq!(out.get(2).unwrap().last(), 0);
    assert_eq!(out.get(2).unwrap().bytes(), 0);
}

#[test]
fn dummies_and_other_protocols_are_known_after_the_tag() {
    let (mut out, mut into) =
        (outbound(Limits::HANDSHAKE, SequenceBits::Extended), inbound(SequenceBits::Extended));
    for (next_header, expected) in
        [(59, Ok((true, 0))), (17, Ok((false, 6))), (4, Err(SaDrop::BadNextHeader))]
    {
        let (mut buffer, at) = roomy(b"sealed");
        let mut frames = [SealFrame { next_header, ..SealFrame::new(2, &mut buffer, at) }];
        seal_burst(&mut AwsLc, &mut out, &mut frames, Millis(0));
        let range = frames[0].result.clone().unwrap();
        let opened = open(&mut into, &buffer[range]).map(|(opened, text)| (opened.dummy, text.len()));
        assert_eq!(opened, expected);
    }
    assert_eq!(into.get(spi(5, 1)).unwrap().stats().frames, 3);
}

#[test]
fn an_engine_that_fails_sends_nothing() {
    struct Broken;
    impl Engine for Broken {
        type Key = Key;
        fn expand(&self, secret: &SaSecret) -> Result<Key, Failed> {
            AwsLc.expand(secret)
        }
        fn seal(&mut self, _: &Key, _: &[u8; 12], _: &[u8], text: &mut [u8]) -> Result<(), Failed> {
            if text[0] == 1 { Err(Failed) } else { Ok(()) }
        }
        fn open(&mut self, _: &Key, _: &[u8; 12], _: &[u8], _: &mut [u8]) -> Result<(), Failed> {
            Err(Failed)
        }
    }
    let mut out = outbound(Limits::HANDSHAKE, SequenceBits::Extended);
    let mut buffers: Vec<_> = [[0; 8], [1; 8], [0; 8]].iter().map(|text| roomy(text)).collect();
    let mut frames: Vec<_> =
        buffers.iter_mut().map(|(buffer, at)| SealFrame::new(2, buffer, at.clone())).collect();
    frames[0].peer = 3;
    seal_burst(&mut Broken, &mut out, &mut frames, Millis(0));
    let results: Vec<_> = frames.iter().map(|frame| frame.result.clone().err()).collect();
    assert_eq!(results, [Some(SaDrop::NoTunnel), Some(SaDrop::SealFailed), None]);
}

#[test]
fn an_sa_takes_only_its_place() {
    let mut sas = inbound(SequenceBits::Extended);
    let made = |index, generation| {
        let spi = spi(index, generation);
        let sa = InboundSa::new(&AwsLc, spi, 1, &secret(1), SequenceBits::Extended, WindowSize::LEAST);
        Box::new(sa.unwrap())
    };
    assert!(sas.install(made(5, 2)).is_err(), "another generation is there");
    assert!(sas.install(made(16, 0)).is_err(), "no such place");
    assert!(sas.retire(spi(5, 2)).is_none());
    assert_eq!(sas.retire(spi(5, 1)).unwrap().peer(), 9);
    sas.install(made(5, 2)).unwrap();
    assert!(sas.get(spi(5, 1)).is_none() && sas.get(spi(5, 2)).is_some());
    let extra =
        OutboundSa::new(&AwsLc, spi(1, 1), &secret(1), SequenceBits::Extended, Limits::HANDSHAKE, Millis(0));
    assert!(OutboundSas::new(4).set(4, Some(Box::new(extra.unwrap()))).is_some(), "no such place");
}

/// As lcores do it: one frame after another, each on any lcore.
#[test]
fn the_lcore_of_the_first_valid_frame_opens_all() {
    let bits = SequenceBits::Extended;
    let mut out = outbound(Limits::HANDSHAKE, bits);
    let sent: Vec<_> = (0..4u8)
        .map(|n| {
            let (mut buffer, at) = roomy(&[n; 30]);
            let (range, used) = sa::seal(&mut AwsLc, &mut out, 2, (&mut buffer, at), Millis(0)).unwrap();
            assert_eq!(used, spi(5, 1));
            buffer[range].to_vec()
        })
        .collect();
    let counters = Arc::<SaCounters>::default();
    let lcore = || {
        let key = AwsLc.expand(&secret(7)).unwrap();
        let window = (bits, WindowSize::LEAST);
        let sa = InboundSa::with_key(key, [7; 4], (spi(5, 1), 9), window, Arc::clone(&counters));
        let mut sas = InboundSas::new(16);
        sas.install(Box::new(sa)).unwrap();
        sas
    };
    let mut lcores = [lcore(), lcore()];
    let mut open = |lcore: u32, datagram: &[u8]| {
        let mut datagram = datagram.to_vec();
        let result = sa::open(&mut AwsLc, &mut lcores[lcore as usize], lcore, &mut datagram);
        result.map(|by| (by, datagram))
    };
    let mut forged = sent[0].clone();
    forged[40] ^= 1;
    assert_eq!(open(0, &forged).unwrap_err(), SaDrop::BadSeal);
    assert_eq!(counters.owner(), None, "a forged frame claims nothing");
    let (by, opened) = open(1, &sent[0]).unwrap();
    let OpenedBy::Here(facts) = by else { panic!("{by:?}") };
    assert_eq!((facts.peer, facts.sequence, &opened[facts.text]), (9, 1, &[0; 30][..]));
    assert_eq!(counters.owner(), Some(1));
    assert_eq!(open(0, &sent[1]).unwrap(), (OpenedBy::Other(1), sent[1].clone()), "handed over as it was");
    assert_eq!(open(0, &sent[0]).unwrap().0, OpenedBy::Other(1), "no second window");
    assert!(matches!(open(1, &sent[1]).unwrap().0, OpenedBy::Here(_)));
    assert_eq!(open(1, &sent[0]).unwrap_err(), SaDrop::Replayed);
    assert_eq!(counters.read(), SaStats { frames: 2, bytes: 64, replayed: 1, bad_seal: 1 });
}

/// A key as ipsec-mb has it.
#[repr(align(64))]
struct LargeKey(#[expect(dead_code, reason = "only its size counts")] [u8; 1008]);

/// Mission: 10,000 peers, two lcores, a window of 2,048, at most 180 MB while all rekey.
#[test]
fn ten_thousand_peers_have_room_while_all_rekey() {
    const PEERS: usize = 10_000;
    const LCORES: usize = 2;
    // Each lcore sends with one SA per peer and receives by one per lcore of the peer; of each the old and the new one.
    let inbound = PEERS * LCORES * 2 * (size_of::<InboundSa<LargeKey>>() + WindowSize::LEAST.bytes());
    let outbound = PEERS * LCORES * 2 * size_of::<OutboundSa<LargeKey>>();
    let tables =
        LCORES * (InboundSas::<LargeKey>::table_bytes(PEERS * LCORES * 2) + PEERS * size_of::<usize>());
    let counters = PEERS * LCORES * 4 * (size_of::<SaCounters>() + 16);
    let megabytes = (inbound + outbound + tables + counters) / 1_000_000;
    println!("inbound {inbound}, outbound {outbound}, tables {tables}, counters {counters}: {megabytes} MB");
    assert!(megabytes <= 180, "{megabytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_order_loss_and_repetition(
        order in prop::collection::vec(0usize..300, 1..600), short: bool,
        lens in prop::collection::vec(0usize..80, 300),
    ) {
        let bits = if short { SequenceBits::Short } else { SequenceBits::Extended };
        let (mut out, mut into) = (outbound(Limits::MANUAL, bits), inbound(bits));
        let sent: Vec<_> = lens.iter().map(|len| seal(&mut out, &vec![0x5a; *len], Millis(0)).unwrap()).collect();
        let mut seen = std::collections::BTreeSet::new();
        for at in order {
            let result = open(&mut into, &sent[at]);
            if seen.insert(at) {
                let (opened, text) = result.unwrap();
                prop_assert_eq!((opened.sequence, text.len()), (at as u64 + 1, lens[at]));
            } else {
                prop_assert_eq!(result.unwrap_err(), SaDrop::Replayed);
            }
        }
        let frames = seen.len() as u64;
        let SaStats { frames: counted, bad_seal, .. } = into.get(spi(5, 1)).unwrap().stats();
        prop_assert_eq!((counted, bad_seal), (frames, 0));
    }

    #[test]
    fn no_bytes_are_opened_without_a_key(mut datagram in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut into = inbound(SequenceBits::Extended);
        if let Some(head) = datagram.first_chunk_mut() {
            *head = spi(5, 1).bits().to_be_bytes();
        }
        prop_assert!(open(&mut into, &datagram).is_err());
    }
}

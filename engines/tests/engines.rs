//! Each engine gives the known answers, and all give the same on any text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use proptest::prelude::*;
use stopover_engines::{AnyEngine, IpsecMb, KeyMemory};
use stopover_tunnel::cipher::{Algorithm, AwsLc, Engine, Failed, SaSecret, answers};
use stopover_tunnel::esp::{SequenceBits, TAG_LEN};
use stopover_tunnel::sa::{
    InboundSa, InboundSas, Limits, OpenFrame, OutboundSa, OutboundSas, SealFrame, open_burst, seal_burst,
};
use stopover_tunnel::window::WindowSize;
use stopover_tunnel::{Millis, SaIndex, Spi, esp};

/// `None` on a machine without AES instructions. There the appliance uses the portable engine, and so do the tests.
fn ipsec_mb() -> Option<IpsecMb> {
    IpsecMb::new(&KeyMemory::new()).inspect_err(|error| println!("{error}")).ok()
}

fn secret(algorithm: Algorithm, key: &[u8; 32]) -> SaSecret {
    SaSecret::new(algorithm, &key[..algorithm.key_len()], [1, 2, 3, 4]).unwrap()
}

#[test]
fn ipsec_mb_gives_the_known_answers() {
    let Some(engine) = ipsec_mb() else { return };
    println!("ipsec-mb uses {}", engine.instructions());
    answers::wycheproof(engine);
    answers::scapy(ipsec_mb().unwrap());
    answers::every_bit(ipsec_mb().unwrap());
    answers::truncated(ipsec_mb().unwrap());
}

#[test]
fn either_choice_gives_the_known_answers() {
    let (engine, portable) = AnyEngine::new(&KeyMemory::new());
    assert_eq!(
        (engine.name(), portable.is_some()),
        match ipsec_mb() {
            Some(_) => ("ipsec-mb", false),
            None => ("aws-lc", true),
        }
    );
    answers::wycheproof(engine);
    answers::truncated(AnyEngine::new(&KeyMemory::new()).0);
    answers::wycheproof(AnyEngine::portable());
    answers::truncated(AnyEngine::portable());
}

#[test]
fn a_key_of_another_engine_is_refused() {
    let (mut engine, portable) = AnyEngine::new(&KeyMemory::new());
    if portable.is_some() {
        return;
    }
    let key = AnyEngine::portable().expand(&secret(Algorithm::Aes128Gcm, &[1; 32])).unwrap();
    let mut text = [0x5a; 40];
    assert_eq!(engine.seal(&key, &[0; 12], &[], &mut text), Err(Failed));
    assert_eq!(engine.open(&key, &[0; 12], &[], &mut text), Err(Failed));
    assert_eq!(text, [0; 40]);
}

/// Seals with both, compares, and opens with the other one.
fn compare(
    one: &mut IpsecMb,
    algorithm: Algorithm,
    (key, nonce, aad): (&[u8; 32], &[u8; 12], &[u8]),
    text: &[u8],
) -> Result<(), TestCaseError> {
    let secret = secret(algorithm, key);
    let (of_one, of_other) = (one.expand(&secret).unwrap(), AwsLc.expand(&secret).unwrap());
    let mut by_one = [text, &[0; TAG_LEN]].concat();
    let mut by_other = by_one.clone();
    one.seal(&of_one, nonce, aad, &mut by_one).unwrap();
    AwsLc.seal(&of_other, nonce, aad, &mut by_other).unwrap();
    prop_assert_eq!(&by_one, &by_other);
    one.open(&of_one, nonce, aad, &mut by_other).unwrap();
    AwsLc.open(&of_other, nonce, aad, &mut by_one).unwrap();
    prop_assert_eq!(&by_one[..text.len()], text);
    prop_assert_eq!(&by_other[..text.len()], text);
    Ok(())
}

#[test]
fn both_engines_agree_on_every_length() {
    let Some(mut engine) = ipsec_mb() else { return };
    let text: Vec<u8> = (0..2049).map(|i| (i * 31 + i / 256) as u8).collect();
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        for len in 0..=2048 {
            let aad = &[0x77; 12][..if len % 2 == 0 { 8 } else { 12 }];
            compare(&mut engine, algorithm, (&[0x42; 32], &[len as u8; 12], aad), &text[..len]).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn both_engines_agree_on_any_text(
        wide: bool, key: [u8; 32], nonce: [u8; 12],
        aad in prop::collection::vec(any::<u8>(), 0..40),
        text in prop::collection::vec(any::<u8>(), 0..2048),
    ) {
        if let Some(mut engine) = ipsec_mb() {
            let algorithm = if wide { Algorithm::Aes256Gcm } else { Algorithm::Aes128Gcm };
            compare(&mut engine, algorithm, (&key, &nonce, &aad), &text)?;
        }
    }

    #[test]
    fn no_engine_opens_a_changed_text(
        wide: bool, key: [u8; 32], nonce: [u8; 12],
        text in prop::collection::vec(any::<u8>(), 0..2048),
        at: prop::sample::Index, flip in 1..=u8::MAX,
    ) {
        let secret = secret(if wide { Algorithm::Aes256Gcm } else { Algorithm::Aes128Gcm }, &key);
        for mut engine in [AnyEngine::new(&KeyMemory::new()).0, AnyEngine::portable()] {
            let key = engine.expand(&secret).unwrap();
            let mut sealed = [&text[..], &[0; TAG_LEN]].concat();
            engine.seal(&key, &nonce, &[1; 12], &mut sealed).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert_eq!(engine.open(&key, &nonce, &[1; 12], &mut sealed), Err(Failed));
            prop_assert!(sealed[..text.len()].iter().all(|byte| *byte == 0));
        }
    }
}

/// One host seals with one engine, and the other opens with the other, in bursts longer than the engines get at once.
#[test]
fn hosts_with_different_engines_understand_each_other() {
    let (mut fast, _) = AnyEngine::new(&KeyMemory::new());
    let mut slow = AnyEngine::portable();
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        carry(&mut fast, &mut slow, algorithm);
        carry(&mut slow, &mut fast, algorithm);
    }
}

fn carry(sender: &mut AnyEngine, receiver: &mut AnyEngine, algorithm: Algorithm) {
    const PEERS: u32 = 5;
    let spi = |peer| Spi::new(SaIndex::new(peer).unwrap(), 3);
    let (mut outbound, mut inbound) = (OutboundSas::new(8), InboundSas::new(8));
    for peer in 0..PEERS {
        let secret = secret(algorithm, &[peer as u8; 32]);
        let (limits, bits) = (Limits::HANDSHAKE, SequenceBits::Extended);
        let sa = OutboundSa::new(sender, spi(peer), &secret, bits, limits, Millis(0)).unwrap();
        assert!(outbound.set(peer, Some(Box::new(sa))).is_none());
        let sa = InboundSa::new(receiver, spi(peer), peer, &secret, bits, WindowSize::LEAST).unwrap();
        inbound.install(Box::new(sa)).unwrap();
    }
    let texts: Vec<Vec<u8>> = (0..200).map(|n| vec![n as u8; 30 + 7 * n]).collect();
    let mut buffers: Vec<Vec<u8>> =
        texts.iter().map(|text| [&[0; esp::HEAD_LEN], &text[..], &[0; esp::TAIL_LEN]].concat()).collect();
    let mut frames: Vec<_> = buffers
        .iter_mut()
        .zip(&texts)
        .enumerate()
        .map(|(n, (buffer, text))| {
            SealFrame::new(n as u32 % PEERS, buffer, esp::HEAD_LEN..esp::HEAD_LEN + text.len())
        })
        .collect();
    seal_burst(sender, &mut outbound, &mut frames, Millis(1));
    let ranges: Vec<_> = frames.iter().map(|frame| frame.result.clone().unwrap()).collect();
    let mut frames: Vec<_> =
        buffers.iter_mut().zip(ranges).map(|(buffer, range)| OpenFrame::new(&mut buffer[range])).collect();
    open_burst(receiver, &mut inbound, &mut frames);
    for (n, (frame, text)) in frames.iter().zip(&texts).enumerate() {
        let opened = frame.result.clone().unwrap();
        assert_eq!(opened.peer, n as u32 % PEERS);
        assert_eq!(frame.datagram[opened.text], text[..]);
    }
}

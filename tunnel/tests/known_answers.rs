//! Known answers for each engine: Project Wycheproof for AES-GCM, scapy for whole ESP datagrams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use stopover_tunnel::Spi;
use stopover_tunnel::cipher::{Algorithm, AwsLc, Engine, SaSecret};
use stopover_tunnel::esp::{self, Aad, Header, SequenceBits, Text};

fn hex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn vectors(text: &str) -> Vec<Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect()
}

fn secret(key: &[u8], salt: &[u8]) -> SaSecret {
    let algorithm = if key.len() == 16 { Algorithm::Aes128Gcm } else { Algorithm::Aes256Gcm };
    SaSecret::new(algorithm, key, salt.try_into().unwrap()).unwrap()
}

fn wycheproof<E: Engine>(mut engine: E) {
    let (mut valid, mut invalid) = (0, 0);
    for vector in vectors(include_str!("../testdata/wycheproof-aes-gcm.txt")) {
        let [key, nonce, aad, text, sealed] = std::array::from_fn(|at| hex(vector[at]));
        let key = engine.expand(&secret(&key, &[0; 4])).unwrap();
        let nonce = nonce.try_into().unwrap();
        let mut buffer = sealed.clone();
        let opened = engine.open(&key, &nonce, &aad, &mut buffer);
        if vector[5] == "valid" {
            valid += 1;
            opened.unwrap();
            assert_eq!(buffer[..text.len()], text);
            buffer[text.len()..].fill(0);
            engine.seal(&key, &nonce, &aad, &mut buffer).unwrap();
            assert_eq!(buffer, sealed, "{vector:?}");
        } else {
            invalid += 1;
            assert!(opened.is_err(), "{vector:?}");
            assert!(buffer[..sealed.len() - 16].iter().all(|byte| *byte == 0), "nothing of it is left");
        }
    }
    assert_eq!((valid, invalid), (43, 54));
}

fn scapy<E: Engine>(mut engine: E) {
    let cases = vectors(include_str!("../testdata/esp.txt"));
    assert!(cases.len() >= 9);
    for case in cases {
        let [key, salt, spi, sequence] = std::array::from_fn(|at| hex(case[at + 1]));
        let (text, datagram) = (hex(case[6]), hex(case[7]));
        let secret = secret(&key, &salt);
        let key = engine.expand(&secret).unwrap();
        let spi = Spi::from_bits(u32::from_be_bytes(spi.try_into().unwrap())).unwrap();
        let sequence = u64::from_be_bytes(sequence.try_into().unwrap());
        let bits = if case[5] == "64" { SequenceBits::Extended } else { SequenceBits::Short };
        let header = Header::of(spi, sequence);
        let aad = Aad::new(spi, sequence, bits);

        let mut buffer = [&[0; esp::HEAD_LEN], &text[..], &[0; esp::TAIL_LEN]].concat();
        let text_at = esp::HEAD_LEN..esp::HEAD_LEN + text.len();
        let range = esp::frame_text(&mut buffer, text_at, header, esp::NEXT_UDP).unwrap();
        let ours = &mut buffer[range];
        let nonce = header.nonce(secret.salt());
        engine.seal(&key, &nonce, aad.as_slice(), &mut ours[esp::HEAD_LEN..]).unwrap();
        assert_eq!(ours, datagram, "{}", case[0]);

        let mut theirs = datagram.clone();
        assert_eq!(Header::new_checked(&theirs), Ok(header));
        engine.open(&key, &nonce, aad.as_slice(), &mut theirs[esp::HEAD_LEN..]).unwrap();
        let opened = &theirs[esp::HEAD_LEN..datagram.len() - esp::TAG_LEN];
        assert_eq!(esp::open_trailer(opened), Ok(Text::Udp(text.len())));
        assert_eq!(opened[..text.len()], text);
    }
}

/// Every bit of a datagram is authenticated, and a wrong one leaves no text.
fn every_bit<E: Engine>(mut engine: E) {
    let secret = secret(&[7; 16], &[1, 2, 3, 4]);
    let key = engine.expand(&secret).unwrap();
    let (nonce, aad) = ([9; 12], [5; 12]);
    let mut sealed = [0x33; 50 + 16];
    engine.seal(&key, &nonce, &aad, &mut sealed).unwrap();
    for bit in 0..(12 + 12 + sealed.len()) * 8 {
        let mut all = [&nonce[..], &aad, &sealed].concat();
        all[bit / 8] ^= 1 << (bit % 8);
        let (nonce, rest) = all.split_first_chunk().unwrap();
        let mut text = rest[12..].to_vec();
        assert!(engine.open(&key, nonce, &rest[..12], &mut text).is_err(), "bit {bit}");
        assert!(text[..50].iter().all(|byte| *byte == 0));
    }
    assert!(engine.open(&key, &nonce, &aad, &mut sealed.clone()).is_ok());
    assert!(engine.open(&key, &nonce, &aad, &mut [0; 15]).is_err());
    assert!(engine.seal(&key, &nonce, &aad, &mut [0; 15]).is_err());
}

#[test]
fn aws_lc_answers_as_wycheproof() {
    wycheproof(AwsLc);
}

#[test]
fn aws_lc_seals_as_scapy() {
    scapy(AwsLc);
}

#[test]
fn aws_lc_authenticates_every_bit() {
    every_bit(AwsLc);
}

#[test]
fn secrets_have_no_text() {
    let secret = SaSecret::new(Algorithm::Aes128Gcm, &[0xab; 16], [0xcd; 4]).unwrap();
    assert_eq!(format!("{secret:?}"), "SaSecret(secret)");
    assert_eq!(format!("{:?}", AwsLc.expand(&secret).unwrap()), "Key(secret)");
    assert_eq!(SaSecret::new(Algorithm::Aes256Gcm, &[0; 16], [0; 4]), None);
}

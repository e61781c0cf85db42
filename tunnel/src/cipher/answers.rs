//! What every engine must do, asserted: the known answers of Project Wycheproof for AES-GCM and of scapy for whole ESP
//! datagrams; every bit is authenticated; the edges of a buffer. Enters: an engine. Leaves: a panic, if it is wrong.
//!
//! Compiled for the unit tests, which run it with the portable engine, and with the feature `exercise` for the tests of
//! the other engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use super::{Algorithm, Engine, SaSecret};
use crate::Spi;
use crate::esp::{self, Aad, Header, SequenceBits, TAG_LEN, Text};

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

/// Those of Project Wycheproof for AES-GCM.
pub fn wycheproof<E: Engine>(mut engine: E) {
    let (mut valid, mut invalid) = (0, 0);
    for vector in vectors(include_str!("../../testdata/wycheproof-aes-gcm.txt")) {
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

/// Those of scapy for ESP, sealed and opened.
pub fn scapy<E: Engine>(mut engine: E) {
    let cases = vectors(include_str!("../../testdata/esp.txt"));
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
pub fn every_bit<E: Engine>(mut engine: E) {
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
    assert!(engine.open(&key, &nonce, &aad, &mut sealed).is_ok());
}

/// Part of a datagram is none, and a buffer without room for a tag is neither sealed nor opened.
pub fn truncated<E: Engine>(mut engine: E) {
    let key = engine.expand(&secret(&[7; 32], &[1, 2, 3, 4])).unwrap();
    let (nonce, aad) = ([9; 12], [5; 8]);
    let mut sealed = [0x33; 70 + TAG_LEN];
    engine.seal(&key, &nonce, &aad, &mut sealed).unwrap();
    for len in 0..sealed.len() {
        let mut part = sealed[..len].to_vec();
        assert!(engine.open(&key, &nonce, &aad, &mut part).is_err(), "{len} bytes");
        let text = len.saturating_sub(TAG_LEN);
        assert!(part[..text].iter().all(|byte| *byte == 0), "nothing of {len} bytes is left");
    }
    for len in 0..TAG_LEN {
        assert!(engine.seal(&key, &nonce, &aad, &mut vec![0; len]).is_err(), "{len} bytes");
    }
    assert!(engine.seal(&key, &nonce, &aad, &mut [0; TAG_LEN]).is_ok(), "no text has a tag, too");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::AwsLc;

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
    fn aws_lc_refuses_truncated_buffers() {
        truncated(AwsLc);
    }

    #[test]
    fn secrets_have_no_text() {
        let secret = SaSecret::new(Algorithm::Aes128Gcm, &[0xab; 16], [0xcd; 4]).unwrap();
        assert_eq!(format!("{secret:?}"), "SaSecret(secret)");
        assert_eq!(format!("{:?}", AwsLc.expand(&secret).unwrap()), "Key(secret)");
        assert_eq!(SaSecret::new(Algorithm::Aes256Gcm, &[0; 16], [0; 4]), None);
    }
}

//! Known answers of Project Wycheproof for what the handshake agrees on keys by: X25519, by both libraries that compute
//! it, and ML-KEM-768.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

fn hex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn vectors(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

#[test]
fn x25519_agrees_as_wycheproof() {
    let (mut count, mut zero) = (0, 0);
    for vector in vectors(include_str!("../testdata/wycheproof-x25519.txt")) {
        let [private, public, shared] = std::array::from_fn(|at| hex(vector[at]));
        let (secret, key): ([u8; 32], [u8; 32]) =
            (private.clone().try_into().unwrap(), public.clone().try_into().unwrap());
        let ours = x25519_dalek::StaticSecret::from(secret).diffie_hellman(&key.into());
        assert_eq!(ours.as_bytes()[..], shared, "{vector:?}");
        assert_eq!(ours.was_contributory(), shared != [0; 32]);

        let mut dh = DefaultResolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        dh.set(&private);
        let mut of_noise = [0; 32];
        dh.dh(&public, &mut of_noise).unwrap();
        assert_eq!(of_noise[..], shared, "{vector:?}");
        count += 1;
        zero += usize::from(shared == [0; 32]);
    }
    assert!(count > 100 && zero > 10, "{count}, {zero} of them with a public key of low order");
}

#[test]
fn ml_kem_768_opens_and_refuses_as_wycheproof() {
    let (mut opened, mut invalid, mut refused) = (0, 0, 0);
    for vector in vectors(include_str!("../testdata/wycheproof-ml-kem-768.txt")) {
        let bytes = |at: usize| hex(vector[at]);
        let secret = || {
            let key = DecapsulationKey::new(&ML_KEM_768, &bytes(1)).ok()?;
            Some(key.decapsulate(bytes(2).as_slice().into()).ok()?.as_ref().to_vec())
        };
        match (vector[0], vector.get(4).copied()) {
            ("open", Some("valid")) => {
                assert_eq!(secret(), Some(bytes(3)));
                opened += 1;
            }
            ("open", _) => {
                assert_eq!(secret(), None, "{}", &vector[1][..20]);
                invalid += 1;
            }
            _ => {
                let sealed = EncapsulationKey::new(&ML_KEM_768, &bytes(1)).ok().map(|key| key.encapsulate());
                assert!(sealed.is_none_or(|sealed| sealed.is_err()), "{} bytes", bytes(1).len());
                refused += 1;
            }
        }
    }
    assert_eq!((opened, invalid, refused), (3, 6, 32));
}

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use rcgen::{DnType, SanType, SignatureAlgorithm};

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn asking(change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.serialize_request(&key(&PKCS_ED25519)).unwrap().der().to_vec()
}

#[test]
fn a_request_is_of_its_key() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = key(algorithm);
        let request = Request::parse(&write(&key).unwrap()).unwrap();
        assert_eq!(request.key().subject_public_key_info(), key.subject_public_key_info());
    }
}

#[test]
fn a_request_that_asks_for_more_is_refused() {
    let name = |p: &mut CertificateParams| p.distinguished_name.push(DnType::CommonName, "hv-b");
    assert_eq!(Request::parse(&asking(name)).unwrap_err(), BadRequest::Asks("a subject"));
    let uri = |p: &mut CertificateParams| {
        p.subject_alt_names = vec![SanType::URI("stopover://operator/mallory".try_into().unwrap())];
    };
    assert_eq!(Request::parse(&asking(uri)).unwrap_err(), BadRequest::Asks("attributes"));
    assert!(Request::parse(&asking(|_| {})).is_ok());
}

#[test]
fn what_is_no_request_is_refused() {
    let right = write(&key(&PKCS_ECDSA_P256_SHA256)).unwrap();
    let refused = |der: &[u8]| Request::parse(der).unwrap_err();
    assert_eq!(refused(&[]), BadRequest::Form("other bytes"));
    assert_eq!(refused(&[right.as_slice(), &[0]].concat()), BadRequest::Form("bytes after the request"));
    assert_eq!(refused(&[0; LONGEST + 1]), BadRequest::Form("more bytes"));
    // A bit of the signature.
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&wrong), BadRequest::Signature);
    // Every cut.
    for length in 0..right.len() {
        assert!(Request::parse(&right[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_key_of_another_kind_is_refused() {
    // `openssl req -new -newkey rsa:2048 -nodes -subj / -outform DER`, in the folder of the fuzz target's inputs.
    let rsa = include_bytes!("../../fuzz/corpus/request/rsa");
    assert_eq!(Request::parse(rsa).unwrap_err(), BadRequest::Key);
}

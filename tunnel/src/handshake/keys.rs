//! The keys of a session: HKDF-SHA256 over Noise's split keys and ML-KEM's secret, with the handshake's hash as salt.
//! So a recording stays closed unless both X25519 and ML-KEM fall.

use crate::cipher::{Algorithm, SaSecret};
use crate::esp::SALT_LEN;
use crate::redacted;
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"stopover tunnel 1";
/// Bytes of the secrets of Noise and ML-KEM together.
const SECRET_LEN: usize = 96;

/// Which side of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    Initiator = 1,
    Responder = 2,
}

impl Role {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// What all keys of a session come from.
pub(super) struct KeySchedule(hkdf::Prk);

redacted!(KeySchedule);

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl KeySchedule {
    /// Of the two split keys, ML-KEM's secret and the handshake's hash.
    pub(super) fn new(split: &([u8; 32], [u8; 32]), kem: &[u8], hash: &[u8]) -> Self {
        let mut secret = Zeroizing::new(Vec::with_capacity(SECRET_LEN));
        secret.extend(split.0.iter().chain(&split.1).chain(kem));
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, hash).extract(&secret))
    }

    fn expand(&self, use_of: &[u8], context: [u8; 3], algorithm: Algorithm) -> Option<SaSecret> {
        let mut bytes = Zeroizing::new(vec![0; algorithm.key_len() + SALT_LEN]);
        let info = [LABEL, use_of, &context];
        self.0.expand(&info, Length(bytes.len())).ok()?.fill(&mut bytes).ok()?;
        let (key, salt) = bytes.split_last_chunk()?;
        SaSecret::new(algorithm, key, *salt)
    }

    /// Of the SA by which a sender queue of this side sends.
    pub(super) fn sa(&self, from: Role, sender_queue: u8, algorithm: Algorithm) -> Option<SaSecret> {
        self.expand(b" esp", [from as u8, sender_queue, algorithm as u8], algorithm)
    }

    /// Of the SAs of all sender queues of this side.
    pub(super) fn sas(&self, from: Role, sender_queues: u8, algorithm: Algorithm) -> Option<Vec<SaSecret>> {
        (0..sender_queues).map(|queue| self.sa(from, queue, algorithm)).collect()
    }

    /// Of the control messages of this side.
    pub(super) fn control(&self, from: Role) -> Option<SaSecret> {
        self.expand(b" control", [from as u8, 0, 0], Algorithm::Aes256Gcm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_use_has_its_key() {
        let split = ([1; 32], [2; 32]);
        let schedule = KeySchedule::new(&split, &[3; 32], &[4; 32]);
        let mut keys = BTreeSet::new();
        for role in [Role::Initiator, Role::Responder] {
            for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
                for secret in schedule.sas(role, 8, algorithm).unwrap() {
                    assert_eq!(secret.algorithm(), algorithm);
                    assert!(keys.insert(secret.key()[..16].to_vec()));
                }
            }
            assert!(keys.insert(schedule.control(role).unwrap().key()[..16].to_vec()));
        }
        let same = |schedule: &KeySchedule| schedule.sa(Role::Initiator, 0, Algorithm::Aes128Gcm);
        assert_eq!(same(&KeySchedule::new(&split, &[3; 32], &[4; 32])), same(&schedule));
        for other in [
            KeySchedule::new(&([2; 32], [2; 32]), &[3; 32], &[4; 32]),
            KeySchedule::new(&([1; 32], [1; 32]), &[3; 32], &[4; 32]),
            KeySchedule::new(&split, &[4; 32], &[4; 32]),
            KeySchedule::new(&split, &[3; 32], &[5; 32]),
        ] {
            assert_ne!(same(&other), same(&schedule), "every input counts");
        }
    }
}

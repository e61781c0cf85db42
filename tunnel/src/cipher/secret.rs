//! The secret of an SA before an engine expands it. It is wiped when dropped, and no format shows it.
//!
//! It is in ordinary memory, for the moment between a handshake and its SAs. What stays is the expanded key, and where
//! that is belongs to the engine: ipsec-mb's is locked and left out of core dumps (`ffi/src/cipher/memory.rs`), the
//! portable one's is on the heap of AWS-LC.

use super::Algorithm;
use crate::esp::SALT_LEN;
use crate::redacted;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of the longest key.
const MOST_KEY_LEN: usize = 32;

/// Key and salt of an SA.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SaSecret {
    #[zeroize(skip)]
    algorithm: Algorithm,
    key: [u8; MOST_KEY_LEN],
    salt: [u8; SALT_LEN],
}

impl SaSecret {
    /// Of a key and a salt; `None` if the key has not the length of the algorithm.
    #[must_use]
    pub fn new(algorithm: Algorithm, key: &[u8], salt: [u8; SALT_LEN]) -> Option<Self> {
        if key.len() != algorithm.key_len() {
            return None;
        }
        let mut secret = Self { algorithm, key: [0; MOST_KEY_LEN], salt };
        secret.key.get_mut(..key.len())?.copy_from_slice(key);
        Some(secret)
    }

    /// The cipher.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key, for an engine.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.get(..self.algorithm.key_len()).unwrap_or(&self.key)
    }

    /// The salt.
    #[must_use]
    pub const fn salt(&self) -> [u8; SALT_LEN] {
        self.salt
    }
}

redacted!(SaSecret);

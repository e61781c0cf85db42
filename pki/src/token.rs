//! [`Token`]: the text with which a newcomer gets its first certificate, once. `NAME.SECRET.PIN`: for whom it is, what the
//! CA knows it by, and what the newcomer knows the board by.
//!
//! Enters: text, and randomness as an argument. No secret leaves in an error or in `Debug`.

use crate::{SignError, authority::random};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use std::{fmt, str::FromStr};
use stopover_net::HostName;
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Bytes of a secret and of a pin.
const LENGTH: usize = 32;
/// No token is longer: a name and twice 43 characters.
const LONGEST: usize = 160;

fn sha256(bytes: &[u8]) -> [u8; LENGTH] {
    let mut hash = [0; LENGTH];
    // SHA-256 has so many bytes.
    hash.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

fn encode(bytes: &[u8; LENGTH]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Option<[u8; LENGTH]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What only the CA's operator and the newcomer know: 256 random bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; LENGTH]);

impl Secret {
    /// From random bytes.
    #[must_use]
    pub fn new(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// A new one, from the system's source of randomness.
    pub fn draw() -> Result<Self, SignError> {
        random().map(Self)
    }

    /// From the wire; `None` if the length is wrong.
    #[must_use]
    pub fn of_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// For the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the CA keeps of it. It has 256 random bits, so that one round of a fast hash hides it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 hash of a secret.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash([u8; LENGTH]);

/// The time that a comparison takes does not depend on the bytes.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl FromStr for SecretHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        decode(text).map(Self).ok_or("no hash of 32 bytes in base64url")
    }
}

/// The SHA-256 hash of an authority's public key (its SubjectPublicKeyInfo in DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; LENGTH]);

impl Pin {
    /// Of a key.
    #[must_use]
    pub fn of_key(subject_public_key_info: &[u8]) -> Self {
        Self(sha256(subject_public_key_info))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

/// A whole token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The name for which it is. The CA also knows the role.
    pub name: HostName,
    /// The secret.
    pub secret: Secret,
    /// Of the authority that has signed the board's certificate.
    pub pin: Pin,
}

impl Token {
    /// The text, secret and all.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}.{}.{}", self.name, encode(&self.secret.0), self.pin)
    }
}

/// Why a text is no token. It does not show the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "token: found {0}; expected NAME.SECRET.PIN; hint: copy the whole line that `stopover pki token issue` printed"
)]
pub struct BadToken(&'static str);

impl FromStr for Token {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        if text.len() > LONGEST {
            return Err(BadToken("a text that is too long"));
        }
        // Names may have dots.
        let mut parts = text.rsplitn(3, '.');
        let (Some(pin), Some(secret), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadToken("fewer than three parts"));
        };
        let name = HostName::new(name).map_err(|_| BadToken("another name than that of a host"))?;
        let secret = decode(secret).map(Secret).ok_or(BadToken("a secret that is not whole"))?;
        let pin = decode(pin).map(Pin).ok_or(BadToken("a pin that is not whole"))?;
        Ok(Self { name, secret, pin })
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

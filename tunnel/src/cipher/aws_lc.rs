//! The portable engine, by AWS-LC through `aws-lc-rs`. AWS-LC chooses the code for the processor at run time. The
//! expanded keys are on its heap, and are wiped when they are freed.

use super::{Algorithm, Engine, Failed, SaSecret, split_tag};
use crate::esp::NONCE_LEN;
use crate::redacted;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

/// The engine. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct AwsLc;

/// A key of it.
pub struct Key(LessSafeKey);

redacted!(Key);

impl Engine for AwsLc {
    type Key = Key;

    fn expand(&self, secret: &SaSecret) -> Result<Key, Failed> {
        let algorithm = match secret.algorithm() {
            Algorithm::Aes128Gcm => &AES_128_GCM,
            Algorithm::Aes256Gcm => &AES_256_GCM,
        };
        Ok(Key(LessSafeKey::new(UnboundKey::new(algorithm, secret.key()).map_err(|_| Failed)?)))
    }

    #[inline]
    fn seal(
        &mut self,
        key: &Key,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        let (text, tag) = split_tag(text_and_tag)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let made = key.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).map_err(|_| Failed)?;
        *tag = made.as_ref().try_into().map_err(|_| Failed)?;
        Ok(())
    }

    #[inline]
    fn open(
        &mut self,
        key: &Key,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        let (text, tag) = split_tag(text_and_tag)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).map(|_| ());
        opened.map_err(|_| {
            text.zeroize();
            Failed
        })
    }
}

//! Cipher engines: AES-GCM over texts in place. Enters: expanded keys, nonces, additional data, buffers with room for
//! the tag. Leaves: sealed or opened buffers. Nothing is allocated for a frame, and no engine knows SAs or sequence
//! numbers: that a nonce comes once under a key is the work of `sa`.
//!
//! An engine belongs to one lcore (`&mut self`), as the manager of a C library does. Its keys are read only, and may be
//! shared. [`AwsLc`] is the portable engine.

mod aws_lc;
mod secret;

pub use aws_lc::AwsLc;
pub use secret::SaSecret;

use crate::esp::{Aad, NONCE_LEN, TAG_LEN};

/// The ciphers of an SA (RFC 4106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Algorithm {
    /// AES-GCM with a key of 128 bits.
    #[default]
    Aes128Gcm,
    /// AES-GCM with a key of 256 bits.
    Aes256Gcm,
}

impl Algorithm {
    /// Bytes of its key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }
}

/// The engine did not do it: the tag is wrong, or a length is none that it takes. The text is wiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// One text and what is needed to seal or to open it.
#[derive(Debug)]
pub struct Job<'a, K> {
    /// The expanded key.
    pub key: &'a K,
    /// The nonce.
    pub nonce: [u8; NONCE_LEN],
    /// The additional data.
    pub aad: Aad,
    /// The text, and behind it the tag.
    pub text_and_tag: &'a mut [u8],
}

/// An implementation of AES-GCM.
pub trait Engine {
    /// A key as the engine needs it, wiped when dropped. It can be large: ipsec-mb's has 1,008 bytes.
    type Key: Send + Sync;

    /// The expanded key.
    ///
    /// # Errors
    /// The engine has no memory, or does not know the algorithm.
    fn expand(&self, secret: &SaSecret) -> Result<Self::Key, Failed>;

    /// Seals the text in place, and writes its tag into the last [`TAG_LEN`] bytes of the buffer.
    ///
    /// # Errors
    /// The buffer has no room for a tag. It must not be sent.
    fn seal(
        &mut self,
        key: &Self::Key,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed>;

    /// Opens the text in place. The tag is compared in constant time.
    ///
    /// # Errors
    /// The tag is wrong. The text is zeros then.
    fn open(
        &mut self,
        key: &Self::Key,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed>;

    /// Seals some texts, and reports how each went at its place in `done`. An engine that gains from many at once
    /// replaces this.
    #[inline]
    fn seal_burst(&mut self, jobs: &mut [Job<'_, Self::Key>], done: &mut [bool]) {
        for (job, done) in jobs.iter_mut().zip(done) {
            *done = self.seal(job.key, &job.nonce, job.aad.as_slice(), job.text_and_tag).is_ok();
        }
    }

    /// Opens some texts, and reports how each went at its place in `done`.
    #[inline]
    fn open_burst(&mut self, jobs: &mut [Job<'_, Self::Key>], done: &mut [bool]) {
        for (job, done) in jobs.iter_mut().zip(done) {
            *done = self.open(job.key, &job.nonce, job.aad.as_slice(), job.text_and_tag).is_ok();
        }
    }
}

/// Text and tag of a buffer.
#[inline]
fn split_tag(text_and_tag: &mut [u8]) -> Result<(&mut [u8], &mut [u8; TAG_LEN]), Failed> {
    text_and_tag.split_last_chunk_mut().ok_or(Failed)
}

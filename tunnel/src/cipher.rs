//! Cipher engines: AES-GCM over texts in place. Enters: expanded keys, nonces, additional data, buffers with room for
//! the tag. Leaves: sealed or opened buffers. Nothing is allocated for a frame, and no engine knows SAs or sequence
//! numbers: that a nonce comes once under a key is the work of `sa`.
//!
//! An engine belongs to one lcore (`&mut self`), as the manager of a C library does. Its keys are read only, and may be
//! shared. [`AwsLc`] is the portable engine.

#[cfg(any(test, feature = "exercise"))]
pub mod answers;
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

/// How many texts ahead a burst has keys brought near.
const AHEAD: usize = 4;

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

    /// Has a key brought near that is used soon, with a text of this length. It is a hint, and may do nothing.
    #[inline]
    fn prefetch(_key: &Self::Key, _text_len: usize) {}

    /// Seals some texts, and reports how each went at its place in `done`. An engine that gains from many at once
    /// replaces this.
    #[inline]
    fn seal_burst(&mut self, jobs: &mut [Job<'_, Self::Key>], done: &mut [bool]) {
        each_job::<Self>(jobs, done, |job| {
            self.seal(job.key, &job.nonce, job.aad.as_slice(), job.text_and_tag).is_ok()
        });
    }

    /// Opens some texts, and reports how each went at its place in `done`.
    #[inline]
    fn open_burst(&mut self, jobs: &mut [Job<'_, Self::Key>], done: &mut [bool]) {
        each_job::<Self>(jobs, done, |job| {
            self.open(job.key, &job.nonce, job.aad.as_slice(), job.text_and_tag).is_ok()
        });
    }
}

/// Does one job after the other, with the keys of the next ones on their way.
#[inline]
fn each_job<E: Engine + ?Sized>(
    jobs: &mut [Job<'_, E::Key>],
    done: &mut [bool],
    mut run: impl FnMut(&mut Job<'_, E::Key>) -> bool,
) {
    let prefetch = |job: &Job<'_, E::Key>| E::prefetch(job.key, job.text_and_tag.len());
    jobs.iter().take(AHEAD).for_each(prefetch);
    for (at, done) in done.iter_mut().enumerate() {
        if let Some(ahead) = jobs.get(at + AHEAD) {
            prefetch(ahead);
        }
        let Some(job) = jobs.get_mut(at) else { break };
        *done = run(job);
    }
}

/// Text and tag of a buffer.
#[inline]
fn split_tag(text_and_tag: &mut [u8]) -> Result<(&mut [u8], &mut [u8; TAG_LEN]), Failed> {
    text_and_tag.split_last_chunk_mut().ok_or(Failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::esp::SequenceBits;
    use crate::{SaIndex, Spi};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Fails with a key that was not brought near once, with the length of its text.
    struct Strict;

    impl Engine for Strict {
        type Key = AtomicUsize;

        fn expand(&self, _: &SaSecret) -> Result<AtomicUsize, Failed> {
            Ok(AtomicUsize::new(0))
        }

        fn seal(
            &mut self,
            key: &AtomicUsize,
            _: &[u8; NONCE_LEN],
            _: &[u8],
            text: &mut [u8],
        ) -> Result<(), Failed> {
            if key.load(Ordering::Relaxed) == text.len() { Ok(()) } else { Err(Failed) }
        }

        fn open(
            &mut self,
            key: &AtomicUsize,
            nonce: &[u8; NONCE_LEN],
            aad: &[u8],
            text: &mut [u8],
        ) -> Result<(), Failed> {
            self.seal(key, nonce, aad, text)
        }

        fn prefetch(key: &AtomicUsize, text_len: usize) {
            key.fetch_add(text_len, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_burst_brings_each_key_near_once() {
        let aad = Aad::new(Spi::new(SaIndex::new(1).unwrap(), 0), 1, SequenceBits::Extended);
        for count in 0..3 * AHEAD {
            for open in [false, true] {
                let keys: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                let mut texts: Vec<_> = (0..count).map(|n| vec![0; 20 + n]).collect();
                let mut jobs: Vec<_> = keys
                    .iter()
                    .zip(&mut texts)
                    .map(|(key, text)| Job { key, nonce: [0; NONCE_LEN], aad, text_and_tag: text })
                    .collect();
                let mut done = [false; 4 * AHEAD];
                if open {
                    Strict.open_burst(&mut jobs, &mut done);
                } else {
                    Strict.seal_burst(&mut jobs, &mut done);
                }
                assert_eq!(done.map(usize::from).iter().sum::<usize>(), count);
                assert!(done[..count].iter().all(|done| *done));
            }
        }
    }
}

//! ipsec-mb as the tunnel's engine.

use dpdk::{Error, Gcm, GcmKey, KeyMemory};
use stopover_tunnel::cipher::{Engine, Failed, SaSecret};
use stopover_tunnel::esp::{NONCE_LEN, TAG_LEN};

/// The engine of one lcore, or of the thread that makes keys for all.
#[derive(Debug)]
pub struct IpsecMb(Gcm);

impl IpsecMb {
    /// With keys in this memory.
    ///
    /// # Errors
    /// This machine cannot use ipsec-mb. The portable engine can take its place.
    pub fn new(memory: &KeyMemory) -> Result<Self, Error> {
        Gcm::new(memory).map(Self)
    }

    /// The instructions that it uses, for logs.
    #[must_use]
    pub fn instructions(&self) -> &'static str {
        self.0.instructions()
    }
}

impl Engine for IpsecMb {
    type Key = GcmKey;

    fn expand(&self, secret: &SaSecret) -> Result<GcmKey, Failed> {
        self.0.expand(secret.key()).map_err(|_| Failed)
    }

    #[inline]
    fn seal(
        &mut self,
        key: &GcmKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Failed)?;
        self.0.seal(key, nonce, aad, text, tag).map_err(|_| Failed)
    }

    #[inline]
    fn open(
        &mut self,
        key: &GcmKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        let (text, tag) = text_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Failed)?;
        self.0.open(key, nonce, aad, text, tag).map_err(|_| Failed)
    }

    #[inline]
    fn prefetch(key: &GcmKey, text_len: usize) {
        key.prefetch(text_len);
    }
}

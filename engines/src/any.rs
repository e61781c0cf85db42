//! One of the engines, chosen at run time.

use crate::IpsecMb;
use dpdk::{Error, GcmKey, KeyMemory};
use std::sync::Arc;
use stopover_tunnel::cipher::{AwsLc, Engine, Failed, SaSecret};
use stopover_tunnel::esp::NONCE_LEN;

/// ipsec-mb, or the portable engine. All engines of a process must be the same: a key of one is none of the other.
#[derive(Debug)]
pub enum AnyEngine {
    /// ipsec-mb.
    IpsecMb(IpsecMb),
    /// The portable engine.
    Portable(AwsLc),
}

/// A key of it. A clone is the same key, for another lcore.
#[derive(Debug, Clone)]
pub enum AnyKey {
    /// Of ipsec-mb.
    IpsecMb(GcmKey),
    /// Of the portable engine.
    Portable(Arc<<AwsLc as Engine>::Key>),
}

impl AnyEngine {
    /// ipsec-mb where this machine can use it, else the portable engine, and why.
    #[must_use]
    pub fn new(memory: &KeyMemory) -> (Self, Option<Error>) {
        match IpsecMb::new(memory) {
            Ok(engine) => (Self::IpsecMb(engine), None),
            Err(error) => (Self::portable(), Some(error)),
        }
    }

    /// The portable engine.
    #[must_use]
    pub const fn portable() -> Self {
        Self::Portable(AwsLc)
    }

    /// What it is, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::IpsecMb(_) => "ipsec-mb",
            Self::Portable(_) => "aws-lc",
        }
    }
}

impl Engine for AnyEngine {
    type Key = AnyKey;

    fn expand(&self, secret: &SaSecret) -> Result<AnyKey, Failed> {
        match self {
            Self::IpsecMb(engine) => engine.expand(secret).map(AnyKey::IpsecMb),
            Self::Portable(engine) => engine.expand(secret).map(|key| AnyKey::Portable(Arc::new(key))),
        }
    }

    #[inline]
    fn seal(
        &mut self,
        key: &AnyKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        match (self, key) {
            (Self::IpsecMb(engine), AnyKey::IpsecMb(key)) => engine.seal(key, nonce, aad, text_and_tag),
            (Self::Portable(engine), AnyKey::Portable(key)) => engine.seal(key, nonce, aad, text_and_tag),
            _ => Err(Failed),
        }
    }

    #[inline]
    fn open(
        &mut self,
        key: &AnyKey,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text_and_tag: &mut [u8],
    ) -> Result<(), Failed> {
        match (self, key) {
            (Self::IpsecMb(engine), AnyKey::IpsecMb(key)) => engine.open(key, nonce, aad, text_and_tag),
            (Self::Portable(engine), AnyKey::Portable(key)) => engine.open(key, nonce, aad, text_and_tag),
            _ => {
                text_and_tag.fill(0);
                Err(Failed)
            }
        }
    }

    #[inline]
    fn prefetch(key: &AnyKey, text_len: usize) {
        if let AnyKey::IpsecMb(key) = key {
            IpsecMb::prefetch(key, text_len);
        }
    }
}

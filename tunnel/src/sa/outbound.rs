//! The SA by which one lcore sends to a peer: its sequence numbers, and when it must be replaced.

use super::SaCounters;
use crate::cipher::{Engine, Failed, SaSecret};
use crate::esp::{SALT_LEN, SequenceBits};
use crate::{Millis, Spi};
use std::sync::Arc;
use std::time::Duration;

/// When an SA is to be replaced (soft), and when it seals no more (hard).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Last sequence number before a new SA is asked for.
    pub soft_sequence: u64,
    /// Last sequence number.
    pub hard_sequence: u64,
    /// Bytes sealed before a new SA is asked for.
    pub soft_bytes: u64,
    /// Bytes sealed at most.
    pub hard_bytes: u64,
    /// Age after which the SA seals no more. The handshake replaces it long before.
    pub hard_age: Duration,
}

impl Limits {
    /// Of SAs that a handshake made. AES-GCM with blocks b under one key differs from an ideal cipher by at most
    /// b²/2^129 (RFC 8645 section 2.1): 2^40 bytes are 2^36 blocks, and leave 2^-57, the margin of TLS 1.3 (RFC 8446
    /// section 5.5).
    pub const HANDSHAKE: Self = Self {
        soft_sequence: 1 << 35,
        hard_sequence: 1 << 36,
        soft_bytes: 1 << 39,
        hard_bytes: 1 << 40,
        hard_age: Duration::from_secs(180),
    };

    /// Of SAs with 32-bit sequence numbers and manual keys, which nothing replaces.
    pub const MANUAL: Self = Self {
        soft_sequence: u32::MAX as u64,
        hard_sequence: u32::MAX as u64,
        soft_bytes: u64::MAX,
        hard_bytes: u64::MAX,
        hard_age: Duration::MAX,
    };
}

impl Limits {
    /// Whether a soft limit is reached, of an SA that has sealed so many frames and bytes.
    #[inline]
    #[must_use]
    pub const fn wants_rekey(&self, frames: u64, bytes: u64) -> bool {
        frames >= self.soft_sequence || bytes >= self.soft_bytes
    }
}

/// An outbound SA. It is of one lcore, and is never copied: each sequence number is given once.
#[derive(Debug)]
#[repr(align(64))]
pub struct OutboundSa<K> {
    key: K,
    spi: Spi,
    salt: [u8; SALT_LEN],
    bits: SequenceBits,
    last: u64,
    bytes: u64,
    limits: Limits,
    expires: Millis,
    counters: Arc<SaCounters>,
}

impl<K> OutboundSa<K> {
    /// A fresh SA under a secret that has sealed nothing yet.
    ///
    /// # Errors
    /// The engine cannot expand the key.
    pub fn new<E: Engine<Key = K>>(
        engine: &E,
        spi: Spi,
        secret: &SaSecret,
        bits: SequenceBits,
        limits: Limits,
        now: Millis,
    ) -> Result<Self, Failed> {
        let key = engine.expand(secret)?;
        let expires = now.after(limits.hard_age);
        let (salt, counters) = (secret.salt(), Arc::default());
        Ok(Self { key, spi, salt, bits, last: 0, bytes: 0, limits, expires, counters })
    }

    /// The key, for instance to prefetch it.
    #[inline]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// The receiver's SPI.
    #[inline]
    #[must_use]
    pub const fn spi(&self) -> Spi {
        self.spi
    }

    #[inline]
    pub(super) const fn salt(&self) -> [u8; SALT_LEN] {
        self.salt
    }

    #[inline]
    pub(super) const fn bits(&self) -> SequenceBits {
        self.bits
    }

    /// Its counters, for another thread.
    #[must_use]
    pub const fn counters(&self) -> &Arc<SaCounters> {
        &self.counters
    }

    /// The last sequence number given; 0 if none was.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Bytes sealed.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next sequence number, for a text of so many bytes; `None` beyond a hard limit. A number that is not used
    /// then is lost, never given again.
    #[inline]
    pub fn next(&mut self, len: usize, now: Millis) -> Option<u64> {
        let bytes = self.bytes.checked_add(len as u64).filter(|bytes| *bytes <= self.limits.hard_bytes)?;
        if self.last >= self.limits.hard_sequence || now >= self.expires {
            return None;
        }
        self.bytes = bytes;
        self.last += 1;
        self.counters.count_frame(len);
        Some(self.last)
    }

    /// Whether a soft limit of volume is reached. The handshake asks for new SAs then.
    #[inline]
    #[must_use]
    pub const fn wants_rekey(&self) -> bool {
        self.limits.wants_rekey(self.last, self.bytes)
    }
}

/// The outbound SAs of one lcore, by the number that its host gave the peer.
#[derive(Debug)]
pub struct OutboundSas<K> {
    entries: Vec<Option<Box<OutboundSa<K>>>>,
}

impl<K> OutboundSas<K> {
    /// Room for so many peers.
    #[must_use]
    pub fn new(peers: usize) -> Self {
        Self { entries: std::iter::repeat_with(|| None).take(peers).collect() }
    }

    /// From now the SA of the peer; `None`: it has none. Returns the one before. If the peer is beyond the room, that is
    /// the SA itself.
    pub fn set(&mut self, peer: u32, sa: Option<Box<OutboundSa<K>>>) -> Option<Box<OutboundSa<K>>> {
        match self.entries.get_mut(peer as usize) {
            Some(entry) => std::mem::replace(entry, sa),
            None => sa,
        }
    }

    /// The SA of the peer.
    #[inline]
    #[must_use]
    pub fn get(&self, peer: u32) -> Option<&OutboundSa<K>> {
        self.entries.get(peer as usize)?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, peer: u32) -> Option<&mut OutboundSa<K>> {
        self.entries.get_mut(peer as usize)?.as_deref_mut()
    }
}

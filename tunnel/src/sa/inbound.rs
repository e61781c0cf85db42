//! The SA by which one lcore receives from a peer: replay window, counters, and the table that its SPI indexes.

use super::{Opened, SaCounters, SaDrop, SaStats};
use crate::Spi;
use crate::cipher::{Engine, Failed, SaSecret};
use crate::esp::{self, Header, SALT_LEN, SequenceBits, Text};
use crate::window::{ReplayWindow, Replayed, WindowSize};
use std::sync::Arc;

/// An inbound SA. One lcore owns it.
#[derive(Debug)]
#[repr(align(64))]
pub struct InboundSa<K> {
    key: K,
    window: ReplayWindow,
    counters: Arc<SaCounters>,
    spi: Spi,
    salt: [u8; SALT_LEN],
    peer: u32,
    bits: SequenceBits,
}

impl<K> InboundSa<K> {
    /// A fresh SA of a peer, which is a number that the host gave it.
    ///
    /// # Errors
    /// The engine cannot expand the key.
    pub fn new<E: Engine<Key = K>>(
        engine: &E,
        spi: Spi,
        peer: u32,
        secret: &SaSecret,
        bits: SequenceBits,
        window: WindowSize,
    ) -> Result<Self, Failed> {
        let key = engine.expand(secret)?;
        Ok(Self::with_key(key, secret.salt(), (spi, peer), (bits, window), Arc::default()))
    }

    /// The same, of a key and counters that several lcores share. Each has a window; the owner alone uses its own.
    #[must_use]
    pub fn with_key(
        key: K,
        salt: [u8; SALT_LEN],
        (spi, peer): (Spi, u32),
        (bits, window): (SequenceBits, WindowSize),
        counters: Arc<SaCounters>,
    ) -> Self {
        Self { key, window: ReplayWindow::new(window), counters, spi, salt, peer, bits }
    }

    /// The key, for instance to prefetch it.
    #[inline]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// The peer, as its host numbers it. A frame's inner source must belong to it.
    #[inline]
    #[must_use]
    pub const fn peer(&self) -> u32 {
        self.peer
    }

    /// What it counted.
    #[inline]
    #[must_use]
    pub fn stats(&self) -> SaStats {
        self.counters.read()
    }

    /// Its counters.
    #[inline]
    #[must_use]
    pub const fn counters(&self) -> &Arc<SaCounters> {
        &self.counters
    }

    /// Its SPI.
    #[inline]
    #[must_use]
    pub const fn spi(&self) -> Spi {
        self.spi
    }

    #[inline]
    pub(super) const fn window(&self) -> &ReplayWindow {
        &self.window
    }

    #[inline]
    pub(super) const fn salt(&self) -> [u8; SALT_LEN] {
        self.salt
    }

    #[inline]
    pub(super) const fn bits(&self) -> SequenceBits {
        self.bits
    }

    /// The whole sequence number of a frame, if it is new.
    #[inline]
    pub(super) fn sequence(&self, header: Header) -> Result<u64, Replayed> {
        let sequence = match self.bits {
            // So an old frame is seen to be old, and its tag is not computed. A false IV makes the tag wrong.
            SequenceBits::Extended if header.iv_is_sequence() => u64::from_be_bytes(header.iv),
            SequenceBits::Extended => self.window.whole(header.sequence_low)?,
            SequenceBits::Short => u64::from(header.sequence_low),
        };
        self.window.check(sequence)?;
        Ok(sequence)
    }

    /// What follows a right tag: the window moves, then the trailer is read.
    #[inline]
    pub(super) fn opened(&mut self, datagram: &[u8], spi: Spi, sequence: u64) -> Result<Opened, SaDrop> {
        if self.window.accept(sequence).is_err() {
            self.counters.count_replayed();
            return Err(SaDrop::Replayed);
        }
        let end = datagram.len().saturating_sub(esp::TAG_LEN);
        let opened = datagram.get(esp::HEAD_LEN..end).unwrap_or_default();
        self.counters.count_frame(opened.len());
        let (len, dummy) = match esp::open_trailer(opened)? {
            Text::Udp(len) => (len, false),
            Text::Dummy => (0, true),
        };
        let text = esp::HEAD_LEN..esp::HEAD_LEN + len;
        Ok(Opened { spi, peer: self.peer, sequence, text, dummy })
    }
}

/// The inbound SAs of one lcore, by the index in their SPIs.
#[derive(Debug)]
pub struct InboundSas<K> {
    entries: Vec<Option<Box<InboundSa<K>>>>,
}

impl<K> InboundSas<K> {
    /// Room for SPIs whose index is below `indexes`.
    #[must_use]
    pub fn new(indexes: usize) -> Self {
        Self { entries: std::iter::repeat_with(|| None).take(indexes).collect() }
    }

    /// Bytes of a table with this room, without its SAs.
    #[must_use]
    pub const fn table_bytes(indexes: usize) -> usize {
        indexes * size_of::<Option<Box<InboundSa<K>>>>()
    }

    /// Puts an SA in its place. Returns it again if its index is beyond the room, or another SA is there.
    pub fn install(&mut self, sa: Box<InboundSa<K>>) -> Result<(), Box<InboundSa<K>>> {
        match self.entries.get_mut(sa.spi.index().position()) {
            Some(entry @ None) => {
                *entry = Some(sa);
                Ok(())
            }
            _ => Err(sa),
        }
    }

    /// Takes the SA of this SPI, of this generation, out.
    pub fn retire(&mut self, spi: Spi) -> Option<Box<InboundSa<K>>> {
        self.entries.get_mut(spi.index().position())?.take_if(|sa| sa.spi == spi)
    }

    /// The SA that has the index of this SPI, of any generation.
    #[inline]
    pub(super) fn at(&self, spi: Spi) -> Option<&InboundSa<K>> {
        self.entries.get(spi.index().position())?.as_deref()
    }

    /// The SA of this SPI, of this generation.
    #[inline]
    #[must_use]
    pub fn get(&self, spi: Spi) -> Option<&InboundSa<K>> {
        self.at(spi).filter(|sa| sa.spi == spi)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, spi: Spi) -> Option<&mut InboundSa<K>> {
        self.entries.get_mut(spi.index().position())?.as_deref_mut().filter(|sa| sa.spi == spi)
    }
}

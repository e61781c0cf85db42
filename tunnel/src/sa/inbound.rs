//! The SA by which one lcore receives from a peer: replay window, counters, and the table that its SPI indexes.

use super::SaDrop;
use crate::Spi;
use crate::cipher::{Engine, Failed, SaSecret};
use crate::esp::{Header, SALT_LEN, SequenceBits};
use crate::window::{ReplayWindow, Replayed, WindowSize};

/// Counters of an inbound SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboundStats {
    /// Frames whose tag was right and whose number was new.
    pub frames: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Dropped as [`SaDrop::Replayed`].
    pub replayed: u64,
    /// Dropped as [`SaDrop::BadSeal`].
    pub bad_seal: u64,
}

/// An inbound SA. One lcore owns it.
#[derive(Debug)]
pub struct InboundSa<K> {
    key: K,
    window: ReplayWindow,
    stats: InboundStats,
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
        Ok(Self {
            key: engine.expand(secret)?,
            window: ReplayWindow::new(window),
            stats: InboundStats::default(),
            spi,
            salt: secret.salt(),
            peer,
            bits,
        })
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
    pub const fn stats(&self) -> InboundStats {
        self.stats
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

    /// Takes a frame whose tag is right.
    #[inline]
    pub(super) fn accept(&mut self, sequence: u64, bytes: usize) -> Result<(), SaDrop> {
        if self.window.accept(sequence).is_err() {
            self.stats.replayed += 1;
            return Err(SaDrop::Replayed);
        }
        self.stats.frames += 1;
        self.stats.bytes += bytes as u64;
        Ok(())
    }

    #[inline]
    pub(super) fn count(&mut self, drop: SaDrop) {
        match drop {
            SaDrop::Replayed => self.stats.replayed += 1,
            SaDrop::BadSeal => self.stats.bad_seal += 1,
            _ => {}
        }
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
    pub fn install(&mut self, sa: InboundSa<K>) -> Result<(), InboundSa<K>> {
        match self.entries.get_mut(sa.spi.index().position()) {
            Some(entry @ None) => {
                *entry = Some(Box::new(sa));
                Ok(())
            }
            _ => Err(sa),
        }
    }

    /// Takes the SA of this SPI, of this generation, out.
    pub fn retire(&mut self, spi: Spi) -> Option<Box<InboundSa<K>>> {
        self.entries.get_mut(spi.index().position())?.take_if(|sa| sa.spi == spi)
    }

    /// The SA of this SPI, of this generation.
    #[inline]
    #[must_use]
    pub fn get(&self, spi: Spi) -> Option<&InboundSa<K>> {
        self.entries.get(spi.index().position())?.as_deref().filter(|sa| sa.spi == spi)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, spi: Spi) -> Option<&mut InboundSa<K>> {
        self.entries.get_mut(spi.index().position())?.as_deref_mut().filter(|sa| sa.spi == spi)
    }
}

//! The SPI of an SA: an index into the receiver's table, and the generation of that entry. So an SA is found without a
//! hash, and a frame under an SA that is gone does not reach the one that took its place.

use std::fmt;

/// Bits that all SPIs have set, and that tell ESP from STUN, relayed datagrams and handshakes.
const SET: u32 = 0xc000_0000;
/// The bit that all SPIs have clear: VXLAN's I flag, in the first byte of a datagram.
const CLEAR: u32 = 0x0800_0000;
const INDEX_BITS: u32 = 20;
/// The bits of the generation between index and I flag; the other two are above it.
const LOW_BITS: u32 = 7;
const HIGH_SHIFT: u32 = 28;

/// Index of an inbound SA in the tables of its host, below [`SaIndex::COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaIndex(u32);

impl SaIndex {
    /// How many there are.
    pub const COUNT: u32 = 1 << INDEX_BITS;

    /// The index, if it is below [`SaIndex::COUNT`].
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// As a position in a table.
    #[inline]
    #[must_use]
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

/// A security parameter index (RFC 4303 section 2.1) of the form that this project gives out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(u32);

impl Spi {
    /// The lowest of all.
    pub const FIRST: Self = Self(SET);
    /// How many generations an index has, before an SPI comes again.
    pub const GENERATIONS: u16 = 512;

    /// The SPI of an entry in this generation, which is taken modulo [`Spi::GENERATIONS`].
    #[must_use]
    pub const fn new(index: SaIndex, generation: u16) -> Self {
        let generation = (generation % Self::GENERATIONS) as u32;
        let low = generation & ((1 << LOW_BITS) - 1);
        Self(SET | (generation >> LOW_BITS) << HIGH_SHIFT | low << INDEX_BITS | index.0)
    }

    /// The SPI of these 32 bits; `None` if they have not its form.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & (SET | CLEAR) == SET { Some(Self(bits)) } else { None }
    }

    /// The 32 bits on the wire.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The entry.
    #[inline]
    #[must_use]
    pub const fn index(self) -> SaIndex {
        SaIndex(self.0 & (SaIndex::COUNT - 1))
    }

    /// Its generation, below [`Spi::GENERATIONS`].
    #[must_use]
    pub const fn generation(self) -> u16 {
        let low = self.0 >> INDEX_BITS & ((1 << LOW_BITS) - 1);
        let high = self.0 >> HIGH_SHIFT & 3;
        (high << LOW_BITS | low) as u16
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_spi_has_its_form() {
        let spi = |index, generation| Spi::new(SaIndex::new(index).unwrap(), generation);
        assert_eq!(spi(0, 0).bits(), 0xc000_0000);
        assert_eq!(spi(SaIndex::COUNT - 1, 511).bits(), 0xf7ff_ffff);
        assert_eq!(spi(5, 128).bits(), 0xd000_0005);
        assert_eq!(spi(5, 512), spi(5, 0));
        assert_eq!(SaIndex::new(SaIndex::COUNT), None);
        assert_eq!(spi(5, 1).to_string(), "0xc0100005");
        for bits in [0, 0x3fff_ffff, 0x8000_0000, 0x4000_0001, 0xc800_0000] {
            assert_eq!(Spi::from_bits(bits), None, "{bits:#x}");
        }
    }

    proptest! {
        #[test]
        fn index_and_generation_come_back(index in 0..SaIndex::COUNT, generation in 0..Spi::GENERATIONS) {
            let index = SaIndex::new(index).unwrap();
            let spi = Spi::new(index, generation);
            prop_assert_eq!((spi.index(), spi.generation()), (index, generation));
            prop_assert_eq!(Spi::from_bits(spi.bits()), Some(spi));
        }

        #[test]
        fn all_bits_of_an_spi_have_a_meaning(bits: u32) {
            if let Some(spi) = Spi::from_bits(bits) {
                prop_assert_eq!(Spi::new(spi.index(), spi.generation()).bits(), bits);
            }
        }
    }
}

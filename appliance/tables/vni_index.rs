//! VNI (24 bits, sparse) to network index (16 bits, dense), so that a lookup key of network and MAC fits one
//! 64-bit word. A page table of 4096 pages of 4096 entries: two cache lines for a reader, 8 KiB per page in use.
//!
//! An index is assigned again only after every lcore has passed its release, so that no lcore assigns a frame of
//! an old network to the new one. The caller must remove the entries of the old network from other tables before
//! it releases the index.

use std::{
    collections::VecDeque,
    num::NonZeroU16,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
};
use stopover_lockfree::epoch::{Domain, Epoch, Reader, Writer};
use stopover_net::Vni;

/// Index of a network: 1 to 65534. Zero and 65535 are left out so that `index << 48 | mac` is never one of
/// the two values that no `map64` key may have.
pub type NetworkIndex = NonZeroU16;

/// Networks at a time.
pub const MAX_NETWORKS: usize = u16::MAX as usize - 1;

const PAGE_BITS: u32 = 12;
const PAGE: usize = 1 << PAGE_BITS;

/// Indices of 4096 VNIs; 0 is none.
type Page = [AtomicU16; PAGE];

#[derive(Debug)]
struct Shared {
    pages: Box<[OnceLock<Box<Page>>]>,
    domain: Domain,
}

impl Shared {
    #[inline]
    fn get(&self, vni: u32) -> Option<NetworkIndex> {
        let (page, entry) = split(vni);
        NonZeroU16::new(self.pages[page].get()?[entry].load(Ordering::Acquire))
    }
}

#[inline]
const fn split(vni: u32) -> (usize, usize) {
    let vni = (vni & Vni::MAX) as usize;
    (vni >> PAGE_BITS, vni & (PAGE - 1))
}

/// All 65534 indices are in use, or wait for the lcores to pass their release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoIndexLeft;

impl std::fmt::Display for NoIndexLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no network index is free: expected at most {MAX_NETWORKS} networks on one appliance")
    }
}

impl std::error::Error for NoIndexLeft {}

/// An empty index of `writer`'s domain.
#[must_use]
pub fn new(writer: &Writer) -> (VniWriter, VniReader) {
    let pages = (0..PAGE).map(|_| OnceLock::new()).collect();
    let shared = Arc::new(Shared { pages, domain: writer.domain() });
    let reader = VniReader { shared: Arc::clone(&shared) };
    (VniWriter { shared, next: 1, free: VecDeque::new(), len: 0 }, reader)
}

/// The lcores' half.
#[derive(Debug, Clone)]
pub struct VniReader {
    shared: Arc<Shared>,
}

impl VniReader {
    /// The index of the network with this VNI (low 24 bits, host byte order, as read from a frame), if it is
    /// known here. Good until the reader's next quiescent point: then the index may come to mean another
    /// network.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[inline]
    #[must_use]
    pub fn get(&self, reader: &Reader, vni: u32) -> Option<NetworkIndex> {
        self.shared.domain.check_reader(reader);
        self.shared.get(vni)
    }
}

/// The control thread's half.
#[derive(Debug)]
pub struct VniWriter {
    shared: Arc<Shared>,
    /// Indices from here on were never used.
    next: u32,
    /// Released indices and the epoch to be passed before each may be used again, oldest first.
    free: VecDeque<(Epoch, NetworkIndex)>,
    len: usize,
}

impl VniWriter {
    /// The index of `vni`, if it has one.
    #[must_use]
    pub fn get(&self, vni: Vni) -> Option<NetworkIndex> {
        self.shared.get(vni.get())
    }

    /// Gives `vni` an index, or returns the one it has.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn assign(&mut self, writer: &mut Writer, vni: Vni) -> Result<NetworkIndex, NoIndexLeft> {
        self.shared.domain.check_writer(writer);
        if let Some(index) = self.get(vni) {
            return Ok(index);
        }
        let index = self.take(writer).ok_or(NoIndexLeft)?;
        self.store(vni, index.get());
        self.len += 1;
        Ok(index)
    }

    /// Takes the index of `vni` back. Readers stop finding it at once; it is assigned again after the next
    /// [`Writer::advance`] has been passed by all.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn release(&mut self, writer: &Writer, vni: Vni) -> Option<NetworkIndex> {
        self.shared.domain.check_writer(writer);
        let index = self.get(vni)?;
        self.store(vni, 0);
        self.free.push_back((writer.grace(), index));
        self.len -= 1;
        Some(index)
    }

    /// Networks that have an index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No network has an index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the page table.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let pages = self.shared.pages.iter().filter(|p| p.get().is_some()).count();
        size_of_val(&*self.shared.pages) + pages * size_of::<Page>()
    }

    /// A new index if there is one, so that released ones are reused as late as possible.
    fn take(&mut self, writer: &mut Writer) -> Option<NetworkIndex> {
        if self.next <= MAX_NETWORKS as u32 {
            let index = NonZeroU16::new(self.next as u16);
            self.next += 1;
            return index;
        }
        let &(grace, index) = self.free.front()?;
        if !writer.passed(grace) {
            return None;
        }
        self.free.pop_front();
        Some(index)
    }

    fn store(&mut self, vni: Vni, value: u16) {
        let (page, entry) = split(vni.get());
        let page =
            self.shared.pages[page].get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU16::new(0))));
        page[entry].store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_lockfree::epoch::domain;

    /// The writing half goes to the control thread, the reading half to every lcore.
    #[test]
    fn halves_cross_threads() {
        fn send<T: Send>() {}
        fn share<T: Send + Sync>() {}
        send::<VniWriter>();
        share::<VniReader>();
    }

    #[test]
    fn network_indices_are_dense_stable_and_reused_after_a_grace_period() {
        let (mut writer, mut parked) = domain(1);
        let mut reader = parked.pop().unwrap().online();
        let (mut index, lookups) = new(&writer);
        let vni = |n| Vni::new(n).unwrap();
        for n in 1..=MAX_NETWORKS as u32 {
            assert_eq!(index.assign(&mut writer, vni(n * 255)).unwrap().get() as u32, n);
        }
        assert_eq!(index.len(), MAX_NETWORKS);
        assert_eq!(index.assign(&mut writer, vni(255)).unwrap().get(), 1, "it has one already");
        assert_eq!(lookups.get(&reader, 255 * 77).map(|i| i.get()), Some(77));
        assert_eq!(lookups.get(&reader, 0xab00_0000 | 255).map(|i| i.get()), Some(1), "low 24 bits count");
        assert_eq!(lookups.get(&reader, 0), None);
        assert_eq!(lookups.get(&reader, Vni::MAX), None);

        assert_eq!(index.assign(&mut writer, vni(Vni::MAX)), Err(NoIndexLeft));
        assert_eq!(index.release(&writer, vni(255 * 9)).map(|i| i.get()), Some(9));
        assert_eq!(index.release(&writer, vni(255 * 9)), None);
        assert_eq!(lookups.get(&reader, 255 * 9), None);
        writer.advance();
        assert_eq!(index.assign(&mut writer, vni(Vni::MAX)), Err(NoIndexLeft), "a reader may still use it");
        reader.quiescent();
        assert_eq!(index.assign(&mut writer, vni(Vni::MAX)).map(|i| i.get()), Ok(9));
        assert_eq!(lookups.get(&reader, Vni::MAX).map(|i| i.get()), Some(9));
        assert_eq!(index.get(vni(255 * 9)), None);
    }
}

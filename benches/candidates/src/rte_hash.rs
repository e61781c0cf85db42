//! DPDK's `rte_hash`, in its mode for readers without a lock, on huge pages. Keys are only ever added and changed
//! here: to remove them while others read would need its RCU besides.

use dpdk::{Eal, Error};
use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fmt, io,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

/// `struct rte_hash`: seen through a pointer only.
#[repr(C)]
struct Raw {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn candidate_create(name: *const c_char, entries: u32) -> *mut Raw;
    fn candidate_insert(table: *mut Raw, key: u64, word: u64) -> c_int;
    fn candidate_lookup(table: *const Raw, keys: *const u64, n: u32, words: *mut *mut c_void) -> u64;
    fn candidate_lookup_hashed(table: *const Raw, keys: *const u64, n: u32, words: *mut *mut c_void) -> u64;
    fn candidate_heap_bytes() -> u64;
    fn rte_hash_free(table: *mut Raw);
}

const _: () =
    assert!(size_of::<*mut c_void>() == size_of::<u64>(), "words are kept where pointers were meant");

/// Most keys in a lookup (`RTE_HASH_LOOKUP_BULK_MAX`).
pub const BULK_MAX: usize = 64;

/// DPDK is up in this process, and will be until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Dpdk(());

impl Dpdk {
    /// Starts DPDK without devices and leaves nothing behind. Once per process. The caller is not pinned to a CPU by
    /// it: a thread that ends at once is.
    ///
    /// # Errors
    /// No huge pages, most likely.
    pub fn start() -> Result<Self, Error> {
        let args = ["--in-memory", "--no-pci", "--no-telemetry", "--lcores=0", "--log-level=error"];
        let start = move || Eal::init(&args.map(String::from)).map(std::mem::forget);
        match thread::spawn(start).join() {
            Ok(started) => started.map(|()| Self(())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Bytes that DPDK's heaps have handed out.
    #[must_use]
    pub fn heap_bytes(self) -> u64 {
        // SAFETY: asks an EAL that is up, as self says; the heaps lock themselves.
        unsafe { candidate_heap_bytes() }
    }
}

struct Table(NonNull<Raw>);

// SAFETY: rte_hash is tied to no thread. Of what may run concurrently see `Sync`.
unsafe impl Send for Table {}
// SAFETY: through a shared table only lookups go, any number of which may run beside each other and, as the table was
// created with RW_CONCURRENCY_LF, beside one thread that inserts. There is one at most: `Writer` is neither
// cloned nor used but through `&mut`.
unsafe impl Sync for Table {}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: from `rte_hash_create`; writer and readers, who hold the Arc around self, are gone. EAL is up for good.
        unsafe { rte_hash_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rte_hash")
    }
}

/// A table for this many keys.
///
/// # Errors
/// Too few huge pages are free.
pub fn new(_: Dpdk, entries: u32) -> io::Result<(Writer, Reader)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("candidate{}\0", NUMBER.fetch_add(1, Relaxed));
    let name = CStr::from_bytes_with_nul(name.as_bytes()).map_err(io::Error::other)?;
    // SAFETY: EAL is up, as the first argument says; the name ends with NUL and is copied.
    let table = NonNull::new(unsafe { candidate_create(name.as_ptr(), entries) });
    let Some(table) = table else {
        return Err(io::Error::other(format!(
            "no rte_hash of {entries} entries: are enough huge pages free? (/proc/sys/vm/nr_hugepages)"
        )));
    };
    let table = Arc::new(Table(table));
    Ok((Writer { table: Arc::clone(&table) }, Reader { table }))
}

/// Who changes the table.
#[derive(Debug)]
pub struct Writer {
    table: Arc<Table>,
}

impl Writer {
    /// Gives a key its word.
    ///
    /// # Errors
    /// The table is full, or found no arrangement of its keys.
    pub fn insert(&mut self, key: u64, word: u64) -> io::Result<()> {
        // SAFETY: the table lives as long as the Arc. Keys have the 8 bytes with which it was created. `&mut self`
        // of the only writer: no other insert runs.
        match unsafe { candidate_insert(self.table.0.as_ptr(), key, word) } {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }
}

/// Who looks keys up.
#[derive(Debug, Clone)]
pub struct Reader {
    table: Arc<Table>,
}

impl Reader {
    /// The words of at most [`BULK_MAX`] keys; 0 for a key that is not there. Bit i of the result: `keys[i]` is.
    ///
    /// # Panics
    /// If there are more keys, or fewer words.
    #[inline]
    pub fn bulk(&self, keys: &[u64], words: &mut [u64]) -> u64 {
        let n = check(keys, words);
        // SAFETY: the table lives as long as the Arc; `n` keys can be read, `n` words written (`check`), and a word
        // has the size and alignment of a pointer.
        unsafe { candidate_lookup(self.table.0.as_ptr(), keys.as_ptr(), n, words.as_mut_ptr().cast()) }
    }

    /// As [`Reader::bulk`], by `rte_hash_lookup_with_hash_bulk_data`.
    ///
    /// # Panics
    /// As [`Reader::bulk`].
    #[inline]
    pub fn bulk_hashed(&self, keys: &[u64], words: &mut [u64]) -> u64 {
        let n = check(keys, words);
        // SAFETY: as in `bulk`.
        unsafe { candidate_lookup_hashed(self.table.0.as_ptr(), keys.as_ptr(), n, words.as_mut_ptr().cast()) }
    }
}

fn check(keys: &[u64], words: &[u64]) -> u32 {
    assert!(keys.len() <= BULK_MAX && keys.len() <= words.len(), "{} keys", keys.len());
    keys.len() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without huge pages there is nothing to test.
    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let Ok(dpdk) = Dpdk::start() else { return };
        let before = dpdk.heap_bytes();
        let (mut writer, reader) = new(dpdk, 2_000).unwrap();
        assert!(dpdk.heap_bytes() > before + 2_000 * 16);
        for key in 1..=1_000 {
            writer.insert(key, key + 7).unwrap();
        }
        writer.insert(3, 77).unwrap();
        let keys = [1, 5_000, 1_000, 3, 0];
        for lookup in [Reader::bulk, Reader::bulk_hashed] {
            let mut words = [9; 5];
            assert_eq!(lookup(&reader, &keys, &mut words), 0b01101);
            assert_eq!(words, [8, 0, 1_007, 77, 0]);
        }
        assert!(std::panic::catch_unwind(|| reader.bulk(&[1; 65], &mut [0; 65])).is_err());
        drop((writer, reader));
        assert_eq!(dpdk.heap_bytes(), before);
    }
}

//! A map for keys wider than a word: network index and IPv6 address to a 64-bit value. Looked up only when a
//! neighbour solicitation is answered, so it is simple rather than fast: a [`map64`](crate::map64) leads from a
//! hash of the key to a record, the record holds the whole key, and records of equal hash are chained.
//! This module has no unsafe code.

use crate::{
    epoch::{Domain, Epoch, Reader, Writer},
    map64::{self, MapError, MapReader, MapWriter, Piece},
    slots::Slots,
    sync::{AtomicU64, Ordering},
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// A key of three words. All values are allowed.
pub type WideKey = [u64; 3];

/// No further record.
const END: u64 = u64::MAX;

/// One entry. Key and hash never change; `next` is the number of the next record of the same hash.
#[derive(Debug)]
struct Record {
    key: WideKey,
    value: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    records: Slots<Record>,
    hasher: RandomState,
    domain: Domain,
    /// 64, or fewer in tests so that hashes collide.
    hash_bits: u32,
}

impl Shared {
    /// Never a key that `map64` reserves.
    fn hash(&self, key: &WideKey) -> u64 {
        let hash = self.hasher.hash_one(key) >> (64 - self.hash_bits);
        hash.clamp(1, u64::MAX - 1)
    }
}

/// An empty map of `writer`'s domain, for at most `limit` entries.
pub fn new(writer: &Writer, limit: usize) -> Result<(WideWriter, WideReader), MapError> {
    with_hash_bits(writer, limit, 64)
}

/// As [`new`], but only the upper `hash_bits` (1 to 64) of the hash are used. Tests make hashes collide so.
pub fn with_hash_bits(
    writer: &Writer,
    limit: usize,
    hash_bits: u32,
) -> Result<(WideWriter, WideReader), MapError> {
    let (heads, heads_reader) = map64::new(writer, limit)?;
    let shared = Arc::new(Shared {
        records: Slots::new(writer, u32::MAX),
        hasher: RandomState::new(),
        domain: writer.domain(),
        hash_bits,
    });
    let reader = WideReader { heads: heads_reader, shared: Arc::clone(&shared) };
    let (deferred, vacant) = (VecDeque::new(), Vec::new());
    Ok((WideWriter { heads, shared, deferred, vacant, next_number: 0, len: 0, limit }, reader))
}

/// The reading half. Clone it for every lcore.
#[derive(Debug, Clone)]
pub struct WideReader {
    heads: MapReader,
    shared: Arc<Shared>,
}

impl WideReader {
    /// The value of `key`.
    ///
    /// # Panics
    /// If `reader` is of another domain.
    #[must_use]
    pub fn get(&self, reader: &Reader, key: &WideKey) -> Option<u64> {
        let head = self.heads.get(reader, self.shared.hash(key))?;
        let records = self.shared.records.view(reader);
        let record = chain(head, |n| records.get(n)).find(|r| r.key == *key)?;
        Some(record.value.load(Ordering::Acquire))
    }
}

/// The records from number `head` on.
fn chain<'a>(head: u64, record: impl Fn(u32) -> Option<&'a Record>) -> impl Iterator<Item = &'a Record> {
    // `END` is no u32, so the chain ends there.
    let at = move |number: u64| record(u32::try_from(number).ok()?);
    std::iter::successors(at(head), move |r| at(r.next.load(Ordering::Acquire)))
}

/// The writing half.
#[derive(Debug)]
pub struct WideWriter {
    /// Hash to the number of the first record of that hash.
    heads: MapWriter,
    shared: Arc<Shared>,
    /// Numbers of removed records, which stay readable until the epoch beside them is passed: a reader that
    /// is at one finds the rest of the chain by it.
    deferred: VecDeque<(Epoch, u32)>,
    vacant: Vec<u32>,
    /// Numbers from here on were never used.
    next_number: u32,
    len: usize,
    limit: usize,
}

impl WideWriter {
    /// Inserts or replaces; returns the value that the key had. Readers see the change at once.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn insert(
        &mut self,
        writer: &mut Writer,
        key: &WideKey,
        value: u64,
    ) -> Result<Option<u64>, MapError> {
        if let Some(old) = self.update(writer, key, value) {
            return Ok(Some(old));
        }
        if self.len >= self.limit {
            return Err(MapError::Limit(self.limit));
        }
        let number = self.take_number(writer)?;
        let hash = self.shared.hash(key);
        let record = Record {
            key: *key,
            value: AtomicU64::new(value),
            next: AtomicU64::new(self.heads.get(hash).unwrap_or(END)),
        };
        let placed = match self.shared.records.set(writer, number, record) {
            Ok(_) => self.heads.insert(writer, hash, number.into()).map(|_| ()),
            Err(_) => Err(MapError::Limit(self.limit)),
        };
        if let Err(error) = placed {
            self.deferred.push_back((writer.grace(), number));
            return Err(error);
        }
        self.len += 1;
        Ok(None)
    }

    /// Replaces the value of a key that is present; returns the old value.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn update(&mut self, writer: &mut Writer, key: &WideKey, value: u64) -> Option<u64> {
        self.shared.domain.check_writer(writer);
        Some(self.record(writer, key)?.value.swap(value, Ordering::AcqRel))
    }

    /// Takes the entry of `key` out and returns its value.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn remove(&mut self, writer: &mut Writer, key: &WideKey) -> Option<u64> {
        self.shared.domain.check_writer(writer);
        let hash = self.shared.hash(key);
        let head = self.heads.get(hash)?;
        let numbers = std::iter::successors(Some(head), |&n| {
            Some(self.at(writer, n)?.next.load(Ordering::Acquire)).filter(|&n| n != END)
        });
        let mut before = None;
        let mut found = None;
        for number in numbers {
            if self.at(writer, number).is_some_and(|r| r.key == *key) {
                found = Some(number);
                break;
            }
            before = Some(number);
        }
        let number = found?;
        let record = self.at(writer, number)?;
        let old = record.value.load(Ordering::Acquire);
        let next = record.next.load(Ordering::Acquire);
        match before.and_then(|b| self.at(writer, b)) {
            Some(before) => before.next.store(next, Ordering::Release),
            None if next == END => {
                self.heads.remove(writer, hash);
            }
            None => {
                self.heads.update(writer, hash, next);
            }
        }
        self.deferred.push_back((writer.grace(), u32::try_from(number).ok()?));
        self.len -= 1;
        Some(old)
    }

    /// Keeps the entries for which `keep` is true and removes the others. Returns how many were removed.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn retain(&mut self, writer: &mut Writer, mut keep: impl FnMut(&WideKey, u64) -> bool) -> usize {
        let gone: Vec<WideKey> =
            self.iter(writer).filter(|(key, value)| !keep(key, *value)).map(|(key, _)| key).collect();
        gone.iter().filter(|key| self.remove(writer, key).is_some()).count()
    }

    /// The value of `key`, as last written.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    #[must_use]
    pub fn get(&self, writer: &Writer, key: &WideKey) -> Option<u64> {
        Some(self.record(writer, key)?.value.load(Ordering::Acquire))
    }

    /// All entries, in no order.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn iter<'a>(&'a self, writer: &'a Writer) -> impl Iterator<Item = (WideKey, u64)> + 'a {
        self.heads
            .iter()
            .flat_map(|(_, head)| chain(head, |n| self.shared.records.get(writer, n)))
            .map(|r| (r.key, r.value.load(Ordering::Acquire)))
    }

    /// Some entries, from the place `from` in their order on; see [`MapWriter::piece`].
    ///
    /// # Panics
    /// If `writer` is of another domain.
    #[must_use]
    pub fn piece(&self, writer: &Writer, from: u64, at_most: usize) -> Piece<(WideKey, u64)> {
        let Piece { rows, next, scanned } = self.heads.piece(from, at_most, |_| true);
        let records =
            rows.into_iter().flat_map(|(_, head)| chain(head, |n| self.shared.records.get(writer, n)));
        Piece { rows: records.map(|r| (r.key, r.value.load(Ordering::Acquire))).collect(), next, scanned }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No entry is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the map, with its records.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.heads.memory_bytes()
            + self.shared.records.memory_bytes()
            + (self.len + self.deferred.len()) * size_of::<Record>()
            + self.deferred.capacity() * size_of::<(Epoch, u32)>()
            + self.vacant.capacity() * size_of::<u32>()
    }

    /// Frees what all readers have passed. Inserts do it by themselves; call it when the control thread is
    /// idle.
    ///
    /// # Panics
    /// If `writer` is of another domain.
    pub fn maintain(&mut self, writer: &mut Writer) {
        self.heads.maintain(writer);
        while let Some(&(after, number)) = self.deferred.front()
            && writer.passed(after)
        {
            self.deferred.pop_front();
            self.shared.records.clear(writer, number);
            self.vacant.push(number);
        }
    }

    fn take_number(&mut self, writer: &mut Writer) -> Result<u32, MapError> {
        if self.vacant.is_empty() && !self.deferred.is_empty() {
            self.maintain(writer);
        }
        if let Some(number) = self.vacant.pop() {
            return Ok(number);
        }
        let number = self.next_number;
        self.next_number = number.checked_add(1).ok_or(MapError::Limit(self.limit))?;
        Ok(number)
    }

    fn at<'a>(&'a self, writer: &'a Writer, number: u64) -> Option<&'a Record> {
        self.shared.records.get(writer, u32::try_from(number).ok()?)
    }

    fn record<'a>(&'a self, writer: &'a Writer, key: &WideKey) -> Option<&'a Record> {
        let head = self.heads.get(self.shared.hash(key))?;
        chain(head, |n| self.shared.records.get(writer, n)).find(|r| r.key == *key)
    }
}

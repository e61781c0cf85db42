//! Records as bytes in tables: what passes between the board, which knows what records mean, and a store, which knows
//! tables and bytes. Values only.
//!
//! A kind of record is one implementation of [`Record`]: its table, its key, its codec. [`crate::board::record`] has them.

use std::fmt;
use stopover_net::{Mac, Vni};

/// A table of a store, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub &'static str);

/// Longest key of a record.
pub const KEY_BYTES: usize = 23;

/// The key of a record as bytes. Their order is the order of the records.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    length: u8,
    bytes: [u8; KEY_BYTES],
}

impl Key {
    /// A key of these bytes.
    #[must_use]
    pub fn new<const N: usize>(key: [u8; N]) -> Self {
        const { assert!(N <= KEY_BYTES) };
        let mut bytes = [0; KEY_BYTES];
        bytes[..N].copy_from_slice(&key);
        Self { length: N as u8, bytes }
    }

    /// The same of any length; `None` if it is too long.
    #[must_use]
    pub fn from_slice(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { length: key.len() as u8, bytes })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_bytes())
    }
}

/// A record that cannot be read: damaged, or written by another program or a newer version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it is.
    pub table: Table,
    /// Which, in words.
    pub key: String,
}

impl Unreadable {
    /// The record of this key.
    #[must_use]
    pub fn of<R: Record>(key: &[u8]) -> Self {
        let hex = || key.iter().fold(String::from("key "), |text, byte| format!("{text}{byte:02x}"));
        Self { table: R::TABLE, key: R::Key::from_bytes(key).map_or_else(hex, RecordKey::text) }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table: Table(table), key } = self;
        write!(f, "record `{key}` of table `{table}` is unreadable: damaged, or of a newer version")
    }
}

impl std::error::Error for Unreadable {}

/// A kind of record.
pub trait Record: Sized {
    /// Where its records are. No other kind has the same keys there.
    const TABLE: Table;
    /// Names one record.
    type Key: RecordKey;
    /// As it is stored under this key. What an earlier version has stored must remain readable; a change that does not
    /// allow this is a new format of the store.
    fn encode(&self, key: Self::Key) -> Vec<u8>;
    /// The reverse; `None` if the bytes are no such record.
    fn decode(key: Self::Key, bytes: &[u8]) -> Option<Self>;
}

/// One record to write, or to remove. Of several with the same table and key the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Which.
    pub key: Key,
    /// The record; `None` removes it.
    pub value: Option<Box<[u8]>>,
}

impl Write {
    /// Writes a record.
    pub fn put<R: Record>(key: R::Key, record: &R) -> Self {
        Self { table: R::TABLE, key: key.to_bytes(), value: Some(record.encode(key).into_boxed_slice()) }
    }

    /// Removes a record.
    pub fn remove<R: Record>(key: R::Key) -> Self {
        Self { table: R::TABLE, key: key.to_bytes(), value: None }
    }

    /// Writes or removes a record.
    pub fn set<R: Record>(key: R::Key, record: Option<&R>) -> Self {
        record.map_or_else(|| Self::remove::<R>(key), |record| Self::put(key, record))
    }

    /// Bytes of key and record.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.as_bytes().len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// What a store takes in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most records that are written or removed.
    pub writes: usize,
    /// Most bytes of their keys and values together.
    pub bytes: usize,
    /// Most bytes of one value.
    pub record_bytes: usize,
    /// Most bytes of one key.
    pub key_bytes: usize,
}

impl Limits {
    /// None that a board reaches.
    pub const UNLIMITED: Self =
        Self { writes: usize::MAX, bytes: usize::MAX, record_bytes: usize::MAX, key_bytes: usize::MAX };

    /// What every store must take: twice the end of a migration of as many nodes as are allowed, with five records for
    /// each, and a migration's record with as many deferred claims as are allowed.
    pub const LEAST: Self =
        Self { writes: 1024, bytes: 1 << 20, record_bytes: 256 << 10, key_bytes: KEY_BYTES };

    /// Whether everything that fits into `other` fits.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        self.writes >= other.writes
            && self.bytes >= other.bytes
            && self.record_bytes >= other.record_bytes
            && self.key_bytes >= other.key_bytes
    }

    /// As many records and bytes of half the size.
    #[must_use]
    pub fn half(&self) -> Self {
        Self { writes: self.writes / 2, bytes: self.bytes / 2, ..*self }
    }

    /// What is too large, as half a sentence with what was found and what is allowed.
    pub fn check(&self, writes: &[Write]) -> Result<(), String> {
        if *self == Self::UNLIMITED {
            return Ok(());
        }
        let bytes: usize = writes.iter().map(Write::size).sum();
        let longest = writes.iter().filter_map(|write| write.value.as_ref()).map(|value| value.len()).max();
        for (what, found, most) in [
            ("records", writes.len(), self.writes),
            ("bytes", bytes, self.bytes),
            ("bytes in one record", longest.unwrap_or(0), self.record_bytes),
        ] {
            if found > most {
                return Err(format!("{found} {what}, where at most {most} are possible"));
            }
        }
        Ok(())
    }
}

/// The key of a kind of record. Numbers are big-endian, so that byte order is key order.
pub trait RecordKey: Copy {
    /// As it is stored.
    fn to_bytes(self) -> Key;
    /// The reverse; `None` if the bytes are no such key.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// In words, for messages.
    fn text(self) -> String;
}

/// A key that begins with a network, as [`network_prefix`] has it.
pub trait NetworkKey: RecordKey {}

/// A key and record of a kind, from their bytes.
pub fn read<R: Record>(key: &[u8], value: &[u8]) -> Result<(R::Key, R), Unreadable> {
    let unreadable = || Unreadable::of::<R>(key);
    let of = R::Key::from_bytes(key).ok_or_else(unreadable)?;
    Ok((of, R::decode(of, value).ok_or_else(unreadable)?))
}

/// With these bytes begin the keys of all records of a network whose keys are pairs.
#[must_use]
pub fn network_prefix(vni: Vni) -> [u8; 3] {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [a, b, c]
}

fn vni([a, b, c]: [u8; 3]) -> Option<Vni> {
    Vni::new(u32::from_be_bytes([0, a, b, c])).ok()
}

impl RecordKey for u32 {
    fn to_bytes(self) -> Key {
        Key::new(self.to_be_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }

    fn text(self) -> String {
        self.to_string()
    }
}

impl RecordKey for u64 {
    fn to_bytes(self) -> Key {
        Key::new(self.to_be_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_be_bytes(bytes.try_into().ok()?))
    }

    fn text(self) -> String {
        self.to_string()
    }
}

impl RecordKey for Vni {
    fn to_bytes(self) -> Key {
        Key::new(self.get().to_be_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::new(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
    }

    fn text(self) -> String {
        format!("VNI {self}")
    }
}

impl NetworkKey for (Vni, u32) {}
impl NetworkKey for (Vni, Mac) {}

/// By network and host.
impl RecordKey for (Vni, u32) {
    fn to_bytes(self) -> Key {
        let ([a, b, c], [d, e, f, g]) = (network_prefix(self.0), self.1.to_be_bytes());
        Key::new([a, b, c, d, e, f, g])
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (network, host) = bytes.split_first_chunk()?;
        Some((vni(*network)?, u32::from_be_bytes(host.try_into().ok()?)))
    }

    fn text(self) -> String {
        format!("VNI {}, host {}", self.0, self.1)
    }
}

/// By network and MAC.
impl RecordKey for (Vni, Mac) {
    fn to_bytes(self) -> Key {
        let ([a, b, c], [d, e, f, g, h, i]) = (network_prefix(self.0), self.1.octets());
        Key::new([a, b, c, d, e, f, g, h, i])
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (network, mac) = bytes.split_first_chunk()?;
        Some((vni(*network)?, Mac::new(mac.try_into().ok()?)))
    }

    fn text(self) -> String {
        format!("VNI {}, {}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<K: RecordKey + PartialEq>(key: K) -> bool {
        K::from_bytes(key.to_bytes().as_bytes()) == Some(key) && !key.text().is_empty()
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in 1..=Vni::MAX, b in 1..=Vni::MAX, m: [u8; 6], host: u32, n: u64) {
            let (a, b, mac) = (Vni::new(a).unwrap(), Vni::new(b).unwrap(), Mac::new(m));
            prop_assert!(round_trip(a) && round_trip((a, mac)) && round_trip((a, host)));
            prop_assert!(round_trip(host) && round_trip(n));
            let order = (a, mac).to_bytes().as_bytes().cmp((b, mac).to_bytes().as_bytes());
            prop_assert_eq!(order, a.cmp(&b));
            prop_assert!((a, host).to_bytes().as_bytes().starts_with(&network_prefix(a)));
            prop_assert!((a, mac).to_bytes().as_bytes().starts_with(&network_prefix(a)));
        }

        #[test]
        fn garbage_is_no_key(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let length = bytes.len();
            prop_assert!(length == 4 || u32::from_bytes(&bytes).is_none() && Vni::from_bytes(&bytes).is_none());
            prop_assert!(length == 8 || u64::from_bytes(&bytes).is_none());
            prop_assert!(length == 7 || <(Vni, u32)>::from_bytes(&bytes).is_none());
            prop_assert!(length == 9 || <(Vni, Mac)>::from_bytes(&bytes).is_none());
        }
    }
}

//! The id of the next new host: one record. Ids are not used again.

use crate::table::{Key, Record, RecordKey, Table};

/// Id for the next new host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHost(pub u32);

/// The only key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHostKey;

const KEY: &[u8; 9] = b"next_host";

impl RecordKey for NextHostKey {
    fn to_bytes(self) -> Key {
        Key::new(*KEY)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes == KEY).then_some(Self)
    }

    fn text(self) -> String {
        "next_host".to_owned()
    }
}

/// id, 8 bytes
impl Record for NextHost {
    /// Since the first format this one record is beside what the embedded store knows of itself.
    const TABLE: Table = Table("meta");
    type Key = NextHostKey;

    fn encode(&self, _: NextHostKey) -> Vec<u8> {
        u64::from(self.0).to_be_bytes().to_vec()
    }

    fn decode(_: NextHostKey, bytes: &[u8]) -> Option<Self> {
        u64::from_be_bytes(bytes.try_into().ok()?).try_into().ok().map(Self)
    }
}

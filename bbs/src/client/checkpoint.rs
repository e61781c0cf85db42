//! The file in which an appliance keeps what it forwards by, so that it can start without a board. Enters: the state, in
//! pieces; or the bytes of a file. Leaves: the bytes; or the state, all of it or none. `checkpoint.proto` has the format.
//! No file is opened here.

use crate::{
    model::{Change, NodeBatch, Point},
    proto::{batch, board, parse, v1},
};
use prost::Message;
use std::{
    collections::BTreeSet,
    io::{self, Write},
};
use stopover_net::{HostName, Vni};

const MAGIC: &[u8; 8] = b"STOPOVER";
const FORMAT: u32 = 1;
/// Bytes before the first record.
const PREFIX: usize = MAGIC.len() + size_of::<u32>();
/// Bytes after the last record: its end mark and the checksum.
const SUFFIX: usize = 2 * size_of::<u32>();

/// What is known when the writing begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointHead {
    /// Whose state this is.
    pub host: HostName,
    /// The state when the writing began.
    pub holds: Point,
    /// The networks in it.
    pub networks: BTreeSet<Vni>,
    /// When the writing began, milliseconds since 1970.
    pub written_unix_ms: u64,
}

/// A part of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointPiece {
    /// Hosts, networks and members: puts.
    pub changes: Vec<Change>,
    /// Nodes. One may be in several batches, with some of its addresses in each.
    pub nodes: Vec<NodeBatch>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What was known when the writing began.
    pub head: CheckpointHead,
    /// The state.
    pub pieces: Vec<CheckpointPiece>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; expected {expected}")]
pub struct CheckpointError {
    found: String,
    expected: String,
}

impl CheckpointError {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { found: found.into(), expected: expected.into() }
    }
}

/// Writes a checkpoint. Without [`CheckpointWriter::finish`] what was written is no checkpoint.
#[derive(Debug)]
pub struct CheckpointWriter<W> {
    out: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> CheckpointWriter<W> {
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W, head: &CheckpointHead) -> io::Result<Self> {
        let mut writer = Self { out, sum: crc32fast::Hasher::new() };
        writer.bytes(MAGIC)?;
        writer.bytes(&FORMAT.to_le_bytes())?;
        writer.record(&v1::CheckpointHead {
            host: head.host.as_str().to_owned(),
            holds: Some(head.holds.into()),
            vnis: head.networks.iter().map(|vni| vni.get()).collect(),
            written_unix_ms: head.written_unix_ms,
        })?;
        Ok(writer)
    }

    /// # Errors
    /// Those of `out`.
    pub fn piece(&mut self, piece: &CheckpointPiece) -> io::Result<()> {
        self.record(&v1::CheckpointPiece {
            changes: piece.changes.iter().map(Into::into).collect(),
            nodes: piece.nodes.iter().map(Into::into).collect(),
        })
    }

    /// Returns `out`, with the whole checkpoint.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.bytes(&0u32.to_le_bytes())?;
        let sum = self.sum.clone().finalize();
        self.bytes(&sum.to_le_bytes())?;
        Ok(self.out)
    }

    fn record(&mut self, message: &impl Message) -> io::Result<()> {
        let bytes = message.encode_to_vec();
        // A piece may be empty, and a length of 0 means the end.
        let length = bytes.len() as u32 + 1;
        self.bytes(&length.to_le_bytes())?;
        self.bytes(&bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// The state in the bytes of a file.
///
/// # Errors
/// It is not a whole checkpoint of this format.
pub fn parse(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let records = &mut records(bytes)?;
    let head = head(next("head", records)?).map_err(|e| CheckpointError::new("a wrong head", e))?;
    let mut pieces = Vec::new();
    while !records.at_end() {
        let at = pieces.len();
        let piece = piece(next("piece", records)?)
            .map_err(|e| CheckpointError::new(format!("a wrong piece, number {at}"), e))?;
        pieces.push(piece);
    }
    Ok(Checkpoint { head, pieces })
}

/// Checks prefix and checksum.
fn records(bytes: &[u8]) -> Result<Records<'_>, CheckpointError> {
    let whole = || CheckpointError::new(format!("{} bytes", bytes.len()), "a whole checkpoint");
    let number = |at: usize| {
        let four = bytes.get(at..at + size_of::<u32>()).and_then(|four| four.try_into().ok());
        four.map(u32::from_le_bytes).ok_or_else(whole)
    };
    if !bytes.starts_with(MAGIC) {
        return Err(CheckpointError::new("other first bytes", "a checkpoint, which begins with STOPOVER"));
    }
    let format = number(MAGIC.len())?;
    if format != FORMAT {
        let expected = format!("format {FORMAT}: it was written by another version");
        return Err(CheckpointError::new(format!("format {format}"), expected));
    }
    let body = bytes.len().checked_sub(SUFFIX).filter(|end| *end >= PREFIX).ok_or_else(whole)?;
    let end = bytes.len() - size_of::<u32>();
    let (sum, expected) = (crc32fast::hash(&bytes[..end]), number(end)?);
    if sum != expected {
        return Err(CheckpointError::new(
            format!("checksum {sum:08x}"),
            format!("{expected:08x}: it is damaged"),
        ));
    }
    Ok(Records(&bytes[PREFIX..body]))
}

/// Records that are not read yet.
struct Records<'a>(&'a [u8]);

impl Records<'_> {
    const fn at_end(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let length = (u32::from_le_bytes(*length) as usize).checked_sub(1)?;
        let (record, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(record)
    }
}

fn next<M: Message + Default>(what: &str, records: &mut Records<'_>) -> Result<M, CheckpointError> {
    let bytes = records.next().ok_or_else(|| CheckpointError::new(format!("no {what}"), "one"))?;
    decode(what, bytes)
}

fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, CheckpointError> {
    M::decode(bytes).map_err(|e| CheckpointError::new(format!("an unreadable {what}"), e.to_string()))
}

fn head(m: v1::CheckpointHead) -> Result<CheckpointHead, String> {
    let field = |e: parse::BadField| e.to_string();
    let holds = parse::required("holds", m.holds).map_err(field)?;
    Ok(CheckpointHead {
        host: parse::host_name("host", m.host).map_err(field)?,
        holds: parse::point("holds", &holds).map_err(field)?,
        networks: parse::vnis_unbounded("vnis", m.vnis).map_err(field)?.into_iter().collect(),
        written_unix_ms: m.written_unix_ms,
    })
}

fn piece(m: v1::CheckpointPiece) -> Result<CheckpointPiece, String> {
    let changes = board::changes(m.changes).map_err(|e| e.to_string())?;
    let nodes = batch::parse_list(v1::NodeList { batches: m.nodes }).map_err(|e| e.to_string())?;
    Ok(CheckpointPiece { changes, nodes })
}

/// For fuzzing: whatever records these are, with the prefix and checksum that a file has. What is read is read again from
/// what is written of it.
#[cfg(any(test, feature = "exercise"))]
pub fn exercise_checkpoint(records: &[u8]) {
    let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes(), records, &0u32.to_le_bytes()].concat();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    let Ok(checkpoint) = parse(&bytes) else { return };
    let written = || -> io::Result<Vec<u8>> {
        let mut writer = CheckpointWriter::new(Vec::new(), &checkpoint.head)?;
        checkpoint.pieces.iter().try_for_each(|piece| writer.piece(piece))?;
        writer.finish()
    };
    let again = written().map(|bytes| parse(&bytes));
    assert_eq!(again.ok(), Some(Ok(checkpoint)), "written and read again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeclaredBy, Host, HostDetails, NodeFacts, Uuid};
    use proptest::{collection::vec, prelude::*};
    use std::net::IpAddr;
    use stopover_net::Mac;

    fn host(id: u32) -> Change {
        Change::HostPut(Host {
            id,
            name: HostName::new(format!("h{id}")).unwrap(),
            vteps: vec![IpAddr::from(id.to_be_bytes())],
            udp_port: 4789,
            declared_by: DeclaredBy::Appliance,
            up: id.is_multiple_of(2),
            no_flood: false,
            down_unix_ms: 0,
            details: HostDetails::default(),
        })
    }

    fn nodes(vni: u32, macs: &[u64]) -> NodeBatch {
        let mut batch = NodeBatch::new(Vni::new(vni).unwrap());
        for mac in macs {
            let ip = IpAddr::from((*mac as u32 | 0x0a00_0000).to_be_bytes());
            batch.push(Mac::from_u64(mac << 8 | 2 << 40), 7, 0, NodeFacts::default(), [ip].into_iter());
        }
        batch
    }

    fn checkpoint() -> impl Strategy<Value = Checkpoint> {
        let piece = (vec(1u32..0x7fff_ffff, 0..4), vec((1u32..100, vec(1u64..0xff_ffff, 0..9)), 0..3));
        let piece = piece.prop_map(|(hosts, batches)| CheckpointPiece {
            changes: hosts.into_iter().map(host).collect(),
            nodes: batches.iter().map(|(vni, macs)| nodes(*vni, macs)).collect(),
        });
        let head = (any::<(u128, Option<u128>, u64, u64)>(), vec(1u32..1 << 24, 0..5));
        let head = head.prop_map(|((board, run, revision, written_unix_ms), vnis)| CheckpointHead {
            host: HostName::new("hv-a").unwrap(),
            holds: Point { board: Uuid::from_u128(board), run: run.map(Uuid::from_u128), revision },
            networks: vnis.into_iter().map(|vni| Vni::new(vni).unwrap()).collect(),
            written_unix_ms,
        });
        (head, vec(piece, 0..4)).prop_map(|(head, pieces)| Checkpoint { head, pieces })
    }

    fn written(checkpoint: &Checkpoint) -> Vec<u8> {
        let mut writer = CheckpointWriter::new(Vec::new(), &checkpoint.head).unwrap();
        checkpoint.pieces.iter().for_each(|piece| writer.piece(piece).unwrap());
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(checkpoint in checkpoint()) {
            prop_assert_eq!(parse(&written(&checkpoint)).unwrap(), checkpoint);
        }

        #[test]
        fn a_damaged_file_is_refused(checkpoint in checkpoint(), at: prop::sample::Index, bit in 0..8) {
            let mut bytes = written(&checkpoint);
            let at = at.index(bytes.len());
            prop_assert!(parse(&bytes[..at]).is_err(), "cut at {}", at);
            bytes[at] ^= 1u8 << bit;
            prop_assert!(parse(&bytes).is_err(), "bit {} of byte {}", bit, at);
        }
    }

    /// Every saved fuzz input, and every input that once crashed the target.
    #[test]
    fn corpus() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"));
        let folders = ["corpus", "crashes"].map(|folder| root.join(folder).join("checkpoint"));
        let files = folders.iter().flat_map(std::fs::read_dir).flatten();
        let inputs: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() >= 5);
        inputs.iter().for_each(|input| exercise_checkpoint(input));
    }

    /// Gives bytes the checksum that they should have.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - 4;
        let sum = crc32fast::hash(&bytes[..end]);
        bytes.splice(end.., sum.to_le_bytes());
        bytes
    }

    #[test]
    fn what_no_version_writes_is_refused_with_its_place() {
        let head = CheckpointHead {
            host: HostName::new("hv-a").unwrap(),
            holds: Point { board: Uuid::from_u128(1), run: None, revision: 1 },
            networks: BTreeSet::new(),
            written_unix_ms: 0,
        };
        let why = |bytes: Vec<u8>| parse(&bytes).unwrap_err().to_string();
        assert!(why(b"a text".to_vec()).contains("begins with STOPOVER"));
        let mut other = written(&Checkpoint { head: head.clone(), pieces: vec![] });
        other[8] = 2;
        assert!(why(other).contains("format 2; expected format 1"));
        let mut cut = CheckpointWriter::new(Vec::new(), &head).unwrap().out;
        cut.extend([9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(why(sealed(cut)).contains("no piece"), "a record that is longer than the file");
        assert!(why(sealed([&b"STOPOVER\x01\0\0\0"[..], &[0; 8]].concat())).contains("no head"));
        let mut wrong = CheckpointWriter::new(Vec::new(), &head).unwrap();
        let list = v1::NodeBatch { vni: 0, ..v1::NodeBatch::default() };
        wrong.record(&v1::CheckpointPiece { changes: Vec::new(), nodes: vec![list] }).unwrap();
        assert!(why(wrong.finish().unwrap()).contains("piece, number 0"));
    }
}

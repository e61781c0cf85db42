//! End markers: small frames that appliances send each other in band, inside the tunnel with the CONTROL mark
//! ([`crate::vxlan::OverlayFlags`]), so that the receiver of a moved node knows when no more frames can arrive by the
//! old path. Enters: the bytes of an inner frame with that flag. Leaves: its facts, or the 60 bytes of one. Frames of
//! tenants do not enter: a frame without the flag is no marker, whatever its bytes.
//!
//! The node is the Ethernet destination: a marker takes the path of the node's frames. Docs: wire-formats.md.

use crate::Mac;
use crate::bytes::{array, at_mut, be16, be32, byte, put};
use crate::ethernet::{self, ethertype};
use crate::reason::reasons;

/// Length in bytes: the shortest Ethernet frame, without FCS.
pub const FRAME_LEN: usize = 60;
/// Ethernet source of every marker: locally administered, "STOP" in its middle.
pub const SOURCE: Mac = Mac::new([0x02, 0x53, 0x54, 0x4f, 0x50, 0x00]);
/// EtherType of every marker.
pub const ETHERTYPE: u16 = ethertype::LOCAL_1;
/// Most sender queues (lcores) of one host.
pub const MAX_SENDER_QUEUES: u8 = 64;
/// Most source ports that one sender queue uses for a migrating node.
pub const MAX_PORTS: u8 = 64;

const VERSION: u8 = 1;
const FLAG_RELAYED: u8 = 0x01;
const FLAG_ENDS: u8 = 0x02;

mod field {
    use crate::ethernet::HEADER_LEN;
    pub const VERSION: usize = HEADER_LEN;
    pub const KIND: usize = HEADER_LEN + 1;
    pub const FLAGS: usize = HEADER_LEN + 2;
    pub const SENDER_QUEUE: usize = HEADER_LEN + 3;
    pub const SENDER_QUEUES: usize = HEADER_LEN + 4;
    pub const PORTS: usize = HEADER_LEN + 5;
    pub const HOST: usize = HEADER_LEN + 6;
    pub const GENERATION: usize = HEADER_LEN + 10;
    pub const PAUSED: usize = HEADER_LEN + 18;
    pub const PORT: usize = HEADER_LEN + 22;
    pub const SOURCE_PORT: usize = HEADER_LEN + 24;
}

/// Contents of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// From the new host to the old: the node runs here now, send on what you kept. The old host returns the
    /// marker behind all of that.
    Arrived = 1,
    /// From any other host to the old: I send nothing more for the node by you. The old host sends the marker
    /// on to the new one, behind all it had.
    End = 2,
}

/// Facts of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The step it reports.
    pub kind: Kind,
    /// It was at the old host and returns from there.
    pub relayed: bool,
    /// The old host will also send its own marker, when it knows that the node has moved: its frames wait too.
    pub ends: bool,
    /// Which of the sender queues ends; below `sender_queues`.
    pub sender_queue: u8,
    /// How many sender queues the host has, 1 to [`MAX_SENDER_QUEUES`]; each sends its own marker.
    pub sender_queues: u8,
    /// Which of the source ports that the queue used ends; below `ports`.
    pub port: u8,
    /// How many it used, 1 to [`MAX_PORTS`]; each has its own marker, sent from that port.
    pub ports: u8,
    /// That source port itself; 0 from versions without this field.
    pub source_port: u16,
    /// Who ends: the board's number of the host that sent the marker first.
    pub host: u32,
    /// The lock's generation at the board; 0: none is known.
    pub generation: u64,
    /// The node that moved: a station's address.
    pub node: Mac,
    /// Set by the old host as it relays: microseconds since the node's ring there last took a frame.
    pub paused_us: u32,
}

reasons! {
    /// Why an inner frame with the CONTROL mark is not understood.
    pub enum BadMarker {
        /// Shorter than [`FRAME_LEN`].
        Truncated = "marker_truncated",
        /// Another Ethernet source or EtherType.
        NotMarker = "marker_not_marker",
        /// The destination is zero or a group: no node's.
        Node = "marker_node",
        /// A version other than 1.
        Version = "marker_version",
        /// A kind that does not exist.
        Kind = "marker_kind",
        /// No sender queue, more than [`MAX_SENDER_QUEUES`], or one that is not among them.
        SenderQueue = "marker_sender_queue",
        /// More ports than [`MAX_PORTS`], or a port that is not among them.
        Port = "marker_port",
    }
}

/// Reads a marker from the bytes of an inner frame. Unknown flags and what follows the fields are ignored, so that they
/// can be given a meaning later.
pub fn parse(inner: &[u8]) -> Result<Marker, BadMarker> {
    let bytes = inner.first_chunk::<FRAME_LEN>().ok_or(BadMarker::Truncated)?;
    let eth = ethernet::Header::of(bytes.first_chunk().ok_or(BadMarker::Truncated)?);
    if eth.ethertype() != ETHERTYPE || eth.src() != SOURCE {
        return Err(BadMarker::NotMarker);
    }
    let node = eth.dst();
    if node.is_zero() || node.is_group() {
        return Err(BadMarker::Node);
    }
    if byte::<{ field::VERSION }, _>(bytes) != VERSION {
        return Err(BadMarker::Version);
    }
    let kind = match byte::<{ field::KIND }, _>(bytes) {
        1 => Kind::Arrived,
        2 => Kind::End,
        _ => return Err(BadMarker::Kind),
    };
    let (sender_queue, sender_queues) =
        (byte::<{ field::SENDER_QUEUE }, _>(bytes), byte::<{ field::SENDER_QUEUES }, _>(bytes));
    if sender_queues > MAX_SENDER_QUEUES || sender_queue >= sender_queues {
        return Err(BadMarker::SenderQueue);
    }
    // An older version has one marker for each sender queue, and zeros here.
    let (port, ports) = (byte::<{ field::PORT }, _>(bytes), byte::<{ field::PORTS }, _>(bytes).max(1));
    if ports > MAX_PORTS || port >= ports {
        return Err(BadMarker::Port);
    }
    Ok(Marker {
        port,
        ports,
        source_port: be16::<{ field::SOURCE_PORT }, _>(bytes),
        kind,
        relayed: byte::<{ field::FLAGS }, _>(bytes) & FLAG_RELAYED != 0,
        ends: byte::<{ field::FLAGS }, _>(bytes) & FLAG_ENDS != 0,
        sender_queue,
        sender_queues,
        host: be32::<{ field::HOST }, _>(bytes),
        generation: u64::from_be_bytes(array::<{ field::GENERATION }, 8, _>(bytes)),
        node,
        paused_us: be32::<{ field::PAUSED }, _>(bytes),
    })
}

/// The frame of a marker. Fields are written as they are: [`parse`] refuses what a [`Marker`] must not hold.
#[must_use]
pub fn build(marker: &Marker) -> [u8; FRAME_LEN] {
    let mut out = [0; FRAME_LEN];
    if let Some(eth) = out.first_chunk_mut() {
        ethernet::emit(eth, marker.node, SOURCE, ETHERTYPE);
    }
    let flags = if marker.relayed { FLAG_RELAYED } else { 0 } | if marker.ends { FLAG_ENDS } else { 0 };
    put::<{ field::VERSION }, 1, _>(&mut out, [VERSION]);
    put::<{ field::KIND }, 1, _>(&mut out, [marker.kind as u8]);
    put::<{ field::FLAGS }, 1, _>(&mut out, [flags]);
    put::<{ field::SENDER_QUEUE }, 1, _>(&mut out, [marker.sender_queue]);
    put::<{ field::SENDER_QUEUES }, 1, _>(&mut out, [marker.sender_queues]);
    put::<{ field::PORTS }, 1, _>(&mut out, [if marker.ports > 1 { marker.ports } else { 0 }]);
    put::<{ field::PORT }, 1, _>(&mut out, [marker.port]);
    put::<{ field::SOURCE_PORT }, 2, _>(&mut out, marker.source_port.to_be_bytes());
    put::<{ field::HOST }, 4, _>(&mut out, marker.host.to_be_bytes());
    put::<{ field::GENERATION }, 8, _>(&mut out, marker.generation.to_be_bytes());
    put::<{ field::PAUSED }, 4, _>(&mut out, marker.paused_us.to_be_bytes());
    out
}

/// What the old host writes into a marker as it relays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Relay {
    /// See [`Marker::paused_us`].
    pub paused_us: u32,
    /// See [`Marker::ends`].
    pub ends: bool,
}

/// Makes a marker that [`parse`] accepted one that has been at the old host. Does nothing if `inner` is shorter than a
/// marker.
pub fn relay_in_place(inner: &mut [u8], relay: Relay) {
    let Relay { paused_us, ends } = relay;
    let Some(bytes) = at_mut::<FRAME_LEN>(inner, 0) else { return };
    let flags = byte::<{ field::FLAGS }, _>(bytes) | FLAG_RELAYED | if ends { FLAG_ENDS } else { 0 };
    put::<{ field::FLAGS }, 1, _>(bytes, [flags]);
    put::<{ field::PAUSED }, 4, _>(bytes, paused_us.to_be_bytes());
}

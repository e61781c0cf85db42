//! The order of the stages, for both directions, in one list. A row names a stage, what it decides, the reasons for
//! which it drops a frame, and the stages that may follow. A stage that several may precede decides the same
//! whichever it was.
//!
//! A stage is the module of `pipeline` with its name, or a few lines of `tenant` or `underlay` (parse, outer, ecn,
//! control); these two call the stages in this order. Each calls [`Tracer::enter`](super::tracer::Tracer::enter) when it
//! begins. All tests of the pipeline run with a tracer that compares what frames enter and why they are dropped with
//! this list. Another test compares the list with docs/path-of-a-frame.md.

use super::drop_reason::DropReason;

/// A stage. The names are those of the trace and of docs/path-of-a-frame.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The headers of the tenant's frame.
    Parse,
    /// Its network.
    Network,
    /// May it be sent?
    Guard,
    /// Where is its source?
    Stations,
    /// ARP and ND.
    Resolve,
    /// Where is its destination?
    Lookup,
    /// Copies for several receivers.
    Replicate,
    /// For a migrating node.
    Migration,
    /// To a local port.
    Deliver,
    /// To another host.
    Encap,
    /// Encryption of what goes to another host.
    Seal,
    /// Finishes what the sender left to a device.
    Offload,
    /// Exceeds the MTU.
    TooBig,
    /// To the control thread.
    Control,
    /// The headers of the underlay's frame.
    Outer,
    /// Sealed datagrams, and handshakes.
    Open,
    /// From a host and for a network of ours.
    Decap,
    /// Congestion marks.
    Ecn,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Network => "network",
            Self::Guard => "guard",
            Self::Stations => "stations",
            Self::Resolve => "resolve",
            Self::Lookup => "lookup",
            Self::Replicate => "replicate",
            Self::Migration => "migration",
            Self::Deliver => "deliver",
            Self::Encap => "encap",
            Self::Seal => "seal",
            Self::Offload => "offload",
            Self::TooBig => "too_big",
            Self::Control => "control",
            Self::Outer => "outer",
            Self::Open => "open",
            Self::Decap => "decap",
            Self::Ecn => "ecn",
        }
    }

    /// Whether several frames may leave it for one that enters: copies, segments, an ICMP error beside the drop.
    #[must_use]
    pub const fn makes_frames(self) -> bool {
        matches!(self, Self::Replicate | Self::Migration | Self::Offload | Self::TooBig)
    }
}

/// A stage in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The stage.
    pub stage: Stage,
    /// What it decides.
    pub decides: &'static str,
    /// The reasons for which it drops a frame.
    pub drops: &'static [DropReason],
    /// The stages that may follow. Without any, the frame leaves.
    pub next: &'static [Stage],
}

/// All stages of frames that enter in the same way.
#[derive(Debug, Clone, Copy)]
pub struct Direction {
    /// Where they come from.
    pub name: &'static str,
    /// The stages that they may enter first.
    pub first: &'static [Stage],
    /// The stages, in order.
    pub rows: &'static [Row],
}

impl Direction {
    /// The row of a stage, if the direction has it.
    #[must_use]
    pub fn row(&self, stage: Stage) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.stage == stage)
    }
}

/// Every direction.
pub const DIRECTIONS: [&Direction; 3] = [&FROM_TENANT, &FROM_UNDERLAY, &FROM_HOLD];

macro_rules! direction {
    ($(#[$doc:meta])* $id:ident = $name:literal, first $first:tt;
        $( $stage:ident: $decides:literal, drops [$($drop:ident),*], next [$($next:ident),*]; )*
    ) => {
        $(#[$doc])*
        pub const $id: Direction = Direction {
            name: $name,
            first: direction!(@stages $first),
            rows: &[ $( Row {
                stage: Stage::$stage,
                decides: $decides,
                drops: &[ $( DropReason::$drop, )* ],
                next: &[ $( Stage::$next, )* ],
            }, )* ],
        };
    };
    (@stages [$($stage:ident),*]) => { &[ $( Stage::$stage, )* ] };
}

direction! {
    /// Frames that a VM or a segment sends.
    FROM_TENANT = "From a VM or a segment", first [Parse, Control];

    Parse: "what the headers say, read once",
        drops [Malformed, HeadersSplit],
        next [Network];
    Network: "the network of its port and tag; the tag is taken off",
        drops [VlanOnVif, UnknownVlan, InnerVlan, SegmentBlocked, OuterUnexpected],
        next [Guard];
    Guard: "whether the port may send it",
        drops [BadSourceMac, LinkLocalControl, GuardMac, GuardIp, GuardArp, GuardRouter, GuardDhcp, Malformed],
        next [Stations, Resolve, Lookup];
    Stations: "whether its source is behind the segment",
        drops [StationLimit, SourceIsRemote, SourceIsLocal],
        next [Resolve, Lookup];
    Resolve: "whether an ARP or ND request is answered here",
        drops [Malformed, Answered, SameSegment, PoolEmpty],
        next [Lookup, Deliver, Encap];
    Lookup: "where its destination is",
        drops [SameSegment],
        next [Replicate, Migration, Deliver, Encap];
    Replicate: "which ports and hosts get a copy",
        drops [FloodDisabled, UnknownUnicast, NoMembers, SegmentLoop, SegmentBlocked, ServedApart, PoolEmpty],
        next [Migration, Deliver, Encap];
    Migration: "whether a frame for a migrating node is delivered, held or redirected",
        drops [SameSegment, HoldFull, NotHere],
        next [Deliver, Encap];
    Deliver: "the port, the tag and what the device finishes",
        drops [PortDown, NoHeadroom],
        next [Offload, TooBig];
    Encap: "the path to the host, and the outer headers",
        drops [HostUnresolved, NoHeadroom],
        next [Seal, Offload, TooBig];
    Seal: "whether there is a tunnel to the host; what is sent is sealed",
        drops [NoTunnel, SealExhausted, SealFailed, NoHeadroom, NoTailroom, PoolEmpty],
        next [];
    Control: "whether the control thread has room for a loop probe",
        drops [NoHeadroom, ControlFull],
        next [];
    Offload: "the checksum and the segments of the frame",
        drops [BadChecksumOffload, PoolEmpty],
        next [Deliver, Encap];
    TooBig: "the MTU that the sender gets in an ICMP error",
        drops [TooBig, PoolEmpty],
        next [Deliver];
}

direction! {
    /// Frames of the underlay. Split horizon: from a lookup none leads to `Encap`, only from `Migration` (redirected
    /// once) and from `TooBig` (an error for the sender).
    FROM_UNDERLAY = "From the underlay", first [Outer];

    Outer: "whether it is an intact tunnel datagram",
        drops [HeadersSplit, OuterNotOurs, OuterMalformed, OuterFragment, OuterUnexpected, BadVxlan],
        next [Decap, Open, Control];
    Open: "whether a datagram that is not plain VXLAN is sealed by a peer, for a network of ours and from a node of that peer; it is opened",
        drops [
            OuterNotOurs, OuterChecksum, OuterUnexpected, OuterMalformed, BadVxlan, UnknownSpi, BadSeal,
            Replayed, UnknownVni, ControlFull, HandoffFull, PoolEmpty
        ],
        next [Parse, Migration];
    Decap: "whether its sender and network are known; the outer headers are taken off",
        drops [OuterNotOurs, OuterChecksum, UnknownVtep, PlainRefused, UnknownVni, OuterMalformed],
        next [Outer, Parse, Migration];
    Parse: "what the inner headers say, read once",
        drops [Malformed, HeadersSplit, InnerVlan],
        next [Guard];
    Guard: "whether a tenant may send it at all",
        drops [BadSourceMac, LinkLocalControl],
        next [Ecn];
    Ecn: "the congestion mark of the inner packet",
        drops [EcnViolation],
        next [Stations, Migration];
    Stations: "whether its source is at another host, and that one has sealed it",
        drops [SourceIsLocal, NotItsNode],
        next [Lookup, Migration];
    Lookup: "where its destination is",
        drops [],
        next [Replicate, Migration, Deliver];
    Replicate: "which ports get a copy",
        drops [FloodDisabled, UnknownUnicast, NoMembers, SegmentBlocked, ServedApart, PoolEmpty],
        next [Migration, Deliver];
    Migration: "whether a frame for a migrating node, or an end marker, is delivered, held or redirected",
        drops [HoldFull, NotHere, ServedApart, EndMarker, BadMarker, HandoffFull],
        next [Deliver, Encap];
    Deliver: "the port, the tag and what the device finishes",
        drops [PortDown],
        next [TooBig];
    Encap: "the path to the host, and the outer headers",
        drops [HostUnresolved, NoHeadroom],
        next [Seal, TooBig];
    Seal: "whether there is a tunnel to the host; what is sent is sealed",
        drops [NoTunnel, SealExhausted, SealFailed, NoHeadroom, NoTailroom, PoolEmpty],
        next [];
    Control: "whether the control thread has room for a frame for the VTEP",
        drops [ControlFull],
        next [];
    TooBig: "the MTU that the sender gets in an ICMP error",
        drops [TooBig, PoolEmpty],
        next [Encap];
}

direction! {
    /// Frames and end markers that have waited in a hold, a queue or a ring, and that the lcore passes on.
    FROM_HOLD = "For a migrating node", first [Migration, Deliver, Seal];

    Migration: "whether it is delivered or redirected now",
        drops [HoldFull, EndMarker, BadMarker, HandoffFull, NoHeadroom, PoolEmpty],
        next [Deliver, Encap];
    Deliver: "the port, the tag and what the device finishes",
        drops [PortDown, NoHeadroom],
        next [Offload, TooBig];
    Encap: "the path to the host, and the outer headers",
        drops [HostUnresolved, NoHeadroom],
        next [Seal, Offload, TooBig];
    Seal: "whether there is a tunnel to the host; what is sent is sealed",
        drops [NoTunnel, SealExhausted, SealFailed, NoHeadroom, NoTailroom, PoolEmpty],
        next [];
    Offload: "the checksum and the segments of the frame",
        drops [BadChecksumOffload, PoolEmpty],
        next [Deliver, Encap];
    TooBig: "the MTU that the sender gets in an ICMP error",
        drops [TooBig, PoolEmpty],
        next [Encap];
}

/// The reasons for which an lcore drops a frame that has left the pipeline, or waits, by module.
pub const IN_LCORE: &[(&str, &[DropReason])] = &[
    ("lcore::egress", &[DropReason::PortDown, DropReason::EndMarker]),
    ("lcore::handover", &[DropReason::HandoffFull]),
    ("lcore::worker", &[DropReason::Shutdown]),
    ("migration::replay", &[DropReason::WindowOver]),
    (
        "lcore::tx_port",
        &[
            DropReason::PortDown,
            DropReason::TxFull,
            DropReason::TxRefused,
            DropReason::HoldFull,
            DropReason::HoldExpired,
            DropReason::EndMarker,
        ],
    ),
];

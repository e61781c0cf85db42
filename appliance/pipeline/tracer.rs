//! Records the path of a frame: nothing on the packet path (compiled away), a log for `stopover trace`. Stages record
//! what they decide and why; recording never changes what they do.

use stopover_net::frame::{Frame, Kind, L4};

/// Describes a frame.
#[must_use]
pub fn describe(frame: &Frame) -> String {
    let what = match &frame.kind {
        Kind::Arp => "ARP".to_owned(),
        Kind::Rarp => "RARP".to_owned(),
        Kind::Ipv4(ip) => format!("IPv4 {} to {}, protocol {}", ip.src, ip.dst, ip.proto),
        Kind::Ipv6(ip) => format!("IPv6 {} to {}, protocol {}", ip.src, ip.dst, ip.proto),
        Kind::Other => format!("EtherType {:#06x}", frame.ethertype),
    };
    let ports = match frame.l4 {
        L4::Tcp { src_port, dst_port, .. } => format!(", TCP {src_port} to {dst_port}"),
        L4::Udp { src_port, dst_port, .. } => format!(", UDP {src_port} to {dst_port}"),
        L4::Icmp { kind, .. } => format!(", ICMP type {kind}"),
        L4::Icmpv6 { kind, .. } => format!(", ICMPv6 type {kind}"),
        L4::None | L4::Other | L4::Malformed => String::new(),
    };
    let tag = frame.vlan.map(|tag| format!(", VLAN {}", tag.vid())).unwrap_or_default();
    format!("{} bytes from {} to {}{tag}: {what}{ports}", frame.len, frame.src, frame.dst)
}

/// The stages of the path, named as in docs/path-of-a-frame.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Headers read and checked.
    Parse,
    /// May this port send this?
    Guard,
    /// ARP and ND.
    Resolve,
    /// Destination looked up.
    Lookup,
    /// Given to a local port.
    Deliver,
    /// Outer headers put on.
    Encap,
    /// Outer headers checked and taken off.
    Decap,
    /// Copied to every member.
    Replicate,
    /// Its node is migrating.
    Migrating,
    /// Handed to the control thread.
    Control,
    /// Dropped.
    Drop,
}

impl Stage {
    /// The name in a trace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Guard => "guard",
            Self::Resolve => "resolve",
            Self::Lookup => "lookup",
            Self::Deliver => "deliver",
            Self::Encap => "encap",
            Self::Decap => "decap",
            Self::Replicate => "replicate",
            Self::Migrating => "migrating",
            Self::Control => "control",
            Self::Drop => "drop",
        }
    }
}

/// Receives the decision of each stage.
pub trait Tracer {
    /// Whether it records anything.
    const RECORDS: bool;
    /// Records a decision. `text` is only called if this tracer records.
    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String);
}

/// Records nothing, at no cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl Tracer for NoTrace {
    const RECORDS: bool = false;

    #[inline(always)]
    fn note(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

/// Records all decisions, in order.
#[derive(Debug, Clone, Default)]
pub struct TraceLog {
    /// Stage and its decision.
    pub notes: Vec<(Stage, String)>,
}

impl Tracer for TraceLog {
    const RECORDS: bool = true;

    fn note(&mut self, stage: Stage, text: impl FnOnce() -> String) {
        self.notes.push((stage, text()));
    }
}

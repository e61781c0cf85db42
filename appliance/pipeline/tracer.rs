//! Records the path of a frame: nothing on the packet path (compiled away), a log for `stopover trace`. Stages record
//! what they decide and why; recording never changes what they do.

use super::{drop_reason::DropReason, graph::Stage};
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

/// Receives where a frame goes and the decision of each stage.
pub trait Tracer {
    /// Whether it records anything.
    const RECORDS: bool;
    /// A frame takes the slow path.
    #[inline(always)]
    fn slow_path(&mut self) {}
    /// A frame enters a stage. What is noted or dropped next, is by this stage.
    fn enter(&mut self, stage: Stage);
    /// Records a decision. `text` is only called if this tracer records.
    fn note(&mut self, text: impl FnOnce() -> String);
    /// The stage has dropped the frame.
    fn dropped(&mut self, reason: DropReason);
}

/// Records nothing, at no cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl Tracer for NoTrace {
    const RECORDS: bool = false;

    #[inline(always)]
    fn enter(&mut self, _: Stage) {}
    #[inline(always)]
    fn note(&mut self, _: impl FnOnce() -> String) {}
    #[inline(always)]
    fn dropped(&mut self, _: DropReason) {}
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The stage.
    pub stage: Stage,
    /// Why it dropped the frame, if it did.
    pub dropped: Option<DropReason>,
    /// The decision.
    pub text: String,
}

impl Note {
    /// What a trace shows as its stage.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        if self.dropped.is_some() { "drop" } else { self.stage.name() }
    }
}

/// Records all decisions, in order.
#[derive(Debug, Clone, Default)]
pub struct TraceLog {
    stage: Option<Stage>,
    /// The decisions.
    pub notes: Vec<Note>,
}

impl Tracer for TraceLog {
    const RECORDS: bool = true;

    fn enter(&mut self, stage: Stage) {
        self.stage = Some(stage);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.notes.extend(self.stage.map(|stage| Note { stage, dropped: None, text: text() }));
    }

    fn dropped(&mut self, reason: DropReason) {
        let text = format!("{}: {}", reason.name(), reason.explanation());
        self.notes.extend(self.stage.map(|stage| Note { stage, dropped: Some(reason), text }));
    }
}

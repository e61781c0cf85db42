//! `stopover trace`: one frame, given or captured, passes through the real stages of the packet path on the current
//! tables, in a pipeline whose buffers are vectors and whose egress is a list. Nothing is sent and nothing is
//! counted.

use super::{
    Control,
    request::{Answer, Reply, ReplyTo},
};
use crate::migration::{hold::HeldKind, record::MigrationRecord};
use crate::pipeline::{
    Egress, Learn, Pipeline, RouterSeen, Scratch,
    drop_reason::DropReason,
    migration_egress::{MigrationEgress, MigrationEvent},
    packet::{Packet, Pool, VecPacket, VecPool},
    packet_counters::PacketCounters,
    ports::{Port, Role},
    tracer::{Note, TraceLog, describe},
    tunnel_egress::{TunnelEgress, Unsealed},
};
use crate::tables::{View, peer::TunnelIndex};
use std::ops::Range;
use stopover_ctl::{ApiError, TraceReport, TraceRequest, TraceSource, TraceStep};
use stopover_net::frame;

/// Copies that one traced frame may make.
const COPIES: usize = 64;
/// Bytes of a frame that a report shows.
const MAX_SHOWN_BYTES: usize = 256;
/// Longest frame that is accepted.
const MAX_FRAME_BYTES: usize = 65_549;

/// Where a traced frame would leave.
#[derive(Debug)]
enum Exit {
    Port(u16, VecPacket),
    Control,
    Held(VecPacket),
    /// It would be opened, for which a trace has no key.
    Sealed,
    Learned(Learn),
}

/// The egress of a traced frame: a list.
#[derive(Debug)]
struct Exits {
    pool: VecPool,
    list: Vec<Exit>,
}

impl Egress for Exits {
    type P = VecPacket;
    fn send(&mut self, port: u16, packet: VecPacket) {
        self.list.push(Exit::Port(port, packet));
    }
    fn punt(&mut self, _: u16, _: VecPacket) -> Result<(), VecPacket> {
        self.list.push(Exit::Control);
        Ok(())
    }
    fn learn(&mut self, learn: Learn) {
        self.list.push(Exit::Learned(learn));
    }
    fn report_router(&mut self, _: RouterSeen) {}
    fn may_send_icmp_error(&mut self) -> bool {
        true
    }
}

impl MigrationEgress<VecPacket> for Exits {
    fn hold(&mut self, _: &MigrationRecord, _: u32, _: u32, _: HeldKind, packet: &VecPacket) -> bool {
        self.list.push(Exit::Held(packet.clone()));
        true
    }
    fn report(&mut self, event: MigrationEvent) {
        if let MigrationEvent::Station(learn) = event {
            self.learn(learn);
        }
    }
}

/// There are no keys here: what a frame is, is shown before it would be sealed.
impl TunnelEgress<VecPacket> for Exits {
    fn seal(&mut self, _: TunnelIndex, _: &mut VecPacket) -> Result<u16, DropReason> {
        Ok(0)
    }
    fn open(&mut self, _: u16, _: VecPacket, _: Range<usize>) -> Unsealed<VecPacket> {
        self.list.push(Exit::Sealed);
        Unsealed::Handed
    }
    fn punt_handshake(&mut self, _: u16, _: VecPacket) -> Result<(), (VecPacket, DropReason)> {
        self.list.push(Exit::Control);
        Ok(())
    }
}

impl Pool<VecPacket> for Exits {
    fn copy(&mut self, packet: &VecPacket) -> Option<VecPacket> {
        self.pool.copy(packet)
    }
    fn copy_range(&mut self, head: &[u8], packet: &VecPacket, from: usize, len: usize) -> Option<VecPacket> {
        self.pool.copy_range(head, packet, from, len)
    }
    fn make(&mut self, bytes: &[u8]) -> Option<VecPacket> {
        self.pool.make(bytes)
    }
}

impl Control {
    /// Begins a trace. A given frame is answered at once, a capture when its frame has arrived.
    pub(crate) fn trace(&mut self, request: TraceRequest, reply: ReplyTo) {
        let Some(port) = self.ports.number(&request.port) else {
            let _ = reply.send(Err(self.no_such_port(&request.port)));
            return;
        };
        match request.source {
            TraceSource::FrameHex(hex) => {
                let answer = from_hex(&hex).and_then(|bytes| self.walk(port, &bytes, false));
                let _ = reply.send(answer);
            }
            TraceSource::Capture(filter) => {
                let until_ms = self.now_ms().saturating_add(request.timeout_ms);
                self.api.begin_capture(port, &filter, until_ms, reply);
            }
        }
    }

    /// Ends a capture whose frame has arrived, or whose time is over.
    pub(crate) fn finish_trace(&mut self, now_ms: u64) {
        if let Some((waiting, frame)) = self.api.captured(now_ms) {
            let bytes: Vec<u8> = frame.segment_slices().flatten().copied().collect();
            let _ = waiting.reply.send(self.walk(waiting.port, &bytes, true));
        }
    }

    fn walk(&mut self, port: u16, bytes: &[u8], captured: bool) -> Answer {
        let view = self.api.take_view()?;
        let report = self.report(&view, port, bytes, captured);
        self.api.return_view(view);
        serde_json::to_value(report)
            .map(Reply::Json)
            .map_err(|e| ApiError::new(e.to_string(), "a report", "tell the developers"))
    }

    fn report(&self, view: &View, port: u16, bytes: &[u8], captured: bool) -> TraceReport {
        let (notes, exits) = run(view, self.ports.stage(), port, bytes);
        let mut steps: Vec<TraceStep> = notes
            .into_iter()
            .map(|note| TraceStep {
                stage: note.title().to_owned(),
                verdict: if note.dropped.is_some() { "dropped" } else { "passed" }.to_owned(),
                why: self.with_names(&note.text),
                summary: None,
                frame_hex: None,
            })
            .collect();
        let dropped = steps.iter().find(|s| s.verdict == "dropped").map(|s| format!("dropped: {}", s.why));
        let mut sent = Vec::new();
        for exit in exits {
            match exit {
                Exit::Port(port, packet) => {
                    sent.push(format!("sent from port {}", self.ports.name(port)));
                    steps.push(TraceStep {
                        stage: "tx".to_owned(),
                        verdict: "sent".to_owned(),
                        why: format!("leaves by port {}", self.ports.name(port)),
                        summary: summary(packet.head()),
                        frame_hex: Some(to_hex(packet.head())),
                    });
                }
                Exit::Held(packet) => {
                    sent.push(format!("held, {} bytes, for a migrating node", packet.len()))
                }
                Exit::Sealed => sent.push("sealed: a trace has no keys to open it".to_owned()),
                Exit::Control => sent.push("taken by the control thread, for the VTEP itself".to_owned()),
                Exit::Learned(learn) => steps.push(TraceStep {
                    stage: "learn".to_owned(),
                    verdict: "learned".to_owned(),
                    why: format!("station {} behind port {}", learn.mac, self.ports.name(learn.port)),
                    summary: None,
                    frame_hex: None,
                }),
            }
        }
        let outcome = match (sent.is_empty(), dropped) {
            (true, Some(dropped)) => dropped,
            (true, None) => "no outcome was recorded".to_owned(),
            (false, Some(dropped)) => format!("{}; {dropped}", sent.join(", ")),
            (false, None) => sent.join(", "),
        };
        TraceReport {
            port: self.ports.name(port).to_owned(),
            captured,
            summary: summary(bytes)
                .unwrap_or_else(|| format!("{} bytes that are no Ethernet frame", bytes.len())),
            frame_hex: to_hex(bytes),
            steps,
            outcome,
        }
    }

    /// Replaces numbers of ports and hosts, as stages write them, by names.
    fn with_names(&self, text: &str) -> String {
        let mut named = String::new();
        let mut words = text.split(' ').peekable();
        while let Some(word) = words.next() {
            named.push_str(word);
            if let Some(next) = words.peek() {
                named.push(' ');
                let digits = next.trim_end_matches(|c: char| !c.is_ascii_digit());
                let tail = next.get(digits.len()..).unwrap_or_default();
                let name = match (word, digits.parse::<u32>()) {
                    ("port", Ok(n)) => {
                        let port = u16::try_from(n).ok().and_then(|n| self.ports.wanted_at(n));
                        port.map(|port| port.name.clone())
                    }
                    ("host", Ok(n)) => self.replica.host(n).map(|h| h.host.name.to_string()),
                    _ => None,
                };
                if let Some(name) = name {
                    named.push_str(&name);
                    named.push_str(tail);
                    words.next();
                    if words.peek().is_some() {
                        named.push(' ');
                    }
                }
            }
        }
        named
    }

    pub(crate) fn no_such_port(&self, name: &str) -> ApiError {
        let known: Vec<_> = self.ports.wanted().map(|(_, port)| port.name.as_str()).collect();
        ApiError::new(
            format!("there is no port `{name}`"),
            format!("one of {}", known.join(", ")),
            "see `stopover show port info all`",
        )
    }
}

fn run(view: &View, ports: &[Port], port: u16, bytes: &[u8]) -> (Vec<Note>, Vec<Exit>) {
    let counters = PacketCounters::default();
    let mut exits = Exits { pool: VecPool { left: COPIES }, list: Vec::new() };
    let mut recorder = TraceLog::default();
    let mut path = Pipeline { view, ports, counters: &counters, egress: &mut exits, tracer: &mut recorder };
    let mut burst = [VecPacket::new(bytes)].into_iter().collect();
    let mut scratch = Scratch::default();
    match ports.get(usize::from(port)).map(|p| &p.role) {
        Some(Role::Underlay(_)) => path.underlay(port, &mut burst, &mut scratch),
        _ => path.tenant(port, &mut burst, &mut scratch),
    }
    (recorder.notes, exits.list)
}

fn summary(bytes: &[u8]) -> Option<String> {
    frame::parse(bytes, bytes.len()).ok().map(|frame| describe(&frame))
}

fn to_hex(bytes: &[u8]) -> String {
    let cut = bytes.get(..MAX_SHOWN_BYTES).unwrap_or(bytes);
    cut.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Result<Vec<u8>, ApiError> {
    let bad = || {
        ApiError::new(
            "the frame is not hexadecimal, or too long",
            "an even number of hexadecimal digits from the destination MAC on, at most 65549 bytes",
            "give it as `tcpdump -xx` shows it, without offsets and blanks",
        )
    };
    let digits = text.trim().as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() / 2 > MAX_FRAME_BYTES {
        return Err(bad());
    }
    let value = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(value(*high)? << 4 | value(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_parsed_strictly() {
        assert_eq!(from_hex("00ffA0"), Ok(vec![0, 255, 160]));
        for bad in ["0", "0g", "é0", "0x00"] {
            assert!(from_hex(bad).is_err(), "{bad}");
        }
    }
}

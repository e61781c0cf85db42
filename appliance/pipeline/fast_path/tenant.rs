//! The fast path for every ordinary kind of frame from a vif or segment. Enters: a burst; frames that have an egress port
//! already are left alone. Leaves: the egress port of each that is eligible; it is ready to be sent there. The passes are
//! those of the most frequent kinds: parse, look up, send; for a segment the sources are looked up too.

use super::{BAD_CHECKSUM, Frames, KeyRuns, Last, NO_HEADROOM, SLOW_PATH, Scratch, are_left, slot_entries};
use crate::pipeline::{
    Egress, MAX_BURST, Pipeline, deliver,
    eligible::{self, Admitted, Finish, Tenant, Unfinished},
    encap::{self, Flow},
    graph::Stage,
    offload,
    packet::Packet,
    tracer::Tracer,
    vlan,
};
use crate::tables::{
    View,
    entries::{Path, SlotEntry},
    packed::PackedFdbEntry,
};
use stopover_net::{ethernet, fast_parse::Transport, frame};

/// What the first pass leaves of an eligible frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    flow: Flow,
    /// Index of the key of its source, behind a segment.
    source_index: u8,
    is_tagged: bool,
    /// Its sender left work to the device.
    is_unfinished: bool,
}

impl Facts {
    pub const NONE: Self = Self { flow: Flow::NONE, source_index: 0, is_tagged: false, is_unfinished: false };
}

/// The sources of a burst from a segment.
#[derive(Debug)]
pub(super) struct Sources {
    /// One for each run of equal ones.
    keys: [u64; MAX_BURST],
    /// The VLAN of each.
    vlans: [u16; MAX_BURST],
    /// What the lookup found for `keys`.
    words: [u64; MAX_BURST],
}

impl Default for Sources {
    fn default() -> Self {
        Self { keys: [0; MAX_BURST], vlans: [0; MAX_BURST], words: [0; MAX_BURST] }
    }
}

/// A tenant's port: its number and role.
type FromPort<'a> = (u16, Tenant<'a>);

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Sends a burst of which no frame has an egress port yet.
    #[inline(never)]
    pub(super) fn tenant_any(&mut self, from: FromPort<'_>, burst: &mut Frames<I::P>, scratch: &mut Scratch) {
        match from {
            (port, Tenant::Vif(vif)) => {
                self.prepare_tenant::<false, true>((port, Tenant::Vif(vif)), burst, scratch);
            }
            (port, Tenant::Segment(segment)) => {
                self.prepare_tenant::<true, true>((port, Tenant::Segment(segment)), burst, scratch);
            }
        }
        self.send_out(burst, &scratch.egress_ports, |path, frames| {
            path.tenant_slow(from.0, frames.drain(..));
        });
    }

    /// Sends a burst of a vif of which some frames may have no egress port yet.
    #[inline(never)]
    pub(super) fn tenant_rest(
        &mut self,
        from: FromPort<'_>,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        if are_left(&scratch.egress_ports, burst.len()) {
            self.prepare_tenant::<false, false>(from, burst, scratch);
        }
        self.send_out(burst, &scratch.egress_ports, |path, frames| {
            path.tenant_slow(from.0, frames.drain(..));
        });
    }

    /// `SEGMENT`: whether the port is one. `FRESH`: no frame has an egress port yet.
    // An instance for each, so that each has its own loops.
    #[inline(always)]
    fn prepare_tenant<const SEGMENT: bool, const FRESH: bool>(
        &mut self,
        from: FromPort<'_>,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        let view = self.view;
        let Scratch { keys, words, facts, sources, egress_ports, .. } = scratch;
        let Sources { keys: source_keys, vlans, words: stations } = sources;
        let (mut runs, mut networks) = (KeyRuns::new(source_keys), Last::default());
        let mut lookup = view.begin_lookup();
        let frames = burst.iter().zip(&mut *facts).zip(&*egress_ports);
        lookup.keys_of(frames, keys, |((packet, facts), egress_port)| {
            if !FRESH && *egress_port != SLOW_PATH {
                return 0;
            }
            let frame = eligible::admitted_by(from.1, packet, |segment, vlan| {
                networks.get(vlan, || eligible::network(segment, vlan))
            });
            let Some(frame) = frame else { return 0 };
            let source_index = if SEGMENT { runs.push(frame.source) } else { 0 };
            if SEGMENT {
                vlans[usize::from(source_index)] = frame.vlan;
            }
            let is_unfinished = frame.unfinished != Unfinished::Nothing;
            *facts = Facts { flow: frame.flow, source_index, is_tagged: frame.is_tagged, is_unfinished };
            frame.destination
        });
        let known = if SEGMENT {
            let sources = runs.distinct();
            view.lookup_locals(sources, stations);
            let sources = stations.iter().zip(vlans).take(sources.len());
            known_stations(view, from.0, sources.map(|(word, vlan)| (PackedFdbEntry(*word), *vlan)))
        } else {
            u64::MAX
        };
        let n = burst.len();
        lookup.finish(keys.get(..n).unwrap_or_default(), words);
        let entries = slot_entries(view, words.get(..n).unwrap_or_default());
        let found = keys.iter().zip(facts).zip(egress_ports).zip(words.iter().zip(&entries));
        for (packet, (((key, facts), egress_port), (word, entry))) in burst.iter_mut().zip(found) {
            if FRESH {
                *egress_port = SLOW_PATH;
            }
            if *key == 0 || SEGMENT && known >> (facts.source_index % 64) & 1 == 0 {
                continue;
            }
            let word = PackedFdbEntry(*word);
            *egress_port = match facts.is_unfinished {
                true => self.send_unfinished(from, packet, (*entry, word)),
                false => self.send_finished(from, packet, (facts.flow, facts.is_tagged), (*entry, word)),
            };
        }
    }

    /// Prepares a frame with nothing left to do for the device. Returns its egress port.
    #[inline(always)]
    fn send_finished(
        &mut self,
        from: FromPort<'_>,
        packet: &mut I::P,
        (flow, is_tagged): (Flow, bool),
        (entry, word): (Option<&SlotEntry>, PackedFdbEntry),
    ) -> u16 {
        let len = packet.len() - if is_tagged { ethernet::TAG_LEN } else { 0 };
        if let Some(entry) = entry {
            let Some(path) = eligible::path_to_host(entry, len) else { return SLOW_PATH };
            if !self.begin(from, packet, is_tagged, word) {
                return NO_HEADROOM;
            }
            return self.push_outer(packet, path, flow, None);
        }
        let Some((port, vlan)) = eligible::port_of_sent(self.ports, from.0, word, len) else {
            return SLOW_PATH;
        };
        if !self.begin(from, packet, is_tagged, word) {
            return NO_HEADROOM;
        }
        self.push_vlan(packet, port, vlan, flow.priority)
    }

    /// Prepares a frame whose sender left work to the device. Returns its egress port.
    #[inline(never)]
    fn send_unfinished(
        &mut self,
        from: FromPort<'_>,
        packet: &mut I::P,
        (entry, word): (Option<&SlotEntry>, PackedFdbEntry),
    ) -> u16 {
        let Some(frame) = eligible::admitted(from.1, packet) else { return SLOW_PATH };
        let len = frame.untagged_len(packet);
        if let Some(entry) = entry {
            let Some(path) = frame.path_of(entry, len) else { return SLOW_PATH };
            if !self.begin(from, packet, frame.is_tagged, word) {
                return NO_HEADROOM;
            }
            return self.push_outer(packet, path, frame.flow, Some(frame.transport));
        }
        let Some((port, vlan, finish)) = frame.port_of(self.ports, from.0, word, len) else {
            return SLOW_PATH;
        };
        if !self.begin(from, packet, frame.is_tagged, word) {
            return NO_HEADROOM;
        }
        self.deliver_unfinished(packet, &frame, (port, vlan), finish)
    }

    fn deliver_unfinished(
        &mut self,
        packet: &mut I::P,
        frame: &Admitted,
        (port, vlan): (u16, u16),
        finish: Finish,
    ) -> u16 {
        self.tracer.enter(Stage::Deliver);
        self.tracer.note(|| deliver::describe(port, vlan));
        let finished = match finish {
            Finish::Nothing => true,
            Finish::Checksum => self.fill_checksum(packet, Some(frame.transport), Stage::Deliver),
            Finish::ByDevice => packet.request_offload(frame.tx_offload()),
        };
        match finished {
            true if vlan == 0 || vlan::push(packet, vlan, frame.flow.priority) => port,
            true => NO_HEADROOM,
            false => BAD_CHECKSUM,
        }
    }

    /// Takes the tag off. False if that is not possible.
    #[inline(always)]
    fn begin(
        &mut self,
        from: FromPort<'_>,
        packet: &mut I::P,
        is_tagged: bool,
        word: PackedFdbEntry,
    ) -> bool {
        if W::RECORDS
            && let Some(frame) = eligible::admitted(from.1, packet)
        {
            self.trace_sent(from.0, packet, (frame.bd, from.1.learns()), word.unpack());
        }
        !is_tagged || vlan::pop(packet)
    }

    /// Adds the outer headers; before, the checksum if the sender left it to the device. Returns the egress port.
    #[inline(always)]
    pub(super) fn push_outer(
        &mut self,
        packet: &mut I::P,
        path: &Path,
        flow: Flow,
        unfinished: Option<Transport>,
    ) -> u16 {
        self.tracer.enter(Stage::Encap);
        if unfinished.is_some() && !self.fill_checksum(packet, unfinished, Stage::Encap) {
            return BAD_CHECKSUM;
        }
        let pushed = encap::push_plain(packet, path, flow);
        self.tracer.note(|| flow.describe(path));
        if pushed { path.port } else { NO_HEADROOM }
    }

    /// Computes the checksum that the sender left to the device. `next`: the stage that follows.
    #[inline(always)]
    fn fill_checksum(&mut self, packet: &mut I::P, transport: Option<Transport>, next: Stage) -> bool {
        self.tracer.enter(Stage::Offload);
        let filled = transport.and_then(|transport| transport.fill_checksum(packet.head_mut())).is_some()
            || fill_split(packet);
        packet.clear_offload();
        self.tracer.enter(next);
        filled
    }
}

/// Which of these sources with their VLANs are known behind this port and not migrating, as bits. They are marked as seen.
#[inline(always)]
fn known_stations(view: &View, port: u16, sources: impl Iterator<Item = (PackedFdbEntry, u16)>) -> u64 {
    sources.enumerate().fold(0, |known, (i, (word, vlan))| match word.station_at_rest(port, vlan) {
        Some(station) => {
            view.touch(station);
            known | 1 << i
        }
        None => known,
    })
}

/// For a frame of several buffers.
#[cold]
fn fill_split<P: Packet>(packet: &mut P) -> bool {
    frame::parse(packet.head(), packet.len()).is_ok_and(|frame| offload::fill_checksum(&frame, packet))
}

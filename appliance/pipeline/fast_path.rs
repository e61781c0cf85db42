//! The fast path, for ordinary frames between two nodes that are not migrating ([`eligible`]): nearly all traffic. It
//! needs little of what the other stages know. Enters: a burst from any port. The frames of a burst are processed
//! in passes over all of them: parse, look up, send. So the memory for one frame arrives while others are processed.
//! A pass leaves a few bytes a frame in arrays for the next.
//!
//! The passes exist twice. Those in this file are for the most frequent kind: untagged IPv4 from a vif, and from an
//! untagged underlay. Those of [`tenant`] and [`underlay`] are for every ordinary kind. They get the bursts that do not
//! begin with a frame of the first kind, and from the others the frames that the first passes refuse.
//!
//! Every other frame takes the slow path ([`Pipeline::tenant_slow`], [`Pipeline::underlay_slow`]): it is unchanged
//! and passes every check from the beginning. Frames of a burst keep their order: a frame of one path waits for those
//! of the other that precede it.
//!
//! The fast path makes all checks of the slow path and changes a frame in the same way. The golden captures,
//! `tests/properties.rs` and `tests/eligible.rs` compare the two.

mod kind;
mod tenant;
mod underlay;

use super::{
    Egress, MAX_BURST, Pipeline, deliver,
    drop_reason::DropReason,
    eligible::{self, FromVif, Ingress, Tenant},
    encap::Flow,
    graph::Stage,
    lookup,
    packet::Packet,
    ports::{Network, Underlay, Vif},
    tracer::{Tracer, describe},
    vlan,
};
use crate::tables::{
    View,
    entries::SlotEntry,
    packed::{Bd, FdbEntry, PackedFdbEntry, node_key},
    vtep4_key,
};
use arrayvec::ArrayVec;
use kind::{Ipv4, Ipv6, Kind};
use stopover_lockfree::prefetch;
use stopover_net::{fast_parse, flow, frame, underlay::martian_v4};
use tenant::{Facts, Sources};

/// Frames of one kind that wait for each other.
type Frames<P> = ArrayVec<P, MAX_BURST>;

/// What one pass leaves for the next, by frame, and the keys that were looked up. An lcore keeps it: clearing it for
/// every burst would cost as much as the lookups. Data of an earlier burst is never read, since each pass writes all
/// that a later one reads.
#[derive(Debug)]
pub struct Scratch {
    /// Destinations: one for each frame, or in [`Pipeline::underlay_fast`] one for each run of equal ones.
    keys: [u64; MAX_BURST],
    /// What the lookup found for `keys`.
    words: [u64; MAX_BURST],
    /// Source port and type of service of the outer header.
    flows: [(u16, u8); MAX_BURST],
    /// What the passes for all kinds of a tenant's frames have parsed.
    facts: [Facts; MAX_BURST],
    sources: Sources,
    /// What the passes for datagrams have parsed.
    inner: [Inner; MAX_BURST],
    /// The port to send a frame from, [`SLOW_PATH`], [`NO_HEADROOM`] or [`BAD_CHECKSUM`].
    egress_ports: [u16; MAX_BURST],
}

/// The inner frame of a received one. One array of these takes one pointer in the loops; an array for each field takes
/// three, which are then kept on the stack.
#[derive(Debug, Clone, Copy, Default)]
struct Inner {
    /// Key of its source, 0 if the frame is not ordinary.
    source: u64,
    /// In bytes.
    len: u16,
    /// Index of the key of its destination.
    key_index: u8,
    /// Where it begins, in bytes; unless that is known.
    offset: u8,
    /// For the tag with which it leaves a trunk; unless it needs none.
    priority: u8,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            keys: [0; MAX_BURST],
            words: [0; MAX_BURST],
            flows: [(0, 0); MAX_BURST],
            facts: [Facts::NONE; MAX_BURST],
            sources: Sources::default(),
            inner: [Inner::default(); MAX_BURST],
            egress_ports: [SLOW_PATH; MAX_BURST],
        }
    }
}

/// Index in the burst, and VTEP key, of each frame whose sender is not in the VTEP cache.
type UncachedVteps = ArrayVec<(u8, u64), MAX_BURST>;

/// In place of an egress port: the frame takes the slow path.
const SLOW_PATH: u16 = u16::MAX;
/// In place of an egress port: there was no room for the headers.
const NO_HEADROOM: u16 = u16::MAX - 1;
/// In place of an egress port: the checksum that was left to the device cannot be computed.
const BAD_CHECKSUM: u16 = u16::MAX - 2;

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Processes a burst received from tenant port `port`.
    pub fn tenant(&mut self, port: u16, burst: &mut ArrayVec<I::P, MAX_BURST>, scratch: &mut Scratch) {
        let ports = self.ports;
        match eligible::ingress(ports, port) {
            Some(Ingress::Tenant(Tenant::Vif(vif))) => match eligible::kind_from_vif(burst) {
                Some(FromVif::Ipv4) => self.tenant_fast::<Ipv4<false>>(port, vif, burst, scratch),
                Some(FromVif::Ipv6) => self.tenant_fast::<Ipv6<false>>(port, vif, burst, scratch),
                Some(FromVif::UnfinishedIpv4) => self.tenant_fast::<Ipv4<true>>(port, vif, burst, scratch),
                Some(FromVif::UnfinishedIpv6) => self.tenant_fast::<Ipv6<true>>(port, vif, burst, scratch),
                None => self.tenant_any((port, Tenant::Vif(vif)), burst, scratch),
            },
            Some(Ingress::Tenant(from)) => self.tenant_any((port, from), burst, scratch),
            _ => self.tenant_slow(port, burst.drain(..)),
        }
    }

    /// Processes a burst received from underlay port `port`.
    pub fn underlay(&mut self, port: u16, burst: &mut ArrayVec<I::P, MAX_BURST>, scratch: &mut Scratch) {
        let ports = self.ports;
        match eligible::ingress(ports, port) {
            Some(Ingress::Underlay(own)) if own.vlan.is_none() && eligible::begins_with_ipv4(burst) => {
                self.underlay_fast(port, own, burst, scratch);
            }
            Some(Ingress::Underlay(own)) => self.underlay_any(port, own, burst, scratch),
            _ => self.underlay_slow(port, burst.drain(..)),
        }
    }

    /// Sends a burst of a vif that probably has frames of kind `K`; the others are left to the passes for all kinds.
    #[inline(never)]
    fn tenant_fast<K: Kind>(
        &mut self,
        port: u16,
        vif: &Vif,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        let Network { bd, vni } = vif.network;
        let n = burst.len();
        let kind = K::new(vif);
        let view = self.view;
        let Scratch { keys, words, flows, egress_ports, .. } = scratch;
        let mut lookup = view.begin_lookup();
        lookup.keys_of(burst.iter().zip(&mut *flows), keys, |(packet, flow)| {
            let Some((dst, hash, tos)) = kind.read(vif, packet) else { return 0 };
            *flow = (flow::source_port(hash), tos);
            node_key(bd, dst)
        });

        lookup.finish(keys.get(..n).unwrap_or_default(), words);
        let entries = slot_entries(view, words.get(..n).unwrap_or_default());

        let found = words.iter().zip(&entries).zip(flows).zip(&mut *egress_ports);
        for (packet, (((word, entry), (source_port, tos)), egress_port)) in burst.iter_mut().zip(found) {
            let word = PackedFdbEntry(*word);
            let flow = Flow { vni, source_port: *source_port, tos: *tos, priority: 0 };
            *egress_port = match entry {
                Some(entry) => self.prepare_for_host::<K>(port, packet, vif.network, (entry, word), flow),
                None => self.prepare_for_port::<K>(port, packet, vif.network, word),
            };
        }
        if !self.send_same(burst, egress_ports) {
            self.tenant_rest((port, Tenant::Vif(vif)), burst, scratch);
        }
    }

    /// Adds the outer headers to a frame of a vif, if it fits. Returns its egress port.
    #[inline(always)]
    fn prepare_for_host<K: Kind>(
        &mut self,
        from: u16,
        packet: &mut I::P,
        network: Network,
        (entry, word): (&SlotEntry, PackedFdbEntry),
        flow: Flow,
    ) -> u16 {
        let Some(path) = eligible::path_to_host(entry, packet.len()) else { return SLOW_PATH };
        if W::RECORDS {
            self.trace_sent(from, packet, (network.bd, false), word.unpack());
        }
        let is_unfinished = K::UNFINISHED && packet.checksum_unfilled();
        let unfinished = if is_unfinished { K::transport(packet) } else { None };
        self.push_outer(packet, path, flow, unfinished)
    }

    /// Prepares a frame of a vif for another local port, if it fits and is finished. Returns its egress port.
    #[inline(always)]
    fn prepare_for_port<K: Kind>(
        &mut self,
        from: u16,
        packet: &mut I::P,
        network: Network,
        word: PackedFdbEntry,
    ) -> u16 {
        if K::UNFINISHED && packet.checksum_unfilled() {
            return SLOW_PATH;
        }
        let to = eligible::port_of_sent(self.ports, from, word, packet.len());
        let Some((port, vlan)) = to else { return SLOW_PATH };
        if W::RECORDS {
            self.trace_sent(from, packet, (network.bd, false), word.unpack());
        }
        self.push_vlan(packet, port, vlan, 0)
    }

    #[inline(never)]
    fn underlay_fast(&mut self, port: u16, own: &Underlay, burst: &mut Frames<I::P>, scratch: &mut Scratch) {
        let view = self.view;
        let Scratch { keys, words, inner, egress_ports, .. } = scratch;
        let mut uncached_vteps = UncachedVteps::new();
        let mut known = 0u64;
        let mut destinations = KeyRuns::new(keys);
        let mut may_be_local = false;
        let (mut ours, mut bds) = (Last::default(), Last::default());
        view.begin_vteps4();
        for (n, (packet, slot)) in burst.iter().zip(inner.iter_mut()).enumerate() {
            let read = eligible::received(own, packet).and_then(|(tunnel, inner)| {
                ours.get(tunnel.dst, || own.has_address(tunnel.dst.into()).then_some(()))?;
                let bd = bds.get(tunnel.vni, || view.plain_bd_of(tunnel.vni))?;
                Some((tunnel, bd, inner))
            });
            let Some((tunnel, bd, inner)) = read else {
                slot.source = 0;
                slot.key_index = destinations.push(0);
                continue;
            };
            let vtep = vtep4_key(tunnel.src);
            if view.knows_vtep4(vtep) {
                known |= 1 << n;
            } else if !martian_v4(tunnel.src) {
                uncached_vteps.push((n as u8, vtep));
            }
            slot.key_index = destinations.push(node_key(bd, inner.dst));
            slot.len = tunnel.inner_len as u16; // what one IPv4 packet holds
            slot.source = node_key(bd, inner.src);
            may_be_local |= view.may_be_local(slot.source);
        }
        if !uncached_vteps.is_empty() {
            known |= self.find_senders(&uncached_vteps);
        }
        view.lookup_nodes(destinations.distinct(), words);
        let stations = if may_be_local { self.local_sources(inner, burst.len()) } else { 0 };

        let accepted = known & !stations;
        let found = inner.iter().zip(&mut *egress_ports).enumerate();
        for (packet, (n, (inner, egress_port))) in burst.iter_mut().zip(found) {
            *egress_port = SLOW_PATH;
            let word = PackedFdbEntry(words[usize::from(inner.key_index) % MAX_BURST]);
            let accepted = accepted >> n & 1 != 0;
            let len = usize::from(inner.len);
            if !accepted {
                continue;
            }
            let to = eligible::port_of_received(self.ports, own, word, len);
            let Some((to, vlan)) = to else { continue };
            if W::RECORDS {
                self.trace_opened(own, packet, word.unpack());
            }
            // The first pass has checked that these bytes exist.
            if packet.cut(fast_parse::TUNNEL_LEN, len) {
                packet.clear_offload();
                *egress_port = self.push_vlan(packet, to, vlan, 0);
            }
        }
        if !self.send_same(burst, egress_ports) {
            self.underlay_rest(port, own, burst, scratch);
        }
    }

    /// Looks up the VTEPs that the cache does not know. Returns bits by frame: plain VXLAN is accepted from its sender.
    #[inline(never)]
    fn find_senders(&self, uncached_vteps: &UncachedVteps) -> u64 {
        let vteps: ArrayVec<u64, MAX_BURST> = uncached_vteps.iter().map(|(_, vtep)| *vtep).collect();
        let accepted = self.view.vteps4(&vteps);
        let senders = uncached_vteps.iter().enumerate().filter(|(i, _)| accepted >> i & 1 != 0);
        senders.fold(0, |known, (_, (n, _))| known | 1 << n)
    }

    /// Returns which of these nodes are local stations, as bits. Rarely called.
    #[cold]
    fn local_sources(&self, inner: &[Inner; MAX_BURST], n: usize) -> u64 {
        let keys = inner.map(|inner| inner.source);
        self.view.lookup_locals(keys.get(..n).unwrap_or_default(), &mut [0; MAX_BURST])
    }

    /// Adds the VLAN tag of a port with this priority, if it has one. Returns the egress port.
    #[inline(always)]
    fn push_vlan(&mut self, packet: &mut I::P, port: u16, vlan: u16, priority: u8) -> u16 {
        self.tracer.enter(Stage::Deliver);
        self.tracer.note(|| deliver::describe(port, vlan));
        if vlan == 0 || vlan::push(packet, vlan, priority) { port } else { NO_HEADROOM }
    }

    /// Sends a burst whose frames all have the same egress port, as nearly always. False if they do not.
    #[inline(always)]
    fn send_same(&mut self, burst: &mut Frames<I::P>, egress_ports: &[u16; MAX_BURST]) -> bool {
        let first = egress_ports[0];
        let same = egress_ports
            .iter()
            .take(burst.len())
            .fold(0, |differ, egress_port| differ | (egress_port ^ first))
            == 0;
        let all = same && first < BAD_CHECKSUM;
        if all {
            self.egress.send_all(first, burst);
        }
        all
    }

    /// Sends each frame from its port or to the slow path, in order.
    #[inline(always)]
    fn send_out(
        &mut self,
        burst: &mut Frames<I::P>,
        egress_ports: &[u16; MAX_BURST],
        slow_path: impl FnMut(&mut Self, &mut Frames<I::P>),
    ) {
        if !self.send_same(burst, egress_ports) {
            self.send_out_mixed(burst, egress_ports, slow_path);
        }
    }

    /// Sends frames of different ports one by one. Consecutive frames for the slow path go there together.
    fn send_out_mixed(
        &mut self,
        burst: &mut Frames<I::P>,
        egress_ports: &[u16; MAX_BURST],
        mut slow_path: impl FnMut(&mut Self, &mut Frames<I::P>),
    ) {
        let mut slow = Frames::new();
        for (packet, egress_port) in burst.drain(..).zip(egress_ports) {
            if *egress_port == SLOW_PATH {
                slow.push(packet);
                continue;
            }
            if !slow.is_empty() {
                slow_path(self, &mut slow);
            }
            match *egress_port {
                NO_HEADROOM => self.drop(packet, DropReason::NoHeadroom),
                BAD_CHECKSUM => self.drop(packet, DropReason::BadChecksumOffload),
                port => self.egress.send(port, packet),
            }
        }
        if !slow.is_empty() {
            slow_path(self, &mut slow);
        }
    }

    /// Records the same trace as the slow path.
    #[cold]
    fn trace_sent(
        &mut self,
        port: u16,
        packet: &I::P,
        (bd, is_segment): (Bd, bool),
        entry: Option<FdbEntry>,
    ) {
        let view = self.view;
        if let Ok(frame) = frame::parse(packet.head(), packet.len()) {
            self.tracer.enter(Stage::Parse);
            self.tracer.note(|| describe(&frame));
            self.tracer.enter(Stage::Network);
            self.tracer.enter(Stage::Guard);
            self.tracer.note(|| format!("port {port} may send this"));
            if is_segment {
                self.tracer.enter(Stage::Stations);
            }
            self.tracer.enter(Stage::Lookup);
            self.tracer.note(|| lookup::describe_lookup(view, frame.dst, bd, entry));
        }
    }
}

/// The slots of the nodes with these FDB entries that are at another host and at rest, prefetched. A migrating node has
/// bounded source ports, which the slow path assigns.
#[inline(always)]
fn slot_entries<'v>(view: &'v View, words: &[u64]) -> [Option<&'v SlotEntry>; MAX_BURST] {
    let slots = view.slots();
    let mut entries = [None; MAX_BURST];
    for (entry, word) in entries.iter_mut().zip(words) {
        let slot = PackedFdbEntry(*word).slot_at_rest();
        *entry = slot.and_then(|slot| slots.get(slot.get())).inspect(|entry| prefetch(*entry));
    }
    entries
}

/// Whether some frames have no egress port.
#[inline(never)]
fn are_left(egress_ports: &[u16; MAX_BURST], len: usize) -> bool {
    egress_ports.iter().take(len).any(|port| *port == SLOW_PATH)
}

/// The keys of a burst to look up. Consecutive frames often have the same destination, so equal keys in a row are
/// looked up once.
struct KeyRuns<'s> {
    keys: &'s mut [u64; MAX_BURST],
    last: u64,
    len: usize,
}

impl<'s> KeyRuns<'s> {
    fn new(keys: &'s mut [u64; MAX_BURST]) -> Self {
        Self { keys, last: NO_KEY, len: 0 }
    }

    /// Adds the key of the next frame and returns its index; the first [`MAX_BURST`] count. Without branches, since
    /// whether a key repeats is unpredictable.
    #[inline(always)]
    fn push(&mut self, key: u64) -> u8 {
        self.len += usize::from(key != self.last);
        self.last = key;
        let index = self.len.wrapping_sub(1) % MAX_BURST;
        self.keys[index] = key;
        index as u8
    }

    fn distinct(&self) -> &[u64] {
        self.keys.get(..self.len).unwrap_or_default()
    }
}

/// The key of no node: group addresses are not looked up.
const NO_KEY: u64 = u64::MAX;

/// Remembers the last lookup, since the next is nearly always for the same key.
struct Last<K, V>(Option<(K, V)>);

impl<K, V> Default for Last<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq + Copy, V: Copy> Last<K, V> {
    #[inline(always)]
    fn get(&mut self, key: K, lookup: impl FnOnce() -> Option<V>) -> Option<V> {
        match self.0 {
            Some((last, value)) if last == key => Some(value),
            _ => {
                let value = lookup()?;
                self.0 = Some((key, value));
                Some(value)
            }
        }
    }
}

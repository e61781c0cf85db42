//! The fast path for every ordinary kind of tunnel datagram: over IPv6, in a VLAN, with a checksum, to a trunk whose tags
//! carry the priority. Enters: a burst, and which of its frames are left to do. Leaves: the egress port of each that is
//! eligible; it is ready to be sent there.

use super::{Frames, Inner, KeyRuns, Last, MAX_BURST, SLOW_PATH, Scratch, are_left};
use crate::pipeline::{
    Egress, Pipeline, decap, eligible,
    graph::Stage,
    lookup,
    packet::Packet,
    ports::Underlay,
    tracer::{Tracer, describe},
};
use crate::tables::packed::{Bd, FdbEntry, PackedFdbEntry, node_key};
use stopover_net::{ecn, fast_parse::Datagram, frame};

impl<I: Egress, W: Tracer> Pipeline<'_, I, W> {
    /// Sends a burst of which no frame has an egress port yet.
    #[inline(never)]
    pub(super) fn underlay_any(
        &mut self,
        port: u16,
        own: &Underlay,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        self.prepare_underlay::<true>(own, burst, scratch);
        self.send_out(burst, &scratch.egress_ports, |path, frames| {
            path.underlay_slow(port, frames.drain(..))
        });
    }

    /// Sends a burst of which some frames may have no egress port yet.
    #[inline(never)]
    pub(super) fn underlay_rest(
        &mut self,
        port: u16,
        own: &Underlay,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        if are_left(&scratch.egress_ports, burst.len()) {
            self.prepare_underlay::<false>(own, burst, scratch);
        }
        self.send_out(burst, &scratch.egress_ports, |path, frames| {
            path.underlay_slow(port, frames.drain(..))
        });
    }

    /// `FRESH`: no frame has an egress port yet.
    #[inline(always)]
    fn prepare_underlay<const FRESH: bool>(
        &mut self,
        own: &Underlay,
        burst: &mut Frames<I::P>,
        scratch: &mut Scratch,
    ) {
        let view = self.view;
        let Scratch { keys, words, inner, egress_ports, .. } = scratch;
        let mut destinations = KeyRuns::new(keys);
        let (mut ours, mut bds) = (Last::default(), Last::default());
        view.begin_vteps();
        let mut may_be_local = false;
        for (packet, (slot, egress_port)) in burst.iter().zip(inner.iter_mut().zip(&*egress_ports)) {
            slot.source = 0;
            if !FRESH && *egress_port != SLOW_PATH {
                continue;
            }
            let read = eligible::opened(own, packet).and_then(|(datagram, inner)| {
                ours.get(datagram.dst, || own.has_address(datagram.dst).then_some(()))?;
                let bd = bds.get(datagram.vni, || view.plain_bd_of(datagram.vni))?;
                view.accepts_plain_from(datagram.src).then_some((datagram, bd, inner))
            });
            let Some((Datagram { tos, inner_off, inner_len, .. }, bd, inner)) = read else { continue };
            slot.key_index = destinations.push(node_key(bd, inner.dst));
            slot.len = inner_len;
            slot.offset = inner_off as u8; // at most 74
            slot.priority = if own.pcp { ecn::pcp_of(tos) << 1 } else { 0 };
            slot.source = node_key(bd, inner.src);
            may_be_local |= view.may_be_local(slot.source);
        }
        view.lookup_nodes(destinations.distinct(), words);
        let stations = if may_be_local { self.local_sources(inner, burst.len()) } else { 0 };
        let found = inner.iter().zip(egress_ports).enumerate();
        for (packet, (n, (inner, egress_port))) in burst.iter_mut().zip(found) {
            if FRESH {
                *egress_port = SLOW_PATH;
            }
            if inner.source == 0 || stations >> n & 1 != 0 {
                continue;
            }
            let word = PackedFdbEntry(words[usize::from(inner.key_index) % MAX_BURST]);
            *egress_port = self.deliver_inner(own, packet, inner, word);
        }
    }

    /// Takes the outer headers off, if the destination is eligible. Returns the egress port.
    #[inline(always)]
    fn deliver_inner(
        &mut self,
        own: &Underlay,
        packet: &mut I::P,
        inner: &Inner,
        word: PackedFdbEntry,
    ) -> u16 {
        let len = usize::from(inner.len);
        let to = eligible::port_of_inner(self.ports, word, len);
        let Some((to, vlan)) = to else { return SLOW_PATH };
        if W::RECORDS {
            self.trace_opened(own, packet, word.unpack());
        }
        // `eligible::opened` has checked that these bytes exist.
        if !packet.cut(usize::from(inner.offset), len) {
            return SLOW_PATH;
        }
        packet.clear_offload();
        self.push_vlan(packet, to, vlan, inner.priority)
    }

    /// Records the same trace as the slow path.
    #[cold]
    pub(super) fn trace_opened(&mut self, own: &Underlay, packet: &I::P, entry: Option<FdbEntry>) {
        let Some((datagram, _)) = eligible::opened(own, packet) else { return };
        let Datagram { src, vni, inner_off, inner_len, .. } = datagram;
        let view = self.view;
        let Some(bd): Option<Bd> = view.bd_of(vni) else { return };
        let inner = packet.head().get(usize::from(inner_off)..).unwrap_or_default();
        if let Ok(frame) = frame::parse(inner, inner_len.into()) {
            self.tracer.enter(Stage::Outer);
            self.tracer.enter(Stage::Decap);
            self.tracer.note(|| decap::describe_decap(src, vni, inner_len.into()));
            self.tracer.enter(Stage::Parse);
            self.tracer.note(|| describe(&frame));
            self.tracer.enter(Stage::Guard);
            self.tracer.enter(Stage::Ecn);
            self.tracer.enter(Stage::Stations);
            self.tracer.enter(Stage::Lookup);
            self.tracer.note(|| lookup::describe_lookup(view, frame.dst, bd, entry));
        }
    }
}

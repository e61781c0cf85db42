//! What other appliances and segments are sent while a node is migrating: end markers along its old path, and, on its
//! own segment, the MAC by which it is reached (A7).

use super::{Driver, Key, endings::OrderOutcome};
use crate::control::effects::Effect;
use crate::lcore::egress::Order;
use crate::migration::machine::State;
use crate::pipeline::{
    ports::{Network, Role},
    resolve::router_flag,
};
use dpdk::Mbuf;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use stopover_net::{Mac, Vni};
use stopover_net::{
    arp,
    marker::{self, Kind, Marker},
    nd,
};

/// How soon an announcement without an answer is repeated, in milliseconds, and for how long.
const REPEAT_MS: u64 = 5;
/// See [`REPEAT_MS`].
const REPEAT_FOR_MS: u64 = 500;
/// When a node's MAC is announced on its segment, in milliseconds after it changed; the last interval is repeated.
const ANNOUNCE_AT_MS: [u64; 4] = [0, 50, 200, 500];

/// An arrival that is announced to the old host until that answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announcing {
    to: u32,
    generation: u64,
    next_ms: u64,
    until_ms: u64,
}

impl Announcing {
    pub fn new(to: u32, generation: u64, now_ms: u64) -> Self {
        Self { to, generation, next_ms: now_ms, until_ms: now_ms + REPEAT_FOR_MS }
    }
}

/// A node's stand-in MAC on its own segment while it migrates.
#[derive(Debug, Clone, Copy)]
pub(super) struct StandIn {
    /// The MAC.
    pub mac: Mac,
    /// When it ends: the node is to be reached by its real MAC again, and the stand-in is understood until then.
    ends_ms: Option<u64>,
    announced: usize,
    next_ms: u64,
}

/// First half of every stand-in MAC: locally administered.
const STAND_IN_PREFIX: [u8; 3] = [0x02, 0x53, 0x54];

impl Driver<'_> {
    /// A node has moved between two other hosts: ends our path to the old one.
    pub fn end_old_path(&mut self, now_ms: u64, vni: Vni, mac: Mac, from: u32) {
        if self.replica.host(from).is_some_and(|record| record.is_appliance()) {
            let generation = self.generation(vni, mac);
            let given = self.send_end_markers(Kind::End, vni, mac, from, generation);
            self.migrations.endings.begin(now_ms, vni, mac, (from, generation), given);
        }
    }

    /// Sends the end markers that are due. A repetition does no harm.
    pub(super) fn send_endings(&mut self, now_ms: u64) {
        let mut endings = std::mem::take(&mut self.migrations.endings);
        endings.send(now_ms, |vni, mac, ending| {
            self.send_end_markers(Kind::End, vni, mac, ending.from, ending.generation)
        });
        self.migrations.endings = endings;
    }

    fn generation(&self, vni: Vni, mac: Mac) -> u64 {
        let key = self.replica.bd_of(vni).map(|bd| (bd, mac));
        key.and_then(|key| self.migrations.locks.get(&key)).map_or(0, |lock| lock.generation)
    }

    /// Makes every lcore send end markers to host `to`, behind all that it has sent there for the node.
    fn send_end_markers(&self, kind: Kind, vni: Vni, node: Mac, to: u32, generation: u64) -> OrderOutcome {
        let appliance =
            self.replica.host(to).is_some_and(|record| record.is_appliance() && record.path.is_some());
        let bd = self.replica.bd_of(vni).filter(|_| appliance);
        let Some(network) = bd.map(|bd| Network { bd, vni }) else { return OrderOutcome::NoPath };
        let given = self.order_markers(kind, node, generation, |packet| Order::EndPath(to, network, packet));
        if given < u32::from(self.sender_queues()) { OrderOutcome::Exhausted } else { OrderOutcome::All }
    }

    /// Makes every lcore send an end marker of ours after all that it has sent to a local port whose frames are sent
    /// on to where the node is now. Returns how many lcores will.
    pub(super) fn end_own_path(&self, vni: Vni, (bd, node): Key, port: u16) -> u32 {
        let generation = self.generation(vni, node);
        let network = Network { bd, vni };
        self.order_markers(Kind::End, node, generation, |packet| Order::MarkerBehind(port, network, packet))
    }

    /// How many lcores send markers.
    fn sender_queues(&self) -> u8 {
        self.ports.lcores().len().min(usize::from(marker::MAX_SENDER_QUEUES)) as u8
    }

    fn order_markers(&self, kind: Kind, node: Mac, generation: u64, order: impl Fn(Mbuf) -> Order) -> u32 {
        let Some(host) = self.replica.own_id() else { return 0 };
        let sender_queues = self.sender_queues();
        // A marker is lost when the ring or the pool is exhausted: it is repeated, and waits have an end.
        let frame = |sender_queue| {
            marker::build(&Marker {
                kind,
                relayed: false,
                ends: false,
                sender_queue,
                sender_queues,
                port: 0,
                ports: 1,
                source_port: 0,
                host,
                generation,
                node,
                paused_us: 0,
            })
        };
        self.ports.order_each(sender_queues, frame, order)
    }

    /// Repeats announcements that are due.
    pub(super) fn repeat_announcements(&mut self, now_ms: u64, key: Key) {
        self.announce_arrival(now_ms, key);
        self.announce_to_segment(now_ms, key);
    }

    fn announce_arrival(&mut self, now_ms: u64, key: Key) {
        let Some(node) = self.migrations.nodes.get(&key) else { return };
        let Some(due) = node.announcing.filter(|a| a.next_ms <= now_ms) else { return };
        let answered =
            node.arrival.as_ref().is_some_and(|arrival| arrival.own_marker_returned_tsc.load(Relaxed) != 0);
        let vni = node.vni;
        let continues = !answered && now_ms < due.until_ms;
        if continues {
            self.send_end_markers(Kind::Arrived, vni, key.1, due.to, due.generation);
        }
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.announcing = continues.then_some(Announcing { next_ms: now_ms + REPEAT_MS, ..due });
        }
    }

    /// Starts to announce the stand-in on the node's segment.
    pub(super) fn begin_stand_in(&mut self, now_ms: u64, key: Key) {
        let [.., a, b, c] = key.1.octets();
        let [x, y, z] = STAND_IN_PREFIX;
        let mac = Mac::new([x, y, z, a, b, c]);
        let is_segment = self.segment_port(key).is_some();
        let in_use = self.migrations.nodes.get(&key).is_some_and(|node| node.stand_in.is_some());
        // The MAC of another node must not be used.
        if !is_segment || mac == key.1 || (!in_use && self.tables.fdb_entry(key.0, mac).is_some()) {
            return;
        }
        if let Some(node) = self.migrations.nodes.get_mut(&key) {
            node.stand_in = Some(StandIn { mac, ends_ms: None, announced: 0, next_ms: now_ms });
        }
    }

    /// Announces the real MAC on the segment again; the stand-in is understood for `after_ms`.
    pub(super) fn end_stand_in(&mut self, now_ms: u64, key: Key, after_ms: u64) {
        if let Some(node) = self.migrations.nodes.get_mut(&key)
            && let Some(stand_in) = &mut node.stand_in
            && stand_in.ends_ms.is_none()
        {
            *stand_in =
                StandIn { ends_ms: Some(now_ms + after_ms), announced: 0, next_ms: now_ms, ..*stand_in };
        }
    }

    fn segment_port(&self, key: Key) -> Option<u16> {
        let station = self.stations.get(key.0, key.1)?;
        matches!(self.ports.role(station.port), Some(Role::Segment(_))).then_some(station.port)
    }

    fn announce_to_segment(&mut self, now_ms: u64, key: Key) {
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        let Some(stand_in) = &mut node.stand_in else { return };
        if stand_in.ends_ms.is_some_and(|ends| ends <= now_ms) {
            node.stand_in = None;
            if matches!(node.machine.state(), State::Here { .. } | State::Away) {
                self.tables.end_migrating(key.0, key.1);
            }
            return;
        }
        if stand_in.next_ms > now_ms {
            return;
        }
        let has_left = matches!(node.machine.state(), State::Forwarding { .. });
        let step = |at: usize| ANNOUNCE_AT_MS.get(at).copied();
        let pause = match (step(stand_in.announced), step(stand_in.announced + 1)) {
            (Some(now), Some(next)) => next - now,
            _ => 500,
        };
        stand_in.announced += 1;
        stand_in.next_ms = now_ms + pause;
        let StandIn { mac: stand_in, ends_ms, .. } = *stand_in;
        // A bridge learns the Ethernet source of an announcement: a node that has left is behind our port, a node
        // that is here is not.
        let (owner, source) = match (ends_ms.is_some(), has_left) {
            (false, _) => (stand_in, stand_in),
            (true, true) => (key.1, key.1),
            (true, false) => (key.1, stand_in),
        };
        self.announce_owner(key, owner, source);
    }

    fn announce_owner(&mut self, key: Key, owner: Mac, source: Mac) {
        let (Some(port), Some(station)) = (self.segment_port(key), self.stations.get(key.0, key.1)) else {
            return;
        };
        for ip in &station.ips {
            let mut frame = match *ip {
                IpAddr::V4(ip) => arp::build_announcement(owner, ip).to_vec(),
                IpAddr::V6(ip) => {
                    let router = router_flag(self.tables.router(key.0, ip), ip);
                    nd::build_announcement(owner, ip, router).to_vec()
                }
            };
            if let Some(from) = frame.get_mut(6..12) {
                from.copy_from_slice(&source.octets());
            }
            self.effects.push(Effect::Send { port, vlan: station.vlan, frame });
        }
    }
}

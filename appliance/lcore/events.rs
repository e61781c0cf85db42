//! Events: what an lcore reports to the control thread beside frames. Enters: what the packet path noticed, as often
//! as it notices it. Leaves: each event once in a while, on one of three rings, so that a flood of one kind cannot
//! displace another: arrivals of migrations, routers and loops, stations. Nothing here waits. An event that finds its
//! ring full is counted, and reported when it is noticed again.

use super::counters::EventCounters;
use crate::pipeline::{Learn, RouterSeen, migration_egress::MigrationEvent, packet_counters::add};
use crate::tables::{
    packed::Bd,
    peer::{Peer, TunnelIndex},
};
use crossbeam::queue::ArrayQueue;
use hashbrown::DefaultHashBuilder;
use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
};
use stopover_net::Mac;

/// What an lcore reports to the control thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataplaneEvent {
    /// A station on a segment.
    Station(Learn),
    /// A node is an IPv6 router, or is not.
    Router(RouterSeen),
    /// A segment sends the same flooded frame again and again.
    Loop {
        /// The port.
        port: u16,
        /// Its VLAN tag; 0 for none.
        vlan: u16,
    },
    /// What a migration waits for.
    Migration(MigrationEvent),
    /// Frames are to be sent by this tunnel, and it is not up.
    Wanted(TunnelIndex),
    /// ESP under an SPI that no SA has came from this address.
    UnknownSpi(IpAddr),
    /// A plain frame of this host was refused.
    Refused(Peer),
    /// A sealed frame of a node that is moving has come from a host where it is not yet, as far as is known here.
    CameFrom {
        /// Its network.
        bd: Bd,
        /// The node.
        mac: Mac,
        /// The host.
        peer: Peer,
    },
}

/// The rings of events between one lcore and the control thread, the most urgent first.
#[derive(Debug, Clone)]
pub struct EventRings {
    arrivals: Arc<ArrayQueue<DataplaneEvent>>,
    routers: Arc<ArrayQueue<DataplaneEvent>>,
    stations: Arc<ArrayQueue<DataplaneEvent>>,
}

impl EventRings {
    /// Rings of this many places each.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let ring = || Arc::new(ArrayQueue::new(places));
        Self { arrivals: ring(), routers: ring(), stations: ring() }
    }

    /// Most events that can wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.arrivals.capacity() + self.routers.capacity() + self.stations.capacity()
    }

    /// Whether no event waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.routers.is_empty() && self.stations.is_empty()
    }

    /// The most urgent event that waits.
    #[must_use]
    pub fn pop(&self) -> Option<DataplaneEvent> {
        self.arrivals.pop().or_else(|| self.routers.pop()).or_else(|| self.stations.pop())
    }
}

/// How often a second an event is reported again that is noticed all the time. What is not accepted (a refused
/// station) is noticed with every frame.
const REPEATS_PER_SECOND: u64 = 100;
/// The same for an event that a migration waits for.
const URGENT_REPEATS_PER_SECOND: u64 = 1000;
/// Events that are remembered, each in the one entry that its hash selects.
const REMEMBERED: usize = 1024;

/// An event, and the TSC until which it is not reported again.
type Reported = Option<(DataplaneEvent, u64)>;

/// One lcore's side of its rings.
#[derive(Debug)]
pub struct Events {
    rings: EventRings,
    reported: Box<[Reported]>,
    hasher: DefaultHashBuilder,
    /// TSC cycles in a second.
    hz: u64,
}

impl Events {
    /// `hz`: the TSC's frequency.
    #[must_use]
    pub fn new(rings: EventRings, hz: u64) -> Self {
        Self { rings, reported: vec![None; REMEMBERED].into(), hasher: DefaultHashBuilder::default(), hz }
    }

    /// Reports an event at TSC `now`, unless it was reported a moment ago. Returns whether it was put into a ring.
    pub fn notify(&mut self, event: DataplaneEvent, now: u64, counters: &EventCounters) -> bool {
        let at = self.hasher.hash_one(&event) as usize % REMEMBERED;
        let Some(place) = self.reported.get_mut(at) else { return false };
        if place.as_ref().is_some_and(|(reported, until)| now < *until && *reported == event) {
            return false;
        }
        let EventRings { arrivals, routers, stations } = &self.rings;
        let (ring, lost, repeats): (_, &AtomicU64, _) = match event {
            DataplaneEvent::Migration(_) => (arrivals, &counters.arrivals_lost, URGENT_REPEATS_PER_SECOND),
            DataplaneEvent::Router(_)
            | DataplaneEvent::Loop { .. }
            | DataplaneEvent::Wanted(_)
            | DataplaneEvent::UnknownSpi(_)
            | DataplaneEvent::Refused(_)
            | DataplaneEvent::CameFrom { .. } => (routers, &counters.routers_lost, REPEATS_PER_SECOND),
            DataplaneEvent::Station(_) => (stations, &counters.stations_lost, REPEATS_PER_SECOND),
        };
        let again = self.hz / repeats;
        match ring.push(event.clone()) {
            Ok(()) => {
                *place = Some((event, now.wrapping_add(again)));
                true
            }
            Err(_) => {
                add(lost, 1);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    const HZ: u64 = 1_000_000;

    fn bd() -> Bd {
        Bd::new(1).unwrap()
    }

    fn learn(n: u64) -> Learn {
        Learn { port: 3, bd: bd(), vlan: 0, mac: Mac::from_u64(0x0200_0000_0000 + n), ip: None }
    }

    fn station(n: u64) -> DataplaneEvent {
        DataplaneEvent::Station(learn(n))
    }

    fn arrived(n: u64) -> DataplaneEvent {
        let node = Mac::from_u64(n);
        DataplaneEvent::Migration(MigrationEvent::Arrived { bd: bd(), node, host: 2, generation: n })
    }

    fn router(n: u16) -> DataplaneEvent {
        let ip = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
        DataplaneEvent::Router(RouterSeen { bd: bd(), mac: Mac::from_u64(2), ip, router: true })
    }

    fn drain(rings: &EventRings) -> Vec<DataplaneEvent> {
        std::iter::from_fn(|| rings.pop()).collect()
    }

    #[test]
    fn flood_of_stations_loses_no_arrival_and_no_router() {
        let (rings, counters) = (EventRings::new(64), EventCounters::default());
        let mut events = Events::new(rings.clone(), HZ);
        for n in 0..100_000 {
            events.notify(station(n), n, &counters);
        }
        for n in 0..64 {
            events.notify(arrived(n), 100_000, &counters);
            events.notify(router(n as u16), 100_000, &counters);
        }
        assert_eq!(counters.stations_lost.load(Relaxed), 100_000 - 64);
        assert_eq!((counters.arrivals_lost.load(Relaxed), counters.routers_lost.load(Relaxed)), (0, 0));
        let reported = drain(&rings);
        assert_eq!(reported.len(), 3 * 64);
        // And the control thread receives them first.
        assert!(reported[..64].iter().all(|event| matches!(event, DataplaneEvent::Migration(_))));
        assert!(reported[64..128].iter().all(|event| matches!(event, DataplaneEvent::Router(_))));
        // A station that a migration waits for is urgent.
        for n in 0..1000 {
            events.notify(station(n), 200_000, &counters);
        }
        let awaited = DataplaneEvent::Migration(MigrationEvent::Station(learn(7777)));
        events.notify(awaited.clone(), 200_000, &counters);
        assert_eq!(rings.pop(), Some(awaited));
    }

    #[test]
    fn repeated_event_is_reported_at_a_rate() {
        let (rings, counters) = (EventRings::new(64), EventCounters::default());
        let mut events = Events::new(rings.clone(), HZ);
        // A refused station sends for a second, a million frames.
        for now in 0..HZ {
            events.notify(station(1), now, &counters);
            if now % 1000 == 0 {
                let reported = drain(&rings).len();
                assert!(reported <= 1);
            }
        }
        assert_eq!(counters.stations_lost.load(Relaxed), 0);
        // The first is reported at once, and so is another fact of the same station.
        events.notify(station(2), HZ, &counters);
        let with_ip = DataplaneEvent::Station(Learn { ip: Some([10, 0, 0, 1].into()), ..learn(2) });
        events.notify(with_ip.clone(), HZ, &counters);
        assert_eq!(drain(&rings), [station(2), with_ip]);
    }

    #[test]
    fn lost_event_is_reported_once_there_is_room() {
        let (rings, counters) = (EventRings::new(1), EventCounters::default());
        let mut events = Events::new(rings.clone(), HZ);
        events.notify(arrived(1), 0, &counters);
        events.notify(arrived(2), 0, &counters);
        assert_eq!(counters.arrivals_lost.load(Relaxed), 1);
        assert_eq!(drain(&rings), [arrived(1)]);
        events.notify(arrived(2), 0, &counters);
        assert_eq!(drain(&rings), [arrived(2)]);
    }
}

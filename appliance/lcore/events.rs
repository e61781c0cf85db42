//! Events: what an lcore reports to the control thread beside frames. Enters: what the packet path noticed, as often
//! as it notices it. Leaves: each event once in a while, on one of three rings, so that a flood of one kind cannot
//! displace another: arrivals of migrations, routers and loops, stations. Nothing here waits. An event that finds its
//! ring full is counted, and reported when it is noticed again.

use super::counters::EventCounters;
use crate::pipeline::{Learn, RouterSeen, packet_counters::add};
use crate::tables::packed::Bd;
use crossbeam::queue::ArrayQueue;
use hashbrown::DefaultHashBuilder;
use std::{
    hash::BuildHasher,
    sync::{Arc, atomic::AtomicU64},
};
use stopover_net::Mac;
use stopover_net::marker::Marker;

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
    /// An end marker was passed on to its node's new host.
    Ended {
        /// Its network.
        bd: Bd,
        /// The marker.
        marker: Marker,
    },
    /// A host reports that a node has arrived there.
    Arrived {
        /// Its network.
        bd: Bd,
        /// The node.
        node: Mac,
        /// The host.
        host: u32,
        /// The generation of the lock that the host knows of; 0 for none.
        generation: u64,
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

    /// Reports an event at TSC `now`, unless it was reported a moment ago. `urgent`: a migration waits for it. Returns
    /// whether it was put into a ring.
    pub fn notify(
        &mut self,
        event: DataplaneEvent,
        urgent: bool,
        now: u64,
        counters: &EventCounters,
    ) -> bool {
        let at = self.hasher.hash_one(&event) as usize % REMEMBERED;
        let Some(place) = self.reported.get_mut(at) else { return false };
        if place.as_ref().is_some_and(|(reported, until)| now < *until && *reported == event) {
            return false;
        }
        let (ring, lost): (_, &AtomicU64) = match event {
            _ if urgent => (&self.rings.arrivals, &counters.arrivals_lost),
            DataplaneEvent::Arrived { .. } | DataplaneEvent::Ended { .. } => {
                (&self.rings.arrivals, &counters.arrivals_lost)
            }
            DataplaneEvent::Router(_) | DataplaneEvent::Loop { .. } => {
                (&self.rings.routers, &counters.routers_lost)
            }
            DataplaneEvent::Station(_) => (&self.rings.stations, &counters.stations_lost),
        };
        let urgent = urgent || matches!(event, DataplaneEvent::Arrived { .. });
        let again = self.hz / if urgent { URGENT_REPEATS_PER_SECOND } else { REPEATS_PER_SECOND };
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

    fn station(n: u64) -> DataplaneEvent {
        DataplaneEvent::Station(Learn {
            port: 3,
            bd: bd(),
            vlan: 0,
            mac: Mac::from_u64(0x0200_0000_0000 + n),
            ip: None,
        })
    }

    fn arrived(n: u64) -> DataplaneEvent {
        DataplaneEvent::Arrived { bd: bd(), node: Mac::from_u64(n), host: 2, generation: n }
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
            events.notify(station(n), false, n, &counters);
        }
        for n in 0..64 {
            events.notify(arrived(n), false, 100_000, &counters);
            events.notify(router(n as u16), false, 100_000, &counters);
        }
        assert_eq!(counters.stations_lost.load(Relaxed), 100_000 - 64);
        assert_eq!((counters.arrivals_lost.load(Relaxed), counters.routers_lost.load(Relaxed)), (0, 0));
        let reported = drain(&rings);
        assert_eq!(reported.len(), 3 * 64);
        // And the control thread receives them first.
        assert!(reported[..64].iter().all(|event| matches!(event, DataplaneEvent::Arrived { .. })));
        assert!(reported[64..128].iter().all(|event| matches!(event, DataplaneEvent::Router(_))));
        // A station that a migration waits for is urgent.
        for n in 0..1000 {
            events.notify(station(n), false, 200_000, &counters);
        }
        events.notify(station(7777), true, 200_000, &counters);
        assert_eq!(rings.pop(), Some(station(7777)));
    }

    #[test]
    fn repeated_event_is_reported_at_a_rate() {
        let (rings, counters) = (EventRings::new(64), EventCounters::default());
        let mut events = Events::new(rings.clone(), HZ);
        // A refused station sends for a second, a million frames.
        for now in 0..HZ {
            events.notify(station(1), false, now, &counters);
            if now % 1000 == 0 {
                let reported = drain(&rings).len();
                assert!(reported <= 1);
            }
        }
        assert_eq!(counters.stations_lost.load(Relaxed), 0);
        // The first is reported at once, and so is another fact of the same station.
        events.notify(station(2), false, HZ, &counters);
        let DataplaneEvent::Station(learn) = station(2) else { unreachable!() };
        let with_ip = DataplaneEvent::Station(Learn { ip: Some([10, 0, 0, 1].into()), ..learn });
        events.notify(with_ip.clone(), false, HZ, &counters);
        assert_eq!(drain(&rings), [station(2), with_ip]);
    }

    #[test]
    fn lost_event_is_reported_once_there_is_room() {
        let (rings, counters) = (EventRings::new(1), EventCounters::default());
        let mut events = Events::new(rings.clone(), HZ);
        events.notify(arrived(1), false, 0, &counters);
        events.notify(arrived(2), false, 0, &counters);
        assert_eq!(counters.arrivals_lost.load(Relaxed), 1);
        assert_eq!(drain(&rings), [arrived(1)]);
        events.notify(arrived(2), false, 0, &counters);
        assert_eq!(drain(&rings), [arrived(2)]);
    }
}

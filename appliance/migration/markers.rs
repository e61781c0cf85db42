//! End markers that wait on one lcore: those from the underlay, until the barrier is over for them, those that other
//! lcores have handed over, and those for guests with several rings, until they have taken what is in front. A marker
//! that finds no room is processed at once, or lost: its sender repeats it.

use crate::pipeline::ports::Network;
use dpdk::Mbuf;
use std::collections::VecDeque;
use stopover_lockfree::barrier::{Member, Ticket};

/// Most end markers that wait in one place of an lcore. A move causes one for each lcore of each host.
const MARKERS: usize = 4096;

/// A position in what a transmit queue has given a guest.
#[derive(Debug, Clone, Copy)]
pub struct RingPosition {
    /// As the queue counts.
    pub given: u16,
    /// TSC when the queue was there.
    pub since: u64,
}

/// What is in front of an end marker at the queue of a guest with several rings.
#[derive(Debug, Clone, Copy)]
pub enum Ahead {
    /// Frames that the device has not been given: until this lcore has sent so many through the port.
    Device(u64),
    /// Frames that the guest has not taken, up to here.
    Guest(RingPosition),
}

/// An end marker that waits for a guest.
#[derive(Debug)]
pub struct BehindGuest {
    /// The guest's port.
    pub port: u16,
    /// What it waits for.
    pub ahead: Ahead,
    /// The marker's network.
    pub network: Network,
    /// Its frame.
    pub packet: Mbuf,
}

/// See the module.
#[derive(Debug)]
pub struct Markers {
    /// This lcore's part of the barrier.
    pub barrier: Member,
    /// In the order of arrival. Those of one round share one ticket, which they get when the round ends.
    parked: VecDeque<(Option<Ticket>, Network, Mbuf)>,
    handed: VecDeque<(u16, Network, Mbuf)>,
    behind_guests: VecDeque<BehindGuest>,
    /// Some have no ticket yet.
    unticketed: bool,
}

impl Markers {
    /// An empty one.
    #[must_use]
    pub fn new(barrier: Member) -> Self {
        let (parked, handed) = (VecDeque::with_capacity(MARKERS), VecDeque::with_capacity(MARKERS));
        let behind_guests = VecDeque::with_capacity(MARKERS);
        Self { barrier, parked, handed, behind_guests, unticketed: false }
    }

    /// Whether none waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.handed.is_empty() && self.behind_guests.is_empty()
    }

    /// Queues a marker until the barrier is over; returns it if there is no room.
    pub fn park(&mut self, packet: Mbuf, network: Network) -> Result<(), Mbuf> {
        if self.parked.len() >= MARKERS {
            return Err(packet);
        }
        self.unticketed = true;
        self.parked.push_back((None, network, packet));
        Ok(())
    }

    /// Requests the barrier for the markers that arrived since the last call.
    pub fn request_ticket(&mut self) {
        if !std::mem::take(&mut self.unticketed) {
            return;
        }
        let ticket = self.barrier.request();
        for (of, ..) in self.parked.iter_mut().rev().take_while(|(of, ..)| of.is_none()) {
            *of = Some(ticket);
        }
    }

    /// The next marker for which the barrier is over.
    pub fn pop_parked(&mut self) -> Option<(Network, Mbuf)> {
        let (ticket, ..) = self.parked.front()?;
        if !ticket.is_some_and(|ticket| self.barrier.is_complete(ticket)) {
            return None;
        }
        self.parked.pop_front().map(|(_, network, packet)| (network, packet))
    }

    /// Queues a marker that another lcore has handed over for a port; returns it if there is no room.
    pub fn push_handed(&mut self, port: u16, network: Network, packet: Mbuf) -> Result<(), Mbuf> {
        if self.handed.len() >= MARKERS {
            return Err(packet);
        }
        self.handed.push_back((port, network, packet));
        Ok(())
    }

    /// The next marker that was handed over.
    pub fn pop_handed(&mut self) -> Option<(u16, Network, Mbuf)> {
        self.handed.pop_front()
    }

    /// Whether there is room for another one behind a guest.
    #[must_use]
    pub fn has_room_behind_guests(&self) -> bool {
        self.behind_guests.len() < MARKERS
    }

    /// How many wait for guests.
    #[must_use]
    pub fn behind_guests(&self) -> usize {
        self.behind_guests.len()
    }

    /// Queues one behind all others that wait for guests.
    pub fn push_behind_guest(&mut self, marker: BehindGuest) {
        self.behind_guests.push_back(marker);
    }

    /// The one that has waited longest for a guest since it was queued.
    pub fn pop_behind_guest(&mut self) -> Option<BehindGuest> {
        self.behind_guests.pop_front()
    }

    /// Drops all. Returns how many of them were counted as held.
    pub fn discard(&mut self) -> u64 {
        let held = self.parked.len() + self.behind_guests.len();
        self.parked.clear();
        self.handed.clear();
        self.behind_guests.clear();
        held as u64
    }
}

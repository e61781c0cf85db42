//! Changes that lcores make of their SAs, and what follows when all have made one. Enters: changes for every lcore, orders
//! that have come back. Leaves: orders in the order in which they were made, for each lcore; what follows.

use super::OrderFor;
use crate::lcore::tunnels::{TunnelChange, TunnelOrder};
use crate::tables::peer::TunnelIndex;
use std::collections::{HashMap, VecDeque};
use stopover_tunnel::Spi;

/// What follows when every lcore has made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// The handshake goes on.
    Installed {
        /// The peer.
        peer: u32,
        /// The session.
        session: u32,
    },
    /// These SPIs can be given again.
    Retired(Vec<Spi>),
    /// This number can be given to another tunnel.
    Free(TunnelIndex),
}

/// Most orders that are with one lcore: its rings have room for them.
const WITH_ONE: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Orders {
    lcores: usize,
    last: u64,
    /// Not given yet, by lcore.
    waiting: Vec<VecDeque<Box<TunnelOrder>>>,
    /// By lcore, how many it has.
    given: Vec<usize>,
    /// How many lcores still have an order, and what follows.
    under_way: HashMap<u64, (usize, Then)>,
    done: VecDeque<Then>,
}

impl Orders {
    /// For so many lcores.
    #[must_use]
    pub fn new(lcores: usize) -> Self {
        Self {
            lcores,
            last: 0,
            waiting: (0..lcores).map(|_| VecDeque::new()).collect(),
            given: vec![0; lcores],
            under_way: HashMap::new(),
            done: VecDeque::new(),
        }
    }

    /// A change for each lcore, by its number.
    pub(super) fn each(&mut self, then: Then, mut change: impl FnMut(usize) -> TunnelChange) {
        self.last += 1;
        for (lcore, waiting) in self.waiting.iter_mut().enumerate() {
            waiting.push_back(Box::new(TunnelOrder { number: self.last, change: change(lcore) }));
        }
        self.under_way.insert(self.last, (self.lcores, then));
    }

    /// The next order that an lcore can be given.
    pub fn next(&mut self) -> Option<OrderFor> {
        let lcore = (0..self.lcores).find(|lcore| {
            let has_room = self.given.get(*lcore).is_some_and(|given| *given < WITH_ONE);
            has_room && self.waiting.get(*lcore).is_some_and(|waiting| !waiting.is_empty())
        })?;
        let order = self.waiting.get_mut(lcore)?.pop_front()?;
        *self.given.get_mut(lcore)? += 1;
        Some((lcore, order))
    }

    /// It could not be given: its ring is full.
    pub fn put_back(&mut self, (lcore, order): OrderFor) {
        if let (Some(waiting), Some(given)) = (self.waiting.get_mut(lcore), self.given.get_mut(lcore)) {
            waiting.push_front(order);
            *given -= 1;
        }
    }

    /// An lcore has made a change. What it replaced is freed here.
    pub fn made(&mut self, lcore: usize, order: TunnelOrder) {
        if let Some(given) = self.given.get_mut(lcore) {
            *given = given.saturating_sub(1);
        }
        if let TunnelChange::Install(refused) = &order.change
            && !refused.is_empty()
        {
            log::error!("{} inbound SAs found their place taken: tell the developers", refused.len());
        }
        let Some((left, _)) = self.under_way.get_mut(&order.number) else { return };
        *left -= 1;
        if *left == 0
            && let Some((_, then)) = self.under_way.remove(&order.number)
        {
            self.done.push_back(then);
        }
    }

    /// What follows from an order that all lcores have made.
    pub(super) fn next_done(&mut self) -> Option<Then> {
        self.done.pop_front()
    }

    /// Whether something follows now.
    #[must_use]
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether no order waits or is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.done.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_follows_when_every_lcore_has_made_a_change() {
        let mut orders = Orders::new(2);
        orders.each(Then::Installed { peer: 1, session: 7 }, |_| TunnelChange::Install(Vec::new()));
        orders.each(Then::Nothing, |_| TunnelChange::Outbound(TunnelIndex::new(0), None));
        let mut given = Vec::new();
        while let Some(order) = orders.next() {
            given.push(order);
        }
        let numbers: Vec<_> = given.iter().map(|(lcore, order)| (*lcore, order.number)).collect();
        assert_eq!(numbers, [(0, 1), (0, 2), (1, 1), (1, 2)]);
        let mut made = |orders: &mut Orders, at: usize| {
            let (lcore, order) = given.remove(at);
            orders.made(lcore, *order);
        };
        made(&mut orders, 0);
        made(&mut orders, 0);
        assert!(!orders.has_done() && !orders.is_idle());
        made(&mut orders, 0);
        assert_eq!(orders.next_done(), Some(Then::Installed { peer: 1, session: 7 }));
        made(&mut orders, 0);
        assert_eq!((orders.next_done(), orders.next_done()), (Some(Then::Nothing), None));
        assert!(orders.is_idle());
    }

    #[test]
    fn an_lcore_has_no_more_orders_than_its_rings_take() {
        let mut orders = Orders::new(1);
        for _ in 0..WITH_ONE + 2 {
            orders.each(Then::Nothing, |_| TunnelChange::Outbound(TunnelIndex::new(0), None));
        }
        let (mut given, mut last) = (0, None);
        while let Some((lcore, order)) = orders.next() {
            given += 1;
            last = Some((lcore, order));
        }
        assert_eq!(given, WITH_ONE);
        let (lcore, order) = last.unwrap();
        let number = order.number;
        orders.put_back((lcore, order));
        let (lcore, order) = orders.next().unwrap();
        assert_eq!((order.number, orders.next().is_none()), (number, true));
        orders.made(lcore, *order);
        assert_eq!(orders.next().map(|(_, order)| order.number), Some(number + 1));
    }
}

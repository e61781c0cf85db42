//! Which lcore sends through which transmit queue of a port, and which polls which receive queue. Enters: the queues of a
//! port. Leaves: what each lcore sends through. Single-queue ports are spread over the lcores: an lcore that owned all
//! of them would copy every frame for every VM, and all others would hand theirs to it.

use crate::lcore::{
    handover::{Handoff, HandoffRing, Handover},
    tx_port::{OwnQueue, TxPort},
};
use crate::migration::tx_hold::TxHold;
use crate::pipeline::ports::Network;
use dpdk::{TxQueue, cycles};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicBool},
};

/// Places in each ring between lcores, and between an lcore and the control thread.
pub const RING: usize = 1024;

/// The number, among the lcores, of the one that owns the first transmit queue of a port.
#[must_use]
pub fn first_sender(port: u16, lcores: usize) -> usize {
    usize::from(port).checked_rem(lcores).unwrap_or(0)
}

/// The numbers of the lcores that own so many transmit queues of a port; `first` owns the first.
#[must_use]
pub fn owners(first: usize, txq: u16, lcores: usize) -> Vec<usize> {
    (0..usize::from(txq).min(lcores)).map(|queue| (first + queue) % lcores).collect()
}

/// What every lcore sends to a port through, by the lcore's number. Transmit queue i is that of lcore `first` + i. A port
/// with fewer queues than lcores shares them: lcores without a queue hand their frames to one that has it. `network` is
/// that of a vif, `tx_hold` makes an lcore's share of its hold.
pub fn distribute(
    (tx, is_bond): (Vec<TxQueue>, bool),
    (first, lcores): (usize, usize),
    up: &Arc<AtomicBool>,
    network: Option<Network>,
    tx_hold: impl Fn() -> Option<Box<TxHold>>,
) -> Vec<TxPort> {
    let owners = tx.len().min(lcores);
    let (shared, is_apart) = (owners < lcores, owners > 1);
    let handoffs: Vec<Option<Handoff>> =
        (0..owners).map(|_| shared.then(|| Arc::new(HandoffRing::new(RING)))).collect();
    let mut tx = tx.into_iter();
    let mut tx_ports: VecDeque<TxPort> = (0..lcores)
        .map(|number| match tx.next() {
            Some(queue) => {
                let handoff = handoffs.get(number).cloned().flatten();
                let hz = cycles::tsc_hz();
                let up = Arc::clone(up);
                let mut own = OwnQueue::new(queue, up, handoff, tx_hold(), is_bond, hz);
                own.is_apart = is_apart;
                TxPort::Own(Box::new(own))
            }
            None => match number.checked_rem(owners).and_then(|owner| handoffs.get(owner).cloned().flatten())
            {
                Some(ring) => TxPort::Other(Handover::new(ring, tx_hold().zip(network), is_apart)),
                None => TxPort::Closed,
            },
        })
        .collect();
    tx_ports.rotate_right(first.checked_rem(lcores).unwrap_or(0));
    tx_ports.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_queue_ports_are_spread_over_the_lcores() {
        let senders: Vec<usize> = (0..6).map(|port| first_sender(port, 3)).collect();
        assert_eq!(senders, [0, 1, 2, 0, 1, 2]);
        assert_eq!(first_sender(5, 0), 0);
        assert_eq!(owners(2, 2, 3), [2, 0]);
        assert_eq!(owners(1, 5, 2), [1, 0]);
    }
}

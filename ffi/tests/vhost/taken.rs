//! What a port knows of frames in a guest's rings: a guest with several rings may look at one long after another.

use std::path::Path;
use std::time::{Duration, Instant};

use dpdk::*;

use crate::front_end::{EVENT_IDX, FEATURES, FrontEnd};

/// A port with two pairs of rings, and a guest that has enabled so many of them.
fn start(eal: &Eal, pool: &Mempool, socket: &Path, features: u64, pairs: u32) -> (Port, Queues, FrontEnd) {
    let port = Port::open_vhost(eal, "net_vhost3", super::config(socket, 2), pool).unwrap();
    let queues = port.start().unwrap();
    let guest = FrontEnd::connect(socket);
    guest.features(features);
    guest.start_pairs(pairs);
    (port, queues, guest)
}

/// Gives the guest a buffer and a frame.
fn send(queue: &mut TxQueue, pool: &Mempool, guest: &mut FrontEnd) -> usize {
    guest.give();
    give(queue, pool)
}

/// Gives the guest a frame.
fn give(queue: &mut TxQueue, pool: &Mempool) -> usize {
    let mut burst = Burst::new();
    burst.push(Mbuf::from_slice(pool, &[1; 60]).unwrap()).unwrap();
    queue.burst(&mut burst)
}

pub fn what_a_guest_has_taken(eal: &Eal, pool: &Mempool, socket: &Path) {
    let (port, mut queues, mut guest) = start(eal, pool, socket, FEATURES | EVENT_IDX, 2);
    let tx = &mut queues.tx[0];
    assert_eq!((tx.has_delivered(None), tx.given()), (Some(true), 0), "nothing was given");
    assert_eq!(send(tx, pool, &mut guest), 1);
    assert_eq!((tx.has_delivered(None), tx.given()), (Some(false), 1));
    assert_eq!(send(tx, pool, &mut guest), 1);
    guest.wait_for(1);
    assert_eq!(
        (tx.has_delivered(Some(1)), tx.has_delivered(Some(2)), tx.given()),
        (Some(true), Some(false), 2)
    );
    assert_eq!(tx.has_delivered(None), Some(false));
    assert_eq!(queues.tx[1].has_delivered(None), Some(true), "the other ring has nothing");

    // It stops, as at a migration, and its rings start with a frame that it has not seen: it gets no other before.
    guest.stop();
    assert_eq!(queues.tx[0].has_delivered(None), Some(true), "there is no guest");
    guest.start_pairs(2);
    assert!(queues.tx[0].settles());
    assert_eq!((send(&mut queues.tx[0], pool, &mut guest), guest.used()), (0, 2));
    guest.wait_for(2);
    assert_eq!((send(&mut queues.tx[0], pool, &mut guest), guest.used()), (1, 3));
    assert!(!queues.tx[0].settles());

    // One that offers buffers works, and is waited for, however long it takes. One that does nothing is not.
    guest.stop();
    guest.start_pairs(2);
    for _ in 0..6 {
        assert_eq!((send(&mut queues.tx[0], pool, &mut guest), queues.tx[0].settles()), (0, true));
        std::thread::sleep(Duration::from_millis(120));
    }
    assert_eq!(guest.used(), 3);
    let began = Instant::now();
    while give(&mut queues.tx[0], pool) == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it waits for a guest that does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(began.elapsed() > Duration::from_millis(300));
    drop((queues, port, guest));

    let (port, mut queues, mut guest) = start(eal, pool, socket, FEATURES, 2);
    assert_eq!(send(&mut queues.tx[0], pool, &mut guest), 1);
    assert_eq!(queues.tx[0].has_delivered(None), None, "it does not report what it has taken");
    drop((queues, port, guest));

    let (_port, mut queues, mut guest) = start(eal, pool, socket, FEATURES | EVENT_IDX, 1);
    assert_eq!(send(&mut queues.tx[1], pool, &mut guest), 1);
    assert_eq!(queues.tx[1].has_delivered(None), Some(true), "one ring keeps the order");
}

//! A front end whose port another takes over: what a process and its successor do, within one process. The front end keeps
//! its connection, its memory and its rings, and is asked for nothing.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use dpdk::*;
use stopover_vmm::{Line, LineListener, Passed, Taken};

use crate::front_end::{FEATURES, FrontEnd, LOG_ALL};
use crate::{ATTACHED, DETACHED, MIGRATING, config};

/// Both ends of a line.
fn line() -> (Line, Line) {
    let listener = LineListener::within(&std::env::temp_dir()).unwrap();
    let old = Line::connect(&listener.path()).unwrap();
    (old, listener.accept(Instant::now() + Duration::from_secs(10)).unwrap())
}

/// The port that has the socket after this one, with this configuration.
fn succeed(
    eal: &Eal,
    pool: &Mempool,
    (port, queues): (Port, Queues),
    next: &VhostConfig,
) -> (Port, Queues, Taken) {
    let (old, new) = line();
    let relay = dpdk::vhost::relay().unwrap();
    let vhost = port.vhost().unwrap();
    // No lcore uses the queues.
    relay.pass(&old).unwrap();
    // librte_vhost's thread learns later that a connection was closed, which is not passed on.
    let began = Instant::now();
    while vhost.state() != DETACHED {
        assert!(began.elapsed() < Duration::from_secs(10), "its rings go on");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop((queues, port));
    assert!(next.path.exists(), "the socket is the successor's");
    let passed = Passed::receive(&new, Instant::now() + Duration::from_secs(10)).unwrap();
    assert_eq!(passed.has_listener(&next.path), !next.client);
    relay.await_passed().unwrap();
    let port = Port::open_vhost(eal, "net_vhost4", next.clone(), pool).unwrap();
    let queues = port.start().unwrap();
    assert_eq!(port.vhost().unwrap().state(), DETACHED, "it waits for its predecessor");
    let taken = relay.take(passed).unwrap();
    (port, queues, taken)
}

fn give(tx: &mut TxQueue, pool: &Mempool, content: u8) -> usize {
    let mut burst = Burst::new();
    burst.push(Mbuf::from_slice(pool, &[content; 60]).unwrap()).unwrap();
    tx.burst(&mut burst)
}

pub fn a_front_end_does_not_notice(eal: &Eal, pool: &Mempool, socket: &Path) {
    let own = config(socket, 2);
    let port = Port::open_vhost(eal, "net_vhost4", own.clone(), pool).unwrap();
    let queues = port.start().unwrap();
    let mut guest = FrontEnd::connect(socket);
    guest.start();
    let at = three_hand_overs(eal, pool, (port, queues), &mut guest, &own);

    // While its VM migrates it has to connect again, and can, at the same path.
    guest.features(FEATURES | LOG_ALL);
    assert_eq!(at.0.vhost().unwrap().state(), MIGRATING);
    let (port, queues, taken) = succeed(eal, pool, at, &own);
    assert_eq!((taken, port.vhost().unwrap().state()), (Taken::default(), DETACHED));
    assert!(guest.is_closed());
    let guest = FrontEnd::connect(socket);
    guest.start();
    assert_eq!(port.vhost().unwrap().state(), ATTACHED);

    // A successor that offers something else is none.
    let (port, queues, taken) = succeed(eal, pool, (port, queues), &own);
    assert_eq!(taken, Taken { connections: 1, closed: 0 });
    let without = VhostConfig { csum: false, ..own };
    let (port, queues, taken) = succeed(eal, pool, (port, queues), &without);
    assert_eq!(taken, Taken { connections: 0, closed: 1 });
    assert!(guest.is_closed());
    drop((queues, port));
    assert!(!socket.exists(), "closed by whom it belongs to");
}

/// The port connects to the front end.
pub fn a_front_end_that_listens_does_not_notice(eal: &Eal, pool: &Mempool, socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let accept = || FrontEnd::on(listener.accept().unwrap().0);
    let own = VhostConfig { client: true, ..config(socket, 1) };
    let port = Port::open_vhost(eal, "net_vhost4", own.clone(), pool).unwrap();
    let queues = port.start().unwrap();
    let mut guest = accept();
    guest.start();
    let at = three_hand_overs(eal, pool, (port, queues), &mut guest, &own);
    drop(guest);
    // It has ended; the next one is found.
    let guest = accept();
    guest.start();
    assert_eq!(at.0.vhost().unwrap().state(), ATTACHED);
    drop(at);
    assert!(guest.is_closed() && socket.exists());
}

/// The ring continues where it was, in each of the ports.
fn three_hand_overs(
    eal: &Eal,
    pool: &Mempool,
    mut at: (Port, Queues),
    guest: &mut FrontEnd,
    config: &VhostConfig,
) -> (Port, Queues) {
    guest.give();
    assert_eq!((give(&mut at.1.tx[0], pool, 1), guest.used()), (1, 1));
    for slot in 1..4_u8 {
        let (port, mut queues, taken) = succeed(eal, pool, at, config);
        assert_eq!(taken, Taken { connections: 1, closed: 0 });
        assert_eq!(port.vhost().unwrap().state(), ATTACHED, "its rings run");
        let tx = &mut queues.tx[0];
        assert_eq!((give(tx, pool, 9), guest.used()), (0, slot.into()), "no buffer is used twice");
        guest.give();
        assert_eq!((give(tx, pool, slot + 1), guest.used()), (1, u16::from(slot) + 1));
        assert_eq!(guest.received(slot.into(), 60), [slot + 1; 60]);
        at = (port, queues);
    }
    at
}

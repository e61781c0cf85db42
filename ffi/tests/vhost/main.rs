//! A vhost-user port as the other side sees it: a front end that speaks the protocol (QEMU's
//! docs/interop/vhost-user.rst) sets up rings in a file, has their memory logged, stops them, starts them again and
//! hangs up, and the port must report each at once. EAL starts once per process, so this is one test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod front_end;
mod hand_over;
mod taken;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use dpdk::*;
use front_end::{FEATURES, FrontEnd, GUEST_CSUM, LOG_ALL};

/// Waits until the port reports a link change.
fn wait_for_link_event(events: &Receiver<PortEvent>) {
    loop {
        if events.recv_timeout(Duration::from_secs(10)).expect("an event") == PortEvent::Link {
            return;
        }
    }
}

fn assert_no_link_event(events: &Receiver<PortEvent>) {
    assert!(events.try_iter().all(|event| event != PortEvent::Link));
}

const DETACHED: VhostState = VhostState { attached: false, logs_dirty: false };
const ATTACHED: VhostState = VhostState { attached: true, logs_dirty: false };
const MIGRATING: VhostState = VhostState { attached: true, logs_dirty: true };

/// Arguments with one device that is no vhost-user port.
fn eal_args() -> Vec<String> {
    [
        "--no-huge",
        "-m",
        "64",
        "--no-pci",
        "--no-shconf",
        "--no-telemetry",
        "--lcores",
        "0@0",
        "--log-level=lib.vhost.config:warning",
        "--vdev=net_null0",
    ]
    .map(str::to_owned)
    .into()
}

fn config(path: &Path, queues: u16) -> VhostConfig {
    VhostConfig {
        path: path.to_owned(),
        client: false,
        queues,
        txq: queues,
        csum: true,
        tso: false,
        iommu: false,
        postcopy: false,
        mtu: None,
    }
}

#[test]
fn attach_migrate_and_detach() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = [dir.path().join("0"), dir.path().join("1")];
    let eal = Eal::init(&eal_args()).unwrap();
    let pool = Mempool::create(&eal, "pool", 1023, 0, 2176, None).unwrap();
    let null = Device::find(&eal, "net_null0").unwrap().configure(&PortConfig::default(), &pool).unwrap();
    assert!(null.vhost().is_none());
    refused_settings(&eal, &pool);

    let port = |name, at: usize| Port::open_vhost(&eal, name, config(&sockets[at], 1), &pool).unwrap();
    let (other, port) = (port("net_vhost0", 0), port("net_vhost1", 1));
    assert!(other.id() != port.id() && other.mac().unwrap() != port.mac().unwrap());
    let (other_vhost, vhost) = (other.vhost().unwrap(), port.vhost().unwrap());
    let other_queues = other.start().unwrap();
    let again = other.start().err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Busy);
    assert_eq!(other.stop().unwrap_err().kind(), ErrorKind::Busy, "its queues are in use");
    let first = FrontEnd::connect(&sockets[0]);
    first.start();
    assert_eq!((other_vhost.state(), vhost.state()), (ATTACHED, DETACHED));
    assert!(UnixStream::connect(&sockets[1]).is_err(), "no socket before the start");

    logging_is_reported(&other, &first);
    let (sender, events) = channel();
    port.on_event(move |event| _ = sender.send(event)).unwrap();
    assert_eq!(port.on_event(|_| ()).unwrap_err().kind(), ErrorKind::Busy);
    let mut queues = port.start().unwrap();
    let second = FrontEnd::connect(&sockets[1]);
    second.features(FEATURES | GUEST_CSUM);
    second.start();
    wait_for_link_event(&events);
    let checksums = GuestOffloads { checksums: true, ..GuestOffloads::NONE };
    assert_eq!(vhost.guest_offloads(), Some(checksums));
    assert_eq!((other_vhost.state(), vhost.state(), port.link().up), (MIGRATING, ATTACHED, true));
    drop(second);
    wait_for_link_event(&events);
    first.features(FEATURES);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));
    assert_eq!((vhost.guest_offloads(), other_vhost.guest_offloads()), (None, Some(GuestOffloads::NONE)));

    attach_and_migrate(&sockets[1], &port, &vhost, &events, &mut queues, &pool);
    assert_eq!(other_vhost.state(), ATTACHED, "nothing of this was the other port's");
    first.features(FEATURES | LOG_ALL);
    assert_eq!((other_vhost.state(), vhost.state()), (MIGRATING, DETACHED));

    let queues = stop_and_start(&port, queues);
    attach_and_detach_while_polled(&sockets[1], &vhost, &events);

    assert_eq!(format!("{vhost:?}"), "VhostPort(net_vhost1)");
    drop((queues, port));
    assert_eq!(vhost.state(), DETACHED, "closed");
    assert_eq!(events.recv().ok(), None, "the handler was dropped with the port");
    drop((other_queues, other));
    assert_eq!(other_vhost.state(), DETACHED);
    several_rings(&eal, &pool, &dir.path().join("2"));
    taken::what_a_guest_has_taken(&eal, &pool, &dir.path().join("3"));
    hand_over::a_front_end_does_not_notice(&eal, &pool, &dir.path().join("4"));
    hand_over::a_front_end_that_listens_does_not_notice(&eal, &pool, &dir.path().join("5"));
    assert_eq!(pool.in_use(), 0);
}

/// The handle does not keep a port from being stopped and started.
fn stop_and_start(port: &Port, queues: Queues) -> Queues {
    let vhost = port.vhost().unwrap();
    drop(queues);
    port.stop().unwrap();
    assert_eq!(vhost.state(), DETACHED);
    let queues = port.start().unwrap();
    assert_eq!((vhost.state(), port.vhost().unwrap().state()), (DETACHED, DETACHED));
    queues
}

/// The other side turns dirty logging on while its rings run.
fn logging_is_reported(port: &Port, front_end: &FrontEnd) {
    let (sender, events) = channel();
    port.on_event(move |event| _ = sender.send(event)).unwrap();
    front_end.features(FEATURES | LOG_ALL);
    while events.recv_timeout(Duration::from_secs(10)).expect("a report") != PortEvent::Logging {}
}

fn refused_settings(eal: &Eal, pool: &Mempool) {
    let long = "x".repeat(108);
    for (path, queues) in [("/tmp/a", 0), ("/tmp/a", 129), (&*long, 1), ("", 1), ("/tmp/\0", 1)] {
        let refused =
            Port::open_vhost(eal, "net_vhost9", config(Path::new(path), queues), pool).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains("hint: "), "{refused}");
    }
    let nowhere = config(Path::new("/nonexistent/folder/socket"), 1);
    let port = Port::open_vhost(eal, "net_vhost9", nowhere, pool).unwrap();
    let refused = port.start().err().unwrap();
    assert!(refused.to_string().contains("/nonexistent/folder/socket"), "{refused}");
    assert_eq!(
        port.start().err().unwrap().kind(),
        ErrorKind::Refused,
        "nothing of the first attempt is left"
    );
}

/// A guest that has enabled one of two pairs of rings gets the frames of both queues. A front end that comes while
/// another is there takes its place.
fn several_rings(eal: &Eal, pool: &Mempool, socket: &Path) {
    let port = Port::open_vhost(eal, "net_vhost2", config(socket, 2), pool).unwrap();
    assert_eq!((port.granted().rxq, port.granted().txq, port.info().max_rxq), (2, 2, 2));
    let mut queues = port.start().unwrap();
    let mut guest = FrontEnd::connect(socket);
    guest.start();
    let mut burst = Burst::new();
    for (queue, content) in [(1, 7_u8), (0, 8), (1, 9)] {
        guest.give();
        burst.push(Mbuf::from_slice(pool, &[content; 60]).unwrap()).unwrap();
        assert_eq!((queues.tx[queue].burst(&mut burst), burst.len()), (1, 0));
    }
    assert_eq!(guest.used(), 3);
    for (slot, content) in [7, 8, 9].into_iter().enumerate() {
        assert_eq!(guest.received(slot as u64, 60), [content; 60]);
    }
    let stats = port.stats().unwrap();
    assert_eq!((stats.tx_packets, stats.tx_bytes, stats.rx_packets), (3, 180, 0));
    let xstats = port.xstats().unwrap();
    for (name, value) in
        [("tx_q0_packets", 1), ("tx_q1_packets", 2), ("tx_q0_enabled", 1), ("tx_q1_enabled", 0)]
    {
        assert!(xstats.contains(&(name.to_owned(), value)), "{name} {xstats:?}");
    }
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap(), PortStats::default());
    assert_eq!(queues.rx.iter_mut().map(|queue| queue.burst(&mut burst, 64)).sum::<usize>(), 0);

    let mut successor = FrontEnd::connect(socket);
    successor.start();
    successor.give();
    burst.push(Mbuf::from_slice(pool, &[5; 60]).unwrap()).unwrap();
    assert_eq!((queues.tx[1].burst(&mut burst), successor.used(), guest.used()), (1, 1, 3));
    drop(guest);
    let vhost = port.vhost().unwrap();
    successor.features(FEATURES | LOG_ALL);
    assert_eq!(vhost.state(), MIGRATING, "the end of the first does not concern it");
    drop((queues, port));
    assert_eq!(vhost.state(), DETACHED);
}

fn attach_and_migrate(
    socket: &Path,
    port: &Port,
    vhost: &VhostPort,
    events: &Receiver<PortEvent>,
    queues: &mut Queues,
    pool: &Mempool,
) {
    let mut burst = Burst::new();
    let frame = |i: u8| {
        let mut m = Mbuf::from_slice(pool, &[i; 60]).unwrap();
        // Not even headers: what a driver writes into a frame that it then does not take would be seen.
        m.mark_unfinished(Unfinished { gso: None });
        m
    };
    (0..4).for_each(|i| burst.push(frame(i)).unwrap());
    assert_eq!((queues.tx[0].burst(&mut burst), burst.len()), (0, 4), "no front end");

    let mut guest = FrontEnd::connect(socket);
    assert_eq!(vhost.state(), DETACHED, "no rings yet");
    assert_no_link_event(events);
    guest.start();
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (ATTACHED, true));

    refused_by_a_guest_without_checksums(&mut queues.tx[0], pool);

    // The ring takes as many as it has buffers; the others do not change.
    assert_eq!(queues.tx[0].burst(&mut burst), 0, "a full ring is like none");
    guest.give();
    assert_eq!((queues.tx[0].burst(&mut burst), burst.len(), guest.used()), (1, 3, 1));
    assert_eq!(guest.received(0, 60), [0; 60]);
    for (m, i) in burst.iter().zip(1..) {
        assert_eq!((m.head(), m.unfinished()), (&[i; 60][..], Some(Unfinished { gso: None })));
    }

    migrate_and_fail(&mut guest, port, vhost, events, &mut queues.tx[0], &mut burst);

    assert_no_link_event(events);
    drop(guest);
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));
}

/// A migration that fails, with three frames in `burst`. What is written is logged; then the rings stop. The state is
/// new when the answer is there.
fn migrate_and_fail(
    guest: &mut FrontEnd,
    port: &Port,
    vhost: &VhostPort,
    events: &Receiver<PortEvent>,
    tx: &mut TxQueue,
    burst: &mut Burst,
) {
    assert_no_link_event(events);
    guest.features(FEATURES | LOG_ALL);
    assert_eq!(vhost.state(), MIGRATING);
    assert_no_link_event(events);
    guest.give();
    guest.give();
    assert_eq!((tx.burst(burst), burst.len(), guest.used()), (2, 1, 3), "it still receives");
    guest.give();
    assert_eq!(guest.stop(), 3, "what was taken is what was delivered");
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (DETACHED, false));
    assert_eq!((tx.burst(burst), guest.used()), (0, 3), "a stopped ring takes nothing");

    // It failed: the rings start again, and what waited is delivered.
    guest.start();
    wait_for_link_event(events);
    assert_eq!((vhost.state(), port.link().up), (MIGRATING, true));
    guest.features(FEATURES);
    assert_eq!(vhost.state(), ATTACHED);
    assert_eq!((tx.burst(burst), guest.used()), (1, 4));
    assert_eq!(guest.received(3, 60), [3; 60]);
}

/// Ones' complement sum of 16-bit words (RFC 1071); all ones over what carries its own right checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Our guest takes no unfinished frames. The ring is full, so the driver returns ours; it must not return as one
/// whose checksum is neither complete nor requested.
fn refused_by_a_guest_without_checksums(tx: &mut TxQueue, pool: &Mempool) {
    let mut frame = vec![0_u8; 14 + 20 + 20 + 10];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..].iter_mut().zip(1..).for_each(|(byte, i)| *byte = i);
    frame[46] = 0x50;
    let mut m = Mbuf::from_slice(pool, &frame).unwrap();
    let ip = IpHeader::V4 { checksum: false };
    assert!(m.set_tx_offload(TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ip,
        l4: L4Offload::Tcp,
        tso_segsz: 0
    }));
    let mut burst = Burst::new();
    burst.push(m).unwrap();
    for _ in 0..2 {
        assert_eq!((tx.burst(&mut burst), burst.len()), (0, 1));
        let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, 6, 0, 30];
        let complete = sum(&[&pseudo, &burst[0].head()[34..]]) == 0xffff;
        assert_eq!(burst[0].unfinished(), (!complete).then_some(Unfinished { gso: None }));
        assert_eq!((&burst[0].head()[..50], &burst[0].head()[52..]), (&frame[..50], &frame[52..]));
    }
}

/// Reading the state must not touch a device that is being freed. The result is always a possible state: never "logs".
fn attach_and_detach_while_polled(socket: &Path, vhost: &VhostPort, events: &Receiver<PortEvent>) {
    let done = Arc::new(AtomicBool::new(false));
    let poller = std::thread::spawn({
        let (vhost, done) = (vhost.clone(), done.clone());
        move || {
            let (mut attached, mut detached) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) {
                match vhost.state() {
                    ATTACHED => attached += 1,
                    DETACHED => detached += 1,
                    other => panic!("{other:?}"),
                }
            }
            (attached, detached)
        }
    });
    for _ in 0..50 {
        let guest = FrontEnd::connect(socket);
        guest.start();
        wait_for_link_event(events);
        while vhost.state() != ATTACHED {
            std::thread::yield_now();
        }
        drop(guest);
        wait_for_link_event(events);
    }
    done.store(true, Ordering::Relaxed);
    let (attached, detached) = poller.join().unwrap();
    assert!(attached > 0 && detached > 0);
}

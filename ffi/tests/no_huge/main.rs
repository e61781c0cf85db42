//! The owners of this crate on a real EAL without hugepages, PCI or root. EAL starts once per process, so this is one
//! test that walks through all of it; at its end every mbuf must be back in its pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frames;
mod lifecycle;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk::*;

/// `LINKTYPE_ETHERNET`, microseconds, little endian.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        out.extend(word.to_le_bytes());
    }
    for (i, frame) in frames.iter().enumerate() {
        for word in [i as u32, 0, frame.len() as u32, frame.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    std::fs::write(path, out).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (rest, capture) = pcap_parser::parse_pcap(&bytes).unwrap();
    assert!(rest.is_empty(), "the pcap ends with a whole frame");
    capture.blocks.iter().map(|block| block.data.to_vec()).collect()
}

/// Bytes that differ by position and frame.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7).wrapping_add((i >> 8) as u8).wrapping_add(seed)).collect()
}

fn bytes(mbuf: &Mbuf) -> Vec<u8> {
    let bytes: Vec<u8> = mbuf.segment_slices().flatten().copied().collect();
    assert_eq!(bytes.len(), mbuf.len());
    assert_eq!(mbuf.segment_slices().count(), mbuf.segments());
    bytes
}

#[test]
fn everything_on_one_eal() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> =
        (0..100).map(|i| pattern(60 + i * 14, i as u8)).chain([pattern(5000, 1), pattern(60, 2)]).collect();
    let (pcap_in, pcap_out) = (dir.path().join("in.pcap"), dir.path().join("out.pcap"));
    write_pcap(&pcap_in, &frames);

    assert_eq!(Eal::init(&["a\0b".to_owned()]).err().map(|e| e.kind()), Some(ErrorKind::Invalid));
    let mut args: Vec<String> =
        ["--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", "--lcores", "0@0,3@0"]
            .map(str::to_owned)
            .into();
    args.push("--vdev=net_ring0".into());
    args.push("--vdev=net_null0,no-rx=1".into());
    args.push("--vdev=net_null1,no-rx=1".into());
    args.push(format!("--vdev=net_pcap0,rx_pcap={},tx_pcap={}", pcap_in.display(), pcap_out.display()));
    let eal = Eal::init(&args).unwrap();
    assert_eq!(Eal::init(&args).err().map(|e| e.kind()), Some(ErrorKind::AlreadyStarted));
    assert!(eal.version().starts_with("DPDK "));
    assert_eq!(eal.port_count(), 4);
    assert!(cycles::tsc_hz() > 1_000_000);

    lcores(&eal);
    drop(Pdump::start(&eal).unwrap());
    let capture = Pdump::start(&eal).unwrap();

    // Small buffers beside large ones, so that frames have several segments.
    let large = Mempool::create(&eal, "large", 511, 64, 2176, None).unwrap();
    let small = Mempool::create(&eal, "small", 511, 64, 128 + 100, None).unwrap();
    pools(&eal, &large);
    frames::heads_and_tails(&large);
    frames::chains(&large, &small);
    frames::chains_gathered_replaced_and_copied(&large, &small);
    frames::offload_flags(&large);
    frames::rebuilt(&large, &small);
    frames::rebuilt_from_an_exhausted_pool(&small);
    frames::rebuilt_with_offloads(&large, &small);
    frames::unfinished_checksums(&large);
    bursts(&large);
    pcap_to_pcap(&eal, &small, &frames, &pcap_out);
    unsent_tail(&eal, &large);
    lifecycle::reset_and_recovery(&eal, &large);
    lifecycle::gone_and_back(&eal, &large);
    lifecycle::created_and_removed(&eal, &large, dir.path());
    lifecycle::hotplug(&eal);
    devices(&eal, &large);
    drop(capture);

    assert_eq!((large.in_use(), small.in_use()), (0, 0), "every mbuf is back");
    assert_eq!((large.available(), small.available()), (511, 511), "and none twice");
}

fn lcores(eal: &Eal) {
    assert_eq!(eal.main_lcore(), LcoreId::new(0));
    assert_eq!(LcoreId::current(), Some(LcoreId::new(0)));
    assert_eq!(eal.worker_lcores(), [LcoreId::new(3)]);
    let worker = LcoreId::new(3);

    assert_eq!(eal.launch(worker, LcoreId::current).unwrap().join().unwrap(), Some(worker));
    let error = eal
        .launch(worker, || {
            if true {
                panic!("on purpose {}", 7)
            }
        })
        .unwrap()
        .join()
        .unwrap_err();
    assert_eq!((error.kind(), error.what()), (ErrorKind::Panicked, "lcore 3 panicked: on purpose 7"));

    let (release, wait) = std::sync::mpsc::channel::<()>();
    let job = eal.launch(worker, move || wait.recv().is_ok()).unwrap();
    assert!(!job.is_finished());
    assert_eq!(eal.launch(worker, || ()).err().map(|e| e.kind()), Some(ErrorKind::Busy));
    release.send(()).unwrap();
    assert!(job.join().unwrap());

    for not_a_worker in [0, 1, 4000] {
        let error = eal.launch(LcoreId::new(not_a_worker), || ()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("name one of [3]"), "{error}");
    }
}

fn pools(eal: &Eal, pool: &Mempool) {
    assert_eq!((pool.available(), pool.in_use(), pool.frame_room()), (511, 0, 2048));
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((all.len(), pool.available(), pool.in_use()), (511, 0, 511));
    assert!(pool.alloc().is_none());
    assert!(Mbuf::from_slice(pool, &[0; 60]).is_none());
    assert!(all[0].copy(pool).is_none());
    let mut burst = Burst::new();
    assert!(!pool.alloc_bulk(&mut burst, 1) && burst.is_empty());
    all.truncate(500);
    assert!(!pool.alloc_bulk(&mut burst, 12) && burst.is_empty(), "all or none");
    assert!(pool.alloc_bulk(&mut burst, 11));
    assert_eq!((burst.len(), pool.in_use()), (11, 511));
    drop((all, burst));
    assert_eq!(pool.in_use(), 0);

    let twice = Mempool::create(eal, "large", 511, 0, 2176, None).unwrap_err();
    assert!(twice.to_string().contains("another pool has this name"), "{twice}");
    let huge = Mempool::create(eal, "huge", 1 << 20, 0, 2176, None).unwrap_err();
    assert!(huge.to_string().contains("more memory for EAL"), "{huge}");
    let flat = Mempool::create(eal, "flat", 511, 0, 128, None).unwrap_err();
    assert_eq!(flat.kind(), ErrorKind::Invalid);
    let cached = Mempool::create(eal, "cached", 100, 90, 2176, None).unwrap_err();
    assert!(cached.to_string().contains("two thirds"), "{cached}");
}

fn bursts(pool: &Mempool) {
    let before = pool.in_use();
    let frame = |i: usize| Mbuf::from_slice(pool, &[i as u8; 20]).unwrap();
    let order = |burst: &Burst| burst.iter().map(|m| m.head()[0]).collect::<Vec<_>>();
    let mut burst = Burst::new();
    for i in 0..BURST_MAX {
        assert!(burst.push(frame(i)).is_ok());
    }
    assert!(burst.is_full() && burst.room() == 0);
    let back = burst.push(frame(99)).unwrap_err();
    assert_eq!(back.head()[0], 99);
    drop(back);

    assert_eq!(burst.pop().map(|m| m.head()[0]), Some(63));
    burst.retain(|m| m.head()[0] % 2 == 0);
    assert_eq!(order(&burst), (0..63).step_by(2).collect::<Vec<u8>>());
    assert_eq!(pool.in_use() - before, 32);
    burst[0].head_mut()[0] = 77;
    let taken: Vec<Mbuf> = burst.drain().take(3).collect();
    assert_eq!(taken.iter().map(|m| m.head()[0]).collect::<Vec<_>>(), [77, 2, 4]);
    assert_eq!((burst.len(), pool.in_use() - before), (0, 3), "what was not taken is freed");
    drop(taken);

    assert!(pool.alloc_bulk(&mut burst, 40));
    burst.clear();
    assert_eq!((burst.len(), pool.in_use()), (0, before));
    assert!(pool.alloc_bulk(&mut burst, 64) && !pool.alloc_bulk(&mut burst, 1));
    std::thread::spawn(move || drop(burst)).join().unwrap();
    assert_eq!(pool.in_use(), before, "freed by a thread that is no lcore");
}

fn pcap_to_pcap(eal: &Eal, pool: &Mempool, frames: &[Vec<u8>], out: &Path) {
    let device = Device::find(eal, "net_pcap0").unwrap();
    let again = Device::find(eal, "net_pcap0").err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Busy);
    let port = device.configure(&PortConfig { promiscuous: true, ..PortConfig::default() }, pool).unwrap();
    assert_eq!(port.info().driver, "net_pcap");
    let Queues { mut rx, mut tx } = port.start().unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    assert_eq!(port.start().err().map(|e| e.kind()), Some(ErrorKind::Busy));
    assert_eq!(port.stop().err().map(|e| e.kind()), Some(ErrorKind::Busy), "queues are out");

    // On the lcore, as intended: the queues move there and return.
    let mut burst = Burst::new();
    let (mut rxq, mut txq) = (rx.remove(0), tx.remove(0));
    let expected = frames.len();
    let run = eal.launch(LcoreId::new(3), move || {
        let mut lens = Vec::new();
        let mut seen = 0;
        while seen < expected {
            let n = rxq.burst(&mut burst, 10);
            assert!(n <= 10 && n == burst.len());
            lens.extend(burst.iter().map(|m| (m.len(), m.segments(), m.port())));
            seen += n;
            assert_eq!(txq.burst(&mut burst), n);
            assert!(burst.is_empty());
        }
        assert_eq!(rxq.burst(&mut burst, 64), 0);
        (lens, txq.refused())
    });
    let (lens, refused) = run.unwrap().join().unwrap();
    let id = port.id();
    assert_eq!(refused, 0);
    for (frame, (len, segments, from)) in frames.iter().zip(lens) {
        assert_eq!((len, segments > 1, from), (frame.len(), frame.len() > 100, id));
    }
    let stats = port.stats().unwrap();
    let total: usize = frames.iter().map(Vec::len).sum();
    assert_eq!((stats.rx_packets, stats.tx_packets), (frames.len() as u64, frames.len() as u64));
    assert_eq!((stats.rx_bytes, stats.tx_bytes, stats.rx_nombuf), (total as u64, total as u64, 0));
    let xstats = port.xstats().unwrap();
    assert!(xstats.contains(&("rx_good_packets".to_owned(), frames.len() as u64)), "{xstats:?}");
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap(), PortStats::default());

    port.stop().unwrap();
    drop(port);
    assert_eq!(read_pcap(out), frames);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(
        Device::find(eal, "net_pcap0").err().map(|e| e.kind()),
        Some(ErrorKind::NoSuchDevice),
        "closed"
    );
}

/// A ring that is connected to itself takes no more frames than it has slots: the rest remains ours, in order.
fn unsent_tail(eal: &Eal, pool: &Mempool) {
    // Frames longer than the small pool's are not needed here; many frames are: more than net_ring's 1024 places.
    let many = Mempool::create(eal, "many", 2047, 0, 128 + 64, None).unwrap();
    let port = Device::find(eal, "net_ring0").unwrap().configure(&PortConfig::default(), pool).unwrap();
    let Queues { mut rx, mut tx } = port.start().unwrap();
    let frame = |i: usize| Mbuf::from_slice(&many, &(i as u32).to_be_bytes()).unwrap();
    let number = |m: &Mbuf| u32::from_be_bytes(m.head().try_into().unwrap()) as usize;
    let (mut made, mut sent, mut burst) = (0, 0, Burst::new());
    loop {
        while !burst.is_full() {
            burst.push(frame(made)).unwrap();
            made += 1;
        }
        let n = tx[0].burst(&mut burst);
        sent += n;
        assert_eq!(burst.len(), 64 - n);
        assert_eq!(burst.iter().map(number).collect::<Vec<_>>(), (sent..made).collect::<Vec<_>>());
        if n < 64 {
            break;
        }
    }
    assert!((1000..1100).contains(&sent) && sent < made, "{sent} of {made}");
    assert_eq!(tx[0].burst(&mut burst), 0, "full is full");
    assert_eq!((burst.len(), many.in_use() as usize), (made - sent, made));

    // Make room for three: three go, the tail moves up.
    while !burst.is_full() {
        burst.push(frame(made)).unwrap();
        made += 1;
    }
    let mut got = Burst::new();
    assert_eq!(rx[0].burst(&mut got, 3), 3);
    assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(tx[0].burst(&mut burst), 3);
    sent += 3;
    assert_eq!(burst.iter().map(number).collect::<Vec<_>>(), (sent..made).collect::<Vec<_>>());

    let mut expected = 3;
    while expected < made {
        got.clear();
        if rx[0].burst(&mut got, 64) == 0 {
            assert_eq!(tx[0].burst(&mut burst), made - expected);
        }
        for m in got.iter() {
            assert_eq!(number(m), expected);
            expected += 1;
        }
    }
    assert_eq!(rx[0].burst(&mut got, 64), 0, "a full burst takes no more, and the ring is empty");
    drop((got, burst));
    assert_eq!(many.in_use(), 0);
    port.stop().expect_err("queues are still out");
    drop((rx, tx));
    port.stop().unwrap();
    let restarted = port.start().unwrap();
    assert_eq!((restarted.rx.len(), restarted.tx.len()), (1, 1));
    drop(port);
    assert_eq!(restarted.rx[0].device(), "net_ring0", "the queues keep the port open");
}

fn devices(eal: &Eal, pool: &Mempool) {
    let missing = Device::find(eal, "net_vhost7").err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NoSuchDevice);
    assert!(
        missing.to_string().contains("--vdev=net_vhost7,…; the devices here are [net_null0]"),
        "{missing}"
    );
    let unbound = Device::find(eal, "0fff:03:00.0").err().unwrap();
    assert!(unbound.to_string().contains("no such PCI device"), "{unbound}");
    assert_eq!(Device::find(eal, "a\0b").err().map(|e| e.kind()), Some(ErrorKind::Invalid));

    drop(Device::find(eal, "net_null0").unwrap());
    let device = Device::find(eal, "net_null0").expect("an unused device is free again");
    for _ in 0..2 {
        assert_eq!(Device::find(eal, "net_null0").err().map(|e| e.kind()), Some(ErrorKind::Busy));
    }
    let max = device.info().unwrap();
    // More than the device has: it reports what it granted.
    let greedy = PortConfig { rxq: 5000, txq: 2, rxd: 60_000, mtu: Some(9000), ..PortConfig::default() };
    let port = device.configure(&greedy, pool).unwrap();
    let granted = port.granted();
    assert_eq!((granted.rxq, granted.txq), (max.max_rxq, 2.min(max.max_txq)));
    assert!(granted.mtu <= max.max_mtu && granted.mtu >= max.min_mtu, "{granted:?} of {max:?}");
    assert!(!granted.offloads.tso && !granted.offloads.rx_l4_csum, "net_null has no checksums");
    assert_eq!(port.mtu().unwrap(), granted.mtu);
    assert_ne!(port.mac().unwrap(), [0; 6]);

    let events = Arc::new(AtomicU32::new(0));
    let count = events.clone();
    port.on_event(move |_| _ = count.fetch_add(1, Ordering::SeqCst)).unwrap();
    assert_eq!(port.on_event(|_| ()).err().map(|e| e.kind()), Some(ErrorKind::Busy));
    let mut queues = port.start().unwrap();
    assert!(port.link().up);
    let mut burst = Burst::new();
    assert!(pool.alloc_bulk(&mut burst, 32));
    assert_eq!((queues.tx[0].burst(&mut burst), burst.len()), (32, 0));
    assert_eq!(queues.rx[0].burst(&mut burst, 64), 0, "no-rx=1");
    drop((queues, port));
    assert_eq!(Arc::strong_count(&events), 1, "the handler was dropped with the port");
}

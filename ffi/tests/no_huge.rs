//! The owners of this crate on a real EAL without hugepages, PCI or root. EAL starts once per process, so this is one
//! test that walks through all of it; at its end every mbuf must be back in its pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys::*;

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
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    assert!(rest.is_empty(), "the pcap ends with a whole frame");
    frames
}

/// Bytes that tell their place and their frame.
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
    args.push(format!("--vdev=net_pcap0,rx_pcap={},tx_pcap={}", pcap_in.display(), pcap_out.display()));
    let eal = Eal::init(&args).unwrap();
    assert_eq!(Eal::init(&args).err().map(|e| e.kind()), Some(ErrorKind::AlreadyStarted));
    assert!(eal.version().starts_with("DPDK "));
    assert_eq!(eal.port_count(), 3);
    assert!(cycles::tsc_hz() > 1_000_000);

    lcores(&eal);
    drop(Pdump::start(&eal).unwrap());
    let capture = Pdump::start(&eal).unwrap();

    // Small buffers beside large ones, so that frames come in several segments.
    let large = Mempool::create(&eal, "large", 511, 64, 2176, None).unwrap();
    let small = Mempool::create(&eal, "small", 511, 64, 128 + 100, None).unwrap();
    pools(&eal, &large);
    heads_and_tails(&large);
    chains(&large, &small);
    offload_flags(&large);
    rebuilt(&large, &small);
    bursts(&large);
    pcap_to_pcap(&eal, &small, &frames, &pcap_out);
    unsent_tail(&eal, &large);
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

    let (tell, wait) = std::sync::mpsc::channel::<()>();
    let job = eal.launch(worker, move || wait.recv().is_ok()).unwrap();
    assert!(!job.is_finished());
    assert_eq!(eal.launch(worker, || ()).err().map(|e| e.kind()), Some(ErrorKind::Busy));
    tell.send(()).unwrap();
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

fn heads_and_tails(pool: &Mempool) {
    let data = pattern(300, 9);
    let mut m = Mbuf::from_slice(pool, &data).unwrap();
    assert_eq!((m.len(), m.segments(), m.port(), m.head()), (300, 1, 65535, &data[..]));
    assert_eq!((m.headroom(), m.tailroom()), (128, 2048 - 300));

    assert!(m.push(129).is_none() && m.push(usize::MAX).is_none());
    assert_eq!((m.len(), m.headroom()), (300, 128));
    m.push(50).unwrap().fill(0xee);
    assert_eq!(
        (m.len(), m.headroom(), &m.head()[..50], &m.head()[50..]),
        (350, 78, &[0xee; 50][..], &data[..])
    );
    assert_eq!(m.push(0).map(|s| s.len()), Some(0));

    assert!(!m.pull(351) && !m.pull(65536 + 1));
    assert!(m.pull(60));
    assert_eq!((m.len(), m.headroom(), m.head()), (290, 138, &data[10..]));

    assert!(!m.truncate(291) && !m.truncate(usize::MAX));
    assert!(m.truncate(290) && m.truncate(200));
    assert_eq!((m.len(), m.head()), (200, &data[10..210]));

    let room = m.tailroom();
    assert!(m.extend(room + 1).is_none() && m.extend(65536).is_none());
    m.extend(room).unwrap().fill(0xdd);
    assert_eq!((m.len(), m.tailroom(), m.extend(1).is_none()), (200 + room, 0, true));
    assert_eq!((&m.head()[..200], m.head()[200..].iter().all(|b| *b == 0xdd)), (&data[10..210], true));

    m.head_mut()[0] = 0x55;
    assert_eq!(m.head()[0], 0x55);
    assert!(m.truncate(0) && m.pull(0) && m.gather(0));
    assert_eq!((m.len(), m.head(), m.copy(pool).is_none()), (0, &[][..], true));

    assert!(!m.replace(&[1; 2049]));
    assert_eq!(m.len(), 0);
    assert!(m.replace(&data));
    assert_eq!((m.head(), m.headroom()), (&data[..], 128));
    assert!(Mbuf::from_slice(pool, &[1; 2049]).is_none());
    assert_eq!(Mbuf::from_slice(pool, &[1; 2048]).map(|m| m.tailroom()), Some(0));
}

fn chains(large: &Mempool, small: &Mempool) {
    let data = pattern(950, 3);
    let one = Mbuf::from_slice(large, &data).unwrap();
    let chain = || {
        let m = one.copy(small).unwrap();
        assert_eq!((m.segments(), m.head().len(), bytes(&m)), (10, 100, data.clone()));
        m
    };
    let before = small.in_use();

    // Every length: the right bytes, and the segments behind are back in the pool.
    for len in 0..=950 {
        let mut m = chain();
        assert!(m.truncate(len));
        assert_eq!(bytes(&m), &data[..len]);
        assert_eq!(m.segments(), len.div_ceil(100).max(1));
        assert_eq!(small.in_use() - before, m.segments() as u32);
    }
    assert_eq!(small.in_use(), before);

    let mut m = chain();
    assert!(!m.pull(101), "within the first segment only");
    assert!(m.pull(100));
    assert_eq!((m.head().len(), m.segments(), bytes(&m)), (0, 10, data[100..].to_vec()));
    assert!(m.gather(54), "as after the removal of an outer header");
    assert_eq!((m.head(), bytes(&m)), (&data[100..154], data[100..].to_vec()));

    // As much as the buffer has, headroom included; no more.
    let mut m = chain();
    assert!(!m.gather(229) && !m.gather(951));
    assert_eq!((m.segments(), bytes(&m)), (10, data.clone()));
    assert!(m.gather(100) && m.headroom() == 128);
    assert!(m.gather(228));
    assert_eq!((m.head(), m.headroom(), m.segments(), bytes(&m)), (&data[..228], 0, 9, data.clone()));

    let mut m = chain();
    assert!(m.truncate(250));
    assert_eq!(m.extend(50).map(|s| s.len()), Some(50), "in the last segment");
    assert_eq!((m.len(), m.segments(), m.tailroom(), &bytes(&m)[..250]), (300, 3, 0, &data[..250]));

    // Segments of one byte, as a hostile neighbour may build them, emptied one after the other.
    let mut m = chain();
    for _ in 0..9 {
        let n = m.head().len();
        assert!(m.pull(n));
        assert!(m.gather(1));
    }
    assert_eq!((m.segments(), m.len()), (10, 950 - (100 + 8)));

    let mut whole = chain();
    assert!(whole.pull(100) && whole.gather(100));
    assert_eq!((whole.segments(), whole.head(), bytes(&whole)), (9, &data[100..200], data[100..].to_vec()));

    let mut m = chain();
    assert!(!m.replace(&[0; 101]));
    assert_eq!(m.segments(), 10);
    assert!(m.replace(&data[..42]));
    assert_eq!((m.segments(), bytes(&m), m.headroom()), (1, data[..42].to_vec(), 128));

    for (offset, len) in [(0, 950), (0, 1), (949, 1), (50, 300), (99, 2), (800, 150)] {
        for pool in [large, small] {
            let copy = chain().copy_range(pool, offset, len).unwrap();
            assert_eq!((bytes(&copy), copy.headroom()), (data[offset..offset + len].to_vec(), 128));
        }
    }
    for (offset, len) in [(0, 951), (950, 1), (950, 0), (0, 0), (usize::MAX, 2), (2, usize::MAX)] {
        assert!(chain().copy_range(large, offset, len).is_none(), "{offset} {len}");
    }
}

fn offload_flags(pool: &Mempool) {
    let mut m = Mbuf::from_slice(pool, &pattern(100, 0)).unwrap();
    let fresh = RxFlags {
        l4_csum: Csum::Unknown,
        ip_csum: Csum::Unknown,
        lro: false,
        tso_segsz: 0,
        vlan_stripped: None,
        rss_hash: None,
    };
    assert_eq!(m.rx_flags(), fresh);
    let want = TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 32,
        ip: IpHeader::V4 { checksum: false },
        l4: L4Offload::Tcp,
        tso_segsz: 1400,
    };
    assert!(!m.set_tx_offload(TxOffload { l2_len: 128, ..want }));
    assert!(!m.set_tx_offload(TxOffload { l3_len: 512, ..want }));
    assert!(m.set_tx_offload(want));
    assert_eq!(m.rx_flags(), fresh, "what is asked is not what was said");
    assert!(m.set_tx_offload(TxOffload { l2_len: 127, l3_len: 511, l4_len: 255, tso_segsz: 65535, ..want }));
    m.clear_offload();
    assert_eq!(m.rx_flags(), fresh);
}

/// A frame that was kept elsewhere as bytes, and is made anew from them.
fn rebuilt(large: &Mempool, small: &Mempool) {
    let before = (large.in_use(), small.in_use());
    for len in [0, 1, 99, 100, 101, 950, 2048, 2049, 9000] {
        let data = pattern(len, len as u8);
        for (pool, room) in [(large, 2048), (small, 100)] {
            for pieces in [1, 64, 100, 16384] {
                let m = Mbuf::from_chunks(pool, data.chunks(pieces), len).unwrap();
                assert_eq!((bytes(&m), m.segments()), (data.clone(), len.div_ceil(room).max(1)));
                assert_eq!((m.headroom(), m.port()), (128, 65535));
                assert_eq!(m.unfinished(), None, "an ordinary frame");
            }
        }
        assert_eq!((large.in_use(), small.in_use()), before);
    }
    let data = pattern(300, 1);
    for wrong in [0, 299, 301] {
        assert!(Mbuf::from_chunks(small, data.chunks(64), wrong).is_none(), "{wrong}");
    }
    assert!(Mbuf::from_chunks(small, [&data[..], &[], &data].into_iter(), 600).is_some(), "empty pieces too");
    assert_eq!(small.in_use(), before.1);

    // A pool that runs out in the middle: nothing stays out.
    let left: Vec<Mbuf> = (0..509).map(|_| small.alloc().unwrap()).collect();
    assert!(Mbuf::from_chunks(small, data.chunks(100), 300).is_none(), "three, where two are left");
    assert_eq!(small.available(), 2);
    let two = Mbuf::from_chunks(small, data[..200].chunks(7), 200).unwrap();
    assert_eq!((small.available(), bytes(&two)), (0, data[..200].to_vec()));
    assert!(Mbuf::from_chunks(small, data.chunks(100), 300).is_none());
    drop((left, two));
    assert_eq!(small.in_use(), before.1);

    // What is left to a device survives the way over bytes, whether it was said or asked.
    let mut m = Mbuf::from_slice(large, &data).unwrap();
    let tcp = TxOffload {
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ip: IpHeader::V4 { checksum: true },
        l4: L4Offload::Tcp,
        tso_segsz: 0,
    };
    let rebuilt = |m: &Mbuf| {
        let mut new = Mbuf::from_chunks(small, m.segment_slices(), m.len()).unwrap();
        m.unfinished().into_iter().for_each(|what| new.mark_unfinished(what));
        assert_eq!(new.unfinished(), m.unfinished());
        (new.rx_flags().l4_csum, new.rx_flags().lro, new.rx_flags().tso_segsz)
    };
    for (ask, unfinished, said) in [
        (tcp, Some(Unfinished { gso: None }), (Csum::None, false, 0)),
        (
            TxOffload { tso_segsz: 1448, ..tcp },
            Some(Unfinished { gso: Some(1448) }),
            (Csum::None, true, 1448),
        ),
        (
            TxOffload { ip: IpHeader::V6, tso_segsz: 65535, ..tcp },
            Some(Unfinished { gso: Some(65535) }),
            (Csum::None, true, 65535),
        ),
        (
            TxOffload { l4: L4Offload::Udp, ip: IpHeader::V6, ..tcp },
            Some(Unfinished { gso: None }),
            (Csum::None, false, 0),
        ),
        (TxOffload { l4: L4Offload::None, ..tcp }, None, (Csum::Unknown, false, 0)),
    ] {
        assert!(m.set_tx_offload(ask));
        assert_eq!(m.unfinished(), unfinished, "{ask:?}");
        assert_eq!(rebuilt(&m), said, "{ask:?}");
    }
    for gso in [None, Some(0), Some(536), Some(u16::MAX)] {
        assert!(m.set_tx_offload(tcp));
        m.mark_unfinished(Unfinished { gso });
        let flags = m.rx_flags();
        assert_eq!(
            (flags.l4_csum, flags.lro, flags.tso_segsz),
            (Csum::None, gso.is_some(), gso.unwrap_or(0))
        );
        assert_eq!((flags.ip_csum, flags.vlan_stripped, flags.rss_hash), (Csum::Unknown, None, None));
        assert_eq!(m.unfinished(), Some(Unfinished { gso }));
        assert_eq!(m.copy(large).and_then(|copy| copy.unfinished()), Some(Unfinished { gso }));
    }
    m.clear_offload();
    assert_eq!(m.unfinished(), None);
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

    // On the lcore, as it is meant: the queues move there and come back.
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
        (lens, rxq.port(), txq.refused())
    });
    let (lens, id, refused) = run.unwrap().join().unwrap();
    assert_eq!((id, refused), (port.id(), 0));
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

/// A ring that comes back to itself takes no more frames than it has places: the rest stays ours, in order.
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
    let max = device.info().unwrap();
    // More than the device has: it says what it gave.
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
    assert_eq!(Arc::strong_count(&events), 1, "the handler went with the port");
}

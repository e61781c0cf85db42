//! One frame: its head, its tail, its segments and a device's report about it.

use dpdk::*;

use crate::{bytes, pattern};

pub fn heads_and_tails(pool: &Mempool) {
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

/// [`pattern`] of 950 bytes in ten segments.
fn chain(large: &Mempool, small: &Mempool) -> Mbuf {
    let data = pattern(950, 3);
    let m = Mbuf::from_slice(large, &data).unwrap().copy(small).unwrap();
    assert_eq!((m.segments(), m.head().len(), bytes(&m)), (10, 100, data));
    m
}

pub fn chains(large: &Mempool, small: &Mempool) {
    let data = pattern(950, 3);
    let chain = || chain(large, small);
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
}

pub fn chains_gathered_replaced_and_copied(large: &Mempool, small: &Mempool) {
    let data = pattern(950, 3);
    let chain = || chain(large, small);
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

pub fn offload_flags(pool: &Mempool) {
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
    assert_eq!(m.rx_flags(), fresh, "requests are not reports");
    assert!(m.set_tx_offload(TxOffload { l2_len: 127, l3_len: 511, l4_len: 255, tso_segsz: 65535, ..want }));
    m.clear_offload();
    assert_eq!(m.rx_flags(), fresh);
}

/// A frame that was kept as bytes, and is rebuilt from them.
pub fn rebuilt(large: &Mempool, small: &Mempool) {
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
}

/// A pool that runs out in the middle of a frame: no buffer is lost.
pub fn rebuilt_from_an_exhausted_pool(small: &Mempool) {
    let (before, data) = (small.in_use(), pattern(300, 1));
    let left: Vec<Mbuf> = (0..509).map(|_| small.alloc().unwrap()).collect();
    assert!(Mbuf::from_chunks(small, data.chunks(100), 300).is_none(), "three, where two are left");
    assert_eq!(small.available(), 2);
    let two = Mbuf::from_chunks(small, data[..200].chunks(7), 200).unwrap();
    assert_eq!((small.available(), bytes(&two)), (0, data[..200].to_vec()));
    assert!(Mbuf::from_chunks(small, data.chunks(100), 300).is_none());
    drop((left, two));
    assert_eq!(small.in_use(), before);
}

const TCP: TxOffload = TxOffload {
    l2_len: 14,
    l3_len: 20,
    l4_len: 20,
    ip: IpHeader::V4 { checksum: true },
    l4: L4Offload::Tcp,
    tso_segsz: 0,
};

/// Work that is left to a device survives the copy over bytes.
pub fn rebuilt_with_offloads(large: &Mempool, small: &Mempool) {
    let data = pattern(300, 1);
    let mut m = Mbuf::from_slice(large, &data).unwrap();
    let rebuilt = |m: &Mbuf| {
        let mut new = Mbuf::from_chunks(small, m.segment_slices(), m.len()).unwrap();
        m.unfinished().into_iter().for_each(|what| new.mark_unfinished(what));
        assert_eq!(new.unfinished(), m.unfinished());
        (new.rx_flags().l4_csum, new.rx_flags().lro, new.rx_flags().tso_segsz)
    };
    for (request, unfinished, expected) in [
        (TCP, Some(Unfinished { gso: None }), (Csum::None, false, 0)),
        (
            TxOffload { tso_segsz: 1448, ..TCP },
            Some(Unfinished { gso: Some(1448) }),
            (Csum::None, true, 1448),
        ),
        (
            TxOffload { ip: IpHeader::V6, tso_segsz: 65535, ..TCP },
            Some(Unfinished { gso: Some(65535) }),
            (Csum::None, true, 65535),
        ),
        (
            TxOffload { l4: L4Offload::Udp, ip: IpHeader::V6, ..TCP },
            Some(Unfinished { gso: None }),
            (Csum::None, false, 0),
        ),
        (TxOffload { l4: L4Offload::None, ..TCP }, None, (Csum::Unknown, false, 0)),
    ] {
        assert!(m.set_tx_offload(request));
        assert_eq!(m.unfinished(), unfinished, "{request:?}");
        assert_eq!(rebuilt(&m), expected, "{request:?}");
    }
}

pub fn unfinished_checksums(large: &Mempool) {
    let mut m = Mbuf::from_slice(large, &pattern(300, 1)).unwrap();
    for gso in [None, Some(0), Some(536), Some(u16::MAX)] {
        assert!(m.set_tx_offload(TCP));
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

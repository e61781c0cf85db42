//! Frames for a migrating node whose port's device is reset: an lcore's egress on a real DPDK device, which gives back what
//! is sent. No root and no hugepages are needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use dpdk::{Burst, Device, Eal, Mbuf, Mempool, Port, PortConfig, Queues, RxQueue};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use stopover::{
    lcore::{counters::PortCounters, tx_port::OwnQueue},
    migration::{
        hold::{HoldPool, HoldQueue},
        record::MigrationCounters,
        tx_hold::{HoldMode, PortMigration, TxHold},
    },
    pipeline::{drop_reason::DropReason, packet_counters::PacketCounters},
};

const HOLD_BYTES: usize = 4 << 20;
/// In a test that lasts milliseconds no backlog is stuck.
const NOW: u64 = 1;

/// An lcore's part of a port.
struct Egress {
    queue: OwnQueue,
    up: Arc<AtomicBool>,
    migration: Arc<PortMigration>,
    packets: PacketCounters,
    port: PortCounters,
    pool: Mempool,
    next: u32,
}

impl Egress {
    fn put(&mut self, frames: u32) {
        for _ in 0..frames {
            let packet = Mbuf::from_slice(&self.pool, &self.next.to_be_bytes()).unwrap();
            self.next += 1;
            self.packets.received.fetch_add(1, Relaxed);
            self.queue.put(packet, &self.packets, &self.port, NOW);
        }
        self.round();
    }

    /// What a round of the lcore does for the port.
    fn round(&mut self) {
        self.queue.flush(&self.packets, &self.port, NOW);
        while self.queue.may_replay()
            && let Some((packet, _)) = self.queue.take_held(&self.pool, &self.packets)
        {
            self.queue.put_replayed(packet, &self.packets, &self.port, NOW);
            self.queue.flush(&self.packets, &self.port, NOW);
        }
    }

    /// The device is reset. Returns what receives from it afterwards.
    fn reset(&mut self, port: &Port, rx: RxQueue, during: impl FnOnce(&mut Self)) -> RxQueue {
        self.up.store(false, Relaxed);
        let mut taken = None;
        self.queue.swap_queue(&mut taken);
        assert!(taken.is_some());
        drop((taken, rx));
        during(self);
        port.reset().unwrap();
        let Queues { mut rx, mut tx } = port.start().unwrap();
        let mut given = tx.pop();
        self.queue.swap_queue(&mut given);
        assert!(given.is_none());
        self.up.store(true, Relaxed);
        self.round();
        rx.pop().unwrap()
    }

    fn counted(&self) -> (u64, u64, u64) {
        let read = self.packets.read();
        assert_eq!(read.unaccounted(), 0);
        (read.sent, read.held, read.dropped[DropReason::PortDown as usize])
    }
}

/// The numbers of the frames that the device gives back.
fn received(rx: &mut RxQueue) -> Vec<u32> {
    let (mut burst, mut numbers) = (Burst::new(), Vec::new());
    while rx.burst(&mut burst, 64) > 0 {
        numbers.extend(burst.drain().map(|m| u32::from_be_bytes(m.head().try_into().unwrap())));
    }
    numbers
}

#[test]
fn what_is_held_for_a_migrating_node_outlives_a_reset() {
    let args = ["--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--no-telemetry", "--lcores", "0@0"];
    let args: Vec<String> = args.iter().chain(&["--vdev=net_ring0"]).map(|arg| (*arg).to_owned()).collect();
    let eal = Eal::init(&args).unwrap();
    let pool = Mempool::create(&eal, "frames", 4095, 32, 2176, None).unwrap();
    let port = Device::find(&eal, "net_ring0").unwrap().configure(&PortConfig::default(), &pool).unwrap();
    let Queues { mut rx, mut tx } = port.start().unwrap();
    let mut rx = rx.remove(0);
    let up = Arc::new(AtomicBool::new(true));
    let migration = Arc::new(PortMigration::new(Arc::new(MigrationCounters::default())));
    let hold = TxHold::new(
        Arc::clone(&migration),
        HoldPool::new(HOLD_BYTES),
        HoldQueue::new(HoldPool::blocks_for(HOLD_BYTES)),
        HOLD_BYTES as u64,
    );
    let queue = OwnQueue::new(tx.remove(0), Arc::clone(&up), None, Some(Box::new(hold)), false, 1 << 32);
    let mut egress = Egress {
        queue,
        up,
        migration,
        packets: PacketCounters::default(),
        port: PortCounters::default(),
        pool: pool.clone(),
        next: 0,
    };

    // The VM is being migrated: nothing is lost, and nothing changes its place.
    egress.migration.set(HoldMode::Hold);
    egress.put(10);
    rx = egress.reset(&port, rx, |egress| {
        egress.put(300);
        assert_eq!(egress.counted(), (10, 300, 0));
    });
    egress.put(10);
    assert_eq!(received(&mut rx), (0..320).collect::<Vec<_>>());
    assert_eq!(egress.counted(), (320, 0, 0));
    assert!(egress.migration.is_empty());

    // It is not: frames are dropped for one reason, at once.
    egress.migration.set(HoldMode::Off);
    rx = egress.reset(&port, rx, |egress| egress.put(100));
    egress.put(5);
    assert_eq!(received(&mut rx), (420..425).collect::<Vec<_>>());
    assert_eq!(egress.counted(), (325, 0, 100));
    assert_eq!(egress.port.tx_dropped.load(Relaxed), 100);

    drop((egress, rx, port));
    assert_eq!(pool.in_use(), 0);
}

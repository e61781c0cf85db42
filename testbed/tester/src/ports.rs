//! The two DPDK ports of the tester, and their buffers.

use anyhow::{Context, bail};
use dpdk::{Device, Eal, LinkState, Mempool, Offloads, Port, PortConfig, RxQueue, TxQueue};
use std::time::{Duration, Instant};

/// Room for an IMIX frame in a tunnel.
const MTU: u16 = 1600;
const BUFFER: u16 = 2176;
const BUFFERS: u32 = 16_384;
const CACHE: u32 = 512;
/// The time to wait for the ports of a DUT.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end: a port with its queues.
pub struct End {
    pub rx: RxQueue,
    pub tx: TxQueue,
    port: Port,
}

impl End {
    /// Whether checksums can be left to its device.
    pub fn takes_unfinished(&self) -> bool {
        self.port.granted().offloads.tx_l4_csum
    }
}

/// Both ends and the pool. It owns the EAL.
pub struct Lab {
    /// By their number in trials.
    pub ends: [End; 2],
    /// The pool of the frames to send.
    pub pool: Mempool,
    /// The descriptors of the rings that the driver granted, the smaller number of both ends.
    pub descriptors: u16,
    _eal: Eal,
}

impl Lab {
    /// Starts EAL with two vdevs, and waits until both links are up.
    /// `checksums`: they can be left to the devices that offer that.
    pub fn start(
        mut eal: Vec<String>,
        vdevs: &[String],
        descriptors: u16,
        checksums: bool,
    ) -> anyhow::Result<Self> {
        eal.extend(vdevs.iter().map(|v| format!("--vdev={v}")));
        let eal = Eal::init(&eal)?;
        let pool = Mempool::create(&eal, "tester", BUFFERS, CACHE, BUFFER, None)?;
        let mut ends = Vec::new();
        for vdev in vdevs {
            let offloads = Offloads { tx_l4_csum: checksums, ..Offloads::default() };
            ends.push(open(&eal, &pool, vdev, descriptors, offloads).with_context(|| vdev.clone())?);
        }
        let granted = ends.iter().map(|e| e.port.granted()).map(|g| g.rxd.min(g.txd)).min();
        let ends: [End; 2] = ends.try_into().ok().context("two ports were expected")?;
        let began = Instant::now();
        while ends.iter().any(|e| !matches!(e.port.link(), LinkState { up: true, .. })) {
            if began.elapsed() > PATIENCE {
                bail!("the links are not up after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { ends, pool, descriptors: granted.unwrap_or_default(), _eal: eal })
    }
}

fn open(eal: &Eal, pool: &Mempool, vdev: &str, descriptors: u16, offloads: Offloads) -> anyhow::Result<End> {
    let name = vdev.split(',').next().unwrap_or(vdev);
    let config = PortConfig {
        rxd: descriptors,
        txd: descriptors,
        mtu: Some(MTU),
        promiscuous: true,
        offloads,
        ..PortConfig::default()
    };
    let port = Device::find(eal, name)?.configure(&config, pool)?;
    let mut queues = port.start()?;
    let (rx, tx) = queues.rx.pop().zip(queues.tx.pop()).context("it has no queues")?;
    Ok(End { rx, tx, port })
}

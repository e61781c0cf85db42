//! SAs around the engines: cycles of a frame in the tunnel's bursts, with headers, sequence numbers, replay windows and
//! trailers, without devices and buffers of DPDK. Bursts of 32, whose buffers are in the near caches; with 10,000 peers
//! each frame is of one of them at random.
//!
//!     cargo bench -p stopover-engines --bench sas -- 'peers, ipsec-mb'

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{BURST, BURSTS, Bench, Line, Random, cycles_of};
use std::cell::RefCell;
use std::ops::Range;
use stopover_engines::{AnyEngine, AnyKey, KeyMemory};
use stopover_tunnel::cipher::{Algorithm, SaSecret};
use stopover_tunnel::esp::{self, SequenceBits};
use stopover_tunnel::sa::{
    InboundSa, InboundSas, Limits, OpenFrame, OutboundSa, OutboundSas, SealFrame, open_burst, seal_burst,
};
use stopover_tunnel::window::WindowSize;
use stopover_tunnel::{Millis, SaIndex, Spi};

const SIZES: [usize; 3] = [64, 512, 1440];

/// A host that sends to itself: SAs of each peer in both directions.
struct Host {
    engine: AnyEngine,
    outbound: OutboundSas<AnyKey>,
    inbound: InboundSas<AnyKey>,
    peers: usize,
}

impl Host {
    fn new(engine: AnyEngine, peers: usize) -> Self {
        let (mut outbound, mut inbound) = (OutboundSas::new(peers), InboundSas::new(peers));
        let (bits, limits) =
            (SequenceBits::Extended, Limits { hard_age: std::time::Duration::MAX, ..Limits::HANDSHAKE });
        for peer in 0..peers as u32 {
            let mut key = [7; 16];
            key[..4].copy_from_slice(&peer.to_be_bytes());
            let secret = SaSecret::new(Algorithm::Aes128Gcm, &key, [0; 4]).unwrap();
            let spi = Spi::new(SaIndex::new(peer).unwrap(), 1);
            let sa = OutboundSa::new(&engine, spi, &secret, bits, limits, Millis(0)).unwrap();
            assert!(outbound.set(peer, Some(Box::new(sa))).is_none());
            let sa = InboundSa::new(&engine, spi, peer, &secret, bits, WindowSize::LEAST).unwrap();
            inbound.install(Box::new(sa)).unwrap();
        }
        Self { engine, outbound, inbound, peers }
    }

    /// Seals a burst to peers that depend on its number.
    fn seal(&mut self, number: u64, size: usize, buffers: &mut [Vec<u8>]) -> (f64, Vec<Range<usize>>) {
        let mut random = Random(number);
        let text = esp::HEAD_LEN..esp::HEAD_LEN + size;
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| SealFrame::new(random.below(self.peers) as u32, buffer, text.clone()))
            .collect();
        let (cycles, ()) =
            cycles_of(BURST, || seal_burst(&mut self.engine, &mut self.outbound, &mut frames, Millis(1)));
        (cycles, frames.into_iter().map(|frame| frame.result.unwrap()).collect())
    }

    fn open(&mut self, buffers: &mut [Vec<u8>], ranges: &[Range<usize>]) -> f64 {
        let datagrams = buffers.iter_mut().zip(ranges);
        let mut frames: Vec<_> =
            datagrams.map(|(buffer, range)| OpenFrame::new(&mut buffer[range.clone()])).collect();
        let (cycles, ()) = cycles_of(BURST, || open_burst(&mut self.engine, &mut self.inbound, &mut frames));
        assert!(frames.iter().all(|frame| frame.result.is_ok()));
        cycles
    }

    fn round(&mut self, open: bool, size: usize, buffers: &mut [Vec<u8>], first: u64, cycles: &mut Vec<f64>) {
        let mut sealed = Vec::new();
        for burst in 0..BURSTS as u64 {
            let (spent, ranges) = self.seal(first + burst, size, buffers);
            if open {
                sealed.push((buffers.to_vec(), ranges));
            } else {
                cycles.push(spent);
            }
        }
        for (sealed, ranges) in &sealed {
            buffers.clone_from_slice(sealed);
            cycles.push(self.open(buffers, ranges));
        }
    }
}

fn line<'a>(name: &str, host: &'a RefCell<Host>, size: usize, open: bool) -> Line<'a> {
    let (direction, peers) = (if open { "open" } else { "seal" }, host.borrow().peers);
    let mut buffers = vec![vec![0x5a; esp::HEAD_LEN + size + esp::TAIL_LEN]; BURST];
    let mut first = 0;
    Line {
        name: format!("{direction} {size:4} B, {peers:5} peers, {name}"),
        size,
        round: Box::new(move |cycles| {
            host.borrow_mut().round(open, size, &mut buffers, first, cycles);
            first += BURSTS as u64;
        }),
    }
}

fn main() {
    let Some(bench) = Bench::new() else { return };
    let memory = KeyMemory::new();
    let hosts = [1, 10_000].map(|peers| {
        let (engine, _) = AnyEngine::new(&memory);
        let name = engine.name();
        let fast = RefCell::new(Host::new(engine, peers));
        [(name, fast), ("aws-lc", RefCell::new(Host::new(AnyEngine::portable(), peers)))]
    });
    println!("the counter runs at {:.2} GHz", bench.hz() / 1e9);
    for size in SIZES {
        for open in [false, true] {
            bench.run(hosts.iter().flatten().map(|(name, host)| line(name, host, size, open)).collect());
        }
    }
}

//! The bare engines: cycles of a frame to seal and to open it, without SAs, devices and buffers of DPDK. Bursts of 32, in
//! place, with 12 bytes of additional data; the texts are in the near caches. With 10,000 keys each frame has one of
//! them at random, and the key is prefetched as in the data path.
//!
//!     cargo bench -p stopover-engines --bench seal_open -- '1440 B, 128 bit'

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{BURST, BURSTS, Bench, Line, Random, cycles_of};
use std::cell::RefCell;
use stopover_engines::{AnyEngine, IpsecMb, KeyMemory};
use stopover_tunnel::cipher::{Algorithm, AwsLc, Engine, Job, SaSecret};
use stopover_tunnel::esp::{Aad, SequenceBits, TAG_LEN};
use stopover_tunnel::{SaIndex, Spi};

const SIZES: [usize; 4] = [64, 82, 512, 1440];
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];

/// What lines of all engines are about.
#[derive(Clone, Copy)]
struct Case {
    algorithm: Algorithm,
    size: usize,
    keys: usize,
    open: bool,
}

/// An engine and its keys of both algorithms.
struct Keyed<E: Engine> {
    engine: E,
    keys: [Vec<E::Key>; 2],
}

impl<E: Engine> Keyed<E> {
    fn new(name: &str, engine: E) -> RefCell<Self> {
        let secret = |algorithm: Algorithm, n: usize| {
            let bytes: Vec<u8> = (0..algorithm.key_len()).map(|i| (n >> (i % 4)) as u8).collect();
            SaSecret::new(algorithm, &bytes, [0; 4]).unwrap()
        };
        let keys = ALGORITHMS.map(|algorithm| {
            let expand = |n| engine.expand(&secret(algorithm, n)).unwrap();
            let (cycles, keys) = cycles_of(10_000, || (0..10_000).map(expand).collect());
            println!("a key of {:3} bit by {name}: {cycles:.0} cycles", 8 * algorithm.key_len());
            keys
        });
        RefCell::new(Self { engine, keys })
    }

    /// Cycles of a frame of a burst, whose keys depend on its number.
    fn burst(&mut self, case: Case, open: bool, number: u64, texts: &mut [Vec<u8>]) -> f64 {
        let keys = &self.keys[usize::from(case.algorithm == Algorithm::Aes256Gcm)];
        let aad = Aad::new(Spi::new(SaIndex::new(1).unwrap(), 0), 1, SequenceBits::Extended);
        let mut random = Random(number);
        let mut jobs: Vec<Job<'_, E::Key>> = texts
            .iter_mut()
            .map(|text| {
                let key = &keys[random.below(case.keys)];
                Job { key, nonce: [7; 12], aad, text_and_tag: text }
            })
            .collect();
        let mut done = [false; BURST];
        let (cycles, ()) = cycles_of(BURST, || match open {
            true => self.engine.open_burst(&mut jobs, &mut done),
            false => self.engine.seal_burst(&mut jobs, &mut done),
        });
        assert_eq!(done, [true; BURST]);
        cycles
    }

    fn round(&mut self, case: Case, texts: &mut [Vec<u8>], first: u64, cycles: &mut Vec<f64>) {
        let mut sealed = Vec::new();
        for burst in 0..BURSTS as u64 {
            let spent = self.burst(case, false, first + burst, texts);
            if case.open {
                sealed.push(texts.to_vec());
            } else {
                cycles.push(spent);
            }
        }
        // The keys of a burst went through the caches long ago; its texts are put there again.
        for (burst, sealed) in (0..).zip(&sealed) {
            texts.clone_from_slice(sealed);
            cycles.push(self.burst(case, true, first + burst, texts));
        }
    }
}

/// A line of an engine.
fn line<'a, E: Engine>(name: &str, engine: &'a RefCell<Keyed<E>>, case: Case) -> Line<'a> {
    let (direction, bits) = (if case.open { "open" } else { "seal" }, 8 * case.algorithm.key_len());
    let mut texts = vec![vec![0x5a; case.size + TAG_LEN]; BURST];
    let mut first = 0;
    Line {
        name: format!("{direction} {:4} B, {bits} bit, {:5} keys, {name}", case.size, case.keys),
        size: case.size,
        round: Box::new(move |cycles| {
            engine.borrow_mut().round(case, &mut texts, first, cycles);
            first += BURSTS as u64;
        }),
    }
}

fn main() {
    let Some(bench) = Bench::new() else { return };
    let memory = KeyMemory::new();
    let ipsec_mb = IpsecMb::new(&memory).inspect_err(|error| println!("{error}")).ok();
    if let Some(engine) = &ipsec_mb {
        println!("ipsec-mb uses {}; the counter runs at {:.2} GHz", engine.instructions(), bench.hz() / 1e9);
    }
    let ipsec_mb = ipsec_mb.map(|engine| Keyed::new("ipsec-mb", engine));
    let aws_lc = Keyed::new("aws-lc", AwsLc);
    let (any, _) = AnyEngine::new(&memory);
    let name = format!("any ({})", any.name());
    let any = Keyed::new(&name, any);
    println!("{:?}", memory.stats());
    for algorithm in ALGORITHMS {
        for size in SIZES {
            for keys in [1, 10_000] {
                for open in [false, true] {
                    let case = Case { algorithm, size, keys, open };
                    let mut lines: Vec<_> = ipsec_mb.iter().map(|e| line("ipsec-mb", e, case)).collect();
                    lines.extend([line("aws-lc", &aws_lc, case), line(&name, &any, case)]);
                    bench.run(lines);
                }
            }
        }
    }
}

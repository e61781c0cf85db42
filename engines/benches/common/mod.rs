//! Cycles by the time stamp counter: who takes turns, and how the lines are printed.
//!
//! Each line is the median of many bursts, and in brackets the best one. A name or a part of it selects lines.

use dpdk::cycles::tsc;
use std::time::{Duration, Instant};

/// Frames of a burst.
pub const BURST: usize = 32;
/// Bursts of a round. What a round brings into the caches is far more than the second one holds.
pub const BURSTS: usize = 64;
const ROUNDS: usize = 20;
const TURNS: usize = 5;

/// What a line is about.
pub struct Line<'a> {
    /// Its name.
    pub name: String,
    /// Bytes of a text.
    pub size: usize,
    /// Runs a round.
    pub round: Round<'a>,
}

/// Adds the cycles of a frame, burst by burst.
pub type Round<'a> = Box<dyn FnMut(&mut Vec<f64>) + 'a>;

/// The lines to run, and the clock.
pub struct Bench {
    filter: Option<String>,
    hz: f64,
}

impl Bench {
    /// `None` if the program is started by `cargo test`.
    pub fn new() -> Option<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        args.iter()
            .any(|arg| arg == "--bench")
            .then(|| Self { filter: args.iter().find(|arg| !arg.starts_with('-')).cloned(), hz: tsc_hz() })
    }

    /// Runs lines that are to be compared: they take turns.
    pub fn run(&self, lines: Vec<Line<'_>>) {
        let chosen = |line: &Line<'_>| self.filter.as_ref().is_none_or(|filter| line.name.contains(filter));
        let mut lines: Vec<_> = lines.into_iter().filter(chosen).map(|line| (line, Vec::new())).collect();
        for _ in 0..TURNS {
            for (line, cycles) in &mut lines {
                (0..ROUNDS).for_each(|_| (line.round)(cycles));
            }
        }
        for (line, mut cycles) in lines {
            cycles.sort_by(f64::total_cmp);
            let (median, best) = (cycles[cycles.len() / 2], cycles[0]);
            let gbit = |cycles: f64| line.size as f64 * 8.0 * self.hz / cycles / 1e9;
            println!(
                "{:52} {median:6.0} [{best:5.0}] cycles {:6.1} [{:5.1}] Gb/s",
                line.name,
                gbit(median),
                gbit(best)
            );
        }
    }

    /// Ticks of the counter in a second.
    pub fn hz(&self) -> f64 {
        self.hz
    }
}

/// Cycles of each of so many frames.
pub fn cycles_of<R>(frames: usize, run: impl FnOnce() -> R) -> (f64, R) {
    let start = tsc();
    let result = run();
    ((tsc() - start) as f64 / frames as f64, result)
}

/// Numbers below a limit, in no order.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

fn tsc_hz() -> f64 {
    let (start, ticks) = (Instant::now(), tsc());
    std::thread::sleep(Duration::from_millis(100));
    (tsc() - ticks) as f64 / start.elapsed().as_secs_f64()
}

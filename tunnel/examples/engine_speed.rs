//! Prints what sealing and opening cost with the portable engine: nanoseconds a frame, whole bursts of 32 with window
//! and trailer, one SA, hot caches. `cargo run --release -p stopover-tunnel --example engine_speed`
#![allow(clippy::expect_used, reason = "a tool may fail")]

use std::time::{Duration, Instant};
use stopover_tunnel::cipher::{Algorithm, AwsLc, SaSecret};
use stopover_tunnel::esp::{self, SequenceBits};
use stopover_tunnel::sa::{
    BURST, InboundSa, InboundSas, Limits, OpenFrame, OutboundSa, OutboundSas, SealFrame, open_burst,
    seal_burst,
};
use stopover_tunnel::window::WindowSize;
use stopover_tunnel::{Millis, SaIndex, Spi};

const ROUNDS: u32 = 3000;
/// Inner UDP and VXLAN headers before the frame.
const INNER_HEADERS: usize = 16;

/// Nanoseconds a frame of sealing and of opening.
fn measure(algorithm: Algorithm, frame_len: usize) -> (f64, f64) {
    let secret = SaSecret::new(algorithm, &vec![7; algorithm.key_len()], [7; 4]).expect("a key");
    let spi = Spi::new(SaIndex::new(5).expect("an index"), 1);
    let bits = SequenceBits::Extended;
    let mut out = OutboundSas::new(1);
    let sa = OutboundSa::new(&AwsLc, spi, &secret, bits, Limits::HANDSHAKE, Millis(0)).expect("a key");
    assert!(out.set(0, Some(Box::new(sa))).is_none());
    let mut into = InboundSas::new(16);
    let sa = InboundSa::new(&AwsLc, spi, 0, &secret, bits, WindowSize::LEAST).expect("a key");
    into.install(Box::new(sa)).expect("room");

    let text = esp::HEAD_LEN..esp::HEAD_LEN + INNER_HEADERS + frame_len;
    let mut buffers = vec![vec![0x33; text.end + esp::TAIL_LEN]; BURST];
    let (mut seals, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut frames: Vec<_> =
            buffers.iter_mut().map(|buffer| SealFrame::new(0, buffer, text.clone())).collect();
        let start = Instant::now();
        seal_burst(&mut AwsLc, &mut out, &mut frames, Millis(0));
        seals.push(start.elapsed());
        assert!(frames.iter().all(|frame| frame.result.is_ok()));
        let len = esp::sealed_len(text.len());
        let datagrams = buffers.iter_mut().filter_map(|buffer| buffer.get_mut(..len));
        let mut frames: Vec<_> = datagrams.map(OpenFrame::new).collect();
        let start = Instant::now();
        open_burst(&mut AwsLc, &mut into, &mut frames);
        opens.push(start.elapsed());
        assert!(frames.iter().all(|frame| frame.result.is_ok()));
    }
    (median_ns(seals), median_ns(opens))
}

/// Nanoseconds a frame of the median burst.
fn median_ns(mut bursts: Vec<Duration>) -> f64 {
    bursts.sort_unstable();
    bursts.get(bursts.len() / 2).map_or(0.0, |burst| burst.as_nanos() as f64 / BURST as f64)
}

fn main() {
    for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
        for frame_len in [64, 512, 1420] {
            let (seal, open) = measure(algorithm, frame_len);
            println!("{algorithm:?} {frame_len:>5} B: seal {seal:.0} ns, open {open:.0} ns a frame");
        }
    }
}

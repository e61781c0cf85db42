//! Tests of the whole crate. `golden.txt` holds frames built by scapy (see `testdata/golden.py`): what we
//! read from them and what we write ourselves must agree with it byte for byte. `properties` runs generated
//! input, `corpus` the saved inputs of the fuzz targets.

mod corpus;
mod fast_parse;
mod frames;
mod neighbours;
mod overlay_flags;
mod properties;
mod reports;
mod segments;
mod tunnel;
mod unfinished;

use crate::Mac;
use crate::frame::{self, Frame};

const A: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0a]);
const B: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 0x0b]);

/// All golden frames, in file order.
fn all_golden() -> Vec<(&'static str, Vec<u8>)> {
    include_str!("../../testdata/golden.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            (name, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

/// One golden frame.
fn golden(name: &str) -> Vec<u8> {
    all_golden().into_iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no golden frame {name}")).1
}

/// Parses a frame that must be good.
fn facts(bytes: &[u8]) -> Frame {
    frame::parse(bytes, bytes.len()).unwrap()
}

/// Asserts equality with a golden frame, showing hex if not.
#[track_caller]
fn assert_golden(ours: &[u8], name: &str) {
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(ours), hex(&golden(name)), "{name}");
}

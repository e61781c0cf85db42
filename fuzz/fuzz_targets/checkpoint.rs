//! Fuzz target: see `stopover_bbs::client::exercise_checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_bbs::client::exercise_checkpoint(input));

//! Fuzz target: see `exercise::frame_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_fuzz::exercise::frame_parse(input));

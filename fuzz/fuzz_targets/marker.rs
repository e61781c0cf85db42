//! Fuzz target: see `exercise::marker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_fuzz::exercise::marker(input));

//! Fuzz target: see `exercise::underlay_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_fuzz::exercise::underlay_parse(input));

//! Fuzz target: see `stopover_net::exercise::underlay_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_net::exercise::underlay_parse(input));

//! Fuzz target: see `stopover_pki::exercise::exercise_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_pki::exercise::exercise_request(input));

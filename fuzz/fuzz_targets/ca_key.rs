//! Fuzz target: see `stopover_pki::exercise::exercise_ca_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_pki::exercise::exercise_ca_key(input));

//! Fuzz target: see `stopover_tunnel::exercise::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_tunnel::exercise::handshake(input));

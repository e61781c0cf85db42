//! Fuzz target: see `exercise::arp_nd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_fuzz::exercise::arp_nd(input));

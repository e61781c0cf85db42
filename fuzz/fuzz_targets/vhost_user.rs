//! Fuzz target: see `stopover_vmm::exercise::exercise_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stopover_vmm::exercise::exercise_messages(input));

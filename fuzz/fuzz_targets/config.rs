//! Fuzz target: configuration text of both programs, and state files. Any text gives a configuration or an error with a place;
//! `config/tests/robust.rs` runs the same property on a stable compiler.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Bulk files named in the text would be opened: not here.
    if text.contains("_file") {
        return;
    }
    let origin = Path::new("fuzz.ron");
    if let Err(error) = stopover_config::appliance::parse(text, origin) {
        assert!(error.to_string().contains("fuzz.ron"), "{error}");
    }
    let _ = stopover_config::bbs::parse(text, origin);
    if let Ok(state) = stopover_config::appliance::State::parse(text, origin) {
        assert_eq!(stopover_config::appliance::State::parse(&state.text(), origin), Ok(state));
    }
});

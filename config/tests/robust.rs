//! No text makes the parsers panic, and whatever is refused is refused with one complete line. The corpus
//! keeps every text that once surprised them; a fuzzer's findings are added there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use proptest::prelude::*;
use std::path::Path;
use stopover_config::{
    ConfigError, Endpoint,
    appliance::{self, PortText, State},
    bbs,
};

const WORDS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "name:",
    "eal:",
    "vdevs:",
    "ports:",
    "lcores:",
    "migration:",
    "hold_mib:",
    "tunnels:",
    "networks:",
    "required",
    "role:",
    "vif(",
    "segment(",
    "underlay(",
    "vlans:",
    "board:",
    "declared:",
    "version:",
    "device:",
    "\"-l\"",
    "\"0-1\"",
    "\"net_null0\"",
    "\"vm1:0\"",
    "\"02:00:00:00:00:01\"",
    "\"10.0.0.1/24\"",
    "0",
    "1",
    "-1",
    "16777216",
    "99999999999999999999",
    "true",
    "Some(",
    "poll",
    "//x\n",
    "/*",
    "*/",
    "r#\"",
    "\"",
    "'",
    "\\",
    "#![enable(implicit_some)]",
    "é",
];

/// One line, with all three parts and a place inside the text.
fn complete(e: &ConfigError, text: &str) -> Result<(), TestCaseError> {
    let message = e.to_string();
    prop_assert!(!message.contains('\n'), "{message}");
    prop_assert!(!e.found().is_empty() && !e.expected().is_empty() && !e.hint().is_empty(), "{message}");
    let position = e.position().ok_or_else(|| TestCaseError::fail("no position"))?;
    prop_assert!(position.line >= 1 && position.line <= text.split('\n').count() as u64, "{message}");
    Ok(())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(e) = appliance::parse(text, Path::new("x.ron")) {
        complete(&e, text)?;
    }
    if let Err(e) = bbs::parse(text, Path::new("x.ron")) {
        complete(&e, text)?;
    }
    match State::parse(text, Path::new("x.state.ron")) {
        Err(e) => complete(&e, text)?,
        Ok(state) => prop_assert_eq!(State::parse(&state.text(), Path::new("x.state.ron")), Ok(state)),
    }
    match PortText::parse(text, Path::new("port")) {
        Err(e) => complete(&e, text)?,
        Ok(port) => prop_assert_eq!(PortText::parse(&port.text(), Path::new("port")), Ok(port)),
    }
    Ok(())
}

const GOOD: &str = include_str!("../../examples/two-hypervisors/a.ron");
const GOOD_STATE: &str = r#"(version: 1, ports: [
    (name: "vm2", device: "net_vhost2,iface=/run/vm2.sock", role: vif(vni: 100, mac: "02:00:00:00:00:02", addresses: ["192.168.0.2"], allowed: [(ip: "10.0.0.0/8")])),
    (name: "br0", device: "0000:03:00.0", rxq: 2, mtu: 1600, role: segment(vni: 5, vlans: {10: 110}, stations: [(mac: "02:00:00:00:00:05", vni: 110)])),
    (name: "ul1", device: "net_tap0", role: underlay(addresses: ["10.1.0.1/24"], routes: [(to: "10.8.0.0/16", via: "10.1.0.3")], dscp: fixed(46), udp6_zero_checksum: true)),
])"#;

proptest! {
    #[test]
    fn arbitrary_text(text in "\\PC{0,200}") {
        check(&text)?;
    }

    #[test]
    fn words_of_the_language(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40)) {
        check(&words.concat())?;
    }

    #[test]
    fn a_good_file_damaged(at in 0..GOOD.len(), len in 0usize..12, with in proptest::sample::select(WORDS)) {
        let end = (at + len).min(GOOD.len());
        if GOOD.is_char_boundary(at) && GOOD.is_char_boundary(end) {
            check(&format!("{}{with}{}", &GOOD[..at], &GOOD[end..]))?;
        }
    }

    #[test]
    fn a_good_state_file_damaged(at in 0..GOOD_STATE.len(), len in 0usize..12, with in proptest::sample::select(WORDS)) {
        let end = (at + len).min(GOOD_STATE.len());
        check(&format!("{}{with}{}", &GOOD_STATE[..at], &GOOD_STATE[end..]))?;
    }

    #[test]
    fn endpoints_that_parse_round_trip(text in "(http://|unix:)?[a-z0-9.:/\\[\\]-]{0,40}") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
        }
    }
}

#[test]
fn corpus() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut replayed = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        check(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        replayed += 1;
    }
    assert!(replayed >= 6, "the corpus is there");
}

//! The real program with `--log-format json`: whatever it and DPDK say on stderr is one JSON object in each line.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const CONFIG: &str = r#"(
    name: "gw-json",
    eal: ["--lcores", "0@0,1@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64"],
    vdevs: ["net_null0", "net_null1"],
    mbufs: 4096,
    mbcache: 32,
    ctl: "CTL",
    ports: [
        (name: "ul0", device: "DEVICE", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_null1", role: vif(vni: 100, mac: "52:54:00:00:00:01")),
    ],
    declared: (),
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the program until it ends, or until its control socket is there and SIGTERM ends it. Returns its log lines.
fn lines(dir: &Path, device: &str, filter: &str) -> Vec<Value> {
    let (file, log, ctl) = (dir.join("gw.ron"), dir.join("stderr"), dir.join("ctl.sock"));
    let text = CONFIG.replace("CTL", &ctl.display().to_string()).replace("DEVICE", device);
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
        .args(["--log-format", "json"])
        .arg(&file)
        .env("RUST_LOG", filter)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut signalled = false;
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end: {}", std::fs::read_to_string(&log).unwrap());
        }
        if !signalled && ctl.exists() {
            signalled = Command::new("kill").arg(child.id().to_string()).status().unwrap().success();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let log_text = std::fs::read_to_string(&log).unwrap();
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    log_text.lines().map(parsed).collect()
}

fn complete(line: &Value) -> bool {
    ["time", "level", "target", "message"].iter().all(|key| line[key].is_string())
}

#[test]
fn lines_of_the_program_and_of_dpdk_are_json() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines(dir.path(), "net_null0", "info");
    assert!(lines.iter().all(complete), "{lines:#?}");
    let from = |target: &str| lines.iter().any(|l| l["target"].as_str().unwrap().starts_with(target));
    assert!(from("dpdk") && from("stopover"), "{lines:#?}");
    assert!(lines.iter().any(|l| l["message"] == "stopping"), "{lines:#?}");
}

#[test]
fn the_reason_of_a_failed_start_is_json_whatever_is_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let lines = lines(dir.path(), "net_absent", "off");
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    assert!(complete(line), "{line}");
    assert_eq!((&line["level"], &line["target"]), (&"error".into(), &"stopover-appliance".into()));
    assert!(line["message"].as_str().unwrap().contains("net_absent"), "{line}");
}

//! The real program with a bond whose members are pcap devices: what the bond's driver sends is in their files. No root, no
//! hugepages and no NIC is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// `DIR` stands for the folder of the test. The port is a vif: nobody sends anything to it.
const CONFIG: &str = r#"(
    name: "gw-bond",
    eal: ["--lcores", "0@0,1@0,2@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "128"],
    vdevs: [
        "net_null0,no-rx=1",
        "net_pcap0,tx_pcap=DIR/0.pcap",
        "net_pcap1,tx_pcap=DIR/1.pcap",
        "net_bonding0,mode=4,slave=net_pcap0,slave=net_pcap1",
    ],
    idle: adaptive(cap_us: 100000),
    mbufs: 16384,
    mbcache: 32,
    ctl: "DIR/ctl.sock",
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "bond0", device: "net_bonding0", txq: 1, role: vif(vni: 100, mac: "52:54:00:00:00:01")),
    ],
    declared: (),
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many LACP frames (IEEE 802.1AX, slow protocols) a capture has.
fn lacp_frames(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap_or_default();
    // Behind the MACs.
    let ethertype_and_subtype = [0x88, 0x09, 1];
    bytes.windows(3).filter(|window| *window == ethertype_and_subtype).count()
}

/// Its members leave the bond's partner if LACP ends. Without calls of its driver it never begins.
#[test]
fn an_idle_bond_speaks_lacp() {
    run(CONFIG, None);
}

/// The lcores sleep shorter from then on, and call its driver.
#[test]
fn a_bond_that_is_added_speaks_lacp() {
    let without: String =
        CONFIG.lines().filter(|line| !line.contains("bond0")).map(|l| format!("{l}\n")).collect();
    run(&without, Some(CONFIG));
}

/// Starts with a configuration, and changes to the other one, if there is one. Then the bond speaks LACP.
fn run(first: &str, then: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let text = text.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("gw.ron"), text).unwrap();
    };
    write(first);
    let stderr = std::fs::File::create(dir.path().join("stderr")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
        .arg(dir.path().join("gw.ron"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let began = Instant::now();
    let log = || std::fs::read_to_string(dir.path().join("stderr")).unwrap();
    if let Some(then) = then {
        while !log().contains("is running") {
            assert!(began.elapsed() < PATIENCE, "it does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        write(then);
        let pid = running.0.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }
    let members = ["0.pcap", "1.pcap"].map(|name| dir.path().join(name));
    while members.iter().any(|member| lacp_frames(member) < 3) {
        assert!(running.0.try_wait().unwrap().is_none(), "it ended: {}", log());
        assert!(began.elapsed() < PATIENCE, "{:?} LACP frames: {}", members.map(|m| lacp_frames(&m)), log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").arg(running.0.id().to_string()).status().unwrap().success());
    assert!(running.0.wait().unwrap().success());
}

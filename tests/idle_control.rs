//! The real program, and another as the guest of its vhost-user port. The control thread sleeps while nothing happens, also
//! after the guest has negotiated offloads, of which every lcore is told. No root, no hugepages and no device is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const CONFIG: &str = r#"(
    name: "NAME",
    eal: ["--lcores", "0@0,1@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64"],
    vdevs: ["net_null0,no-rx=1", VDEV],
    mbufs: 4096,
    mbcache: 32,
    rxd: 256,
    txd: 256,
    ctl: "DIR/NAME.sock",
    metrics: "METRICS",
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: DEVICE, role: vif(vni: 100, mac: "52:54:00:00:00:01")),
    ],
    declared: (hosts: [(name: "far", vteps: ["10.0.0.9"])]),
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Links are read 50 times a second. A loop that does not sleep has tens of thousands of rounds.
const MOST_A_SECOND: f64 = 500.0;

struct Program {
    child: Child,
    log: std::path::PathBuf,
    metrics: String,
}

impl Program {
    fn start(dir: &Path, name: &str, vdev: &str, device: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = free.local_addr().unwrap().to_string();
        drop(free);
        let text = CONFIG.replace("VDEV", vdev).replace("DEVICE", device).replace("NAME", name);
        let text = text.replace("METRICS", &metrics).replace("DIR", &dir.display().to_string());
        let (file, log) = (dir.join(format!("{name}.ron")), dir.join(format!("{name}.log")));
        std::fs::write(&file, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
            .arg(file)
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut program = Self { child, log, metrics };
        program.wait_log("is running");
        program
    }

    fn wait_log(&mut self, words: &str) {
        let began = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(words) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {log}");
            assert!(began.elapsed() < PATIENCE, "not: {words}\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn control_rounds(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("stopover_control_rounds_total "));
        line.unwrap_or_else(|| panic!("no count of rounds in {page}")).parse().unwrap()
    }

    /// Measured over a second in which nothing happens.
    fn rounds_a_second(&self) -> f64 {
        let (before, began) = (self.control_rounds(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        (self.control_rounds() - before) as f64 / began.elapsed().as_secs_f64()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_control_thread_sleeps_also_after_a_guest_has_come() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let device = r#""net_vhost0,iface=DIR/vm1.sock""#;
    let mut host = Program::start(dir.path(), "host", "", device);
    let alone = host.rounds_a_second();
    assert!((1.0..MOST_A_SECOND).contains(&alone), "{alone} rounds a second");

    let vdev = r#""net_virtio_user0,path=DIR/vm1.sock,queues=1,queue_size=256""#;
    let _guest = Program::start(dir.path(), "guest", vdev, r#""net_virtio_user0""#);
    host.wait_log("port vm1: its guest takes unfinished checksums");
    let with_guest = host.rounds_a_second();
    assert!(with_guest < MOST_A_SECOND, "{with_guest} rounds a second, {alone} before");
}

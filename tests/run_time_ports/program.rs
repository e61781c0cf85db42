//! The program under test, and requests to it.

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use stopover_ctl::{ChangeQuery, ChangeReport, Client, ClientError, ConfigState, FwdStats, PortInfo};
use tempfile::TempDir;

const CONFIG: &str = r#"(
    name: "gw",
    eal: ["--lcores", "0@0,1@0,2@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64"],
    vdevs: ["net_null0,no-rx=1"],
    mbufs: 4300,
    rxd: 64,
    txd: 64,
    mbcache: 32,
    ctl: "DIR/ctl.sock",
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])),
        PORTS
    ],
    declared: (
        hosts: [(name: "far", vteps: ["10.0.0.9"])],
        nodes: [(vni: 300, mac: "52:54:00:00:09:09", host: "far", ips: ["192.168.9.9"])],
    ),
    LCORES
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Program {
    pub dir: TempDir,
    pub child: Child,
    pub rt: tokio::runtime::Runtime,
}

impl Program {
    pub fn start(ports: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ports, "");
        Self { child: launch(dir.path()), dir, rt: tokio::runtime::Runtime::new().unwrap() }.ready()
    }

    fn ready(self) -> Self {
        let began = Instant::now();
        while self.rt.block_on(self.client().ports()).map_or(true, |ports| ports.is_empty()) {
            assert!(began.elapsed() < PATIENCE, "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    pub fn restart(mut self) -> Self {
        self.stop();
        self.child = launch(self.dir.path());
        self.ready()
    }

    fn stop(&mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.dir.path().join("ctl.sock"))
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sock"))
    }

    /// A vif with its own socket.
    pub fn vif(&self, name: &str, n: u8) -> Value {
        let device = format!("net_vhost{n},iface={},queues=2", self.socket(name).display());
        let mac = format!("52:54:00:00:00:{n:02x}");
        json!({"name": name, "device": device, "role": {"vif": {"vni": 100, "mac": mac}}})
    }

    pub fn add(&self, port: &Value) -> Result<ChangeReport, ClientError> {
        self.rt.block_on(self.client().add_port(port, ChangeQuery::default()))
    }

    pub fn set(&self, name: &str, patch: &Value, reopen: bool) -> Result<ChangeReport, ClientError> {
        let query = ChangeQuery { reopen, ..ChangeQuery::default() };
        self.rt.block_on(self.client().set_port(name, patch, query))
    }

    pub fn delete(&self, name: &str) -> Result<ChangeReport, ClientError> {
        self.rt.block_on(self.client().delete_port(name, ChangeQuery::default()))
    }

    pub fn reload(&self) -> Result<ChangeReport, ClientError> {
        self.rt.block_on(self.client().reload(ChangeQuery::default()))
    }

    pub fn ports(&self) -> Vec<PortInfo> {
        self.rt.block_on(self.client().ports()).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.ports().into_iter().map(|port| port.name).collect()
    }

    pub fn config(&self) -> ConfigState {
        self.rt.block_on(self.client().config()).unwrap()
    }

    pub fn fwd(&self) -> FwdStats {
        self.rt.block_on(self.client().fwd()).unwrap()
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "not: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line of the log, which a thread of its own writes.
    #[track_caller]
    pub fn wait_log(&self, words: &str, times: usize) {
        self.wait_until(words, || self.log().matches(words).count() >= times);
        assert_eq!(self.log().matches(words).count(), times, "{}", self.log());
    }

    /// The queues of each lcore.
    pub fn queues(&self) -> Vec<Vec<String>> {
        let lcores = self.rt.block_on(self.client().lcores()).unwrap();
        lcores.into_iter().map(|lcore| lcore.queues).collect()
    }

    /// Waits until no more files are open than before.
    #[track_caller]
    pub fn wait_files(&self, before: usize) {
        // Connections come and go too: those of the requests, and attempts to reach the board.
        let began = Instant::now();
        while self.files() > before {
            assert!(began.elapsed() < PATIENCE, "{} files are open, before {before}", self.files());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn write(dir: &Path, ports: &str, lcores: &str) {
    let text = CONFIG.replace("PORTS", ports).replace("LCORES", lcores);
    let text = text.replace("DIR", &dir.display().to_string());
    std::fs::write(dir.join("gw.ron"), text).unwrap();
}

fn launch(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("stderr")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
        .arg(dir.join("gw.ron"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

pub fn refusal(answer: Result<ChangeReport, ClientError>) -> String {
    answer.unwrap_err().to_string()
}

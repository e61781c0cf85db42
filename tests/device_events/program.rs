//! The program under test, with what it preloads and the frames it is given.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use stopover_ctl::{
    ChangeQuery, ChangeReport, ClearRequest, Client, ClientError, DeviceState, PortFwd, PortInfo,
};
use tempfile::TempDir;

/// Three workers on all CPUs. `vm2` has two receive queues, and receives what its device makes up.
const CONFIG: &str = r#"(
    name: "gw",
    eal: ["--lcores", "0@0-1,1@0-1,2@0-1,3@0-1", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "128"],
    vdevs: [
        "net_null0,no-rx=1",
        "net_pcap0,rx_pcap=DIR/vm1.pcap,infinite_rx=1",
        "net_null1,size=64",
        "net_null2,no-rx=1",
    ],
    mbufs: 16384,
    mbcache: 32,
    ctl: "DIR/ctl.sock",
    metrics: "METRICS",
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(
            addresses: ["10.0.0.1/24"],
            neighbours: [(ip: "10.0.0.9", mac: "52:54:00:00:00:99")],
        )),
        (name: "vm1", device: "net_pcap0", role: vif(vni: 100, mac: "52:54:00:00:00:01", guard: false)),
        VM2
        (name: "vm3", device: "net_null2", role: vif(vni: 100, mac: "52:54:00:00:00:03", guard: false)),
    ],
    declared: (
        networks: [(vni: 100, name: "shop", flood: "drop")],
        hosts: [(name: "far", vteps: ["10.0.0.9"])],
        nodes: [(vni: 100, mac: "52:54:00:00:00:04", host: "far")],
    ),
    LCORES
)
"#;

const VM2: &str =
    r#"(name: "vm2", device: "net_null1", rxq: 2, role: vif(vni: 100, mac: "52:54:00:00:00:02")),"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Program {
    dir: TempDir,
    child: Child,
    metrics: String,
    rt: tokio::runtime::Runtime,
    /// Where the log of the test begins.
    log_from: usize,
}

/// The port `vm2`, or none.
pub fn ports(vm2: &str) -> String {
    if vm2.is_empty() { String::new() } else { VM2.to_owned() }
}

impl Program {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_pcap(&dir.path().join("vm1.pcap"), &[2, 3, 4].map(frame));
        let object = dir.path().join("inject.so");
        compile(&object);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = free.local_addr().unwrap().to_string();
        drop(free);
        let rt = tokio::runtime::Runtime::new().unwrap();
        write(dir.path(), &metrics, VM2, "");
        let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
            .arg(dir.path().join("gw.ron"))
            .env("LD_PRELOAD", &object)
            .env("STOPOVER_INJECT", dir.path().join("inject.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Self { dir, child, metrics, rt, log_from: 0 };
        program.wait_until("vm1 sends", || {
            let fwd = program.rt.block_on(program.client().fwd());
            fwd.is_ok_and(|fwd| fwd.ports.iter().any(|port| port.name == "vm3" && port.tx_packets > 1000))
        });
        program.begin_again();
        program
    }

    /// Has vm1 send again from its first frame, and counters count from there: when it began, not every link was up.
    fn begin_again(&mut self) {
        self.inject("missing 1");
        self.inject("removed net_pcap0");
        self.inject("removed net_null1");
        self.wait_until("no frame is under way", || self.queues() == ["ul0:0", "vm3:0"] && self.mbufs() == 0);
        self.wait_until("links are up", || self.port("ul0").link_up && self.port("vm3").link_up);
        self.rt.block_on(self.client().clear(&ClearRequest::FwdStats)).unwrap();
        self.inject("missing 0");
        self.reload(true).unwrap();
        self.wait_until("all links are up", || self.ports().iter().all(|port| port.link_up));
        self.wait_until("vm1 sends", || self.fwd("vm2").tx_packets > 1000);
        self.log_from = self.log().len();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another configuration file.
    pub fn write(&self, vm2: &str, lcores: &str) {
        write(self.dir.path(), &self.metrics, vm2, lcores);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap().split_off(self.log_from)
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "not: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub fn wait_log(&self, words: &str, times: usize) {
        self.wait_until(words, || self.log().matches(words).count() >= times);
    }

    /// Gives `inject.c` a command. Returns its answer.
    pub fn inject(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.path("inject.sock")).unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn client(&self) -> Client {
        Client::new(self.path("ctl.sock"))
    }

    pub fn add(&self, port: &Value) -> Result<ChangeReport, ClientError> {
        self.rt.block_on(self.client().add_port(port, ChangeQuery::default()))
    }

    pub fn delete(&self, name: &str) -> Result<ChangeReport, ClientError> {
        self.rt.block_on(self.client().delete_port(name, ChangeQuery::default()))
    }

    pub fn reload(&self, reopen: bool) -> Result<ChangeReport, ClientError> {
        let query = ChangeQuery { reopen, ..ChangeQuery::default() };
        self.rt.block_on(self.client().reload(query))
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.rt.block_on(self.client().ports()).unwrap()
    }

    pub fn port(&self, name: &str) -> PortInfo {
        self.ports().into_iter().find(|port| port.name == name).unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.ports().into_iter().map(|port| port.name).collect()
    }

    pub fn fwd(&self, name: &str) -> PortFwd {
        let fwd = self.rt.block_on(self.client().fwd()).unwrap();
        fwd.ports.into_iter().find(|port| port.name == name).unwrap()
    }

    /// The queues of each lcore.
    pub fn lcore_queues(&self) -> Vec<Vec<String>> {
        let lcores = self.rt.block_on(self.client().lcores()).unwrap();
        lcores.into_iter().map(|lcore| lcore.queues).collect()
    }

    pub fn queues(&self) -> Vec<String> {
        self.lcore_queues().concat()
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        let drops = self.rt.block_on(self.client().drops()).unwrap();
        drops.iter().find(|drop| drop.reason == reason).unwrap().count
    }

    fn mbufs(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("stopover_mbufs_in_use "));
        line.unwrap_or_else(|| panic!("no count of mbufs in {page}")).parse().unwrap()
    }

    /// Ends the traffic, by removing the devices it comes from, and compares all counters: what vm1 has sent has reached the
    /// other ports, but for these, which have dropped it for one reason; no buffer is missing; no lcore has polled a device
    /// that was not in service; and the program ends in order.
    #[track_caller]
    pub fn assert_nothing_lost_elsewhere(mut self, disturbed: &[&str]) {
        self.inject("missing 1");
        let sources: Vec<PortInfo> =
            self.ports().into_iter().filter(|port| ["vm1", "vm2"].contains(&port.name.as_str())).collect();
        for source in &sources {
            self.inject(&format!("removed {}", source.device));
        }
        for source in &sources {
            self.wait_until("it is out", || self.port(&source.name).device_state == DeviceState::Removed);
        }
        self.wait_until("no frame is under way", || self.mbufs() == 0);
        let fwd = self.rt.block_on(self.client().fwd()).unwrap();
        assert_eq!((fwd.accounting.unaccounted, fwd.accounting.held), (0, 0), "{fwd:?}");
        let of = |name: &str| fwd.ports.iter().find(|port| port.name == name).unwrap();
        let received = of("vm1").rx_packets;
        // In the order of the frames.
        let of_frame = |number: u64| (received + 2 - number) / 3;
        let [to_vm2, to_vm3, to_far] = [0, 1, 2].map(of_frame);
        assert_eq!((of("vm3").tx_packets, of("vm3").tx_dropped), (to_vm3, 0), "{fwd:?}");
        let ul0 = of("ul0");
        let to_host = ul0.tx_packets + ul0.tx_dropped + self.dropped("host_unresolved");
        assert_eq!(to_host, to_far + fwd.accounting.originated, "{fwd:?}");
        // Nobody has the node of a port that is down.
        let unknown = self.dropped("unknown_unicast");
        match fwd.ports.iter().find(|port| port.name == "vm2") {
            Some(vm2) => assert_eq!(vm2.tx_packets + vm2.tx_dropped + unknown, to_vm2, "{fwd:?}"),
            None => assert!((1..=to_vm2).contains(&unknown), "{fwd:?}"),
        }
        if !disturbed.contains(&"ul0") {
            assert_eq!(ul0.tx_dropped, 0, "{fwd:?}");
        }
        let dropped: u64 = fwd.ports.iter().map(|port| port.tx_dropped).sum();
        if fwd.ports.len() == 4 {
            assert_eq!(self.dropped("port_down"), dropped, "for one reason");
        }
        assert!(!self.log().contains("for not ready port"), "{}", self.log());
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(dir: &Path, metrics: &str, vm2: &str, lcores: &str) {
    let text = CONFIG.replace("VM2", vm2).replace("LCORES", lcores).replace("METRICS", metrics);
    std::fs::write(dir.join("gw.ron"), text.replace("DIR", &dir.display().to_string())).unwrap();
}

fn compile(object: &Path) {
    let flags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output().unwrap();
    let flags = String::from_utf8(flags.stdout).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device_events/inject.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(object)
        .args(flags.split_whitespace())
        .arg(source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success());
}

/// A UDP packet from vm1 to the node with this last byte of its MAC.
fn frame(to: u8) -> Vec<u8> {
    let mut frame = vec![0x52, 0x54, 0, 0, 0, to, 0x52, 0x54, 0, 0, 0, 1, 8, 0];
    let mut ip = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 0, 1, 192, 168, 0, to];
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0x10, 0, 0x20, 0, 0, 26, 0, 0]);
    frame.resize(60, 0x55);
    frame
}

/// `LINKTYPE_ETHERNET`, microseconds, little endian.
fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        out.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    std::fs::write(path, out).unwrap();
}

//! The real program on a machine with two sockets, which a preloaded library makes up, and on this one. No root, no
//! hugepages and no device is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use serde_json::json;
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use stopover_ctl::{ChangeQuery, Client};
use tempfile::TempDir;

/// `ul0` is on socket 0, `vm1` on socket 1, which sends frames of zeros; `vm2` is on none. Lcore 1 is on socket 0, 2 and
/// 3 are on 1.
const CONFIG: &str = r#"(
    name: "gw",
    eal: ["--lcores", "0@0,1@0,2@0,3@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "128"],
    vdevs: ["net_null0,no-rx=1", "net_null1"],
    mbufs: 8192,
    mbcache: 32,
    ctl: "DIR/ctl.sock",
    ports: [
        (name: "vm2", device: "net_vhost0,iface=DIR/vm2.sock", role: vif(vni: 100, mac: "52:54:00:00:00:02")),
        (name: "ul0", device: "net_null0", rxq: 2, role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_null1", rxq: 2, role: vif(vni: 100, mac: "52:54:00:00:00:01")),
    ],
    declared: (hosts: [(name: "far", vteps: ["10.0.0.9"])]),
    LCORES
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Program {
    dir: TempDir,
    child: Child,
    rt: tokio::runtime::Runtime,
}

impl Program {
    fn start(two_sockets: bool, lcores: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = CONFIG.replace("DIR", &dir.path().display().to_string()).replace("LCORES", lcores);
        std::fs::write(dir.path().join("gw.ron"), text).unwrap();
        let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"));
        command.arg(dir.path().join("gw.ron")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if two_sockets {
            command.env("LD_PRELOAD", compile(dir.path()));
        }
        let program =
            Self { child: command.spawn().unwrap(), dir, rt: tokio::runtime::Runtime::new().unwrap() };
        program.wait_until("it runs", || {
            let fwd = program.rt.block_on(program.client().fwd());
            fwd.is_ok_and(|fwd| fwd.accounting.received > 1000)
        });
        program
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("ctl.sock"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < PATIENCE, "not: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The socket of each lcore, and its queues.
    fn lcores(&self) -> Vec<(u32, Vec<String>)> {
        let lcores = self.rt.block_on(self.client().lcores()).unwrap();
        lcores.into_iter().map(|lcore| (lcore.socket, lcore.queues)).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compile(dir: &Path) -> std::path::PathBuf {
    let (source, object) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numa/sockets.c"), dir.join("sockets.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&object).arg(source);
    assert!(cc.status().unwrap().success());
    object
}

fn of(socket: u32, queues: &[&str]) -> (u32, Vec<String>) {
    (socket, queues.iter().map(ToString::to_string).collect())
}

#[test]
fn on_one_socket_queues_go_round_and_nothing_is_far() {
    let program = Program::start(false, "");
    let lcores = [of(0, &["vm2:0", "vm1:0"]), of(0, &["ul0:0", "vm1:1"]), of(0, &["ul0:1"])];
    assert_eq!(program.lcores(), lcores);
    assert!(!program.log().contains("socket 0"), "{}", program.log());
}

#[test]
fn on_two_sockets_queues_go_to_lcores_near_to_their_port() {
    let program = Program::start(true, "");
    let lcores = [of(0, &["ul0:0", "ul0:1"]), of(1, &["vm1:0", "vm2:0"]), of(1, &["vm1:1"])];
    assert_eq!(program.lcores(), lcores);
    assert!(!program.log().contains("is polled by"), "{}", program.log());
    // A port on no socket goes to the lcore that has the fewest.
    let device = format!("net_vhost1,iface={}/vm3.sock", program.dir.path().display());
    let vm3 =
        json!({"name": "vm3", "device": device, "role": {"vif": {"vni": 100, "mac": "52:54:00:00:00:03"}}});
    program.rt.block_on(program.client().add_port(&vm3, ChangeQuery::default())).unwrap();
    assert_eq!(program.lcores()[2], of(1, &["vm1:1", "vm3:0"]));
}

#[test]
fn a_queue_that_is_far_from_its_port_is_reported_at_the_start() {
    let program = Program::start(true, r#"lcores: {1: ["ul0:0", "vm2:0", "vm1:0"], 3: ["ul0:1", "vm1:1"]},"#);
    let far = |queue: &str, lcore: u32, socket: u32| {
        format!(
            "port {queue} is polled by lcore {lcore}, which is on another socket than the device (socket {socket})"
        )
    };
    // A thread of its own writes the log.
    program.wait_until("both are reported", || program.log().matches("is polled by").count() >= 2);
    let log = program.log();
    assert!(log.contains(&far("vm1: queue 0", 1, 1)) && log.contains(&far("ul0: queue 1", 3, 0)), "{log}");
    assert_eq!(log.matches("is polled by").count(), 2, "{log}");
}

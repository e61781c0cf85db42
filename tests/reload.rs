//! The real program while its configuration changes: by its control socket, and by SIGHUP. It runs on null devices,
//! without hugepages; no root is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// `DIR` stands for the folder of the test.
const GOOD: &str = r#"(
    name: "gw-reload",
    eal: ["--lcores", "0@0,1@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64"],
    mbufs: 8192,
    mbcache: 32,
    ctl: "DIR/ctl.sock",
    ports: [
        (name: "ul0", device: "net_null0,no-rx=1,size=64", role: underlay(addresses: ["10.0.0.1/24"], gateways: ["10.0.0.254"])),
        (name: "vm1", device: "net_null1,no-rx=1,size=64", role: vif(vni: 100, mac: "52:54:00:00:00:01")),
        (name: "br0", device: "net_null2,no-rx=1,size=64", role: segment(vni: 100)),
    ],
    declared: (
        hosts: [(name: "far", vteps: ["10.0.0.2"])],
        nodes: [(vni: 100, mac: "52:54:00:00:00:09", host: "far", ips: ["192.168.0.9"])],
    ),
)
"#;

/// After this time it hangs.
const PATIENCE: Duration = Duration::from_secs(15);

struct Running {
    dir: TempDir,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these ports in the state file.
    fn start_with(ports: &str) -> Self {
        let dir = TempDir::new().unwrap();
        if !ports.is_empty() {
            let state = format!("(version: 1, ports: [{ports}])");
            std::fs::write(dir.path().join("gw.state.ron"), state).unwrap();
        }
        let log = std::fs::File::create(dir.path().join("stderr")).unwrap();
        std::fs::write(dir.path().join("gw.ron"), GOOD.replace("DIR", &dir.path().display().to_string()))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
            .arg(dir.path().join("gw.ron"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Self { dir, child };
        running.wait_log("gw-reload is running");
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("stderr")).unwrap()).into_owned()
    }

    fn wait_log(&self, words: &str) {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(began.elapsed() < PATIENCE, "no `{words}` in its output:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Changes the configuration file.
    fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path("gw.ron")).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{from}");
        std::fs::write(self.path("gw.ron"), text.replace(from, to)).unwrap();
    }

    /// Status and JSON of a request.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.path("ctl.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}")))
    }

    /// The lines of a report.
    fn reload(&self, query: &str) -> Vec<String> {
        let (status, report) = self.ask("POST", &format!("/v1/reload{query}"), "");
        assert_eq!(status, 200, "{report}");
        assert_eq!(report["made"], json!(query != "?dry_run=true"));
        report["changes"].as_array().unwrap().iter().map(|c| c["what"].as_str().unwrap().to_owned()).collect()
    }

    fn refused(&self, method: &str, path: &str, body: &str) -> String {
        let (status, error) = self.ask(method, path, body);
        assert!((400..500).contains(&status), "{status} {error}");
        for part in ["what", "expected", "hint"] {
            assert!(!error["error"][part].as_str().unwrap().is_empty(), "{error}");
        }
        error["error"]["what"].as_str().unwrap().to_owned()
    }

    /// Waits until these nodes are there. A port's own come with its link, those of a segment once it forwards.
    fn wait_nodes(&self, nodes: &[&str]) {
        let began = Instant::now();
        while self.macs() != nodes {
            assert!(began.elapsed() < PATIENCE, "{:?} instead of {nodes:?}", self.macs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn macs(&self) -> Vec<String> {
        let (_, page) = self.ask("GET", "/v1/nodes", "");
        let mut macs: Vec<_> =
            page["rows"].as_array().unwrap().iter().map(|r| r["mac"].as_str().unwrap().to_owned()).collect();
        macs.sort();
        macs
    }
}

#[test]
fn what_needs_no_restart_is_changed() {
    let gw = Running::start();
    assert_eq!(gw.reload(""), Vec::<String>::new());
    gw.edit("52:54:00:00:00:09", "52:54:00:00:00:08");
    gw.edit("[\"10.0.0.254\"]", "[\"10.0.0.253\"]");
    gw.edit(
        "segment(vni: 100)",
        "segment(vni: 100, ageing_s: 60, max_stations: 7, stations: [(mac: \"52:54:00:00:00:07\")])",
    );
    let lines = [
        "node 52:54:00:00:00:09 of network 100 (at host far, addresses 192.168.0.9) is not declared any more",
        "port ul0: `gateways` changes from 10.0.0.254 to 10.0.0.253",
        "port br0: `ageing_s` changes from 300 to 60",
        "port br0: `max_stations` changes from 16384 to 7",
        "port br0: `stations` changes from none to 52:54:00:00:00:07 in network 100",
        "node 52:54:00:00:00:08 of network 100 (at host far, addresses 192.168.0.9) is declared",
    ];
    let before = ["52:54:00:00:00:01", "52:54:00:00:00:09"];
    gw.wait_nodes(&before);
    assert_eq!(gw.reload("?dry_run=true"), lines);
    assert_eq!(gw.macs(), before, "a dry run changes nothing");
    assert_eq!(gw.reload(""), lines);
    gw.wait_nodes(&["52:54:00:00:00:01", "52:54:00:00:00:07", "52:54:00:00:00:08"]);
    assert_eq!(gw.reload(""), Vec::<String>::new(), "it runs what the file has");
    assert!(!gw.path("gw.state.ron").exists(), "no port was added");
}

#[test]
fn nothing_is_changed_if_a_part_is_refused() {
    let gw = Running::start();
    gw.edit("52:54:00:00:00:09", "52:54:00:00:00:08");
    gw.edit("mbcache: 32", "mbcache: 64");
    gw.edit("size=64\", role: segment", "size=65\", role: segment");
    let before = ["52:54:00:00:00:01", "52:54:00:00:00:09"];
    gw.wait_nodes(&before);
    let (_, report) = gw.ask("POST", "/v1/reload?dry_run=true", "");
    let of = |key: &str| -> Vec<Value> {
        report["changes"].as_array().unwrap().iter().map(|c| c[key].clone()).collect()
    };
    assert_eq!(of("needs"), [json!("restart"), json!("nothing"), json!("reopen"), json!("nothing")]);
    assert_eq!(of("refused")[..2], [json!("it needs a restart"), json!(null)]);
    assert!(of("refused")[2].as_str().unwrap().contains("`--reopen` allows it"));
    let what = gw.refused("POST", "/v1/reload", "");
    assert!(
        what.starts_with(
            "nothing was changed: `mbcache` changes from 32 to 64 (it needs a restart); port br0: `device`"
        ),
        "{what}"
    );
    assert!(what.ends_with("; so the other 2 changes are not made either"), "{what}");
    assert_eq!(gw.macs(), before);
    // A file with a mistake.
    gw.edit("mbcache: 64", "mbcache: none");
    let what = gw.refused("POST", "/v1/reload", "");
    assert!(what.contains("gw.ron:5:14: found `none`"), "{what}");
    assert!(gw.refused("POST", "/v1/reload?dry=1", "").contains("dry"), "an unknown word");
}

#[test]
fn a_signal_reloads() {
    let gw = Running::start();
    gw.edit("52:54:00:00:00:09", "52:54:00:00:00:08");
    let hang_up = || {
        let pid = gw.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    hang_up();
    gw.wait_log("gw.ron is reloaded: 2 changes");
    assert!(gw.macs().contains(&"52:54:00:00:00:08".to_owned()));
    gw.edit("mbcache: 32", "mbcache: 64");
    hang_up();
    gw.wait_log(
        "gw.ron is not reloaded: nothing was changed: `mbcache` changes from 32 to 64 (it needs a restart)",
    );
}

#[test]
fn requests_about_ports() {
    let gw = Running::start();
    let vm2 = r#"{"name": "vm2", "device": "net_null5,size=64", "role": {"vif": {"vni": 100, "mac": "52:54:00:00:00:02"}}}"#;
    let (status, report) = gw.ask("POST", "/v1/ports?dry_run=true", vm2);
    assert_eq!((status, &report["made"]), (200, &json!(false)), "{report}");
    assert_eq!(
        report["changes"][0]["what"],
        "port vm2 is added: vif of 52:54:00:00:00:02 in network 100 on net_null5,size=64"
    );
    assert!(gw.refused("POST", "/v1/ports", "{").contains("EOF"));
    assert!(
        gw.refused("POST", "/v1/ports", &vm2.replace("00:02", "00:09"))
            .contains("`declared` has at host `far`")
    );
    assert!(gw.refused("PATCH", "/v1/ports/vm1", "{}").contains("port vm1 is a port of"));
    assert!(gw.refused("DELETE", "/v1/ports/vm1", "").contains("port vm1 is a port of"));
    // A port may have the name of a path.
    for name in ["stats", "vm%2e9", "%F0%9F%9A%80"] {
        assert!(gw.refused("DELETE", &format!("/v1/ports/{name}"), "").starts_with("no port "));
    }
    assert!(gw.refused("PATCH", "/v1/ports/stats", "{}").starts_with("no port stats"));
    let (status, state) = gw.ask("GET", "/v1/config", "");
    assert_eq!((status, &state["ports"]), (200, &json!([])));
    assert_eq!(state["state_file"], json!(gw.path("gw.state.ron")));
}

/// A port that was added at run time: its changes are stored before they are made, and what cannot be made is not stored.
#[test]
fn changes_of_added_ports_are_stored() {
    let br9 = r#"(name: "br9", device: "net_null9,no-rx=1,size=64", role: segment(vni: 9))"#;
    let vm9 = r#"(name: "vm9", device: "net_null8,size=64", role: vif(vni: 100, mac: "52:54:00:00:00:09"))"#;
    let gw = Running::start_with(&format!("{br9}, {vm9}"));
    gw.wait_log("port vm9 is left out, because the configuration file overrules it: ");
    let stored = || std::fs::read_to_string(gw.path("gw.state.ron")).unwrap();
    let at_start = stored();
    let set = r#"{"role": {"segment": {"ageing_s": 60}}}"#;
    let (status, report) = gw.ask("PATCH", "/v1/ports/br9", set);
    assert_eq!((status, &report["made"]), (200, &json!(true)), "{report}");
    assert_eq!(report["changes"][0]["what"], "port br9: `ageing_s` changes from 300 to 60");
    let after = stored();
    assert!(after.contains("segment(vni: 9, ageing_s: 60)") && after.contains("\"vm9\""), "{after}");
    // Not possible, then not written.
    let what = gw.refused("PATCH", "/v1/ports/br9", r#"{"rxq": 2}"#);
    assert!(what.contains("`--reopen` allows it"), "{what}");
    std::fs::create_dir(gw.path("gw.state.ron.new")).unwrap();
    let what = gw.refused("PATCH", "/v1/ports/br9", r#"{"role": {"segment": {"ageing_s": 70}}}"#);
    assert!(what.contains("gw.state.ron: "), "{what}");
    assert_eq!(stored(), after);
    let (_, state) = gw.ask("GET", "/v1/config", "");
    assert_eq!(state["ports"][0]["port"]["role"]["segment"]["ageing_s"], 60, "nor made");
    std::fs::remove_dir(gw.path("gw.state.ron.new")).unwrap();
    // What did not run can be removed.
    assert!(state["ports"][1]["overruled"].as_str().unwrap().contains("`declared` has at host `far`"));
    let (status, report) = gw.ask("DELETE", "/v1/ports/vm9", "");
    assert_eq!((status, &report["changes"]), (200, &json!([])), "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("not in the state file any more"));
    assert!(!stored().contains("vm9"));
    assert_eq!(gw.reload(""), Vec::<String>::new());
    assert_ne!(stored(), at_start);
}

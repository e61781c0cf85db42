//! The real program, started with wrong configurations. It ends with status 1 and one message with the place, what
//! was found and a hint; it leaves no control socket and changes no other file. No root, no hugepages and no device
//! is needed: every EAL here is without them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::{
    fs::Permissions,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A valid configuration. `CTL` stands for the path of the control socket, `DIR` for the folder of the test.
const GOOD: &str = r#"(
    name: "gw-bad",
    eal: ["--lcores", "0@0,1@0,2@0", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64"],
    vdevs: ["net_null0", "net_null1"],
    mbufs: 4096,
    mbcache: 32,
    ctl: "CTL",
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_null1", role: vif(vni: 100, mac: "52:54:00:00:00:01")),
    ],
    declared: (),
)
"#;

/// After this time it hangs, or has started.
const PATIENCE: Duration = Duration::from_secs(15);

/// A start that must fail.
struct Start {
    dir: TempDir,
    text: String,
}

/// Its output.
struct Failed {
    dir: TempDir,
    file: PathBuf,
    /// Standard error, by lines.
    stderr: Vec<String>,
}

impl Start {
    /// [`GOOD`] with each `from` replaced by its `to`.
    fn with(changes: &[(&str, &str)]) -> Self {
        let mut text = GOOD.to_owned();
        for (from, to) in changes {
            assert_eq!(text.matches(from).count(), 1, "`{from}` stands once in the good configuration");
            text = text.replace(from, to);
        }
        Self { dir: TempDir::new().unwrap(), text }
    }

    /// Runs the program to its end and checks what every failed start has in common.
    fn fail(self) -> Failed {
        let Self { dir, text } = self;
        let path = |name: &str| dir.path().join(name);
        let ctl = path("ctl.sock").display().to_string();
        let text = text.replace("CTL", &ctl).replace("DIR", &dir.path().display().to_string());
        let (file, log) = (path("gw.ron"), path("stderr"));
        std::fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if began.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let log = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        let status =
            status.unwrap_or_else(|| panic!("it had not ended after {PATIENCE:?}; its output:\n{log}"));
        assert_eq!(status.code(), Some(1), "{status}; its output:\n{log}");
        assert!(!Path::new(&ctl).exists(), "it left its control socket; its output:\n{log}");
        let failed = Failed { dir, file, stderr: log.lines().map(str::to_owned).collect() };
        let message = failed.message();
        assert!(message.contains("; hint: "), "how to mend it is missing in: {message}");
        assert!(
            message.contains(&failed.file.display().to_string()),
            "the configuration file is missing in: {message}"
        );
        failed
    }
}

impl Failed {
    /// The one message: the last line, without the program's name.
    fn message(&self) -> &str {
        let last = self.stderr.last().map_or("", String::as_str);
        last.strip_prefix("stopover-appliance: ")
            .unwrap_or_else(|| panic!("the last line is not the program's message: {last}"))
    }

    /// Checks that the message has all these words, in this order.
    fn assert_contains(&self, words: &[&str]) -> &Self {
        let mut rest = self.message();
        for word in words {
            let Some((_, after)) = rest.split_once(word) else {
                panic!("`{word}` is missing in `{rest}` of: {}", self.message())
            };
            rest = after;
        }
        self
    }

    /// Checks that there is no other output, and that the message begins with the file and this line.
    fn assert_at_line(&self, line: usize) -> &Self {
        assert_eq!(self.stderr.len(), 1, "{:#?}", self.stderr);
        let place = format!("{}:{line}:", self.file.display());
        assert!(self.message().starts_with(&place), "not at {place}: {}", self.message());
        self
    }
}

#[test]
fn an_unknown_key() {
    Start::with(&[("mac: ", "mca: ")]).fail().assert_at_line(10).assert_contains(&[
        "found unknown key `mca` in `vif`",
        "expected one of `vni`, `mac`",
        "did you mean `mac`?",
    ]);
}

#[test]
fn a_mac_of_five_bytes() {
    Start::with(&[("52:54:00:00:00:01", "52:54:00:00:01")]).fail().assert_at_line(10).assert_contains(&[
        "ports[1].role.mac: found",
        "`52:54:00:00:01`",
        "expected a MAC address of six",
        "write all six bytes",
    ]);
}

#[test]
fn a_vni_out_of_range() {
    for vni in ["0", "16777216"] {
        Start::with(&[("vni: 100", &format!("vni: {vni}"))]).fail().assert_at_line(10).assert_contains(&[
            "ports[1].role.vni: found",
            &format!("`{vni}`"),
            "expected a VNI from 1 to 16777215",
        ]);
    }
}

#[test]
fn two_ports_on_one_device() {
    Start::with(&[("device: \"net_null1\"", "device: \"net_null0\"")])
        .fail()
        .assert_at_line(10)
        .assert_contains(&[
            "found device `net_null0` of port `vm1`, which port `ul0` has already",
            "expected a device for each port",
        ]);
}

/// The limit is that of Debian's DPDK.
#[test]
fn more_devices_than_dpdk_can_have() {
    let (mut vdevs, mut ports) = (String::new(), String::new());
    for n in 2..33 {
        vdevs += &format!(", \"net_null{n}\"");
        ports += &format!(
            r#"(name: "vm{n}", device: "net_null{n}", role: vif(vni: 100, mac: "52:54:00:00:01:{n:02x}")),"#
        );
    }
    Start::with(&[
        ("\"net_null1\"],", &format!("\"net_null1\"{vdevs}],")),
        ("    ],\n    declared", &format!("{ports}],\n    declared")),
    ])
    .fail()
    .assert_contains(&[
        "ports: found 33 beside vhost-user ports",
        "expected at most 32",
        "use vhost-user ports",
    ]);
}

#[test]
fn a_queue_on_two_lcores() {
    let lcores =
        "    lcores: {\n        1: [\"ul0:0\", \"vm1:0\"],\n        2: [\"ul0:0\"],\n    },\n    declared";
    Start::with(&[("    declared", lcores)]).fail().assert_at_line(14).assert_contains(&[
        "found queue ul0:0 on lcore 2 and on lcore 1",
        "expected each queue on exactly one lcore",
    ]);
}

#[test]
fn a_queue_on_no_lcore() {
    Start::with(&[("    declared", "    lcores: {1: [\"ul0:0\"]},\n    declared")])
        .fail()
        .assert_at_line(12)
        .assert_contains(&["found queue vm1:0 on no lcore", "expected every receive queue", "add \"vm1:0\""]);
}

#[test]
fn an_lcore_that_eal_is_not_given() {
    Start::with(&[("    declared", "    lcores: {1: [\"ul0:0\"], 7: [\"vm1:0\"]},\n    declared")])
        .fail()
        .assert_at_line(12)
        .assert_contains(&[
            "found lcore 7",
            "expected one of the worker lcores 1,2",
            "add it to -l or --lcores",
        ]);
}

#[test]
fn a_cpu_that_does_not_exist() {
    Start::with(&[("2@0\"", "2@555\"")]).fail().assert_contains(&["555", "hint: ", "CPUs here are "]);
}

#[test]
fn a_pci_device_that_does_not_exist() {
    // Only this one may be probed: the machine's own devices are none of a test's business.
    let missing = [
        ("\"--no-pci\"", "\"-a\", \"0000:ff:1f.7\""),
        (", \"net_null1\"]", "]"),
        ("device: \"net_null1\"", "device: \"0000:ff:1f.7\""),
    ];
    Start::with(&missing).fail().assert_contains(&["port vm1", "0000:ff:1f.7", "hint: ", "lspci"]);
}

#[test]
fn a_device_that_no_vdev_creates() {
    Start::with(&[("device: \"net_null1\"", "device: \"net_nul1\"")])
        .fail()
        .assert_at_line(10)
        .assert_contains(&[
            "found device `net_nul1` of port `vm1`",
            "`vdevs` creates: net_null0, net_null1",
            "correct the name",
        ]);
}

#[test]
fn a_vdev_of_a_driver_that_does_not_exist() {
    let mistyped =
        [(", \"net_null1\"]", ", \"net_nul1\"]"), ("device: \"net_null1\"", "device: \"net_nul1\"")];
    Start::with(&mistyped).fail().assert_contains(&["net_nul1", "hint: ", "--vdev"]);
}

#[test]
fn a_file_where_the_control_socket_should_be() {
    let start = Start::with(&[("\"CTL\"", "\"DIR/precious\"")]);
    let precious = start.dir.path().join("precious");
    std::fs::write(&precious, "do not lose me").unwrap();
    let failed = start.fail();
    failed.assert_contains(&["precious", "expected", "socket", "hint: "]);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "do not lose me");
    assert!(failed.dir.path().join("gw.ron").exists());
}

#[test]
fn a_folder_where_the_control_socket_should_be() {
    let start = Start::with(&[("\"CTL\"", "\"DIR/folder\"")]);
    let inside = start.dir.path().join("folder/inside");
    std::fs::create_dir(start.dir.path().join("folder")).unwrap();
    std::fs::write(&inside, "").unwrap();
    let failed = start.fail();
    failed.assert_contains(&["folder", "hint: "]);
    assert!(inside.exists());
}

/// A host that comes up while its board is away waits for it: it answers the operator, forwards nothing, and ends in
/// order when told to.
#[test]
fn no_board() {
    let start = Start::with(&[("declared: ()", "board: [\"unix:DIR/bbs.sock\"]")]);
    let path = |name: &str| start.dir.path().join(name);
    let (ctl, file, log) = (path("ctl.sock"), path("gw.ron"), path("stderr"));
    let text = start.text.replace("CTL", &ctl.display().to_string());
    std::fs::write(&file, text.replace("DIR", &start.dir.path().display().to_string())).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"))
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let stderr = || String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&ctl)?;
        stream.write_all(b"GET /v1/board HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let until = |what: &str, done: &mut dyn FnMut() -> bool| {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < PATIENCE, "{what}; its output:\n{}", stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let waits = "nothing is forwarded before it is";
    until("it never logged that it waits", &mut || stderr().contains(waits));
    let mut answer = String::new();
    until("it never answered", &mut || ask().map(|text| answer = text).is_ok() && !answer.is_empty());
    for words in ["\"forwarding\":false", "\"connected\":false", "the board cannot be reached"] {
        assert!(answer.contains(words), "{answer}");
    }
    assert_eq!(stderr().matches(waits).count(), 1, "{}", stderr());
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut status = None;
    until("it never ended", &mut || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", stderr());
    assert!(!stderr().contains("is running"), "{}", stderr());
    assert!(!ctl.exists(), "it left its control socket");
    let key = std::fs::read_to_string(path("gw.host-key")).unwrap();
    assert_eq!(key.len(), 65, "a host with a board has a key");
    assert!(!stderr().contains(key.trim_end()), "the secret half is in the log");
}

/// The key of the host is not one, or others may read it. A new one would make the host another.
#[test]
fn host_key() {
    let key = "5a".repeat(32);
    for (text, mode, found) in [
        ("nonsense", 0o600, "found no key"),
        (key.as_str(), 0o644, "found mode 0644"),
        ("", 0o600, "found no key"),
    ] {
        let start = Start::with(&[("declared: ()", "board: [\"unix:DIR/bbs.sock\"]")]);
        let path = start.dir.path().join("gw.host-key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let failed = start.fail();
        failed.assert_contains(&["gw.ron: ", "gw.host-key: ", found, "; expected ", "; hint: "]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it stays as it is");
    }
}

/// A state file with this text beside the good configuration, checked. Status, standard error, and the folder.
fn check_with_state(state: &str) -> (Option<i32>, String, TempDir) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gw.ron");
    std::fs::write(&file, GOOD.replace("CTL", "/run/stopover/gw-bad.sock")).unwrap();
    std::fs::write(dir.path().join("gw.state.ron"), state).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_stopover-appliance"));
    let done = program.arg("--check").arg(&file).output().unwrap();
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned(), dir)
}

#[test]
fn ports_of_the_state_file() {
    let port = |mac: &str| {
        format!(
            "(version: 1, ports: [(name: \"vm2\", device: \"net_null2,size=64\", role: vif(vni: 100, mac: \"{mac}\", addresses: [\"10.7.0.2\"]))])"
        )
    };
    let (status, stderr, dir) = check_with_state(&port("52:54:00:00:00:02"));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    drop(dir);
    let (status, stderr, dir) = check_with_state(&port("52:54:00:00:00:01"));
    assert_eq!(status, Some(0));
    for words in ["port vm2 is left out", "gw.state.ron: ports[0].role.addresses: found", "; hint: "] {
        assert!(stderr.contains(words), "{stderr}");
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("gw.state.ron")).unwrap(),
        port("52:54:00:00:00:01"),
        "a check writes nothing"
    );
    let (status, stderr, _dir) = check_with_state("(version: 1, ports: [(name: \"vm2\")])");
    assert_eq!(status, Some(1));
    for words in ["gw.state.ron:1:", "found no key `device` in `port`", "; hint: add `device: …`"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn no_configuration_file() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing.ron");
    let done = Command::new(env!("CARGO_BIN_EXE_stopover-appliance")).arg(&missing).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(stderr.starts_with(&format!("stopover-appliance: {}:", missing.display())), "{stderr}");
    assert!(stderr.contains("; expected ") && stderr.contains("; hint: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

//! The program as a user runs it, against a small appliance on a real socket: what it prints, what it asks
//! for, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use axum::{
    Json, Router,
    extract::Request,
    routing::{any, get, post},
};
use std::{
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
};
use stopover_ctl::{
    ChangeReport, ClearRequest, Drop, HostTunnelMode, Migrations, Page, PortStats, TraceReport, TraceRequest,
    TraceSource, TunnelInfo, TunnelState, path,
};
use tokio::net::UnixListener;

/// An appliance with two ports; it records the requests to clear, and those that change its configuration.
struct Appliance {
    dir: tempfile::TempDir,
    cleared: Arc<Mutex<Vec<ClearRequest>>>,
    changed: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Appliance {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cleared: Arc<Mutex<Vec<ClearRequest>>> = Arc::default();
        let note = Arc::clone(&cleared);
        let changed: Arc<Mutex<Vec<String>>> = Arc::default();
        let note_change = Arc::clone(&changed);
        let change = any(move |request: Request| async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
            note_change.lock().unwrap().push(format!("{line} {}", String::from_utf8_lossy(&body)));
            Json(ChangeReport { made: true, changes: vec![], notes: vec!["a note".into()] })
        });
        let commanded = Arc::clone(&changed);
        let tunnel_command = any(move |request: Request| async move {
            commanded.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
            Json(tunnel())
        });
        let stats =
            ["vm1", "ul0"].map(|name| PortStats { name: name.into(), rx_packets: 5, ..PortStats::default() });
        let drops = [("spoofed", 2), ("runt", 0)].map(|(reason, count)| Drop {
            reason: reason.into(),
            count,
            explanation: "why".into(),
            lcores: vec![],
        });
        let app = Router::new()
            .route(path::PORT_STATS, get(move || async move { Json(stats.to_vec()) }))
            .route(path::MIGRATIONS, get(|| async { Json(Migrations::default()) }))
            .route(path::TUNNELS, get(|| async { Json(Page { rows: vec![tunnel()], next: None }) }))
            .route(path::TUNNEL_REKEY, tunnel_command.clone())
            .route(path::TUNNEL_CLOSE, tunnel_command)
            .route(path::PORTS, change.clone())
            .route(path::PORT, change.clone())
            .route(path::RELOAD, change)
            .route(path::DROPS, get(move || async move { Json(drops.to_vec()) }))
            .route(
                path::CLEAR,
                post(move |Json(r): Json<ClearRequest>| async move {
                    note.lock().unwrap().push(r);
                    Json(serde_json::json!({}))
                }),
            )
            .route(
                path::TRACE,
                post(|Json(r): Json<TraceRequest>| async move {
                    let TraceSource::FrameHex(frame_hex) = r.source else { panic!("not a given frame") };
                    Json(TraceReport {
                        port: r.port,
                        captured: false,
                        summary: "a frame".into(),
                        frame_hex,
                        steps: vec![],
                        outcome: "dropped".into(),
                    })
                }),
            );
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = dir.path().join("gw.sock");
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { dir, cleared, changed, _runtime: runtime }
    }

    fn run(&self, line: &str) -> Output {
        stopover(&self.dir.path().join("gw.sock"), line)
    }
}

fn tunnel() -> TunnelInfo {
    TunnelInfo {
        host: "hv-b".into(),
        number: 2,
        mode: HostTunnelMode::Required,
        state: TunnelState::Up,
        why: None,
        address: Some("10.0.0.2:4789".parse().unwrap()),
        age_s: Some(41),
        sessions: 3,
        sent_packets: 10,
        sent_bytes: 1120,
        received_packets: 9,
        received_bytes: 1008,
        replayed: 0,
        bad_seal: 0,
    }
}

fn stopover(ctl: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stopover"))
        .args(line.split_whitespace())
        .env("STOPOVER_CTL", ctl)
        .env_remove("STOPOVER_BOARD")
        .output()
        .unwrap()
}

/// Standard output of a run that must succeed.
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one message of a run that must fail.
fn failure(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("stopover: ") && message.lines().count() == 1, "{message}");
    message
}

#[test]
fn text_for_people_and_json_for_machines() {
    let a = Appliance::start();
    let text = stdout(a.run("show port stats all"));
    assert_eq!(text.lines().count(), 3, "{text}");
    assert_eq!(stdout(a.run("show port stats ul0")).lines().count(), 2);
    let json: Vec<PortStats> = serde_json::from_str(&stdout(a.run("show port stats vm1 --json"))).unwrap();
    assert_eq!((json.len(), json[0].name.as_str(), json[0].rx_packets), (1, "vm1", 5));
    assert!(!stdout(a.run("show drops")).contains("runt"));
    assert!(stdout(a.run("show drops --all")).contains("runt"));
    assert!(stdout(a.run("show migrations")).contains("no node is migrating"));
    let json: Migrations = serde_json::from_str(&stdout(a.run("show migrations --json"))).unwrap();
    assert_eq!(json, Migrations::default());
}

#[test]
fn the_requested_counters_are_cleared() {
    let a = Appliance::start();
    for line in ["clear port stats all", "clear port stats vm1", "clear fwd stats all"] {
        assert_eq!(stdout(a.run(line)), "");
    }
    assert_eq!(
        *a.cleared.lock().unwrap(),
        [
            ClearRequest::PortStats { port: None },
            ClearRequest::PortStats { port: Some("vm1".into()) },
            ClearRequest::FwdStats
        ]
    );
}

#[test]
fn a_reload_is_requested() {
    let a = Appliance::start();
    for line in ["reload --dry-run --reopen", "reload"] {
        assert_eq!(stdout(a.run(line)), "note: a note\nnothing changes\n", "{line}");
    }
    assert_eq!(
        *a.changed.lock().unwrap(),
        ["POST /v1/reload?dry_run=true&reopen=true ", "POST /v1/reload?dry_run=false&reopen=false ",]
    );
    let json: ChangeReport = serde_json::from_str(&stdout(a.run("reload --json"))).unwrap();
    assert!(json.made && json.changes.is_empty());
}

#[test]
fn changes_of_ports_are_requested() {
    let a = Appliance::start();
    let port = a.dir.path().join("br0.ron");
    std::fs::write(&port, r#"(name: "br0", device: "net_tap0", role: segment(vlans: {10: 110}))"#).unwrap();
    let add = format!("port add --file {}", port.display());
    for line in [
        "port add vm2 --device net_null2,size=64 --vni 100 --mac 52:54:00:00:00:02",
        &add,
        "port set vm2 --address 10.0.0.2",
        r#"port set br0 --json-patch {"mtu":null} --reopen"#,
        "port delete vm/2 --dry-run",
    ] {
        assert_eq!(stdout(a.run(line)), "note: a note\nnothing changes\n", "{line}");
    }
    assert_eq!(
        *a.changed.lock().unwrap(),
        [
            r#"POST /v1/ports?dry_run=false&reopen=false {"device":"net_null2,size=64","name":"vm2","role":{"vif":{"mac":"52:54:00:00:00:02","vni":100}}}"#,
            r#"POST /v1/ports?dry_run=false&reopen=false {"device":"net_tap0","name":"br0","role":{"segment":{"vlans":{"10":110}}}}"#,
            r#"PATCH /v1/ports/vm2?dry_run=false&reopen=false {"role":{"vif":{"addresses":["10.0.0.2"]}}}"#,
            r#"PATCH /v1/ports/br0?dry_run=false&reopen=true {"mtu":null}"#,
            "DELETE /v1/ports/vm%2F2?dry_run=true&reopen=false ",
        ]
    );
    std::fs::write(&port, r#"(name: "br0", device: "net_tap0", role: segment(vni: 0))"#).unwrap();
    let message = failure(a.run(&add));
    assert!(message.contains("br0.ron:1:54: role.vni: found in port `br0` VNI `0`"), "{message}");
    assert!(failure(a.run("port add --file /absent.ron")).contains("check the path"));
}

#[test]
fn tunnels_are_shown_and_commanded() {
    let a = Appliance::start();
    let text = stdout(a.run("show tunnels"));
    assert_eq!(text.lines().count(), 5, "{text}");
    let json: Vec<TunnelInfo> = serde_json::from_str(&stdout(a.run("show tunnels --json"))).unwrap();
    assert_eq!(json, [tunnel()]);
    assert_eq!(stdout(a.run("tunnel rekey hv-b")), text, "the tunnel as it is after the command");
    let json: TunnelInfo = serde_json::from_str(&stdout(a.run("tunnel close hv-b --json"))).unwrap();
    assert_eq!(json, tunnel());
    assert_eq!(*a.changed.lock().unwrap(), ["POST /v1/tunnels/hv-b/rekey", "POST /v1/tunnels/hv-b/close"]);
}

#[test]
fn a_frame_given_in_hexadecimal_arrives_as_bytes() {
    let a = Appliance::start();
    let text = stdout(a.run("trace --port vm1 --hex ff:ff:ff:ff:ff:ff:02:00:00:00:00:01:08:06 --json"));
    let report: TraceReport = serde_json::from_str(&text).unwrap();
    assert_eq!(report.frame_hex, "ffffffffffff0200000000010806");
}

#[test]
fn failures_are_one_message_and_a_status() {
    let a = Appliance::start();
    assert!(failure(a.run("show port stats vm9")).contains("expected `all` or one of: vm1, ul0"));
    assert!(failure(a.run("trace --port vm1 --hex abc")).contains("3 digits"));
    assert!(failure(a.run("show lcores")).contains("status 404"));
    assert!(failure(a.run("host list")).contains("expected --board or STOPOVER_BOARD"));
    assert!(failure(a.run("host list --board unix:/absent/bbs.sock")).contains("unix:/absent/bbs.sock"));
    let absent = stopover(Path::new("/absent/gw.sock"), "show drops");
    assert_eq!(
        failure(absent),
        "stopover: no appliance listens at /absent/gw.sock; start it, or give --ctl\n"
    );
    assert_eq!(a.run("show nonsense").status.code(), Some(2));
}

//! The program: what it acknowledged is there after `kill -9`, SIGTERM shuts it down, and a mistake on its command line is
//! one message.

use super::*;
use std::{
    collections::BTreeSet,
    process::{Child, Command, Output, Stdio},
};
use stopover_bbs::client::{NodeFilter, Row};
use stopover_config::bulk::{HostRow, NodeRow};

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_stopover-bbs");

pub(super) struct Running(Child);

impl Running {
    pub(super) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the board of this folder; makes it if there is none.
pub(super) fn run(dir: &Path) -> Running {
    let store = dir.join("board.redb");
    if !store.exists() {
        let made = output(&["init", "--store", store.to_str().unwrap()]);
        assert!(made.status.success(), "{made:?}");
    }
    let child = Command::new(PROGRAM)
        .args(["--listen", &socket(dir).to_string(), "--store"])
        .arg(store)
        .env("RUST_LOG", "warn")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

fn output(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).env("RUST_LOG", "error").output().unwrap()
}

fn row(i: u32) -> Row {
    let [_, _, a, b] = i.to_be_bytes();
    let ips = vec![IpAddr::from([10, 0, a, b])];
    NodeRow { vni: vni(1), mac: Mac::new([2, 0, 0, 0, a, b]), host: name("lx"), ips, shared_ips: vec![] }
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let mut acknowledged = BTreeSet::new();
    let mut tried = 0;
    let mut revision = 0;
    let mut board_id = None;
    for round in 0..4u64 {
        let mut board = run(dir.path());
        let mut op = operator(&at).await;
        let info = op.info().await.unwrap();
        assert_eq!(*board_id.get_or_insert(info.board_id.clone()), info.board_id);
        assert!(info.revision >= revision, "an acknowledged revision is lost");
        let there: BTreeSet<_> =
            op.nodes(&NodeFilter::default()).await.unwrap().into_iter().map(|e| e.node.mac).collect();
        assert!(there.is_superset(&acknowledged), "lost {:?}", acknowledged.difference(&there));
        assert!(there.len() <= tried as usize);
        acknowledged = there;
        let lx = HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 };
        op.declare(&lx.into()).await.unwrap();

        // Several writers, so that the board has transactions of several calls; killed in the middle of them.
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let mut op = op.clone();
            let first = tried + writer * 10_000 / 4;
            writers.spawn(async move {
                let mut done = Vec::new();
                for i in first..first + 2500 {
                    match op.declare(&row(i)).await {
                        Ok(revision) => done.push((i, revision)),
                        Err(_) => return done,
                    }
                }
                done
            });
        }
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        board.0.kill().unwrap();
        board.0.wait().unwrap();
        tried += 10_000;
        while let Some(done) = writers.join_next().await {
            for (i, at) in done.unwrap() {
                let [_, _, a, b] = i.to_be_bytes();
                acknowledged.insert(Mac::new([2, 0, 0, 0, a, b]));
                revision = revision.max(at);
            }
        }
        assert!(!acknowledged.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_shuts_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let at = socket(dir.path());
    let mut board = run(dir.path());
    let mut op = operator(&at).await;
    op.info().await.unwrap();
    let mut watcher = Host::start(config(&at, "gw-w", "10.0.0.9"));
    watcher.wait_for("Connected", |u| matches!(u, Update::Connected { .. })).await;
    let pid = board.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || board.0.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    let Endpoint::Unix(path) = at else { unreachable!() };
    assert!(!path.exists(), "the socket is removed");
}

#[test]
fn a_bad_command_line_is_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("board.redb");
    let store = store.to_str().unwrap();
    assert!(output(&["init", "--store", store]).status.success());
    let cases: [(&[&str], &str); 4] = [
        (&["--store", store], "nowhere to listen"),
        (&["--listen", "unix:/run/x.sock"], "no store"),
        (
            &["--listen", "unix:/proc/nowhere/bbs.sock", "--store", store],
            "cannot make the folder /proc/nowhere",
        ),
        (&["--listen", "10.0.0.1", "--store", store], "begins neither with"),
    ];
    for (args, text) in cases {
        let output = output(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
    let config = dir.path().join("bbs.ron");
    std::fs::write(&config, "(listen: [\"unix:/run/x.sock\"], stor: \"x\")").unwrap();
    let output = output(&[config.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("bbs.ron:1:"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_log_is_json_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("board.redb");
    let (store, at) = (store.to_str().unwrap(), socket(dir.path()));
    assert!(output(&["init", "--store", store]).status.success());
    let child = Command::new(PROGRAM)
        .args(["--log-format", "json", "--store", store, "--listen", &at.to_string()])
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut op = operator(&at).await;
    let lx = HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 };
    op.declare(&lx.into()).await.unwrap();
    drop(op);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let stderr = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap().stderr).await.unwrap();
    let lines: Vec<serde_json::Value> = stderr
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    for key in ["time", "level", "target", "message"] {
        assert!(lines.iter().all(|line| line[key].is_string()), "{key} in {lines:#?}");
    }
    let event = lines.iter().find(|line| line["fields"]["kind"] == "operator");
    let event = event.unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!((&event["fields"]["revision"], &event["fields"]["number"]), (&1.into(), &1.into()), "{event}");
    let wrong = output(&["--log-format", "json", "--store", store]);
    let why: serde_json::Value = serde_json::from_slice(&wrong.stderr).unwrap();
    assert!(why["message"].as_str().unwrap().contains("nowhere to listen"), "{why}");
}

/// A board that has lost its file must not create a new one by itself.
#[test]
fn a_board_is_created_only_by_init_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folder/board.redb");
    let store = path.to_str().unwrap();
    let listen = socket(dir.path()).to_string();
    let serve = |text: &str| {
        let output = output(&["--listen", &listen, "--store", store]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && stderr.contains(text), "{stderr}");
        assert!(stderr.contains("stopover-bbs init"), "{stderr}");
    };
    serve("no such file");
    assert!(!path.exists(), "and makes none");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "").unwrap();
    serve("an empty file");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();

    let config = dir.path().join("bbs.ron");
    std::fs::write(&config, format!("(listen: [{listen:?}], store: {store:?})")).unwrap();
    let config = config.to_str().unwrap();
    let made = output(&["init", config]);
    assert!(made.status.success(), "{made:?}");
    assert!(String::from_utf8_lossy(&made.stdout).contains("an empty board, "), "{made:?}");
    let bytes = std::fs::read(&path).unwrap();
    let again = output(&["init", config]);
    let stderr = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && stderr.contains("a board that exists needs no `init`"), "{stderr}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "what was there is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_has_one_board() {
    let dir = tempfile::tempdir().unwrap();
    let board = run(dir.path());
    operator(&socket(dir.path())).await;
    let other = dir.path().join("other.sock");
    let store = dir.path().join("board.redb");
    let args = ["--listen", &format!("unix:{}", other.display()), "--store", store.to_str().unwrap()];
    let output = output(&args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && stderr.contains("no other board using it"), "{stderr}");
    assert!(!other.exists(), "nothing half started");
    drop(board);
}

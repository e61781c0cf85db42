//! The door over real sockets: who a caller is, what it may not do, and by which name events have it.

use super::{operator::metrics, process::PROGRAM, *};
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};
use stopover_bbs::{
    client::{Row, connect},
    proto::v1,
};
use stopover_config::{bbs::UnixUsers, bulk::HostRow};

/// A user that is neither root nor the board's.
const STRANGER: u32 = 61_234;

fn host_row() -> Row {
    HostRow { name: name("lx"), vteps: vec![ip("172.16.0.1")], udp_port: 4789 }.into()
}

/// The originators of all events of the board.
async fn actors(at: &Endpoint) -> Vec<String> {
    let mut op = operator(at).await;
    op.declare(&host_row()).await.unwrap();
    let mut answers = connect(at)
        .await
        .unwrap()
        .observer()
        .events(v1::EventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut actors = Vec::new();
    while let Some(page) = answers.message().await.unwrap() {
        actors.extend(page.events.into_iter().map(|event| event.actor));
    }
    actors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_names_the_user_of_a_unix_socket_and_no_one_of_a_plain_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = board(&socket(dir.path()), memory(), LONG).await;
    let uid = rustix::process::geteuid().as_raw();
    let expected = if uid == 0 { "operator root".to_owned() } else { format!("operator uid {uid}") };
    assert_eq!(actors(&socket(dir.path())).await, [expected]);
    server.stop().await;

    let plain = Endpoint::Tcp { host: "127.0.0.1".into(), port: 0 };
    let server = board(&plain, memory(), LONG).await;
    assert_eq!(actors(&server.endpoints()[0]).await, ["operator"]);
    server.stop().await;
}

/// What the program says that a user of this machine runs to back the board up. It reaches the socket by its group.
fn back_up_as(uid: u32, at: &Endpoint, to: &Path) -> (bool, String) {
    let made = Command::new(PROGRAM)
        .args(["backup", "--board", &at.to_string(), "--to", to.to_str().unwrap()])
        .uid(uid)
        .output()
        .unwrap();
    (made.status.success(), String::from_utf8(made.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_this_machine_needs_to_be_configured() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root becomes another user.
    }
    for (role, users, named) in [
        ("nobody", UnixUsers::default(), "the user 61234 of this machine"),
        (
            "observer",
            UnixUsers { observers: [STRANGER].into(), ..UnixUsers::default() },
            "observer uid 61234",
        ),
        ("observer", UnixUsers { hosts: [STRANGER].into(), ..UnixUsers::default() }, "observer uid 61234"),
        ("operator", UnixUsers { operators: [STRANGER].into(), ..UnixUsers::default() }, ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let at = socket(dir.path());
        let mut config = ServerConfig::new(vec![at.clone()]);
        config.unix = users;
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
        let server = Server::start(config, memory()).await.unwrap();
        let to = dir.path().join("backup.redb");
        let asked = at.clone();
        let (is_made, error) =
            tokio::task::spawn_blocking(move || back_up_as(STRANGER, &asked, &to)).await.unwrap();
        assert_eq!(is_made, role == "operator", "{role}: {error}");
        if !is_made {
            let expected = format!("{named} may not call OperatorService.Backup; expected an operator");
            assert!(error.contains(&expected), "{role}: {error}");
        }
        let page = metrics(server.metrics().unwrap()).await;
        // By role: the operator none, the observer the backup, an unknown user also the first call of its connection.
        let count = ["operator", "observer", "nobody"].iter().position(|known| *known == role).unwrap();
        let counted = format!("stopover_bbs_denied_total{{role=\"{role}\"}} {count}\n");
        assert!(page.contains(&counted), "{counted}: {page}");
        server.stop().await;
    }
}

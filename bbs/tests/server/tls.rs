//! Identity on the wire: certificates at both ends, over real sockets.

use super::{operator::metrics, *};
use std::{fs, net::SocketAddr};
use stopover_bbs::client::{BoardAddress, Error, connect};
use stopover_pki::{
    ClientTls, Role,
    exercise::{Authority, Issued, Template, now_s},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A board that listens with TLS on both families, beside a Unix socket.
struct Secure {
    dir: tempfile::TempDir,
    authority: Authority,
    server: Server,
}

impl Secure {
    async fn start(store: Arc<dyn Store>) -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::default());
        authority.enrol(&dir.path().join("board"), Role::Board, "board");
        let server = serve(dir.path(), store, 0).await;
        Self { dir, authority, server }
    }

    fn at(&self, number: usize) -> Endpoint {
        self.server.endpoints()[number].clone()
    }

    fn tls(&self, name: &str, issued: &Issued) -> ClientTls {
        let folder = self.dir.path().join(name);
        self.authority.write(&folder, issued, None);
        ClientTls::load(&folder).unwrap()
    }

    fn of(&self, role: Role, name: &str) -> ClientTls {
        self.tls(name, &self.authority.issue(&Template::of(role, name)))
    }

    fn address(&self, number: usize, tls: &ClientTls) -> BoardAddress {
        BoardAddress { endpoint: self.at(number), tls: Some(tls.clone()) }
    }

    fn host(&self, number: usize, name: &str, vtep: &str, tls: ClientTls) -> Host {
        Host::start(SessionConfig { tls: Some(tls), ..config(&self.at(number), name, vtep) })
    }

    async fn refused(&self, tls: &ClientTls) -> String {
        match connect(self.address(0, tls)).await {
            Err(Error::Unreachable(why)) => why,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("admitted"),
        }
    }

    /// Waits for a line of the metrics.
    async fn wait_for_metric(&self, line: &str) {
        let began = Instant::now();
        while !metrics(self.server.metrics().unwrap()).await.contains(line) {
            let page = metrics(self.server.metrics().unwrap()).await;
            assert!(began.elapsed() < PATIENCE, "no {line} in {page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn serve(dir: &Path, store: Arc<dyn Store>, port: u16) -> Server {
    let tls = |host: &str, port| Endpoint::Tls { host: host.into(), port };
    let mut config = ServerConfig::new(vec![tls("127.0.0.1", port), tls("::1", 0), socket(dir)]);
    config.tls = Some(dir.join("board"));
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    (config.lease, config.heartbeat) = (Duration::from_secs(5), Duration::from_millis(100));
    Server::start(config, store).await.unwrap()
}

async fn connected(host: &mut Host) {
    host.wait_for("the session", |u| matches!(u, Update::Connected { .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_who_calls_on_both_families() {
    let board = Secure::start(memory()).await;
    for (number, name, vtep) in [(0, "hv-a", "172.16.0.1"), (1, "hv-b", "172.16.0.2")] {
        let tls = board.of(Role::Host, name);
        let mut host = board.host(number, name, vtep, tls.clone());
        connected(&mut host).await;
        let mut thief = board.host(number, "hv-x", "172.16.0.9", tls);
        let began = Instant::now();
        let why = loop {
            if let Some(why) = thief.session().state().last_error {
                break why;
            }
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(
            why.starts_with(&format!("host {name} may not call HostService.Register for host hv-x")),
            "{why}"
        );
        let alice = board.of(Role::Operator, "alice");
        let mut operator = Operator::connect(board.address(number, &alice)).await.unwrap();
        assert!(operator.hosts(Some(&name_of(name))).await.unwrap().len() == 1);
        let _ = &mut thief;
    }
    board.wait_for_metric("stopover_bbs_denied_total{role=\"host\"}").await;
    board.server.stop().await;
}

fn name_of(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_peer_is_counted_by_reason() {
    let board = Secure::start(memory()).await;
    let template = Template::of(Role::Host, "hv-a");
    let expired = Template { from_s: now_s() - 100, until_s: now_s() - 10, ..template.clone() };
    let young = Template { from_s: now_s() + 1000, until_s: now_s() + 2000, ..template.clone() };
    for (issued, reason, alert) in [
        (board.authority.issue(&expired), "expired", "CertificateExpired"),
        (board.authority.issue(&young), "not_yet_valid", "CertificateExpired"),
        (Authority::default().issue(&template), "authority", "DecryptError"),
    ] {
        let why = board.refused(&board.tls("refused", &issued)).await;
        assert!(why.contains("received fatal alert") && why.contains(alert), "{reason}: {why}");
        board.wait_for_metric(&format!("stopover_bbs_tls_refused_total{{reason=\"{reason}\"}} 1\n")).await;
    }
    let why = connect(board.at(0)).await.err().unwrap().to_string();
    assert!(why.contains("without credentials; expected their folder; hint: give `tls`"), "{why}");
    let Endpoint::Tls { host, port } = board.at(0) else { unreachable!() };
    let plain = connect(Endpoint::Tcp { host, port }).await;
    assert!(matches!(plain, Err(Error::Unreachable(_))), "{plain:?}");
    // A client of HTTP/2 may try twice.
    board.wait_for_metric("stopover_bbs_tls_refused_total{reason=\"not_tls\"}").await;
    board.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_ends_sessions_that_run_and_no_others() {
    let board = Secure::start(memory()).await;
    let issued = board.authority.issue(&Template::of(Role::Host, "hv-a"));
    let mut revoked = board.host(0, "hv-a", "172.16.0.1", board.tls("hv-a", &issued));
    let mut other = board.host(1, "hv-b", "172.16.0.2", board.of(Role::Host, "hv-b"));
    connected(&mut revoked).await;
    connected(&mut other).await;
    fs::write(board.dir.path().join("board/crl.pem"), board.authority.crl(&[issued.serial])).unwrap();
    revoked.wait_for("its end", |u| matches!(u, Update::Disconnected { .. })).await;
    board.wait_for_metric("stopover_bbs_tls_closed_total{reason=\"revoked\"} 1\n").await;
    board.wait_for_metric("stopover_bbs_tls_reloads_total{result=\"used\"} 1\n").await;
    // It comes again, and is refused.
    board.wait_for_metric("stopover_bbs_tls_connections 1\n").await;
    let began = Instant::now();
    while !revoked.session().state().last_error.is_some_and(|why| why.contains("CertificateRevoked")) {
        assert!(began.elapsed() < PATIENCE, "{:?}", revoked.session().state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Ok(update) = other.updates.try_recv() {
        assert!(!matches!(update, Update::Disconnected { .. }), "{update:?}");
    }
    board.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_certificate_and_goes_on_with_the_next() {
    let board = Secure::start(memory()).await;
    let short = Template { until_s: now_s() + 4, ..Template::of(Role::Host, "hv-a") };
    let mut host = board.host(0, "hv-a", "172.16.0.1", board.tls("hv-a", &board.authority.issue(&short)));
    connected(&mut host).await;
    host.session().claim(claim(7, 1, &["10.0.0.1"]));
    host.wait_for("its claim", |u| matches!(u, Update::Accepted { .. })).await;
    host.wait_for("its end", |u| matches!(u, Update::Disconnected { .. })).await;
    board.wait_for_metric("stopover_bbs_tls_closed_total{reason=\"expired\"} 1\n").await;
    board.authority.enrol(&board.dir.path().join("hv-a"), Role::Host, "hv-a");
    connected(&mut host).await;
    board.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_sessions_that_run() {
    let dir = tempfile::tempdir().unwrap();
    let board = Secure::start(store_file(&dir.path().join("b.redb"))).await;
    let mut host = board.host(0, "hv-a", "172.16.0.1", board.of(Role::Host, "hv-a"));
    connected(&mut host).await;
    for round in 1..=3_u8 {
        board.authority.enrol(&board.dir.path().join("board"), Role::Board, &format!("board-{round}"));
        board.authority.enrol(&board.dir.path().join("hv-a"), Role::Host, "hv-a");
        host.session().claim(claim(7, round, &[]));
        host.wait_for("its claim", |u| matches!(u, Update::Accepted { .. })).await;
        board.wait_for_metric("stopover_bbs_tls_reloads_total{result=\"used\"}").await;
    }
    assert!(!host.received.iter().any(|u| matches!(u, Update::Disconnected { .. })), "{:?}", host.received);
    // A restart of the board: the session goes on by itself, with the newest certificates of both.
    let Endpoint::Tls { port, .. } = board.at(0) else { unreachable!() };
    let Secure { dir: folders, authority, server } = board;
    server.stop().await;
    host.wait_for("the restart", |u| matches!(u, Update::Disconnected { .. })).await;
    let server = serve(folders.path(), Arc::new(Redb::open(&dir.path().join("b.redb")).unwrap()), port).await;
    connected(&mut host).await;
    let board = Secure { dir: folders, authority, server };
    let mut operator = Operator::connect(&board.at(2)).await.unwrap();
    assert_eq!(operator.info().await.unwrap().nodes, 3);
    board.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_send_nothing_do_not_delay_others() {
    let board = Secure::start(memory()).await;
    let Endpoint::Tls { host, port } = board.at(0) else { unreachable!() };
    let at = SocketAddr::new(host.parse().unwrap(), port);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let alice = board.of(Role::Operator, "alice");
    assert!(Operator::connect(board.address(0, &alice)).await.is_ok());
    let mut junk = TcpStream::connect(at).await.unwrap();
    junk.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    board.wait_for_metric("stopover_bbs_tls_refused_total{reason=\"not_tls\"} 1\n").await;
    board.wait_for_metric("stopover_bbs_tls_refused_total{reason=\"timeout\"} 200\n").await;
    drop(silent);
    board.server.stop().await;
}

#[tokio::test]
async fn an_https_endpoint_needs_a_folder_of_a_board() {
    let dir = tempfile::tempdir().unwrap();
    let at = Endpoint::Tls { host: "127.0.0.1".into(), port: 0 };
    let mut config = ServerConfig::new(vec![at]);
    let e = Server::start(config.clone(), memory()).await.err().unwrap().to_string();
    assert!(e.starts_with("an https endpoint without credentials"), "{e}");
    Authority::default().enrol(dir.path(), Role::Host, "hv-a");
    config.tls = Some(dir.path().to_owned());
    let e = Server::start(config, memory()).await.err().unwrap().to_string();
    assert!(e.contains("found stopover://host/hv-a; expected the identity of a board"), "{e}");
}

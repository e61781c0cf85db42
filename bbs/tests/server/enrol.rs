//! Newcomers: a certificate by a token, over real sockets.

use super::{operator::metrics, *};
use std::{fs, net::SocketAddr, path::PathBuf};
use stopover_bbs::client::{BoardAddress, EnrolError, connect, enrol};
use stopover_config::bbs::Enrol;
use stopover_pki::{CaFolder, ClientTls, Fresh, Identity, Newcomer, Secret, Token, exercise::now_s};
use tokio::{io::AsyncReadExt, net::TcpStream};

struct Rig {
    dir: tempfile::TempDir,
    server: Server,
}

impl Rig {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fresh = || Fresh::draw(now_s()).unwrap();
        let mut ca = CaFolder::create(&dir.path().join("ca"), fresh(), 3650).unwrap();
        ca.issue(&identity("board/bbs"), &dir.path().join("board"), &fresh(), 365).unwrap();
        drop(ca);
        let server = serve(dir.path(), 0).await;
        Self { dir, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> CaFolder {
        CaFolder::open_within(&self.path("ca"), now_s(), PATIENCE).unwrap()
    }

    fn token_until(&self, who: &str, until: u64) -> Token {
        self.ca().issue_token(&identity(who), Secret::draw().unwrap(), now_s(), until).unwrap()
    }

    fn token(&self, who: &str) -> Token {
        self.token_until(who, now_s() + 3600)
    }

    async fn enrol(&self, token: &Token, out: &str) -> Result<Identity, EnrolError> {
        let newcomer = Newcomer::new(token.clone()).unwrap();
        let answer = enrol(self.server.enrol().unwrap(), &newcomer).await?;
        Ok(newcomer.finish(&answer, &self.path(out)).unwrap())
    }

    async fn refused(&self, token: &Token) -> String {
        self.enrol(token, "refused").await.unwrap_err().to_string()
    }

    async fn metric(&self, result: &str) -> u64 {
        let page = metrics(self.server.metrics().unwrap()).await;
        let start = format!("stopover_bbs_enrolments_total{{result=\"{result}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    }

    /// A session with the credentials in a folder.
    async fn joins(&self, name: &str) {
        let tls = Some(ClientTls::load(&self.path(name)).unwrap());
        let at = &self.server.endpoints()[0];
        let mut host = Host::start(SessionConfig { tls, ..config(at, name, "172.16.0.1") });
        host.wait_for("the session", |u| matches!(u, Update::Connected { .. })).await;
    }
}

fn identity(text: &str) -> Identity {
    format!("stopover://{text}").parse().unwrap()
}

async fn serve(dir: &Path, port: u16) -> Server {
    let at = |port| Endpoint::Tls { host: "127.0.0.1".into(), port };
    let mut config = ServerConfig::new(vec![at(0)]);
    config.tls = Some(dir.join("board"));
    config.enrol = Some(Enrol { listen: at(port), ca: dir.join("ca"), days: 30 });
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    Server::start(config, memory()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_enrols_itself_once() {
    let rig = Rig::start().await;
    let token = rig.token("host/hv-b");
    assert_eq!(rig.enrol(&token, "hv-b").await.unwrap(), identity("host/hv-b"));
    rig.joins("hv-b").await;
    let again = rig.refused(&token).await;
    assert!(again.contains("neither used, expired nor revoked; hint: make a new one"), "{again}");
    assert!(!rig.path("refused").exists());
    // The board's certificate and the newcomer's: no third one.
    assert_eq!(rig.ca().list().len(), 2);
    assert_eq!((rig.metric("enrolled").await, rig.metric("token").await), (1, 1));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_that_cannot_be_used_gets_the_same_answer() {
    let rig = Rig::start().await;
    let right = rig.token("host/hv-b");
    let wrong_secret = Token { secret: Secret::draw().unwrap(), ..right.clone() };
    let wrong_name = Token { name: name("hv-c"), ..right.clone() };
    let expired = rig.token_until("host/hv-d", now_s() - 1);
    let revoked = rig.token("host/hv-e");
    rig.ca().revoke_tokens(&identity("host/hv-e"), now_s()).unwrap();
    let mut answers = Vec::new();
    for token in [wrong_secret, wrong_name, expired, revoked] {
        answers.push(rig.refused(&token).await);
    }
    assert!(answers[0].starts_with("the board refused: found no token"), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(rig.metric("token").await, 4);
    // None of these has used it up.
    assert!(rig.enrol(&right, "hv-b").await.is_ok());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_never_sees_the_token() {
    let (rig, other) = (Rig::start().await, Rig::start().await);
    let token = rig.token("host/hv-b");
    let not_sent = |why: &str| why.contains("; the token was not sent; hint: ");
    let why = other.refused(&token).await;
    assert!(why.contains("UnknownIssuer") && not_sent(&why), "{why}");
    // The other one counts calls, and there was none.
    assert_eq!(other.metric("token").await + other.metric("enrolled").await, 0);
    assert!(other.metric("handshake").await >= 1);
    let wrong_pin = Token { pin: other.token("host/x").pin, ..token.clone() };
    let why = rig.refused(&wrong_pin).await;
    assert!(why.contains("UnknownIssuer") && not_sent(&why), "{why}");
    // The endpoint of everyone else wants a certificate, and has no such service.
    let newcomer = Newcomer::new(token.clone()).unwrap();
    assert!(enrol(&rig.server.endpoints()[0], &newcomer).await.is_err());
    let plain = enrol(&Endpoint::Tcp { host: "127.0.0.1".into(), port: 1 }, &newcomer).await.unwrap_err();
    assert!(not_sent(&plain.to_string()), "{plain}");
    assert!(rig.enrol(&token, "hv-b").await.is_ok());
    rig.server.stop().await;
    other.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_wins() {
    let rig = Arc::new(Rig::start().await);
    let token = rig.token("host/hv-b");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (rig, token) = (rig.clone(), token.clone());
        tasks.spawn(async move { rig.enrol(&token, &format!("out-{n}")).await.is_ok() });
    }
    let won = tasks.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(rig.ca().list().len(), 2);
    assert_eq!((rig.metric("enrolled").await, rig.metric("token").await), (1, 15));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_board_changes_nothing_about_tokens() {
    let rig = Rig::start().await;
    let (first, second) = (rig.token("host/hv-a"), rig.token("host/hv-b"));
    assert!(rig.enrol(&first, "hv-a").await.is_ok());
    let Rig { dir, server } = rig;
    let Endpoint::Tls { port, .. } = server.enrol().unwrap().clone() else { unreachable!() };
    server.stop().await;
    let server = serve(dir.path(), port).await;
    let rig = Rig { dir, server };
    assert!(rig.enrol(&second, "hv-b").await.is_ok());
    assert!(rig.refused(&first).await.contains("neither used"));
    rig.joins("hv-b").await;
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_may_try_only_so_often() {
    let rig = Rig::start().await;
    let right = rig.token("host/hv-b");
    let wrong = Token { secret: Secret::draw().unwrap(), ..right.clone() };
    let mut refused = 0;
    for _ in 0..40 {
        refused += u64::from(rig.refused(&wrong).await.contains("found too many attempts"));
    }
    assert!(refused >= 1, "{refused}");
    assert_eq!((rig.metric("too_often").await, rig.metric("token").await), (refused, 40 - refused));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_ca_the_board_still_serves_and_the_token_remains() {
    let rig = Rig::start().await;
    let token = rig.token("host/hv-b");
    fs::rename(rig.path("ca"), rig.path("elsewhere")).unwrap();
    let why = rig.refused(&token).await;
    assert_eq!(why, "the board refused: the board's CA cannot be used now; hint: see the board's log");
    assert_eq!(rig.metric("ca").await, 1);
    fs::rename(rig.path("elsewhere"), rig.path("ca")).unwrap();
    assert!(rig.enrol(&token, "hv-b").await.is_ok());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_of_newcomers_has_nothing_else() {
    let rig = Rig::start().await;
    rig.enrol(&rig.token("operator/alice"), "alice").await.unwrap();
    let tls = ClientTls::load(&rig.path("alice")).unwrap();
    let address = BoardAddress { endpoint: rig.server.enrol().unwrap().clone(), tls: Some(tls.clone()) };
    let mut observer = connect(address).await.unwrap().observer();
    let status = observer.info(stopover_bbs::proto::v1::InfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    // With the board's other endpoint she does reach it.
    let address = BoardAddress { endpoint: rig.server.endpoints()[0].clone(), tls: Some(tls) };
    assert!(Operator::connect(address).await.unwrap().info().await.is_ok());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newcomers_that_send_nothing_are_closed_and_keep_nobody_out() {
    let rig = Rig::start().await;
    let Endpoint::Tls { host, port } = rig.server.enrol().unwrap().clone() else { unreachable!() };
    let at = SocketAddr::new(host.parse().unwrap(), port);
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    assert!(rig.enrol(&rig.token("host/hv-b"), "hv-b").await.is_ok());
    let mut last = silent.pop().unwrap();
    let closed = tokio::time::timeout(PATIENCE, last.read(&mut [0])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let began = Instant::now();
    while rig.metric("handshake").await < 100 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.server.stop().await;
}

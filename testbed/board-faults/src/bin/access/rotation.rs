//! Certificates and keys are replaced under good clients, which must not notice. They are hosts that call the board all the
//! time and a watcher; one host is the product's own session. A client opens its next connection, with what its folder has
//! then, before it leaves the one of before. What is lost is a call without its answer, a connection that is refused, a
//! claim that is not accepted, and a change that the watcher was not sent.

use super::{
    credentials::{Ca, Pair, client, now_s},
    ground::key,
    place::Place,
    watcher::{Seen, Watcher},
    wire::Route,
};
use anyhow::{Context, anyhow, ensure};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use stopover_bbs::{
    client::{BoardAddress, Claim, Connection, SessionConfig, Update, connect, start},
    proto::v1,
};
use stopover_net::{HostName, Mac, Vni};
use stopover_pki::{ClientTls, Fresh, Role};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

/// Good hosts.
const HOSTS: u8 = 8;
/// Between two rounds of a host, of two calls each.
const EVERY: Duration = Duration::from_millis(40);
/// Nodes of each host, claimed and withdrawn by turns.
const NODES: u32 = 50;
/// The network of the good hosts.
pub const VNI: u32 = 9;
/// A call that is not answered within this time is lost.
const LIMIT: Duration = Duration::from_secs(30);

/// What the good clients count.
#[derive(Debug, Default)]
pub struct Count {
    pub calls: AtomicU64,
    pub connections: AtomicU64,
    pub lost: AtomicU64,
    stop: AtomicBool,
    nodes: Mutex<BTreeSet<Vec<u8>>>,
}

impl Count {
    /// One that is lost.
    pub fn lose(&self, why: &str) {
        self.lost.fetch_add(1, Relaxed);
        println!("lost: {why}");
    }

    /// Whether the good clients are to end.
    pub fn has_ended(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// A connection that is replaced when the credentials are.
pub struct Renewed {
    address: BoardAddress,
    of: Arc<ClientConfig>,
    pub connection: Connection,
}

impl Renewed {
    pub async fn open(place: &Place, folder: &Path) -> anyhow::Result<Self> {
        let tls = ClientTls::load(folder)?;
        let of = tls.config();
        let address = BoardAddress { endpoint: place.endpoint(), tls: Some(tls) };
        let connection = connect(&address).await.context("a good client")?;
        Ok(Self { address, of, connection })
    }

    /// Opens another connection, if the folder has other credentials. Returns whether it did.
    pub async fn renew(&mut self, count: &Count) -> bool {
        let Some(tls) = &self.address.tls else { return false };
        let newest = tls.config();
        if Arc::ptr_eq(&newest, &self.of) {
            return false;
        }
        count.connections.fetch_add(1, Relaxed);
        match connect(&self.address).await {
            Ok(connection) => {
                (self.of, self.connection) = (newest, connection);
                true
            }
            Err(e) => {
                count.lose(&format!("a connection: {e}"));
                false
            }
        }
    }
}

/// A host that calls all the time.
struct Host {
    name: String,
    number: u8,
    session: u64,
    to: Renewed,
    count: Arc<Count>,
}

impl Host {
    async fn start(place: &Place, number: u8, count: Arc<Count>) -> anyhow::Result<Self> {
        let name = format!("good-{number}");
        let to = Renewed::open(place, &place.folder(&name)).await?;
        let register = v1::RegisterRequest {
            host: name.clone(),
            vteps: vec![vec![10, 7, 0, number]],
            udp_port: 4789,
            key: key(),
            instance: key(),
            ..v1::RegisterRequest::default()
        };
        let session = to.connection.host().register(register).await?.into_inner().session;
        Ok(Self { name, number, session, to, count })
    }

    fn session_ref(&self) -> Option<v1::SessionRef> {
        Some(v1::SessionRef { host: self.name.clone(), session: self.session, key: key() })
    }

    async fn call<T>(&self, what: &str, call: impl Future<Output = Result<T, tonic::Status>>) {
        self.count.calls.fetch_add(1, Relaxed);
        match timeout(LIMIT, call).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => self.count.lose(&format!("{what} of {}: {status}", self.name)),
            Err(_) => self.count.lose(&format!("{what} of {}: no answer", self.name)),
        }
    }

    async fn round(&self, round: u32) {
        let heartbeat = v1::HeartbeatRequest { session_ref: self.session_ref() };
        self.call("a heartbeat", self.to.connection.host().heartbeat(heartbeat)).await;
        let [.., a, b] = (round % NODES).to_be_bytes();
        let mac = vec![0x02, 0xad, 0, self.number, a, b];
        if (round / NODES).is_multiple_of(2) {
            let claims = vec![v1::NodeClaim { vni: VNI, mac: mac.clone(), ..v1::NodeClaim::default() }];
            let claim = v1::ClaimRequest { session_ref: self.session_ref(), claims };
            self.call("a claim", self.to.connection.host().claim(claim)).await;
            self.nodes().insert(mac);
        } else {
            let nodes = vec![v1::NodeKey { vni: VNI, mac: mac.clone() }];
            let withdraw = v1::WithdrawRequest { session_ref: self.session_ref(), nodes };
            self.call("a withdrawal", self.to.connection.host().withdraw(withdraw)).await;
            self.nodes().remove(&mac);
        }
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.count.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(mut self) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0.. {
            rounds.tick().await;
            if self.count.has_ended() {
                return;
            }
            let count = self.count.clone();
            self.to.renew(&count).await;
            self.round(round).await;
        }
    }
}

/// The product's session claims a node every now and then; each must be accepted. Returns how often it had to connect again.
async fn session(place: Place, count: Arc<Count>) -> anyhow::Result<u64> {
    let folder = place.folder("good-session");
    let name = HostName::new("good-session").map_err(|e| anyhow!("{e}"))?;
    let vtep = std::net::IpAddr::from([10, 7, 1, 1]);
    let mut config = SessionConfig::new(vec![place.endpoint()], name, vec![vtep], 4789);
    config.tls = Some(ClientTls::load(&folder)?);
    let (session, updates) = start(&tokio::runtime::Handle::current(), config);
    let vni = Vni::new(VNI + 1).context("a VNI")?;
    let (mut claimed, mut accepted, mut reconnected) = (0_u64, 0_u64, 0_u64);
    let mut ended = None;
    loop {
        while let Ok(update) = updates.try_recv() {
            accepted += u64::from(matches!(update, Update::Accepted { .. }));
            reconnected += u64::from(matches!(update, Update::Disconnected { .. }));
        }
        if count.has_ended() {
            let since = *ended.get_or_insert_with(Instant::now);
            if accepted >= claimed {
                return Ok(reconnected);
            }
            if since.elapsed() > LIMIT {
                count.lose(&format!("{} claims of the session", claimed - accepted));
                return Ok(reconnected);
            }
        } else {
            let [.., a, b] = claimed.to_be_bytes();
            session.claim(Claim::declared(vni, Mac::new([0x02, 0xae, 0, 0, a, b]), Vec::new()));
            claimed += 1;
            count.calls.fetch_add(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The good clients, running.
struct Running {
    hosts: Vec<JoinHandle<()>>,
    watcher: JoinHandle<anyhow::Result<Seen>>,
    session: JoinHandle<anyhow::Result<u64>>,
}

/// Everyone who has a folder, beside the board.
fn holders() -> Vec<(Role, String)> {
    let hosts = (1..=HOSTS).map(|number| (Role::Host, format!("good-{number}")));
    hosts
        .chain([(Role::Host, "good-session".to_owned()), (Role::Observer, "good-watcher".to_owned())])
        .collect()
}

async fn run(place: &Place, count: &Arc<Count>) -> anyhow::Result<Running> {
    let mut hosts = Vec::new();
    for number in 1..=HOSTS {
        hosts.push(tokio::spawn(Host::start(place, number, count.clone()).await?.run()));
    }
    let watcher = Watcher::start(place, &place.folder("good-watcher"), count.clone()).await?;
    let session = tokio::spawn(session(place.clone(), count.clone()));
    Ok(Running { hosts, watcher: tokio::spawn(watcher.run()), session })
}

/// Waits until the board shows the certificate of its folder.
async fn until_shown(place: &Place) -> anyhow::Result<()> {
    let expected = Pair::load(&place.board())?.own().cloned().context("no certificate")?;
    let config = client(&place.ca(), None)?;
    let is_shown =
        async || shown(place.enrol, config.clone()).await.is_ok_and(|own| own == expected.as_ref());
    until(is_shown, "the board does not show its new certificate").await
}

/// The certificate that a server shows.
async fn shown(at: SocketAddr, config: Arc<ClientConfig>) -> anyhow::Result<Vec<u8>> {
    let stream = TcpStream::connect(at).await?;
    let stream = TlsConnector::from(config).connect(stopover_pki::board_name(), stream).await?;
    let own = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Ok(own.context("no certificate")?.to_vec())
}

/// Replaces folders, and counts them.
struct Rotor<'a> {
    place: &'a Place,
    ca: Ca,
    rotations: u64,
}

impl Rotor<'_> {
    fn issue(&mut self, role: Role, name: &str, out: PathBuf) -> anyhow::Result<()> {
        self.rotations += 1;
        self.ca.issue(role, name, &out)
    }

    fn issue_holders(&mut self) -> anyhow::Result<()> {
        for (role, name) in holders() {
            let out = self.place.folder(&name);
            self.issue(role, &name, out)?;
        }
        Ok(())
    }

    async fn issue_board(&mut self) -> anyhow::Result<()> {
        self.issue(Role::Board, "bbs", self.place.board())?;
        until_shown(self.place).await
    }

    /// New certificates for the board and for all, and one more on the revocation list.
    async fn renew(&mut self) -> anyhow::Result<()> {
        self.issue_board().await?;
        self.issue_holders()?;
        self.issue(Role::Host, "bystander", self.place.folder("bystander"))?;
        self.ca.revoke(Role::Host, "bystander")?;
        self.ca.publish(&self.place.board())
    }

    /// Another key of the CA, in the order of docs/identity.md.
    async fn change_key(&mut self, count: &Count) -> anyhow::Result<()> {
        let old = self.probe("probe-old")?;
        self.ca.open()?.begin_rotation(Fresh::draw(now_s())?, 3650)?;
        self.ca.publish(&self.place.board())?;
        // Only when the board has read its folder do certificates of the new key lead in.
        let new = self.probe("probe-new")?;
        until(async || new.connect().await.is_ok(), "the board does not admit certificates of the new key")
            .await?;
        let before = count.connections.load(Relaxed);
        self.issue_holders()?;
        // The session's connection remains of the old key; it connects again by itself.
        let all = before + u64::from(HOSTS) + 1;
        let renewed = async || count.connections.load(Relaxed) >= all;
        until(renewed, "the good clients do not renew their connections").await?;
        self.issue_board().await?;
        self.ca.open()?.finish_rotation(now_s(), true)?;
        self.ca.publish(&self.place.board())?;
        for (_, name) in holders() {
            self.ca.publish(&self.place.folder(&name))?;
        }
        self.rotations += 1;
        until(async || old.connect().await.is_err(), "the board still admits certificates of the old key")
            .await
    }

    /// The route of somebody with a certificate of the key that signs now.
    fn probe(&self, name: &str) -> anyhow::Result<Route> {
        let folder = self.place.folder(name);
        self.ca.issue(Role::Observer, name, &folder)?;
        self.place.with(Some(Pair::load(&folder)?))
    }
}

/// Waits for what must come soon.
async fn until(mut is_so: impl AsyncFnMut() -> bool, otherwise: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is_so().await {
        ensure!(began.elapsed() < LIMIT, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The figures.
pub struct Rotated {
    pub rotations: u64,
    pub calls: u64,
    pub connections: u64,
    pub frames: u64,
    pub reconnected: u64,
    pub lost: u64,
    pub seconds: f64,
}

/// Lets the good clients run while certificates are replaced `rounds` times, and the key of the CA once.
pub async fn rotate(place: &Place, rounds: u32) -> anyhow::Result<Rotated> {
    let count = Arc::<Count>::default();
    let mut rotor = Rotor { place, ca: place.ca(), rotations: 0 };
    rotor.issue_holders()?;
    rotor.rotations = 0;
    let running = run(place, &count).await?;
    let began = Instant::now();
    for round in 0..rounds {
        rotor.renew().await?;
        println!("rotation {}: {} calls", round + 1, count.calls.load(Relaxed));
    }
    rotor.change_key(&count).await?;
    println!("the CA has another key: {} calls", count.calls.load(Relaxed));
    let seconds = began.elapsed().as_secs_f64();
    count.stop.store(true, Relaxed);
    for host in running.hosts {
        host.await?;
    }
    let reconnected = running.session.await??;
    let seen = running.watcher.await??;
    let nodes = count.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let differ = nodes.symmetric_difference(&seen.nodes).count() as u64;
    if differ > 0 {
        println!("lost: the watcher differs in {differ} nodes from what the hosts hold");
    }
    Ok(Rotated {
        rotations: rotor.rotations,
        calls: count.calls.load(Relaxed),
        connections: count.connections.load(Relaxed),
        frames: seen.frames,
        reconnected,
        lost: count.lost.load(Relaxed) + differ,
        seconds,
    })
}

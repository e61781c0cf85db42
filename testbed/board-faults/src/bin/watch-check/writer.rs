//! A writer: an operator who declares, deletes and loads nodes, or a host that claims and withdraws its own. Every request has
//! a key. A request without an answer is sent again, as it was, until it has one; some are sent twice from the beginning,
//! some again much later, after others about the same node.

use crate::{
    watcher::Watcher,
    world::{CALL_TIMEOUT, Link, World},
};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use stopover_bbs::{model::Uuid, proto::v1};
use stopover_board_faults::history::{Effect, Put};
use stopover_net::{HostName, Mac, Vni};
use tonic::{Code, Status};

/// Nodes of one writer.
const NODES: u8 = 24;
/// Requests that wait to be sent again.
const WAITING: usize = 6;

/// A request as it is sent, each time the same.
#[derive(Clone)]
enum Call {
    Declare(v1::DeclareRequest),
    Delete(v1::DeleteRequest),
    Load(Vec<v1::LoadRequest>),
    Claim(v1::ClaimRequest),
    Withdraw(v1::WithdrawRequest),
}

#[derive(Clone)]
struct Request {
    /// Its number in the history.
    write: usize,
    call: Call,
    /// It has no answer yet.
    open: bool,
}

/// What a call is answered.
enum Reply {
    Revision(u64),
    Refused,
    /// Nothing: it may have been executed or not, or may still be.
    Nothing,
}

/// Whether an answer is the board's decision, and not the end of a connection or of the board.
fn is_decision(status: &Status) -> bool {
    use Code::{
        Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied,
        ResourceExhausted,
    };
    let decided = [
        Aborted,
        AlreadyExists,
        FailedPrecondition,
        InvalidArgument,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
    ];
    decided.contains(&status.code()) && status.metadata().contains_key(stopover_bbs::proto::REASON)
}

async fn send(link: &Link, call: Call) -> Result<u64, Status> {
    let (operator, host) = (link.connection.operator(), link.connection.host());
    let (mut operator, mut host) = (operator, host);
    Ok(match call {
        Call::Declare(request) => operator.declare(request).await?.into_inner().revision,
        Call::Delete(request) => operator.delete(request).await?.into_inner().revision,
        Call::Load(requests) => {
            let mut steps = operator.load(tokio_stream::iter(requests)).await?.into_inner();
            while let Some(message) = steps.message().await? {
                if let Some(v1::load_progress::Step::Done(done)) = message.step {
                    return Ok(done.revision);
                }
            }
            return Err(Status::unavailable("the load ended without a result"));
        }
        Call::Claim(request) => {
            let answer = host.claim(request).await?.into_inner();
            match answer.results.iter().find(|result| **result != v1::ClaimResult::default()) {
                Some(other) => return Err(Status::internal(format!("{other:?}"))),
                None => answer.revision,
            }
        }
        Call::Withdraw(request) => host.withdraw(request).await?.into_inner().revision,
    })
}

/// A host's registration.
#[derive(Clone)]
struct Registered {
    name: HostName,
    session: u64,
}

pub struct Writer {
    world: Arc<World>,
    random: fastrand::Rng,
    /// Its number among the writers: no two have the same nodes.
    number: u8,
    /// The host of its nodes.
    host: HostName,
    /// Its own registration, if it is a host.
    registered: Option<Registered>,
    /// To be sent again later.
    waiting: VecDeque<Request>,
}

impl Writer {
    pub fn new(world: Arc<World>, number: u8, host: HostName, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { world, random, number, host, registered: None, waiting: VecDeque::new() }
    }

    fn mac(&self, node: u8) -> Mac {
        Mac::new([2, 0, 0, 0, self.number, node])
    }

    fn put(&mut self, node: u8, ip: u32) -> Put {
        let networks = &self.world.networks;
        // A node stays in its network.
        let vni = networks[usize::from(node) % networks.len()];
        Put { vni, mac: self.mac(node), host: self.host.clone(), ip }
    }

    fn key() -> Vec<u8> {
        Uuid::new_v4().into()
    }

    fn session_ref(&self) -> Option<v1::SessionRef> {
        let Registered { name, session } = self.registered.clone()?;
        Some(v1::SessionRef { host: name.as_str().to_owned(), session, key: Self::key() })
    }

    /// The next request.
    fn request(&mut self) -> Request {
        let node = self.random.u8(0..NODES);
        let load = self.registered.is_none() && self.random.u8(0..30) == 0;
        let gone = self.random.u8(0..4) == 0;
        let count = if load { 8 } else { 1 };
        let puts: Vec<_> = (0..count)
            .map(|n| {
                let ip = crate::next_ip();
                self.put((node + n) % NODES, ip)
            })
            .collect();
        let first = puts[0].clone();
        let effect = match (load, gone) {
            (true, _) | (false, false) => Effect::Put(puts.clone()),
            (false, true) => Effect::Gone(vec![(first.vni, first.mac)]),
        };
        let node = v1::NodeKey { vni: first.vni.get(), mac: first.mac.octets().to_vec() };
        let call = match (load, gone, self.session_ref()) {
            (true, ..) => Call::Load(loads(&puts)),
            (_, false, None) => {
                Call::Declare(v1::DeclareRequest { key: Self::key(), row: Some(row(&first)) })
            }
            (_, true, None) => Call::Delete(v1::DeleteRequest {
                key: Self::key(),
                target: Some(v1::delete_request::Target::Node(node)),
                cascade: false,
            }),
            (_, false, session_ref) => Call::Claim(v1::ClaimRequest {
                session_ref,
                claims: vec![v1::NodeClaim {
                    vni: first.vni.get(),
                    mac: first.mac.octets().to_vec(),
                    ips: vec![first.ip.to_be_bytes().to_vec()],
                    ..v1::NodeClaim::default()
                }],
            }),
            (_, true, session_ref) => Call::Withdraw(v1::WithdrawRequest { session_ref, nodes: vec![node] }),
        };
        Request { write: self.world.recorder.write(effect), call, open: true }
    }

    /// Sends a request once and notes the answer.
    async fn call(&self, link: &Link, request: &Request) -> Reply {
        let sent = tokio::time::timeout(CALL_TIMEOUT, send(link, request.call.clone())).await;
        let reply = match sent {
            Ok(Ok(revision)) => Reply::Revision(revision),
            Ok(Err(status)) if is_decision(&status) => Reply::Refused,
            Ok(Err(status)) if status.code() == Code::Internal => {
                log::warn!("an answer of another kind: {status}");
                Reply::Nothing
            }
            Ok(Err(_)) | Err(_) => Reply::Nothing,
        };
        match reply {
            Reply::Revision(revision) => self.world.recorder.answer(request.write, link.run, Some(revision)),
            Reply::Refused => self.world.recorder.answer(request.write, link.run, None),
            Reply::Nothing => {}
        }
        reply
    }

    /// Sends a request, sometimes twice at once. False: there is no answer.
    async fn execute(&mut self, link: &Link, request: Request) -> bool {
        let twice = self.random.u8(0..12) == 0;
        // First of all, since this future may be dropped: one without an answer must get one.
        self.waiting.push_front(request.clone());
        let reply = if twice {
            self.world.repeats.fetch_add(1, Relaxed);
            let (one, other) = tokio::join!(self.call(link, &request), self.call(link, &request));
            if matches!(one, Reply::Nothing) { other } else { one }
        } else {
            self.call(link, &request).await
        };
        if matches!(reply, Reply::Nothing) {
            return false;
        }
        self.waiting.pop_front();
        // Others are only repeated, later than what follows them.
        if self.waiting.len() < WAITING && self.random.u8(0..16) == 0 {
            self.waiting.push_back(Request { open: false, ..request });
        }
        true
    }

    /// Sends a request again that waits. False: there is still no answer.
    async fn repeat(&mut self, link: &Link) -> bool {
        let Some(request) = self.waiting.front().cloned() else { return true };
        self.world.repeats.fetch_add(1, Relaxed);
        if matches!(self.call(link, &request).await, Reply::Nothing) {
            return false;
        }
        self.waiting.pop_front();
        true
    }

    /// Writes over one connection until it breaks, or until all is settled.
    async fn write(&mut self, link: &Link) {
        while self.world.runs() {
            let settles = self.world.settles();
            if settles && self.waiting.is_empty() {
                return;
            }
            // One without an answer mostly at once: a restore may come, and then nobody will know whether it was made.
            let open = self.waiting.front().is_some_and(|request| request.open) && self.random.u8(0..4) != 0;
            let repeats = settles || open || self.waiting.len() >= WAITING || self.random.u8(0..24) == 0;
            let goes_on = if repeats {
                self.repeat(link).await
            } else {
                let request = self.request();
                self.execute(link, request).await
            };
            if !goes_on {
                return;
            }
            let pause = self.random.u64(0..16);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn is_done(&self) -> bool {
        !self.world.runs() || (self.world.settles() && self.waiting.is_empty())
    }

    async fn pause(&mut self) {
        let pause = self.random.u64(1..20);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// An operator: writes until the end of the test, when all is settled.
    pub async fn operate(mut self) {
        while !self.is_done() {
            if let Some(link) = self.world.open().await {
                self.write(&link).await;
            }
            self.pause().await;
        }
    }

    /// A host: registers, watches, sends heartbeats and claims, as an appliance does.
    pub async fn serve_host(mut self, mut watcher: Watcher, vtep: [u8; 4]) {
        while self.world.runs() {
            let link = self.world.open().await;
            if let Some(link) = &link
                && let Some(session) = self.register(link, vtep).await
            {
                let name = self.host.as_str().to_owned();
                self.registered = Some(Registered { name: self.host.clone(), session });
                tokio::select! {
                    () = watcher.watch(link, Some((name.clone(), session))) => {}
                    () = heartbeats(link, name, session) => {}
                    () = async {
                        self.write(link).await;
                        if self.world.settles() && self.waiting.is_empty() {
                            std::future::pending::<()>().await;
                        }
                    } => {}
                }
            }
            drop(link);
            self.pause().await;
        }
    }

    async fn register(&mut self, link: &Link, vtep: [u8; 4]) -> Option<u64> {
        let request = v1::RegisterRequest {
            host: self.host.as_str().to_owned(),
            vteps: vec![vtep.to_vec()],
            udp_port: 4789,
            key: Self::key(),
            instance: vec![self.number + 1; 16],
            ..v1::RegisterRequest::default()
        };
        let write = self.world.recorder.write(Effect::Host(self.host.clone()));
        let mut host = link.connection.host();
        let answer =
            tokio::time::timeout(CALL_TIMEOUT, host.register(request)).await.ok()?.ok()?.into_inner();
        self.world.recorder.answer(write, link.run, Some(answer.revision));
        Some(answer.session)
    }
}

/// Ends with the connection.
async fn heartbeats(link: &Link, host: String, session: u64) {
    let mut client = link.connection.host();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let session_ref = Some(v1::SessionRef { host: host.clone(), session, key: vec![] });
        let beat = client.heartbeat(v1::HeartbeatRequest { session_ref });
        if !matches!(tokio::time::timeout(CALL_TIMEOUT, beat).await, Ok(Ok(_))) {
            return;
        }
    }
}

fn row(put: &Put) -> v1::Row {
    let node = v1::NodeRow {
        vni: put.vni.get(),
        mac: put.mac.octets().to_vec(),
        ips: vec![put.ip.to_be_bytes().to_vec()],
        host: put.host.as_str().to_owned(),
        shared_ips: vec![],
    };
    v1::Row { row: Some(v1::row::Row::Node(node)), number: 0 }
}

/// A load of these nodes, in one revision.
fn loads(puts: &[Put]) -> Vec<v1::LoadRequest> {
    let rows = puts.iter().map(row).collect();
    vec![
        v1::LoadRequest { key: Writer::key(), rows, complete: false },
        v1::LoadRequest { key: vec![], rows: vec![], complete: true },
    ]
}

/// Declares hosts, and nodes that do not change, in loads of a thousand. Before anything is disturbed.
pub async fn prepare(world: &World, hosts: &[HostName], bulk: (Vni, u32)) -> anyhow::Result<()> {
    let link = world.open().await.ok_or_else(|| anyhow::anyhow!("the board does not answer"))?;
    for (n, host) in (1u8..).zip(hosts) {
        let row =
            v1::HostRow { name: host.as_str().to_owned(), vteps: vec![vec![10, 0, 8, n]], udp_port: 4789 };
        let row = Some(v1::Row { row: Some(v1::row::Row::Host(row)), number: 0 });
        let write = world.recorder.write(Effect::Host(host.clone()));
        let request = v1::DeclareRequest { key: Writer::key(), row };
        let answer = link.connection.operator().declare(request).await?.into_inner();
        world.recorder.answer(write, link.run, Some(answer.revision));
    }
    let (vni, count) = bulk;
    let all: Vec<_> = (0..count).collect();
    for some in all.chunks(1000) {
        let puts: Vec<_> = some
            .iter()
            .map(|n| {
                let [a, b, c, d] = n.to_be_bytes();
                let host = hosts[*n as usize % hosts.len()].clone();
                Put { vni, mac: Mac::new([6, 0, a, b, c, d]), host, ip: crate::next_ip() }
            })
            .collect();
        let write = world.recorder.write(Effect::Put(puts.clone()));
        let revision = send(&link, Call::Load(loads(&puts))).await?;
        world.recorder.answer(write, link.run, Some(revision));
    }
    Ok(())
}

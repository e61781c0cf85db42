//! One of the hosts: its calls in a constant rhythm, and its watch, which acknowledges as an appliance does.

use crate::times::{Kind, Times};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use stopover_bbs::{
    client::{BoardAddress, connect},
    proto::v1::{self, watch_request::Request, watch_response::Response},
};
use stopover_board_faults::host::{Host, key};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

/// Nodes that are claimed by one call at the start.
const PER_CALL: usize = 100;

/// What each host does.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Its nodes.
    pub nodes: u32,
    /// The time between two rounds: a heartbeat and a claim each.
    pub every: Duration,
    /// Of so many rounds, one begins with another connection and registration.
    pub registers_of: u32,
}

pub struct Member {
    address: BoardAddress,
    number: u32,
    vni: u32,
    plan: Plan,
    times: Arc<Times>,
    /// Of its process.
    instance: Vec<u8>,
    host: Host,
    watch: JoinHandle<()>,
}

async fn register(
    address: &BoardAddress,
    number: u32,
    name: String,
    vni: u32,
    instance: &[u8],
    times: &Arc<Times>,
) -> anyhow::Result<(Host, JoinHandle<()>)> {
    let began = Instant::now();
    let connection = connect(address).await?;
    times.note(Kind::Connection, began, None);
    let began = Instant::now();
    let host = Host::register(connection, number, name, vni, instance.to_vec()).await?;
    times.note(Kind::Registration, began, None);
    let watch = watch(&host, vni, Arc::clone(times)).await?;
    Ok((host, watch))
}

/// Follows the network of a host, and acknowledges each revision.
async fn watch(host: &Host, vni: u32, times: Arc<Times>) -> anyhow::Result<JoinHandle<()>> {
    let (requests, outgoing) = mpsc::channel(64);
    let (name, session) = (host.name.clone(), host.session);
    let start = v1::WatchStart { name: name.clone(), vnis: vec![vni], session, ..v1::WatchStart::default() };
    requests.send(v1::WatchRequest { request: Some(Request::Start(start)) }).await?;
    let mut responses = host.connection.host().watch(ReceiverStream::new(outgoing)).await?.into_inner();
    Ok(tokio::spawn(async move {
        let mut point = v1::Point::default();
        loop {
            let revision = match responses.message().await {
                Ok(Some(v1::WatchResponse { response: Some(response) })) => match response {
                    Response::SnapshotBegin(begin) => {
                        point.run_id = begin.run_id;
                        point.board_id = begin.board_id;
                        continue;
                    }
                    Response::SnapshotEnd(revision) | Response::Progress(revision) => revision,
                    Response::Delta(delta) => {
                        times.changes(1);
                        delta.revision
                    }
                    _ => continue,
                },
                end => return times.lost(&format!("watch of {name}: {end:?}")),
            };
            let point = v1::Point { revision, ..point.clone() };
            let _ = requests.try_send(v1::WatchRequest { request: Some(Request::Ack(point)) });
        }
    }))
}

impl Member {
    /// Connects, registers and claims all nodes.
    pub async fn start(
        address: BoardAddress,
        number: u32,
        name: String,
        vni: u32,
        plan: Plan,
        times: Arc<Times>,
    ) -> anyhow::Result<Self> {
        let instance = key();
        let (host, watch) = register(&address, number, name, vni, &instance, &times).await?;
        let nodes: Vec<_> =
            (0..plan.nodes).map(|node| (host.mac(node), vec![ip(number, node, false)])).collect();
        for some in nodes.chunks(PER_CALL) {
            let began = Instant::now();
            times.note(Kind::Claim, began, host.claim(some).await);
        }
        Ok(Self { address, number, vni, plan, times, instance, host, watch })
    }

    /// Round after round, from some time on. Each claim gives a node its other address.
    pub async fn run(mut self) {
        tokio::time::sleep(self.plan.every.mul_f64(fastrand::f64())).await;
        let mut rounds = tokio::time::interval(self.plan.every);
        for round in 0u32.. {
            rounds.tick().await;
            if fastrand::u32(0..self.plan.registers_of.max(1)) == 0 {
                self.register_again().await;
            }
            let began = Instant::now();
            self.times.note(Kind::Heartbeat, began, self.host.heartbeat().await);
            let node = round % self.plan.nodes.max(1);
            let is_other = (round / self.plan.nodes.max(1)).is_multiple_of(2);
            let claim = [(self.host.mac(node), vec![ip(self.number, node, is_other)])];
            let began = Instant::now();
            self.times.note(Kind::Claim, began, self.host.claim(&claim).await);
        }
    }

    /// As a host that has lost its connection.
    async fn register_again(&mut self) {
        self.watch.abort();
        let name = self.host.name.clone();
        match register(&self.address, self.number, name, self.vni, &self.instance, &self.times).await {
            Ok((host, watch)) => (self.host, self.watch) = (host, watch),
            Err(e) => self.times.lost(&format!("registration of {}: {e:#}", self.host.name)),
        }
    }
}

/// One of the two addresses of a node.
fn ip(host: u32, node: u32, is_other: bool) -> Vec<u8> {
    let ([.., b, c], [.., d]) = (host.to_be_bytes(), node.to_be_bytes());
    vec![if is_other { 11 } else { 10 }, b, c, d]
}

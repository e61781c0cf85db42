//! A watcher: it follows the board as an appliance does, by the protocol itself, resumes from what it holds, acknowledges
//! what it has, and records every message.

use crate::world::{Link, World};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use stopover_bbs::proto::{batch, board, parse, v1};
use stopover_board_faults::history::{RunId, Seen};
use stopover_net::Vni;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use v1::{watch_request::Request, watch_response::Response};

/// What a watcher is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// It follows all networks, and resumes.
    Everything,
    /// It follows all networks, and takes a snapshot each time.
    Forgetful,
    /// It follows some networks, which change, and resumes.
    Some,
}

/// The state that it holds.
#[derive(Default)]
struct Position {
    point: Option<(RunId, u64)>,
    exact: bool,
    held: BTreeSet<Vni>,
}

pub struct Watcher {
    world: Arc<World>,
    number: usize,
    habit: Habit,
    random: fastrand::Rng,
    position: Position,
    /// The last acknowledgement of the watch before, which a client of before sends first on the next.
    last_ack: Option<v1::WatchRequest>,
}

/// An open watch.
struct Stream {
    requests: mpsc::Sender<v1::WatchRequest>,
    responses: Streaming<v1::WatchResponse>,
    run: RunId,
    board: Vec<u8>,
    requested: BTreeSet<Vni>,
}

impl Watcher {
    pub fn new(world: Arc<World>, habit: Habit, seed: u64) -> Self {
        let number = world.recorder.watcher();
        let (random, position) = (fastrand::Rng::with_seed(seed), Position::default());
        Self { world, number, habit, random, position, last_ack: None }
    }

    fn see(&self, seen: Seen) {
        self.world.recorder.seen(self.number, seen);
    }

    /// Watches until the test ends; as the host of `session`, if there is one, until the connection ends.
    pub async fn watch(&mut self, link: &Link, session: Option<(String, u64)>) {
        let Some(mut stream) = self.open(link, session).await else { return };
        loop {
            let pause = Duration::from_millis(self.random.u64(20..400));
            let message = tokio::select! {
                message = stream.responses.message() => message,
                () = tokio::time::sleep(pause), if self.habit == Habit::Some => {
                    if !self.change_scope(&mut stream).await {
                        return;
                    }
                    continue;
                }
            };
            let Ok(Some(v1::WatchResponse { response: Some(response) })) = message else { return };
            let Some(reached) = self.handle(response, &mut stream) else { return };
            if let Some(revision) = reached {
                self.acknowledge(&stream, revision);
            }
        }
    }

    async fn open(&mut self, link: &Link, session: Option<(String, u64)>) -> Option<Stream> {
        if self.habit == Habit::Forgetful {
            self.position = Position::default();
        }
        if !self.position.exact && self.habit == Habit::Some {
            self.position.held = self.some_networks();
        }
        let scope = (self.habit == Habit::Some).then(|| self.position.held.clone());
        let resume = self.position.point;
        self.see(Seen::Opened { scope: scope.clone(), resume: resume.filter(|_| self.position.exact) });
        let (name, session) = session.unwrap_or_else(|| (format!("watcher-{}", self.number), 0));
        let start = v1::WatchStart {
            name,
            vnis: scope.iter().flatten().map(|vni| vni.get()).collect(),
            everything: scope.is_none(),
            resume: resume.map(|(run, revision)| v1::Point {
                board_id: link.board.clone(),
                run_id: run.to_be_bytes().to_vec(),
                revision,
            }),
            session,
            partial: !self.position.exact,
            ..v1::WatchStart::default()
        };
        let (requests, outgoing) = mpsc::channel(256);
        requests.send(v1::WatchRequest { request: Some(Request::Start(start)) }).await.ok()?;
        if let Some(ack) = self.last_ack.take().filter(|_| self.random.u8(0..4) == 0) {
            requests.send(ack).await.ok()?;
        }
        let outgoing = ReceiverStream::new(outgoing);
        let opening = async {
            match session {
                0 => link.connection.observer().watch(outgoing).await,
                _ => link.connection.host().watch(outgoing).await,
            }
        };
        let responses =
            tokio::time::timeout(crate::world::CALL_TIMEOUT, opening).await.ok()?.ok()?.into_inner();
        let requested = self.position.held.clone();
        Some(Stream { requests, responses, run: 0, board: link.board.clone(), requested })
    }

    fn some_networks(&mut self) -> BTreeSet<Vni> {
        let all = self.world.networks.iter().copied();
        all.filter(|_| self.random.bool()).collect()
    }

    async fn change_scope(&mut self, stream: &mut Stream) -> bool {
        let wanted = self.some_networks();
        let numbers = |vnis: Vec<&Vni>| vnis.into_iter().map(|vni| vni.get()).collect();
        let interest = v1::WatchInterest {
            add: numbers(wanted.difference(&stream.requested).collect()),
            remove: numbers(stream.requested.difference(&wanted).collect()),
        };
        stream.requested = wanted;
        stream.requests.send(v1::WatchRequest { request: Some(Request::Interest(interest)) }).await.is_ok()
    }

    /// As an appliance: each revision, once it is in force. If the board does not take it, a later one tells the same.
    fn acknowledge(&mut self, stream: &Stream, revision: u64) {
        let run_id = stream.run.to_be_bytes().to_vec();
        let point = v1::Point { board_id: stream.board.clone(), run_id, revision };
        let ack = v1::WatchRequest { request: Some(Request::Ack(point)) };
        let _ = stream.requests.try_send(ack.clone());
        self.last_ack = Some(ack);
    }

    /// Records a message. Returns the revision that the watcher has with it, if it has a whole one; `None` if the message
    /// is not understood, which ends the watch.
    fn handle(&mut self, response: Response, stream: &mut Stream) -> Option<Option<u64>> {
        let run = |id: &[u8]| Some(parse::id("run_id", id).ok()?.as_u128());
        let reached = match response {
            Response::SnapshotBegin(begin) => {
                stream.run = run(&begin.run_id)?;
                self.position.exact = false;
                self.see(Seen::Begin(stream.run, begin.revision));
                None
            }
            Response::SnapshotChunk(list) => {
                self.see(Seen::Piece(board::changes(list.changes).ok()?));
                None
            }
            Response::SnapshotNodes(list) => {
                self.see(Seen::Nodes(batch::parse_list(list).ok()?));
                None
            }
            Response::SnapshotEnd(revision) => {
                self.see(Seen::End(revision));
                Some(revision)
            }
            Response::Resumed(resumed) => {
                stream.run = run(&resumed.run_id)?;
                self.see(Seen::Resumed(stream.run, resumed.revision));
                Some(resumed.revision)
            }
            Response::Delta(delta) => {
                self.see(Seen::Delta(delta.revision, board::changes(delta.changes).ok()?));
                Some(delta.revision)
            }
            Response::Scope(scope) => self.handle_scope(scope)?,
            Response::Progress(revision) => {
                self.see(Seen::Progress(revision));
                Some(revision).filter(|_| self.position.exact)
            }
        };
        if let Some(revision) = reached {
            self.position.point = Some((stream.run, revision));
            self.position.exact = true;
        }
        Some(reached)
    }

    fn handle_scope(&mut self, scope: v1::Scope) -> Option<Option<u64>> {
        let revision = scope.revision;
        let changes = board::changes(scope.changes).ok()?;
        let added = parse::vnis_unbounded("added", scope.added).ok()?;
        let removed = parse::vnis_unbounded("removed", scope.removed).ok()?;
        self.position.held.extend(&added);
        self.position.held.retain(|vni| !removed.contains(vni));
        let complete = !(added.is_empty() && removed.is_empty());
        self.position.exact = false;
        self.see(Seen::Scope { revision, changes, added, removed });
        Some(complete.then_some(revision))
    }

    /// An observer: connects and watches until the test ends.
    pub async fn observe(mut self) {
        while self.world.runs() {
            if let Some(link) = self.world.open().await {
                self.watch(&link, None).await;
            }
            let pause = self.random.u64(1..20);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

//! A watcher that follows the board over connections that are replaced. Enters: the frames of its watches. Leaves: the nodes
//! that it has seen, in the end those of the board.

use super::{
    place::Place,
    rotation::{Count, Renewed, VNI},
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use stopover_bbs::proto::v1::{self, change::Change, watch_response::Response};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tonic::Streaming;

/// Between two looks at the credentials.
const LOOK: Duration = Duration::from_millis(200);
/// After the end of the changes, when so much time has passed without one, all have been sent.
const QUIET: Duration = Duration::from_secs(2);

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages.
    pub frames: u64,
    pub nodes: BTreeSet<Vec<u8>>,
}

/// The watcher.
pub struct Watcher {
    to: Renewed,
    stream: Streaming<v1::WatchResponse>,
    point: v1::Point,
    seen: Seen,
    count: Arc<Count>,
}

async fn open(
    to: &Renewed,
    resume: Option<v1::Point>,
) -> Result<Streaming<v1::WatchResponse>, tonic::Status> {
    let name = "good-watcher".to_owned();
    let start = v1::WatchStart { name, vnis: vec![VNI], resume, ..v1::WatchStart::default() };
    let start = v1::WatchRequest { request: Some(v1::watch_request::Request::Start(start)) };
    let requests = tokio_stream::once(start).chain(tokio_stream::pending());
    Ok(to.connection.observer().watch(requests).await?.into_inner())
}

impl Watcher {
    pub async fn start(place: &Place, folder: &Path, count: Arc<Count>) -> anyhow::Result<Self> {
        let to = Renewed::open(place, folder).await?;
        let stream = open(&to, None).await?;
        Ok(Self { to, stream, point: v1::Point::default(), seen: Seen::default(), count })
    }

    /// Follows until the changes have ended.
    pub async fn run(mut self) -> anyhow::Result<Seen> {
        let (mut quiet_since, mut last) = (Instant::now(), 0);
        let mut looked = Instant::now();
        loop {
            let count = self.count.clone();
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                if self.to.renew(&count).await {
                    self.stream = open(&self.to, Some(self.point.clone())).await?;
                }
            }
            match timeout(LOOK, self.stream.message()).await {
                Ok(Ok(Some(message))) => self.take(message),
                Ok(Ok(None)) => anyhow::bail!("the watch ended"),
                Ok(Err(status)) => {
                    count.lose(&format!("the watch: {status}"));
                    self.stream = open(&self.to, Some(self.point.clone())).await?;
                }
                Err(_) => {}
            }
            if self.point.revision != last || !count.has_ended() {
                (quiet_since, last) = (Instant::now(), self.point.revision);
            } else if quiet_since.elapsed() > QUIET {
                return Ok(self.seen);
            }
        }
    }

    /// The revisions of one watch only grow.
    fn advance(&mut self, revision: u64) {
        if revision < self.point.revision {
            self.count.lose(&format!("revision {revision} after {}", self.point.revision));
        }
        self.point.revision = revision;
    }

    fn take(&mut self, message: v1::WatchResponse) {
        self.seen.frames += 1;
        match message.response {
            Some(Response::SnapshotBegin(begin)) => {
                self.seen.nodes.clear();
                self.point =
                    v1::Point { board_id: begin.board_id, revision: begin.revision, run_id: begin.run_id };
            }
            Some(Response::SnapshotChunk(list)) => self.apply(list.changes),
            Some(Response::SnapshotNodes(list)) => {
                for batch in list.batches {
                    self.seen.nodes.extend(batch.macs.chunks_exact(6).map(<[u8]>::to_vec));
                }
            }
            Some(Response::SnapshotEnd(revision) | Response::Progress(revision)) => self.advance(revision),
            Some(Response::Resumed(resumed)) => self.advance(resumed.revision),
            Some(Response::Delta(delta)) => {
                self.advance(delta.revision);
                self.apply(delta.changes);
            }
            Some(Response::Scope(_)) | None => {}
        }
    }

    fn apply(&mut self, changes: Vec<v1::Change>) {
        for change in changes {
            match change.change {
                Some(Change::NodePut(v1::NodePut { node: Some(node), .. })) => {
                    self.seen.nodes.insert(node.mac);
                }
                Some(Change::NodeGone(gone)) => {
                    self.seen.nodes.remove(&gone.mac);
                }
                _ => {}
            }
        }
    }
}

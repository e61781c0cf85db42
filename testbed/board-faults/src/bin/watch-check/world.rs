//! What all parts of a test share, and their connections to the board.

use crate::{
    recorder::HistoryLog,
    relay::{Relay, Relays},
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use stopover_bbs::{
    client::{Connection, connect},
    proto::{parse, v1},
};
use stopover_board_faults::history::RunId;
use stopover_config::Endpoint;
use stopover_net::Vni;

/// A call without an answer within this time has failed, for its caller.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);

pub struct World {
    pub dir: PathBuf,
    pub socket: PathBuf,
    pub recorder: HistoryLog,
    pub relays: Arc<Relays>,
    pub networks: Vec<Vni>,
    /// The parts run until this is set.
    pub stopped: AtomicBool,
    /// Writers begin nothing new.
    pub settling: AtomicBool,
    /// Clients do not connect.
    pub held: AtomicBool,
    /// Requests that were sent more than once.
    pub repeats: AtomicU64,
}

/// A connection to one process of the board.
pub struct Link {
    pub connection: Connection,
    pub run: RunId,
    pub board: Vec<u8>,
    _relay: Relay,
}

impl World {
    pub fn runs(&self) -> bool {
        !self.stopped.load(Relaxed)
    }

    pub fn settles(&self) -> bool {
        self.settling.load(Relaxed)
    }

    /// Connects; `None` if the board does not answer.
    pub async fn open(&self) -> Option<Link> {
        if self.held.load(Relaxed) || !self.socket.exists() {
            return None;
        }
        let relay = self.relays.open(&self.dir, &self.socket).ok()?;
        let connecting = connect_and_ask(Endpoint::Unix(relay.path.clone()));
        let (connection, info) = tokio::time::timeout(CALL_TIMEOUT, connecting).await.ok().flatten()?;
        let run = parse::id("run_id", &info.run_id).ok()?.as_u128();
        Some(Link { connection, run, board: info.board_id, _relay: relay })
    }
}

async fn connect_and_ask(at: Endpoint) -> Option<(Connection, v1::InfoResponse)> {
    let connection = connect(&at).await.ok()?;
    let info = connection.observer().info(v1::InfoRequest {}).await.ok()?.into_inner();
    Some((connection, info))
}

/// Asks the board itself, without a relay, for its run and revision.
pub async fn ask(socket: &std::path::Path) -> Option<(RunId, u64)> {
    let asking = connect_and_ask(Endpoint::Unix(socket.to_owned()));
    let (_, info) = tokio::time::timeout(CALL_TIMEOUT, asking).await.ok().flatten()?;
    Some((parse::id("run_id", &info.run_id).ok()?.as_u128(), info.revision))
}

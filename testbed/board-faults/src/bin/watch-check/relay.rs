//! The way from a client to the board, which can be cut or stopped in the middle of a message. A relay is for one connection:
//! a client that connects again by itself does not reach another process of the board unnoticed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// What a relay does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// Nothing goes to the client: it reads nothing.
    Hold,
    Cut,
}

/// All open relays.
#[derive(Default)]
pub struct Relays {
    next: AtomicU64,
    open: Mutex<Vec<(u64, watch::Sender<Flow>)>>,
}

/// An open relay. The connection ends with it.
pub struct Relay {
    number: u64,
    pub path: PathBuf,
    all: Arc<Relays>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.all.lock().retain(|(number, flow)| {
            if *number == self.number {
                flow.send_replace(Flow::Cut);
            }
            *number != self.number
        });
        // The relay may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Relays {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, watch::Sender<Flow>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a relay to the board's socket.
    pub fn open(self: &Arc<Self>, dir: &Path, board: &Path) -> std::io::Result<Relay> {
        let number = self.next.fetch_add(1, Relaxed);
        let path = dir.join(format!("relay-{number}.sock"));
        let listener = UnixListener::bind(&path)?;
        let (flow, control) = watch::channel(Flow::Pass);
        self.lock().push((number, flow));
        let (board, socket) = (board.to_owned(), path.clone());
        tokio::spawn(async move {
            let mut cut = control.clone();
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = cut.wait_for(|flow| *flow == Flow::Cut) => return,
            };
            drop(listener);
            // Its owner may have removed it.
            let _ = std::fs::remove_file(&socket);
            let (Ok((client, _)), Ok(board)) = (accepted, UnixStream::connect(board).await) else { return };
            pass(client, board, control).await;
        });
        Ok(Relay { number, path, all: self.clone() })
    }

    /// Sets the flow of some of the open relays, by chance.
    pub fn disturb(&self, chance: f64, random: &mut fastrand::Rng, to: Flow) {
        for (_, flow) in self.lock().iter() {
            if random.f64() < chance {
                flow.send_if_modified(|now| *now != Flow::Cut && std::mem::replace(now, to) != to);
            }
        }
    }
}

async fn pass(client: UnixStream, board: UnixStream, mut control: watch::Receiver<Flow>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_board, mut to_board) = board.into_split();
    let mut held = control.clone();
    let up = async move { tokio::io::copy(&mut from_client, &mut to_board).await.map(|_| ()) };
    let down = async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from_board.read(&mut buffer).await?;
            if held.wait_for(|flow| *flow != Flow::Hold).await.is_err() || count == 0 {
                return Ok::<_, std::io::Error>(());
            }
            to_client.write_all(buffer.get(..count).unwrap_or_default()).await?;
        }
    };
    tokio::select! {
        // An end of either side ends the other.
        _ = up => {}
        _ = down => {}
        _ = control.wait_for(|flow| *flow == Flow::Cut) => {}
    }
}

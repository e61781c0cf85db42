//! Writes checkpoints in a thread of its own: a disk may take longer than the control thread may wait. Enters: a head,
//! pieces, an end. Leaves: a file, the old one or the new one whenever the machine stops; and what became of it.

use anyhow::{Context, Result};
use crossbeam::channel::{self, Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};
use stopover_bbs::client::{CheckpointHead, CheckpointPiece, CheckpointWriter};

/// Orders that may wait: a piece has some tens of kilobytes.
const ORDERS: usize = 8;

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Begin a file; one that was not ended is given up.
    Begin(PathBuf, CheckpointHead),
    /// Append.
    Piece(CheckpointPiece),
    /// Put the file into its place.
    End,
}

/// The thread's two ends. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    orders: Sender<Order>,
    done: Receiver<io::Result<()>>,
}

impl Writer {
    /// # Errors
    /// No thread can be started.
    pub fn start() -> Result<Self> {
        let (orders, to_do) = channel::bounded(ORDERS);
        let (report, done) = channel::unbounded();
        let run = move || {
            let mut file = Ok(None);
            for order in to_do {
                file = match (order, file) {
                    (Order::Begin(path, head), _) => begin(path, &head).map(Some),
                    // Reported at its end.
                    (Order::Piece(_), Err(e)) => Err(e),
                    (Order::Piece(piece), Ok(file)) => append(file, &piece),
                    (Order::End, file) => {
                        let _ = report.send(file.and_then(end));
                        Ok(None)
                    }
                };
            }
        };
        let thread = std::thread::Builder::new().name("stopover-checkpt".to_owned());
        thread.spawn(run).context("cannot start the thread that writes checkpoints")?;
        Ok(Self { orders, done })
    }

    /// Has it done, or returns it when too many wait.
    pub fn order(&self, order: Order) -> Option<Order> {
        match self.orders.try_send(order) {
            Ok(()) => None,
            // The thread lives as long as this.
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => Some(order),
        }
    }

    /// The same, but waits so long.
    pub fn order_by(&self, order: Order, until: Instant) -> Option<Order> {
        self.orders.send_deadline(order, until).err().map(SendTimeoutError::into_inner)
    }

    /// The next result, one for each [`Order::End`].
    pub fn result(&mut self) -> Option<io::Result<()>> {
        match self.done.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            // It would be ready for ever.
            Err(TryRecvError::Disconnected) => {
                self.done = channel::never();
                Some(Err(io::Error::other("the thread that writes it has ended")))
            }
        }
    }

    /// The same, but waits so long.
    pub fn result_by(&self, until: Instant) -> Option<io::Result<()>> {
        self.done.recv_deadline(until).ok()
    }

    /// Ready when there is a result.
    pub const fn done(&self) -> &Receiver<io::Result<()>> {
        &self.done
    }
}

/// A file being written. Unless it is put into its place, nothing of it stays.
struct Open {
    path: PathBuf,
    writer: Option<CheckpointWriter<BufWriter<File>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // It is not there any more when it is in its place.
        let _ = std::fs::remove_file(unfinished(&self.path));
    }
}

/// Where a file is until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("checkpoint.new")
}

fn begin(path: PathBuf, head: &CheckpointHead) -> io::Result<Open> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(unfinished(&path))?;
    let mut open = Open { path, writer: None };
    open.writer = Some(CheckpointWriter::new(BufWriter::with_capacity(1 << 18, file), head)?);
    Ok(open)
}

fn append(mut file: Option<Open>, piece: &CheckpointPiece) -> io::Result<Option<Open>> {
    let writer = file.as_mut().and_then(|open| open.writer.as_mut());
    writer.map_or(Ok(()), |writer| writer.piece(piece))?;
    Ok(file)
}

fn end(file: Option<Open>) -> io::Result<()> {
    let Some(mut open) = file else { return Ok(()) };
    let Some(writer) = open.writer.take() else { return Ok(()) };
    let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(unfinished(&open.path), &open.path)?;
    let folder = open.path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

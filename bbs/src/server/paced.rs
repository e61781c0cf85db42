//! Long answers: lists and backups. A producer on a blocking thread sends one message after the other, as fast as the reader
//! takes them. Enters: messages. Leaves: a stream. A reader that takes none for [`PATIENCE`] is late: its answer ends with
//! an error, so that it keeps neither the thread nor the view of the store.

use super::slots::Slot;
use crate::store::Store;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};
use tokio_stream::Stream;
use tonic::Status;

/// The return value of a streaming call.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How long a reader may take for a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that wait for the reader, in addition to those in HTTP/2.
const WAITING: usize = 4;

/// A store to read from, for as long as an answer is produced.
pub(super) struct Reading {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Of the caller, and of all.
    pub slots: [Slot; 2],
}

/// The producer's end.
pub(super) struct Out<T> {
    messages: mpsc::Sender<Result<T, Status>>,
    late: Arc<AtomicBool>,
    patience: Duration,
    runtime: Handle,
}

impl<T> Out<T> {
    /// Sends one message; false if the reader has disconnected or is late. For a blocking thread.
    pub fn send(&self, message: T) -> bool {
        self.push(Ok(message))
    }

    /// Ends the answer with an error.
    pub fn fail(self, why: Status) {
        // The reader may have disconnected.
        let _ = self.push(Err(why));
    }

    fn push(&self, message: Result<T, Status>) -> bool {
        match self.runtime.block_on(timeout(self.patience, self.messages.send(message))) {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                self.late.store(true, Relaxed);
                false
            }
        }
    }
}

struct Paced<T> {
    messages: mpsc::Receiver<Result<T, Status>>,
    late: Arc<AtomicBool>,
}

impl<T> Stream for Paced<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.messages.poll_recv(cx);
        if matches!(next, Poll::Ready(None)) && self.late.swap(false, Relaxed) {
            let why = format!(
                "the reader took no message for {} s; expected one that reads; hint: read the answer as it comes",
                PATIENCE.as_secs()
            );
            return Poll::Ready(Some(Err(Status::deadline_exceeded(why))));
        }
        next
    }
}

/// Runs `produce` on a blocking thread; what it sends is the answer.
pub(super) fn produce<T: Send + 'static>(produce: impl FnOnce(Out<T>) + Send + 'static) -> Answers<T> {
    produce_for(PATIENCE, produce)
}

fn produce_for<T: Send + 'static>(
    patience: Duration,
    produce: impl FnOnce(Out<T>) + Send + 'static,
) -> Answers<T> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let late = Arc::<AtomicBool>::default();
    let out = Out { messages: sender, late: late.clone(), patience, runtime: Handle::current() };
    tokio::task::spawn_blocking(move || produce(out));
    Box::pin(Paced { messages: receiver, late })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn a_reader_gets_all_messages_and_a_late_one_an_error() {
        let all = |out: Out<usize>| assert!((0..20).all(|n| out.send(n)));
        let read: Vec<_> = produce(all).map(Result::unwrap).collect().await;
        assert_eq!(read, (0..20).collect::<Vec<_>>());

        let (ended, end) = std::sync::mpsc::channel();
        let answers = produce_for(Duration::from_millis(10), move |out| {
            let sent = (0..20).take_while(|n| out.send(*n)).count();
            drop(out);
            ended.send(sent).unwrap();
        });
        let sent = tokio::task::spawn_blocking(move || end.recv().unwrap()).await.unwrap();
        assert_eq!(sent, WAITING, "the producer has ended, and nobody has read");
        let read: Vec<_> = answers.collect().await;
        assert_eq!(read.len(), WAITING + 1);
        assert_eq!(read[WAITING].as_ref().unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}

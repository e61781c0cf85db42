//! The control socket of a program in the background: a scenario sends a line and gets an answer. Other threads do the
//! work; this one answers, and ends them on `stop`.

use anyhow::{Context, anyhow};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Answers a word; `None` if it is unknown.
pub type Answer = Box<dyn Fn(&str) -> Option<String>>;

/// A worker that counts, and its answers.
pub struct Job {
    /// Ends the worker.
    pub stop: Arc<AtomicBool>,
    /// The worker. It ends by itself when its work is done.
    pub worker: JoinHandle<anyhow::Result<()>>,
    /// Answers `stats` and the words of this job.
    pub answer: Answer,
}

/// Locks, even after a panic in another thread.
pub fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves at `ctl` until `stop`. Without a socket, prints the counters after the worker has ended.
pub fn run(ctl: Option<String>, job: Job) -> anyhow::Result<()> {
    let Job { stop, worker, answer } = job;
    let mut last = None;
    if let Some(path) = ctl {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| format!("listening at {path}"))?;
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut word = String::new();
            BufReader::new(&stream).read_line(&mut word)?;
            let word = word.trim();
            if word == "stop" {
                last = Some(stream);
                break;
            }
            let text = answer(word).unwrap_or_else(|| format!("\"`{word}` is unknown\""));
            // An error means that the client has closed the connection.
            let _ = stream.write_all(text.as_bytes());
        }
        let _ = std::fs::remove_file(&path);
        stop.store(true, Relaxed);
    }
    let ended = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    let text = answer("stats").unwrap_or_default();
    match (ended, last) {
        (Err(e), Some(mut stream)) => {
            stream.write_all(format!("{:?}", format!("{e:#}")).as_bytes())?;
            Err(e)
        }
        (Err(e), None) => Err(e),
        (Ok(()), Some(mut stream)) => Ok(stream.write_all(text.as_bytes())?),
        (Ok(()), None) => {
            println!("{text}");
            Ok(())
        }
    }
}

/// Sends a request to a program that serves at `path`.
pub fn request(path: &str, word: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(path).with_context(|| format!("no program serves at {path}"))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

//! How a scenario talks to a program that runs in the background: a line to its unix socket, an answer back.
//! The work is done by other threads; this one answers, and ends them when asked to `stop`.

use anyhow::{Context, anyhow};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Answers a word; `None` to one it does not know.
pub type Answer = Box<dyn Fn(&str) -> Option<String>>;

/// A worker that counts, and what it answers to a word.
pub struct Job {
    /// Tells the worker to end.
    pub stop: Arc<AtomicBool>,
    /// The worker. It ends by itself when it has nothing left to do.
    pub worker: JoinHandle<anyhow::Result<()>>,
    /// Answers `stats` and the job's own words.
    pub answer: Answer,
}

/// Locks; a panic elsewhere does not make counters unreadable.
pub fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves at `ctl` until asked to stop; without a socket, prints the counters once the worker has ended.
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
            let text = answer(word).unwrap_or_else(|| format!("\"`{word}` means nothing here\""));
            // Whoever asked may have gone.
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

/// Asks a program that serves at `path`.
pub fn ask(path: &str, word: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(path).with_context(|| format!("nobody serves at {path}"))?;
    stream.write_all(format!("{word}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

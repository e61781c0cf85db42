//! Two TCP connections between two machines: one nearly idle, one busy. The server sends back what it receives; both
//! sides compare every byte with the expected pattern. A broken connection is an error, so nothing reconnects.

use crate::args::Args;
use crate::clock::Clock;
use crate::control::{Job, lock};
use crate::kernel::Counters;
use anyhow::Context;
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The length of the pattern: a prime, so that its position in segments and pages varies.
const PATTERN: usize = 65_521;
/// The interval at which a busy connection writes.
const TICK_US: u64 = 40_000;
/// The same of an idle connection.
const IDLE_US: u64 = 1_000_000;
/// The time to wait until the last data is back.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pattern twice, so that any window of its length is contiguous.
fn pattern() -> Vec<u8> {
    let mut state = 1u32;
    let mut once: Vec<u8> = (0..PATTERN)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes, section 7.1
            (state >> 24) as u8
        })
        .collect();
    once.extend_from_within(..);
    once
}

/// The counters of a connection.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    connections: u64,
    sent: u64,
    received: u64,
    damaged: u64,
    resets: u64,
    longest_us: u64,
    us: u64,
}

impl Seen {
    fn error(&mut self, e: &io::Error) {
        let broken = matches!(
            e.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::TimedOut
        );
        self.resets += u64::from(broken);
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections, "sent": self.sent, "received": self.received, "damaged": self.damaged,
            "resets": self.resets, "longest_silence_ms": self.longest_us / 1_000, "us": self.us,
        })
    }
}

/// Counts the wrong bytes of `got`, the bytes at `offset` of the stream.
fn compare(got: &[u8], offset: u64, pattern: &[u8]) -> u64 {
    let at = (offset % PATTERN as u64) as usize;
    let expected = &pattern[at..at + got.len()];
    if got == expected { 0 } else { got.iter().zip(expected).filter(|(a, b)| a != b).count() as u64 }
}

fn report(parts: &[(&str, &Arc<Mutex<Seen>>)], before: &Counters) -> String {
    let now = Counters::now().unwrap_or_default();
    let mut all = serde_json::Map::new();
    for (name, seen) in parts {
        all.insert((*name).to_owned(), lock(seen).json());
    }
    for (key, counter) in
        [("retransmits", "RetransSegs"), ("loss_probes", "TCPLossProbes"), ("timeouts", "TCPTimeouts")]
    {
        all.insert(key.to_owned(), now.grown(before, counter).into());
    }
    Value::Object(all).to_string()
}

/// `tcp-serve`.
pub fn serve(args: &mut Args) -> anyhow::Result<Job> {
    let port: u16 = args.required("port")?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    let before = Counters::now()?;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&seen));
    let worker = std::thread::spawn(move || {
        let pattern = Arc::new(pattern());
        while !stopped.load(Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    let (counts, pattern) = (Arc::clone(&counts), Arc::clone(&pattern));
                    std::thread::spawn(move || {
                        if let Err(e) = echo(stream, &counts, &pattern) {
                            lock(&counts).error(&e);
                        }
                    });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Ok(())
    });
    let answer = move |word: &str| (word == "stats").then(|| report(&[("served", &seen)], &before));
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

/// Sends back what it receives, until the end of the stream.
fn echo(mut stream: TcpStream, counts: &Mutex<Seen>, pattern: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    lock(counts).connections += 1;
    let (mut offset, mut buffer) = (0, vec![0; 32 << 10]);
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        let damaged = compare(&buffer[..n], offset, pattern);
        offset += n as u64;
        stream.write_all(&buffer[..n])?;
        let mut seen = lock(counts);
        seen.damaged += damaged;
        seen.received += n as u64;
        seen.sent += n as u64;
    }
}

/// `tcp-hold`.
pub fn hold(args: &mut Args) -> anyhow::Result<Job> {
    let to: SocketAddr = args.required("to")?;
    let kib_s: u64 = args.optional("kib-s")?.unwrap_or(256);
    let before = Counters::now()?;
    let stop = Arc::new(AtomicBool::new(false));
    let kinds = [(1, IDLE_US), ((kib_s * 1_024 * TICK_US / 1_000_000).max(1), TICK_US)];
    let mut seen = Vec::new();
    let mut workers = Vec::new();
    for (bytes, tick_us) in kinds {
        let stream =
            TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting to {to}"))?;
        let counts = Arc::new(Mutex::new(Seen { connections: 1, ..Seen::default() }));
        seen.push(Arc::clone(&counts));
        let stop = Arc::clone(&stop);
        workers.push(std::thread::spawn(move || talk(stream, bytes as usize, tick_us, &stop, &counts)));
    }
    let worker = std::thread::spawn(move || {
        for w in workers {
            w.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
        }
        Ok(())
    });
    let answer = move |word: &str| {
        (word == "stats").then(|| report(&[("idle", &seen[0]), ("busy", &seen[1])], &before))
    };
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

/// Writes so many bytes every tick. Another thread reads the echo.
fn talk(
    stream: TcpStream,
    bytes: usize,
    tick_us: u64,
    stop: &AtomicBool,
    counts: &Arc<Mutex<Seen>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let pattern = Arc::new(pattern());
    let clock = Clock::new();
    let reader = {
        let (stream, counts, pattern) = (stream.try_clone()?, Arc::clone(counts), Arc::clone(&pattern));
        std::thread::spawn(move || read_back(stream, clock, &counts, &pattern))
    };
    let (mut writing, mut offset, mut tick) = (&stream, 0, 0);
    while !stop.load(Relaxed) && !reader.is_finished() {
        let at = offset % PATTERN;
        if let Err(e) = writing.write_all(&pattern[at..at + bytes.min(PATTERN)]) {
            lock(counts).error(&e);
            break;
        }
        offset += bytes.min(PATTERN);
        lock(counts).sent = offset as u64;
        tick = (tick + 1).max(clock.as_micros() / tick_us);
        // In short steps, so that an idle connection ends soon after `stop`.
        while clock.as_micros() < tick * tick_us && !stop.load(Relaxed) {
            clock.sleep_until((tick * tick_us).min(clock.as_micros() + 100_000));
        }
    }
    stream.set_read_timeout(Some(PATIENCE))?; // of the socket, so also of the reader
    let _ = stream.shutdown(Shutdown::Write);
    let _ = reader.join();
    Ok(())
}

fn read_back(mut stream: TcpStream, clock: Clock, counts: &Mutex<Seen>, pattern: &[u8]) {
    let (mut buffer, mut offset, mut last) = (vec![0; 32 << 10], 0, clock.as_micros());
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                let damaged = compare(&buffer[..n], offset, pattern);
                offset += n as u64;
                let now = clock.as_micros();
                let mut seen = lock(counts);
                seen.damaged += damaged;
                seen.received = offset;
                seen.longest_us = seen.longest_us.max(now - last);
                seen.us = now;
                last = now;
            }
            Err(e) => {
                lock(counts).error(&e);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_damage_at_any_offset() {
        let p = pattern();
        for offset in [0, 1, PATTERN as u64 - 1, 7 * PATTERN as u64 + 3] {
            let at = (offset % PATTERN as u64) as usize;
            let mut got = p[at..at + 1_000].to_vec();
            assert_eq!(compare(&got, offset, &p), 0);
            got[999] ^= 1;
            got[5] ^= 1;
            assert_eq!(compare(&got, offset, &p), 2);
            assert!(compare(&p[at..at + 1_000], offset + 1, &p) > 900);
        }
    }

    #[test]
    fn everything_is_echoed_and_verified() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let words =
            |text: String| Args::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap();
        let server = serve(&mut words(format!("--port {port}"))).unwrap();
        let client = hold(&mut words(format!("--to 127.0.0.1:{port} --kib-s 1000"))).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        client.stop.store(true, Relaxed);
        client.worker.join().unwrap().unwrap();
        let stats: Value = serde_json::from_str(&(client.answer)("stats").unwrap()).unwrap();
        for kind in ["idle", "busy"] {
            assert_eq!(stats[kind]["sent"], stats[kind]["received"]);
            assert!(stats[kind]["sent"].as_u64().unwrap() > 0);
            assert_eq!((&stats[kind]["damaged"], &stats[kind]["resets"]), (&json!(0), &json!(0)));
        }
        server.stop.store(true, Relaxed);
        server.worker.join().unwrap().unwrap();
        let stats: Value = serde_json::from_str(&(server.answer)("stats").unwrap()).unwrap();
        assert_eq!((&stats["served"]["connections"], &stats["served"]["damaged"]), (&json!(2), &json!(0)));
    }
}

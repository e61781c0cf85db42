//! Sends a stream at a constant rate: a small burst every tick, since a timer for each datagram would cost an emulated
//! guest more than the datagram. Datagrams that a stalled sender could not send in time are skipped: a burst has at
//! most the datagrams of `MOST_TICKS` ticks.
//!
//! With `--flows N` it sends N streams in turn, numbered upwards from `--stream`, each from a port of its own, so that
//! switches and NICs spread them over queues. The rate is that of all streams together.

use crate::args::Args;
use crate::clock::Clock;
use crate::control::{Job, lock};
use crate::datagram::{Head, LEN};
use anyhow::Context;
use serde_json::json;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const MOST_TICKS: u64 = 25;

#[derive(Debug, Default, Clone)]
struct Sent {
    /// By flow.
    sent: Vec<u64>,
    skipped: u64,
    errors: u64,
    us: u64,
    /// When the clock was 0, in microseconds since 1970.
    began_unix_us: u64,
}

impl Sent {
    fn report(&self) -> String {
        let sent: u64 = self.sent.iter().sum();
        json!({
            "sent": sent, "sent_of": self.sent, "skipped": self.skipped, "errors": self.errors, "us": self.us,
            "began_unix_us": self.began_unix_us,
        })
        .to_string()
    }
}

fn unix_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// `send`.
pub fn job(args: &mut Args) -> anyhow::Result<Job> {
    let to: SocketAddr = args.required("to")?;
    let stream: u32 = args.required("stream")?;
    let rate: u64 = args.required("rate")?;
    let size: usize = args.optional("size")?.unwrap_or(64).max(LEN);
    let tick_us: u64 = args.optional("tick-us")?.unwrap_or(2_000).max(1);
    let seconds: Option<u64> = args.optional("seconds")?;
    let flows: u32 = args.optional("flows")?.unwrap_or(1).max(1);
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let flow = |number| -> anyhow::Result<_> {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to).with_context(|| format!("towards {to}"))?;
        Ok((stream + number, socket))
    };
    let sockets: Vec<(u32, UdpSocket)> = (0..flows).map(flow).collect::<Result<_, _>>()?;

    let stop = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(Mutex::new(Sent::default()));
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&counted));
    let worker = std::thread::spawn(move || {
        let clock = Clock::new();
        let mut datagram = vec![0; size];
        let (mut offered, mut tick) = (0, 0);
        let most = (rate * tick_us * MOST_TICKS / 1_000_000).max(1);
        let mut now = Sent { sent: vec![0; sockets.len()], began_unix_us: unix_us(), ..Sent::default() };
        let mut turns = (0..sockets.len()).cycle();
        while !stopped.load(Relaxed) && seconds.is_none_or(|s| tick * tick_us < s * 1_000_000) {
            let due = rate * clock.as_micros() / 1_000_000;
            if due - offered > most {
                now.skipped += due - offered - most;
                offered = due - most;
            }
            let at = clock.as_micros();
            while offered < due {
                offered += 1;
                let turn = turns.next().unwrap_or_default();
                let (Some((stream, socket)), Some(sent)) = (sockets.get(turn), now.sent.get_mut(turn)) else {
                    continue;
                };
                if let Some(head) = datagram.first_chunk_mut::<LEN>() {
                    Head { stream: *stream, sequence: *sent, sent_us: at }.write(head);
                }
                match socket.send(&datagram) {
                    Ok(_) => *sent += 1,
                    Err(_) => now.errors += 1,
                }
            }
            now.us = clock.as_micros();
            lock(&counts).clone_from(&now);
            tick = (tick + 1).max(now.us / tick_us);
            clock.sleep_until(tick * tick_us);
        }
        Ok(())
    });
    let answer = move |word: &str| (word == "stats").then(|| lock(&counted).report());
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

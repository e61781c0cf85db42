//! Receives any number of streams at one port and keeps books of each. Its socket's buffer is so large that
//! nothing is lost there; should the kernel have to drop something all the same, it is reported as `overflown`.

use crate::args::Args;
use crate::books::Books;
use crate::clock::Clock;
use crate::control::{Job, lock};
use crate::datagram::Head;
use crate::gaps::{Arrival, Gaps, gaps};
use rustix::net::{RecvFlags, recv, sockopt};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BUFFER_BYTES: usize = 16 << 20;
/// Arrivals remembered of each stream's present period; older ones are forgotten.
const REMEMBERED: usize = 1 << 16;
/// Datagrams taken between two looks at the clock.
const BATCH: usize = 32;
/// Arrivals that `trace` prints at most, evenly chosen.
const TRACED: usize = 4_000;

#[derive(Default)]
struct Stream {
    books: Books,
    /// Of the present period, with the last arrival of the one before.
    period: VecDeque<Arrival>,
    longest: Gaps,
}

impl Stream {
    fn note(&mut self, head: Head, at_us: u64) -> bool {
        if !self.books.note(head.sequence) {
            return false;
        }
        if self.period.len() == REMEMBERED {
            self.period.pop_front();
        }
        self.period.push_back(Arrival { sequence: head.sequence, sent_us: head.sent_us, at_us });
        true
    }

    fn gaps(&mut self) -> Gaps {
        gaps(self.period.make_contiguous())
    }

    /// Ends the period.
    fn mark(&mut self) {
        let found = self.gaps();
        if found.longest_us > self.longest.longest_us {
            self.longest = found;
        }
        self.period.drain(..self.period.len().saturating_sub(1));
    }

    fn report(&mut self) -> Value {
        let Gaps { pause_us, own_us, longest_us, began_us, .. } = self.gaps();
        let ever = self.longest.longest_us.max(longest_us);
        json!({
            "received": self.books.received, "end": self.books.end, "missing": self.books.missing(),
            "duplicated": self.books.duplicated, "reordered": self.books.reordered,
            "in_period": self.period.len(), "pause_us": pause_us, "own_gap_us": own_us, "gap_us": longest_us,
            "gap_began_us": began_us, "longest_gap_us": ever,
        })
    }

    /// Arrivals of the period as `[microseconds, number]`, by a clock that went on during the pause.
    fn trace(&mut self) -> Value {
        let Gaps { pause_us, resumed, .. } = self.gaps();
        let every = self.period.len().div_ceil(TRACED).max(1);
        self.period
            .iter()
            .enumerate()
            .step_by(every)
            .map(|(n, a)| json!([a.at_us + if n >= resumed { pause_us } else { 0 }, a.sequence]))
            .collect()
    }
}

#[derive(Default)]
struct Received {
    streams: BTreeMap<u32, Stream>,
    foreign: u64,
}

impl Received {
    fn note(&mut self, datagram: &[u8], at_us: u64) {
        let noted =
            Head::read(datagram).is_some_and(|h| self.streams.entry(h.stream).or_default().note(h, at_us));
        self.foreign += u64::from(!noted);
    }

    fn report(&mut self, port: u16) -> Value {
        let streams: Map<String, Value> =
            self.streams.iter_mut().map(|(id, s)| (id.to_string(), s.report())).collect();
        json!({"streams": streams, "foreign": self.foreign, "overflown": overflown(port)})
    }
}

/// Datagrams for this port that found its socket full, by the last column of `/proc/net/udp6`.
fn overflown(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    let ends = format!(":{port:04X}");
    let ours = |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&ends));
    table.lines().find(ours).and_then(|l| l.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

/// `receive`.
pub fn job(args: &mut Args) -> anyhow::Result<Job> {
    let port: u16 = args.needed("port")?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?; // and IPv4, by mapped addresses
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;

    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(Mutex::new(Received::default()));
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&received));
    let worker = std::thread::spawn(move || {
        let clock = Clock::new();
        let mut datagram = [0; 2_048];
        while !stopped.load(Relaxed) {
            let Ok(bytes) = socket.recv(&mut datagram) else { continue };
            let now = clock.us();
            let mut counts = lock(&counts);
            counts.note(&datagram[..bytes], now);
            for _ in 1..BATCH {
                let Ok((_, bytes)) = recv(&socket, &mut datagram[..], RecvFlags::DONTWAIT) else { break };
                counts.note(&datagram[..bytes], now);
            }
        }
        Ok(())
    });
    let answer = move |word: &str| {
        let mut received = lock(&received);
        let mut words = word.split(' ');
        match (words.next(), words.next()) {
            (Some("stats"), None) => Some(received.report(port).to_string()),
            (Some("mark"), None) => {
                let text = received.report(port).to_string();
                received.streams.values_mut().for_each(Stream::mark);
                Some(text)
            }
            (Some("trace"), Some(id)) => {
                Some(received.streams.get_mut(&id.parse().ok()?)?.trace().to_string())
            }
            _ => None,
        }
    };
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::LEN;

    fn datagram(stream: u32, sequence: u64) -> [u8; LEN] {
        let mut out = [0; LEN];
        Head { stream, sequence, sent_us: sequence * 1_000 }.write(&mut out);
        out
    }

    #[test]
    fn keeps_streams_apart_and_counts_across_marks() {
        let mut r = Received::default();
        for n in [0, 1, 2] {
            r.note(&datagram(1, n), n * 1_000 + 5);
        }
        r.note(&datagram(2, 1), 50);
        r.note(b"something else", 60);
        let report = r.report(9);
        assert_eq!(report["foreign"], 1);
        assert_eq!(report["streams"]["1"]["received"], 3);
        assert_eq!(report["streams"]["2"]["missing"], 1);
        r.streams.values_mut().for_each(Stream::mark);
        r.note(&datagram(1, 3), 30_005);
        r.note(&datagram(1, 3), 30_006);
        let report = r.report(9);
        // The gap since the last arrival before the mark counts, in the period after it.
        assert_eq!(report["streams"]["1"]["gap_us"], 28_000);
        assert_eq!(report["streams"]["1"]["duplicated"], 1);
        assert_eq!(report["streams"]["1"]["received"], 4);
    }

    #[test]
    fn forgets_old_arrivals_but_not_what_was_counted() {
        let mut s = Stream::default();
        for n in 0..REMEMBERED as u64 + 10 {
            assert!(s.note(Head { stream: 1, sequence: n, sent_us: n }, n));
        }
        assert_eq!(s.period.len(), REMEMBERED);
        assert_eq!(s.books.received, REMEMBERED as u64 + 10);
        assert!(s.trace().as_array().unwrap().len() <= TRACED);
    }
}

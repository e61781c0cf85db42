//! Receives any number of streams at a port, with counters for each. The buffer of its socket is large enough not to
//! lose datagrams; drops of the kernel there are reported as `overflown`.
//!
//! The clock of a guest stands still during its migration, so gaps are shorter by this clock. Therefore it can echo its
//! datagrams to an observer: a receiver that does not migrate, whose gaps are those of the guest in real time.

use crate::args::Args;
use crate::clock::Clock;
use crate::control::{Job, lock};
use crate::datagram::{Head, LEN};
use rustix::net::{RecvFlags, recv, sockopt};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stopover_guest_tools::sequence::SequenceTracker;

const BUFFER_BYTES: usize = 16 << 20;
/// The most arrivals that are kept of a stream's present period.
const REMEMBERED: usize = 1 << 16;
/// Datagrams received with one reading of the clock and one echo per stream.
const BATCH: usize = 32;
/// The most arrivals that `trace` prints, evenly chosen.
const TRACED: usize = 4_000;

/// Late datagrams of a stream that are remembered.
const LATE: usize = 16;

/// The longest time between two arrivals, and its beginning.
#[derive(Debug, Default, Clone, Copy)]
struct Gap {
    us: u64,
    began_us: u64,
    /// The most by which such a time exceeded the time between their sendings: pauses of the sender do not count.
    late_us: u64,
}

#[derive(Default)]
struct Stream {
    sequences: SequenceTracker,
    /// The times of arrival and of sending of the last datagram.
    last_us: Option<(u64, u64)>,
    gap: Gap,
    longest_us: u64,
    /// The first that came after a later one: (time of sending, number, number of the later one).
    late: Vec<(u64, u64, u64)>,
    /// (time, number) of the arrivals in the present period.
    period: VecDeque<(u64, u64)>,
}

impl Stream {
    fn record(&mut self, Head { sequence, sent_us, .. }: Head, at_us: u64) -> bool {
        let reordered = self.sequences.reordered;
        if !self.sequences.record(sequence) {
            return false;
        }
        if self.sequences.reordered > reordered && self.late.len() < LATE {
            self.late.push((sent_us, sequence, self.sequences.end - 1));
        }
        if let Some((began_us, sent_before_us)) = self.last_us.replace((at_us, sent_us)) {
            let us = at_us.saturating_sub(began_us);
            if us > self.gap.us {
                (self.gap.us, self.gap.began_us) = (us, began_us);
            }
            let senders_us = sent_us.saturating_sub(sent_before_us);
            self.gap.late_us = self.gap.late_us.max(us.saturating_sub(senders_us));
        }
        if self.period.len() == REMEMBERED {
            self.period.pop_front();
        }
        self.period.push_back((at_us, sequence));
        true
    }

    /// Ends the period. A gap that continues counts in the next one.
    fn mark(&mut self) {
        self.longest_us = self.longest_us.max(self.gap.us);
        self.gap = Gap::default();
        self.period.clear();
    }

    fn report(&self) -> Value {
        json!({
            "received": self.sequences.received, "end": self.sequences.end, "missing": self.sequences.missing(),
            "duplicated": self.sequences.duplicated, "reordered": self.sequences.reordered,
            "in_period": self.period.len(), "gap_us": self.gap.us, "gap_began_us": self.gap.began_us,
            "late": self.late, "late_us": self.gap.late_us, "longest_gap_us": self.longest_us.max(self.gap.us),
        })
    }

    fn trace(&self) -> Value {
        let every = self.period.len().div_ceil(TRACED).max(1);
        self.period.iter().step_by(every).map(|(at_us, sequence)| json!([at_us, sequence])).collect()
    }
}

#[derive(Default)]
struct Received {
    streams: BTreeMap<u32, Stream>,
    foreign: u64,
}

impl Received {
    fn record(&mut self, datagram: &[u8], at_us: u64) -> Option<Head> {
        let head =
            Head::read(datagram).filter(|h| self.streams.entry(h.stream).or_default().record(*h, at_us));
        self.foreign += u64::from(head.is_none());
        head
    }

    fn report(&self, port: u16) -> Value {
        let streams: Map<String, Value> =
            self.streams.iter().map(|(id, s)| (id.to_string(), s.report())).collect();
        json!({"streams": streams, "foreign": self.foreign, "overflown": socket_drops(port)})
    }
}

/// Datagrams that found the socket full: the last column of `/proc/net/udp6`.
fn socket_drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp6").unwrap_or_default();
    let ends = format!(":{port:04X}");
    let ours = |line: &&str| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&ends));
    table.lines().find(ours).and_then(|l| l.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

/// `receive`.
pub fn job(args: &mut Args) -> anyhow::Result<Job> {
    let port: u16 = args.required("port")?;
    let observer: Option<SocketAddr> = args.optional("echo-to")?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?; // and IPv4, by mapped addresses
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let echo = observer.map(Echo::new).transpose()?;

    let stop = Arc::new(AtomicBool::new(false));
    let received = Arc::new(Mutex::new(Received::default()));
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&received));
    let worker = std::thread::spawn(move || {
        let clock = Clock::new();
        let mut datagram = [0; 2_048];
        let mut newest = BTreeMap::new();
        while !stopped.load(Relaxed) {
            let Ok(bytes) = socket.recv(&mut datagram) else { continue };
            let now = clock.as_micros();
            let mut counts = lock(&counts);
            newest.extend(counts.record(&datagram[..bytes], now).map(|h| (h.stream, h)));
            for _ in 1..BATCH {
                let Ok((_, bytes)) = recv(&socket, &mut datagram[..], RecvFlags::DONTWAIT) else { break };
                newest.extend(counts.record(&datagram[..bytes], now).map(|h| (h.stream, h)));
            }
            drop(counts);
            if let Some(echo) = &echo {
                newest.values().for_each(|head| echo.send(head));
            }
            newest.clear();
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
            (Some("trace"), Some(id)) => Some(received.streams.get(&id.parse().ok()?)?.trace().to_string()),
            _ => None,
        }
    };
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

/// Sends the header of each stream's newest datagram to the observer.
struct Echo(UdpSocket);

impl Echo {
    fn new(observer: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let observer = match observer {
            SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            v6 => v6,
        };
        socket.connect(observer)?;
        Ok(Self(socket))
    }

    fn send(&self, head: &Head) {
        let mut datagram = [0; LEN];
        head.write(&mut datagram);
        // A lost one appears as a gap at the observer.
        let _ = self.0.send(&datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(stream: u32, sequence: u64) -> [u8; LEN] {
        let mut out = [0; LEN];
        Head { stream, sequence, sent_us: sequence * 700 }.write(&mut out);
        out
    }

    #[test]
    fn counts_each_stream_across_marks() {
        let mut r = Received::default();
        for n in [0, 1, 2] {
            r.record(&datagram(1, n), n * 1_000 + 5);
        }
        r.record(&datagram(2, 1), 50);
        assert_eq!(r.record(b"something else", 60), None);
        let report = r.report(9);
        assert_eq!(report["foreign"], 1);
        assert_eq!(report["streams"]["1"]["received"], 3);
        assert_eq!(report["streams"]["1"]["gap_us"], 1_000);
        assert_eq!(report["streams"]["1"]["late_us"], 300);
        assert_eq!(report["streams"]["2"]["missing"], 1);
        r.streams.values_mut().for_each(Stream::mark);
        r.record(&datagram(1, 3), 30_005);
        r.record(&datagram(1, 3), 30_006);
        r.streams.values_mut().for_each(Stream::mark);
        r.record(&datagram(1, 4), 30_106);
        let report = &r.report(9)["streams"]["1"];
        assert_eq!((&report["gap_us"], &report["gap_began_us"]), (&json!(100), &json!(30_006)));
        // From the last arrival before the first mark to the first after it.
        assert_eq!(report["longest_gap_us"], 28_000);
        assert_eq!((&report["duplicated"], &report["received"]), (&json!(1), &json!(5)));
        assert_eq!(r.streams[&1].trace(), json!([[30_106, 4]]));
        r.record(&datagram(1, 7), 30_200);
        r.record(&datagram(1, 6), 30_201);
        assert_eq!(r.report(9)["streams"]["1"]["late"], json!([[4_200, 6, 7]]));
    }

    #[test]
    fn drops_old_arrivals_but_keeps_the_counters() {
        let mut s = Stream::default();
        for n in 0..REMEMBERED as u64 + 10 {
            assert!(s.record(Head { stream: 1, sequence: n, sent_us: n }, n));
        }
        assert_eq!(s.period.len(), REMEMBERED);
        assert_eq!(s.sequences.received, REMEMBERED as u64 + 10);
        assert!(s.trace().as_array().unwrap().len() <= TRACED);
    }
}

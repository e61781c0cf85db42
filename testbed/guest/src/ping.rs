//! Pings at a constant rate and counts answers: missing, duplicated, late. The kernel's ICMP datagram sockets fill in
//! identifier and checksum (RFC 792, RFC 4443 section 4).

use crate::args::Args;
use crate::clock::Clock;
use crate::control::{Job, lock};
use anyhow::Context;
use rustix::net::{AddressFamily, SocketType, ipproto};
use serde_json::json;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stopover_guest_tools::sequence::SequenceTracker;

/// The ICMP header, the whole number and the time of sending.
const LEN: usize = 24;
/// The time to wait for the last answers.
const PATIENCE_US: u64 = 2_000_000;

#[derive(Debug, Default)]
struct Pinged {
    sent: u64,
    errors: u64,
    sequences: SequenceTracker,
    longest_us: u64,
}

impl Pinged {
    fn is_answered(&self) -> bool {
        self.sequences.received >= self.sent
    }

    fn report(&self) -> String {
        json!({
            "sent": self.sent, "errors": self.errors, "received": self.sequences.received,
            "lost": self.sent.saturating_sub(self.sequences.received), "duplicated": self.sequences.duplicated,
            "reordered": self.sequences.reordered, "longest_ms": self.longest_us / 1_000,
        })
        .to_string()
    }
}

/// `ping`.
pub fn job(args: &mut Args) -> anyhow::Result<Job> {
    let to: IpAddr = args.required("to")?;
    let rate: u64 = args.optional("rate")?.unwrap_or(100).max(1);
    // These sockets need this setting. It may be set already, or not be writable.
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket: UdpSocket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol))
        .context("no ICMP socket: see net.ipv4.ping_group_range")?
        .into();
    socket.connect(SocketAddr::new(to, 0)).with_context(|| format!("towards {to}"))?;

    let stop = Arc::new(AtomicBool::new(false));
    let pinged = Arc::new(Mutex::new(Pinged::default()));
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&pinged));
    let worker = std::thread::spawn(move || {
        let clock = Clock::new();
        let (mut tick, mut end) = (0, None);
        loop {
            let now = clock.as_micros();
            if stopped.load(Relaxed) && end.is_none() {
                end = Some(now + PATIENCE_US);
            }
            match end {
                None if now >= tick * 1_000_000 / rate => {
                    tick = (tick + 1).max(now * rate / 1_000_000);
                    let mut counts = lock(&counts);
                    match socket.send(&echo_request(request, counts.sent, now)) {
                        Ok(_) => counts.sent += 1,
                        Err(_) => counts.errors += 1,
                    }
                }
                Some(end) if now >= end || lock(&counts).is_answered() => return Ok(()),
                _ => {}
            }
            let next = end.unwrap_or(tick * 1_000_000 / rate).saturating_sub(clock.as_micros()).max(1_000);
            socket.set_read_timeout(Some(Duration::from_micros(next)))?;
            let mut answer = [0; 256];
            if let Ok(n) = socket.recv(&mut answer)
                && let Some((number, sent_us)) = read_reply(&answer[..n], reply)
            {
                let mut counts = lock(&counts);
                counts.sequences.record(number);
                counts.longest_us = counts.longest_us.max(clock.as_micros().saturating_sub(sent_us));
            }
        }
    });
    let answer = move |word: &str| (word == "stats").then(|| lock(&pinged).report());
    Ok(Job { stop, worker, answer: Box::new(answer) })
}

fn echo_request(kind: u8, number: u64, now_us: u64) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[0] = kind;
    out[6..8].copy_from_slice(&(number as u16).to_be_bytes());
    out[8..16].copy_from_slice(&number.to_be_bytes());
    out[16..].copy_from_slice(&now_us.to_be_bytes());
    out
}

fn read_reply(bytes: &[u8], kind: u8) -> Option<(u64, u64)> {
    let (_, data) = bytes.split_first_chunk::<8>()?;
    let (number, data) = data.split_first_chunk::<8>()?;
    let (sent, _) = data.split_first_chunk::<8>()?;
    (bytes[0] == kind).then_some((u64::from_be_bytes(*number), u64::from_be_bytes(*sent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_the_number_of_its_request() {
        let mut bytes = echo_request(8, 70_000, 5);
        assert_eq!(bytes[6..8], (70_000u32 as u16).to_be_bytes());
        assert_eq!(read_reply(&bytes, 0), None);
        bytes[0] = 0;
        assert_eq!(read_reply(&bytes, 0), Some((70_000, 5)));
        assert_eq!(read_reply(&bytes[..23], 0), None);
    }
}

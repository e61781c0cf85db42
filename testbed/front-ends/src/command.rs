//! Commands and answers, each a line of JSON.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::features::Feature;
use crate::flows::Count;

/// A command.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Makes a front end. Answered by `added` when its link is up.
    Add(Box<Add>),
    /// Ends a front end. Answered by `removed`.
    Remove(Remove),
    /// Uses another number of queue pairs, as `ethtool -L` in a guest. Answered by `enabled`.
    Enable(Enable),
    /// Sends frames. Answered by `sent` at its end.
    Send(Send),
    /// Ends sending.
    Stop {},
    /// Answered by `stats`.
    Stats {},
}

/// A front end to make.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Its name.
    pub name: String,
    /// The socket of the back end, which may be made later.
    pub socket: PathBuf,
    /// The back end connects to the socket, which this program makes.
    #[serde(default)]
    pub listen: bool,
    /// Its MAC.
    pub mac: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Features that the back end must offer.
    #[serde(default = "features")]
    pub features: Vec<Feature>,
    /// Queue pairs.
    #[serde(default = "one")]
    pub pairs: u16,
    /// The pairs that it enables, from the first on, and uses.
    #[serde(default = "one")]
    pub enabled: u16,
    /// Descriptors of each ring.
    #[serde(default = "ring")]
    pub ring: u16,
    /// Bytes of each buffer.
    #[serde(default = "buffer")]
    pub buffer: u32,
    /// The page of 4 KiB in its memory that its rings begin at.
    #[serde(default)]
    pub page: u16,
    /// Its memory is of huge pages.
    #[serde(default)]
    pub huge: bool,
    /// Time for its link to come up.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// What Linux asks for, without offloads.
fn features() -> Vec<Feature> {
    vec![Feature::MrgRxbuf]
}

fn one() -> u16 {
    1
}

/// QEMU's default.
fn ring() -> u16 {
    256
}

fn buffer() -> u32 {
    2048
}

fn timeout_ms() -> u64 {
    10_000
}

impl Add {
    /// Its MAC in bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn mac(&self) -> anyhow::Result<[u8; 6]> {
        let bytes: Option<Vec<u8>> = self
            .mac
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
            .collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .with_context(|| format!("{}: six bytes with colons were expected as MAC", self.mac))
    }
}

/// A front end to end.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Its name.
    pub name: String,
    /// Closes the connection without stopping the rings, as a VMM that crashes.
    #[serde(default)]
    pub abrupt: bool,
}

/// The queue pairs to use.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enable {
    /// The front end.
    pub name: String,
    /// How many, from the first on. Those that are used no more are disabled when the back end has taken their frames.
    pub pairs: u16,
}

/// Frames to send.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Pairs of a sender and a receiver, which have been added and can be removed meanwhile. They send bursts in turn.
    pub flows: Vec<(String, String)>,
    /// Frames per second in sum.
    pub pps: f64,
    /// For how long; until `stop` if not given.
    pub seconds: Option<f64>,
    /// Frames of a burst.
    #[serde(default = "burst")]
    pub burst: u16,
    /// Bursts that are sent late if this program had no CPU when they were due; those beyond are not sent.
    #[serde(default = "backlog")]
    pub backlog: u64,
    /// Bytes of a frame.
    #[serde(default = "size")]
    pub size: usize,
    /// The checksum is left to the device.
    #[serde(default)]
    pub unfinished: bool,
}

fn burst() -> u16 {
    32
}

fn backlog() -> u64 {
    8
}

fn size() -> usize {
    crate::frame::MIN_LEN
}

impl Send {
    /// Checks it.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.flows.is_empty() || !(1.0..1e9).contains(&self.pps) || !(1..=1024).contains(&self.burst) {
            bail!("flows, a rate from 1 to 1e9 and a burst from 1 to 1024 were expected");
        }
        if self.seconds.is_some_and(|s| !(0.0..1e6).contains(&s)) {
            bail!("at most 1e6 seconds were expected");
        }
        Ok(())
    }
}

/// An answer.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// The program has started.
    Ready,
    /// A front end's link is up.
    Added {
        /// Its name.
        name: String,
        /// From the command until the back end had enabled the rings.
        setup_ms: f64,
        /// From the command until the back end took the first frame.
        link_ms: f64,
        /// The features in use.
        features: u64,
    },
    /// The back end has enabled so many queue pairs of a front end, and no others.
    Enabled {
        /// Its name.
        name: String,
        /// How many.
        pairs: u16,
    },
    /// A front end is no more.
    Removed {
        /// Its name.
        name: String,
    },
    /// Sending has ended.
    Sent(Sent),
    /// The counters since the start.
    Stats {
        /// In sum.
        total: Count,
        /// By front end, also of those that were removed.
        front_ends: Vec<Row>,
    },
    /// Something has failed.
    Error {
        /// The front end that it concerns.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What.
        error: String,
    },
}

/// What became of the frames of a `send`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Sent {
    /// Since its begin.
    #[serde(flatten)]
    pub count: Count,
    /// Its time.
    pub seconds: f64,
    /// Frames per second that were sent.
    pub pps: f64,
    /// Frames that found the sender's own ring full, and were not sent.
    pub refused: u64,
    /// Frames that were due while this program had no CPU, and were not sent.
    pub skipped: u64,
    /// The longest time between two rounds over all rings. Receive rings may have been full meanwhile.
    pub longest_round_us: f64,
    /// The part of the time in rounds without work: the reserve of this program.
    pub spare_percent: f64,
}

/// The counters of a front end.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Whether it is there now.
    pub up: bool,
    /// Its counters.
    #[serde(flatten)]
    pub count: Count,
}

/// Reads a line.
///
/// # Errors
/// It is no command.
pub fn parse(line: &str) -> anyhow::Result<Command> {
    let command: Command = serde_json::from_str(line).with_context(|| format!("not a command: {line}"))?;
    match &command {
        Command::Add(add) if !(1..=add.pairs).contains(&add.enabled) => {
            bail!("{} enables {} of {} queue pairs", add.name, add.enabled, add.pairs)
        }
        Command::Send(send) => send.check()?,
        _ => (),
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_a_guest_of_one_queue() {
        let line = r#"{"add": {"name": "a", "socket": "/s", "mac": "02:00:00:00:00:0a", "ip": "10.0.0.1"}}"#;
        let Command::Add(add) = parse(line).unwrap() else { panic!("no add") };
        assert_eq!(add.mac().unwrap(), [2, 0, 0, 0, 0, 10]);
        assert_eq!(
            (add.pairs, add.enabled, add.ring, add.buffer, add.listen, add.huge),
            (1, 1, 256, 2048, false, false)
        );
        assert_eq!(add.features, [Feature::MrgRxbuf]);
        for mac in ["2:0:0:0:0:1", "02:00:00:00:00", "02:00:00:00:00:01:02", "0g:00:00:00:00:01"] {
            assert!(Add { mac: mac.into(), ..(*add).clone() }.mac().is_err(), "{mac}");
        }
    }

    #[test]
    fn senseless_commands_are_refused() {
        for line in [
            "",
            "{}",
            r#"{"stats": {"all": true}}"#,
            r#"{"remove": {}}"#,
            r#"{"send": {"flows": [], "pps": 1}}"#,
            r#"{"send": {"flows": [["a", "b"]], "pps": 0}}"#,
            r#"{"send": {"flows": [["a", "b"]], "pps": 1, "burst": 0}}"#,
            r#"{"send": {"flows": [["a", "b"]], "pps": 1, "seconds": -1}}"#,
            r#"{"add": {"name": "a", "socket": "/s", "mac": "", "ip": "10.0.0.1", "pairs": 1, "enabled": 2}}"#,
            r#"{"add": {"name": "a", "socket": "/s", "mac": "", "ip": "10.0.0.1", "enabled": 0}}"#,
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse(r#"{"stop": {}}"#).unwrap(), Command::Stop {});
    }

    #[test]
    fn an_answer_names_itself() {
        let answer = Answer::Error { name: None, error: "x".into() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"answer":"error","error":"x"}"#);
        assert_eq!(serde_json::to_string(&Answer::Ready).unwrap(), r#"{"answer":"ready"}"#);
    }
}

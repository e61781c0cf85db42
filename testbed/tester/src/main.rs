//! The tester of the bench: it sends frames at a constant rate to one port of a device under test (DUT) and receives
//! them at the other. Each frame has a sequence number and its time of sending, so lost, duplicated, reordered and late
//! frames are counted exactly. It reads only the last bytes of frames, so it depends neither on the DUT nor on the
//! tunnel.
//!
//! One thread does all, pinned to the CPU of EAL's `--lcores`. It reads trials from standard input, a line of JSON each
//! ([`trial::Trial`]), and answers each with a line ([`report::Report`]). The usual testers, TRex and MoonGen, are not
//! in Debian.

#![deny(unsafe_code)]

mod flows;
mod ports;
mod report;
mod stamp;
mod trial;

use anyhow::{Context, bail};
use clap::Parser;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

/// Sends and receives at a constant rate. Reads trials and writes reports as lines of JSON.
#[derive(Parser)]
struct Args {
    /// A port, as a DPDK vdev; to be given twice. In trials the first is 0 and the second is 1.
    #[arg(long = "port", value_name = "VDEV", required = true)]
    ports: Vec<String>,
    /// Frames to send, with their name in trials.
    #[arg(long = "flows", value_name = "NAME=PCAP", required = true, value_parser = parse_named)]
    flows: Vec<(String, PathBuf)>,
    /// Descriptors of each ring.
    #[arg(long, default_value_t = 1024)]
    descriptors: u16,
    /// Trials can leave checksums to the devices.
    #[arg(long)]
    checksums: bool,
    /// Arguments for EAL, without the ports.
    #[arg(last = true)]
    eal: Vec<String>,
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("NAME=PCAP was expected")?;
    Ok((name.to_owned(), path.into()))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.ports.len() != 2 {
        bail!("two ports were expected, {} were given", args.ports.len());
    }
    let mut flows = BTreeMap::new();
    for (name, path) in args.flows {
        let read = flows::read(&path).with_context(|| format!("flows of {}", path.display()))?;
        flows.insert(name, read);
    }
    let mut lab = ports::Lab::start(args.eal, &args.ports, args.descriptors, args.checksums)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "ready": args.ports }))?;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let trial: trial::Trial =
            serde_json::from_str(&line).with_context(|| format!("not a trial: {line}"))?;
        let frames =
            flows.get(&trial.flows).with_context(|| format!("no flows are called {}", trial.flows))?;
        let report = trial::run(&trial, number as u16, frames, &mut lab)?;
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}

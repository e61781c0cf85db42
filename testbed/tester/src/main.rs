//! The bench's tester: sends frames at a constant rate into one port of a device under test and receives them at
//! another. Each frame carries a sequence number and the time at which it was sent, so that what was lost, doubled,
//! overtaken or late is known exactly. It knows nothing of the device, nor of tunnels: it looks at the last bytes of
//! frames alone.
//!
//! One thread does all, pinned to the CPU that EAL's `--lcores` names. It reads trials from standard input, one line
//! of JSON each ([`trial::Trial`]), and answers each by a line ([`report::Report`]). TRex and MoonGen, which others use
//! for this, are not in Debian.

#![deny(unsafe_code)]

mod flows;
mod pace;
mod ports;
mod report;
mod stamp;
mod trial;

use anyhow::{Context, bail};
use clap::Parser;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

/// Sends and receives at a constant rate; trials come as lines of JSON on standard input, reports go out so.
#[derive(Parser)]
struct Args {
    /// A port, as a DPDK vdev; given twice. Trials call the first 0 and the second 1.
    #[arg(long = "port", value_name = "VDEV", required = true)]
    ports: Vec<String>,
    /// Frames to send, by a name for the trials.
    #[arg(long = "flows", value_name = "NAME=PCAP", required = true, value_parser = named)]
    flows: Vec<(String, PathBuf)>,
    /// Descriptors of each ring.
    #[arg(long, default_value_t = 1024)]
    descriptors: u16,
    /// Arguments for EAL, without the ports.
    #[arg(last = true)]
    eal: Vec<String>,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
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
    let mut lab = ports::Lab::start(args.eal, &args.ports, args.descriptors)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "ready": args.ports }))?;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line?;
        let wants: trial::Trial =
            serde_json::from_str(&line).with_context(|| format!("not a trial: {line}"))?;
        let frames =
            flows.get(&wants.flows).with_context(|| format!("no flows are called {}", wants.flows))?;
        let report = trial::run(&wants, number as u16, frames, &mut lab)?;
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}

//! The program that the testbed runs in its guests, which have only busybox besides. It is static. It sends and
//! receives UDP streams with sequence numbers, verifies the data of TCP connections, and pings; and it has counters for
//! all that. It does not depend on Stopover, QEMU or a scenario.
//!
//! The clock of a guest stands still during its migration, unlike those of its peers: see `receive`.

mod args;
mod clock;
mod control;
mod datagram;
mod kernel;
mod ping;
mod receive;
mod send;
mod tcp;

use anyhow::bail;
use std::process::ExitCode;

const USAGE: &str = "usage:
  guest-tools send     --to IP:PORT --stream N --rate FRAMES/S [--size BYTES] [--tick-us US] [--seconds S]
                       [--flows N]
  guest-tools receive  --port PORT [--echo-to IP:PORT]
  guest-tools tcp-serve --port PORT
  guest-tools tcp-hold --to IP:PORT [--kib-s RATE]
  guest-tools ping     --to IP [--rate PER_S]
  guest-tools ask      SOCKET WORD...
Each but `ask` takes --ctl SOCKET and answers there until `stop`: its counters for `stats`; `receive` also has `mark`
(ends a period and begins a new one) and `trace STREAM` (the arrivals of the present period).";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("guest-tools: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> anyhow::Result<()> {
    let Some((what, rest)) = words.split_first() else { bail!("{USAGE}") };
    if what == "ask" {
        let Some((socket, words)) = rest.split_first() else { bail!("{USAGE}") };
        println!("{}", control::request(socket, &words.join(" "))?);
        return Ok(());
    }
    let mut args = args::Args::parse(rest)?;
    let ctl = args.optional("ctl")?;
    let job = match what.as_str() {
        "send" => send::job(&mut args)?,
        "receive" => receive::job(&mut args)?,
        "tcp-serve" => tcp::serve(&mut args)?,
        "tcp-hold" => tcp::hold(&mut args)?,
        "ping" => ping::job(&mut args)?,
        _ => bail!("{USAGE}"),
    };
    args.finish()?;
    control::run(ctl, job)
}

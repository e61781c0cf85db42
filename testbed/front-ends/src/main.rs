//! Many vhost-user front ends in one process: what VMMs and their guests' drivers are to a back end, without guests. Each
//! has a socket, memory and rings of its own, by rust-vmm's crates. They send frames to each other through the back end
//! and count, by the sequence numbers in the frames, what arrives.
//!
//! One thread polls all rings and sends. It reads commands from standard input, a line of JSON each
//! ([`command::Command`]), and writes answers to standard output. Front ends are set up and ended by other threads, so
//! that frames flow meanwhile. It ends with its standard input.

#![deny(unsafe_code)]

mod command;
mod engine;
mod features;
mod flows;
mod frame;
mod front_end;
mod job;
mod memory;
mod ring;
mod session;

use std::io::BufRead;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use engine::{Engine, Event};

/// Serves many vhost-user front ends. Reads commands and writes answers as lines of JSON.
#[derive(Parser)]
struct Args {}

/// A front end has four files: its socket, its memory and two of events.
fn allow_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, most).context("raising the limit of open files")
}

fn main() -> anyhow::Result<()> {
    Args::parse();
    allow_files()?;
    let (reports, events) = mpsc::channel();
    let lines = reports.clone();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(Event::Line(line)).is_err() {
                return;
            }
        }
        let _ = lines.send(Event::End);
    });
    Engine::new(events, reports).run()
}

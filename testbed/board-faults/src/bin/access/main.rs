//! Tries every call of the board for every kind of caller, and beside them whoever must not be admitted. Then replaces
//! certificates and keys under good clients.
//!
//!     access --dir DIR --tls ADDRESS --enrol ADDRESS --plain ADDRESS --unix PATH --users OPERATOR OBSERVER HOST STRANGER
//!         --descriptor FILE --rounds 3
//!
//! The last line is JSON: `attempts`, `allowed_wrongly`, `refused_wrongly`, `unclear`, `rotation_lost` and what was tried
//! beside them; `refused_peers`: how often each reason must be in the board's metrics.

#![allow(clippy::print_stdout, reason = "a tool of the testbed, which prints")]

mod credentials;
mod ground;
mod impostors;
mod matrix;
mod place;
mod rotation;
mod running;
mod score;
mod table;
mod watcher;
mod wire;

use anyhow::Context;
use clap::Parser;
use place::Place;
use rotation::Rotated;
use score::Score;
use std::path::PathBuf;
use table::Who;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    place: Place,
    /// The descriptor of the .proto files, by `protoc --descriptor_set_out`.
    #[arg(long)]
    descriptor: PathBuf,
    /// How often certificates are replaced.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// Only passes bytes on, as the user that it runs as.
#[derive(Parser)]
struct Relay {
    #[arg(long)]
    relay: PathBuf,
}

async fn run(Args { place, descriptor, rounds }: Args) -> anyhow::Result<()> {
    let descriptor = std::fs::read(&descriptor).with_context(|| format!("{}", descriptor.display()))?;
    let rpcs = table::rpcs(&descriptor)?;
    let mut score = Score::default();
    let mut ground = matrix::ground(&place).await?;
    matrix::known(&place, &rpcs, &mut ground, &mut score).await?;
    matrix::newcomers(&place, &rpcs, &ground, &mut score).await?;
    let reasons = matrix::unknown(&place, &rpcs, &ground, &mut score).await?;
    matrix::second_instance(&place, &mut ground, &mut score).await?;
    impostors::boards(&place, &mut score).await?;
    impostors::boards_for_newcomers(&place, &mut score).await?;
    impostors::the_board(&place).await?;
    let revoked = running::revoked(&place, &rpcs, &mut score).await?;
    let Rotated { rotations, calls, connections, frames, reconnected, lost, seconds } =
        rotation::rotate(&place, rounds).await?;
    let Score { attempts, allowed, allowed_wrongly, refused_wrongly, unclear } = score;
    let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("\"{reason}\": {n}")).collect();
    println!(
        "{{\"rpcs\": {}, \"callers\": {}, \"attempts\": {attempts}, \"of_these_allowed\": {allowed}, \
         \"allowed_wrongly\": {allowed_wrongly}, \"refused_wrongly\": {refused_wrongly}, \"unclear\": {unclear}, \
         \"revoked_s_max\": {:.2}, \"rotations\": {rotations}, \"rotation_lost\": {lost}, \"calls\": {calls}, \
         \"calls_per_s\": {:.0}, \"connections\": {connections}, \"frames\": {frames}, \"reconnected\": {reconnected}, \
         \"refused_peers\": {{{}}}}}",
        rpcs.len(),
        Who::ALL.len(),
        revoked.as_secs_f64(),
        calls as f64 / seconds,
        reasons.join(", ")
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|first| first == "--relay") {
        return Ok(wire::relay(&Relay::parse().relay)?);
    }
    run(Args::parse()).await
}

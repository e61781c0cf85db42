//! The core protocols under loom, which runs every interleaving of two threads (up to a number of
//! preemptions) and every value that the memory orders allow a load to return.
//!
//! The table sources are compiled here a second time, against loom's atomics: what is checked is the code
//! that runs, and plain `cargo test` checks it. `LOOM_MAX_PREEMPTIONS=5 cargo test model` looks
//! deeper.
#![allow(dead_code, unused_imports)] // the models use a part of the sources
#![allow(clippy::duplicate_mod)] // compiled a second time on purpose

#[path = "../../../migration/barrier.rs"]
mod barrier;
#[path = "../../map64/bucket.rs"]
mod bucket;
#[path = "../../cell.rs"]
mod cell;
#[path = "../../epoch.rs"]
mod epoch;
#[path = "../../map64/mod.rs"]
mod map64;
mod sync;

mod barrier_protocol;
mod bucket_protocol;
mod epoch_protocol;
mod map_protocol;

/// Runs `body` in every interleaving with at most `preemptions`, or as many as `LOOM_MAX_PREEMPTIONS` says.
fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 100_000;
    builder.check(body);
}

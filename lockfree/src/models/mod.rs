//! The core protocols under loom, which runs every interleaving of two threads (up to a number of
//! preemptions) and every value that the memory orders allow a load to return. Plain `cargo test` checks
//! them; `LOOM_MAX_PREEMPTIONS=5 cargo test -p stopover-lockfree models` looks deeper.
//!
//! A unit test of this crate that uses an atomic outside of [`explore`] panics.

mod barrier;
mod bucket;
mod epoch;
mod map;

/// Runs `body` in every interleaving with at most `preemptions`, or as `LOOM_MAX_PREEMPTIONS` sets.
fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 100_000;
    builder.check(body);
}

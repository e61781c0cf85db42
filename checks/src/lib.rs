//! Checks of this repository that no compiler makes. The rules and the tests that apply them to the repository are in
//! `tests/`; this crate finds the violations, and its own tests show that it does.

pub mod crates;
pub mod modules;
mod source;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

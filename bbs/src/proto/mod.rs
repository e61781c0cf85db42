//! The types of the wire, generated from `proto/stopover/v1/*.proto`, and their conversion to and from the
//! [`crate::model`]: [`parse`] (wire to model: everything is checked, errors name the field) and [`emit`] (model to wire:
//! cannot fail).

pub mod batch;
pub mod board;
mod details;
pub mod emit;
pub mod features;
mod fields;
pub mod migration;
pub mod parse;

/// Generated. The `.proto` file is the documentation.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("stopover.v1");
}

/// Largest message that either side accepts; lists and snapshots are sent in pieces far below it.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Metadata entry of a refusal's status with the reason in one word; the words are listed in the `.proto`.
pub const REASON: &str = "stopover-reason";

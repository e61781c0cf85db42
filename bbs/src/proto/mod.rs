//! The wire's types, generated from `proto/stopover/v1/board.proto`, and the two doors between them and the
//! [`crate::model`]: [`parse`] (in: everything checked, errors name the field) and [`emit`] (out: cannot fail).

pub mod batch;
pub mod board;
pub mod emit;
pub mod migration;
pub mod parse;

/// Generated. The `.proto` file is the documentation.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("stopover.v1");
}

/// Largest message that either side accepts; lists and snapshots are sent in pieces far below it.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Metadata entry of a refusal's status that says why in one word; the words are listed in the `.proto`.
pub const REASON: &str = "stopover-reason";

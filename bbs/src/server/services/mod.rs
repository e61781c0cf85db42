//! The gRPC services, one for each kind of caller, and the one service of before. Every message is checked by
//! [`crate::proto::parse`] first, so that a malformed one changes nothing. Every call that changes something is passed to
//! the engine.

mod before;
mod host;
mod observer;
mod operator;

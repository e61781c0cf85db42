//! Configuration for both programs, and the field's newtypes that everything else is built on.
//!
//! Text comes in (RON files, CSV bulk files, command-line words) and validated types go out: whoever
//! holds one of these types need not check it again. Nothing here knows DPDK, sockets or the board.

pub mod net;

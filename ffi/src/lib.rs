//! The room where DPDK is made safe: bindings, a C shim for its inline functions, and owners of what it
//! hands out. Enters: EAL arguments, device names, bytes. Leaves: [`Mbuf`]s, bursts, counters, [`Error`]s that
//! say how to mend them. Knows no protocol, makes no forwarding decision, and is the only crate of the
//! workspace where `unsafe` is at home.
//!
//! Who owns what:
//! - [`Eal`] is the process's one DPDK instance, and stays on the thread that started it.
//! - [`Mempool`], [`Port`] and queues keep the EAL alive; it is cleaned up when the last of them is gone.
//! - An [`Mbuf`] owns its chain of segments, and gives it up by being sent or by being dropped: exactly once.
//! - An [`RxQueue`] or [`TxQueue`] is one owner's: not `Clone`, not `Sync`, used through `&mut self`.

pub mod burst;
pub mod cycles;
pub mod device;
pub mod eal;
pub mod error;
pub mod event;
mod layout;
pub mod lcore;
pub mod mbuf;
pub mod mempool;
pub mod pdump;
pub mod port;
pub mod queue;
pub mod vhost;

/// What bindgen made of `csrc/shim.h`: DPDK as it is. Everything else in this crate is built on it.
#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
pub mod sys {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use burst::{BURST_MAX, Burst};
pub use device::{Device, DeviceInfo, Offloads};
pub use eal::Eal;
pub use error::{Error, ErrorKind};
pub use event::PortEvent;
pub use lcore::{LcoreId, LcoreJob};
pub use mbuf::{Csum, IpHeader, L4Offload, Mbuf, RxFlags, TxOffload, Unfinished};
pub use mempool::Mempool;
pub use pdump::Pdump;
pub use port::{Granted, LinkState, Port, PortConfig, PortStats, Queues};
pub use queue::{RxQueue, TxQueue};
pub use vhost::{VhostPort, VhostState};

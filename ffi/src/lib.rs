//! Safe owners of the objects of DPDK and ipsec-mb, built on the bindings of `dpdk-sys`. Enters: EAL arguments, device
//! names, bytes, keys. Leaves: [`Mbuf`]s, bursts, counters, sealed texts, and [`Error`]s with a hint for the operator.
//! Knows no protocol and makes no forwarding decision. With `dpdk-sys`, the only home of `unsafe` in the workspace.
//!
//! Who owns what:
//! - [`Eal`] is the process's one DPDK instance, and remains on the thread that started it.
//! - [`Mempool`], [`Port`] and queues keep the EAL alive; it is cleaned up when the last of them is dropped.
//! - An [`Mbuf`] owns its chain of segments, and gives it up by being sent or by being dropped: exactly once.
//! - An [`RxQueue`] or [`TxQueue`] is one owner's: not `Clone`, not `Sync`, used through `&mut self`.
//! - A [`Gcm`] is one lcore's, too; a [`GcmKey`] is shared, and returns its slot to its [`KeyMemory`], wiped.

pub mod burst;
pub mod cipher;
pub mod cycles;
pub mod device;
pub mod eal;
pub mod error;
mod ethdev;
pub mod event;
pub mod hotplug;
mod layout;
pub mod lcore;
pub mod log;
pub mod mbuf;
pub mod mempool;
pub mod pdump;
pub mod port;
pub mod queue;
pub mod vhost;

use dpdk_sys as sys;

pub use burst::{BURST_MAX, Burst};
pub use cipher::{Gcm, GcmFailure, GcmKey, KeyMemory, KeyMemoryStats};
pub use device::{Device, DeviceInfo, MAX_DEVICES, Offloads};
pub use eal::Eal;
pub use error::{Error, ErrorKind};
pub use event::PortEvent;
pub use hotplug::{Hotplug, HotplugEvent};
pub use lcore::{LcoreId, LcoreJob};
pub use mbuf::{Csum, IpHeader, L4Offload, Mbuf, RxFlags, TxOffload, Unfinished};
pub use mempool::Mempool;
pub use pdump::Pdump;
pub use port::{Granted, LinkState, Port, PortConfig, PortStats, Queues};
pub use queue::{RxQueue, TxQueue};
pub use vhost::{GuestOffloads, VhostConfig, VhostPort, VhostState};

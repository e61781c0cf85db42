//! Keys of the configuration beside ports, lcores and declared rows: their names, their values in words, and what it
//! needs to change them.

use super::{Change, Needs, text};
use crate::{
    Endpoint,
    appliance::{Appliance, Idle, Migration, Truth, Tunnels},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use stopover_net::HostName;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `name`
    Name(HostName),
    /// `eal`
    Eal(Vec<String>),
    /// `burst`
    Burst(u16),
    /// `rxd`
    Rxd(u32),
    /// `txd`
    Txd(u32),
    /// `mbcache`
    Mbcache(u32),
    /// `mbufs`
    Mbufs(u32),
    /// `mbuf_size`
    MbufSize(u16),
    /// `idle`
    Idle(Idle),
    /// `board`; `None`: `declared`.
    Board(Option<Vec<Endpoint>>),
    /// `tls`
    Tls(Option<PathBuf>),
    /// `insecure`
    Insecure(bool),
    /// `ctl`
    Ctl(PathBuf),
    /// `metrics`
    Metrics(Option<SocketAddr>),
    /// `max_network_stations`
    MaxNetworkStations(u32),
    /// `stale_ms`
    StaleMs(u64),
    /// `checkpoint_s`
    CheckpointS(u64),
    /// `migration.hold_mib`, bytes.
    HoldBytes(usize),
    /// `migration.hold_node_mib`, bytes.
    HoldNodeBytes(usize),
    /// `migration.hold_ms`
    HoldMs(u64),
    /// `migration.window_ms`
    WindowMs(u64),
    /// `migration.marker_wait_ms`
    MarkerWaitMs(u64),
    /// `tunnels`
    Tunnels(Option<Tunnels>),
}

impl Setting {
    /// The key in the file.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Eal(_) => "eal",
            Self::Burst(_) => "burst",
            Self::Rxd(_) => "rxd",
            Self::Txd(_) => "txd",
            Self::Mbcache(_) => "mbcache",
            Self::Mbufs(_) => "mbufs",
            Self::MbufSize(_) => "mbuf_size",
            Self::Idle(_) => "idle",
            Self::Board(_) => "board",
            Self::Tls(_) => "tls",
            Self::Insecure(_) => "insecure",
            Self::Ctl(_) => "ctl",
            Self::Metrics(_) => "metrics",
            Self::MaxNetworkStations(_) => "max_network_stations",
            Self::StaleMs(_) => "stale_ms",
            Self::CheckpointS(_) => "checkpoint_s",
            Self::HoldBytes(_) => "migration.hold_mib",
            Self::HoldNodeBytes(_) => "migration.hold_node_mib",
            Self::HoldMs(_) => "migration.hold_ms",
            Self::WindowMs(_) => "migration.window_ms",
            Self::MarkerWaitMs(_) => "migration.marker_wait_ms",
            Self::Tunnels(_) => "tunnels",
        }
    }

    /// The value in words.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Eal(words) => format!("[{}]", words.join(" ")),
            Self::Burst(n) | Self::MbufSize(n) => n.to_string(),
            Self::Rxd(n) | Self::Txd(n) | Self::Mbcache(n) | Self::Mbufs(n) | Self::MaxNetworkStations(n) => {
                n.to_string()
            }
            Self::Idle(Idle::Poll) => "poll".to_owned(),
            Self::Idle(Idle::Adaptive { cap_us, poll_us }) => {
                format!("adaptive(cap_us: {cap_us}, poll_us: {poll_us})")
            }
            Self::Board(None) => "none (declared)".to_owned(),
            Self::Board(Some(endpoints)) => text::list(endpoints),
            Self::Tls(folder) => text::or(folder.as_ref().map(|folder| folder.display()), "none"),
            Self::Insecure(is) => is.to_string(),
            Self::Ctl(path) => path.display().to_string(),
            Self::Metrics(address) => text::or(*address, "none"),
            Self::StaleMs(n)
            | Self::CheckpointS(n)
            | Self::HoldMs(n)
            | Self::WindowMs(n)
            | Self::MarkerWaitMs(n) => n.to_string(),
            Self::HoldBytes(bytes) | Self::HoldNodeBytes(bytes) => (bytes >> 20).to_string(),
            Self::Tunnels(tunnels) => text::or(tunnels.as_ref().map(text::tunnels), "none"),
        }
    }

    /// What it needs to have another value.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        match self {
            Self::MaxNetworkStations(_) | Self::StaleMs(_) | Self::CheckpointS(_) | Self::WindowMs(_) => {
                Needs::Nothing
            }
            Self::Name(_)
            | Self::Eal(_)
            | Self::Burst(_)
            | Self::Rxd(_)
            | Self::Txd(_)
            | Self::Mbcache(_)
            | Self::Mbufs(_)
            | Self::MbufSize(_)
            | Self::Idle(_)
            | Self::Board(_)
            | Self::Tls(_)
            | Self::Insecure(_)
            | Self::Ctl(_)
            | Self::Metrics(_)
            | Self::HoldBytes(_)
            | Self::HoldNodeBytes(_)
            | Self::HoldMs(_)
            | Self::MarkerWaitMs(_)
            | Self::Tunnels(_) => Needs::Restart,
        }
    }

    pub(super) fn set(&self, to: &mut Appliance) {
        match self {
            Self::Name(name) => to.name = name.clone(),
            Self::Eal(words) => to.eal.clone_from(words),
            Self::Burst(n) => to.burst = *n,
            Self::Rxd(n) => to.rxd = *n,
            Self::Txd(n) => to.txd = *n,
            Self::Mbcache(n) => to.mbcache = *n,
            Self::Mbufs(n) => to.mbufs = *n,
            Self::MbufSize(n) => to.mbuf_size = *n,
            Self::Idle(idle) => to.idle = *idle,
            Self::Board(None) => to.truth = Truth::Declared(Arc::default()),
            Self::Board(Some(endpoints)) => to.truth = Truth::Board(endpoints.clone()),
            Self::Tls(folder) => to.tls.clone_from(folder),
            Self::Insecure(is) => to.insecure = *is,
            Self::Ctl(path) => to.ctl.clone_from(path),
            Self::Metrics(address) => to.metrics = *address,
            Self::MaxNetworkStations(n) => to.max_network_stations = *n,
            Self::StaleMs(n) => to.stale_ms = *n,
            Self::CheckpointS(n) => to.checkpoint_s = *n,
            Self::HoldBytes(n) => to.migration.hold_bytes = *n,
            Self::HoldNodeBytes(n) => to.migration.hold_node_bytes = *n,
            Self::HoldMs(n) => to.migration.hold_ms = *n,
            Self::WindowMs(n) => to.migration.window_ms = *n,
            Self::MarkerWaitMs(n) => to.migration.marker_wait_ms = *n,
            Self::Tunnels(tunnels) => to.tunnels.clone_from(tunnels),
        }
    }
}

/// All of a configuration, always in the same order.
fn settings(of: &Appliance) -> Vec<Setting> {
    let Appliance {
        name,
        eal,
        // With the ports.
        vdevs: _,
        burst,
        rxd,
        txd,
        mbcache,
        mbufs,
        mbuf_size,
        idle,
        truth,
        tls,
        insecure,
        ctl,
        metrics,
        max_network_stations,
        stale_ms,
        checkpoint_s,
        migration,
        tunnels,
        // These have changes of their own.
        ports: _,
        lcores: _,
    } = of;
    let Migration { hold_bytes, hold_node_bytes, hold_ms, window_ms, marker_wait_ms } = migration;
    let board = match truth {
        Truth::Board(endpoints) => Some(endpoints.clone()),
        Truth::Declared(_) => None,
    };
    vec![
        Setting::Name(name.clone()),
        Setting::Eal(eal.clone()),
        Setting::Burst(*burst),
        Setting::Rxd(*rxd),
        Setting::Txd(*txd),
        Setting::Mbcache(*mbcache),
        Setting::Mbufs(*mbufs),
        Setting::MbufSize(*mbuf_size),
        Setting::Idle(*idle),
        Setting::Board(board),
        Setting::Tls(tls.clone()),
        Setting::Insecure(*insecure),
        Setting::Ctl(ctl.clone()),
        Setting::Metrics(*metrics),
        Setting::MaxNetworkStations(*max_network_stations),
        Setting::StaleMs(*stale_ms),
        Setting::CheckpointS(*checkpoint_s),
        Setting::HoldBytes(*hold_bytes),
        Setting::HoldNodeBytes(*hold_node_bytes),
        Setting::HoldMs(*hold_ms),
        Setting::WindowMs(*window_ms),
        Setting::MarkerWaitMs(*marker_wait_ms),
        Setting::Tunnels(tunnels.clone()),
    ]
}

pub(super) fn changes(was: &Appliance, is: &Appliance) -> Vec<Change> {
    let pairs = settings(was).into_iter().zip(settings(is));
    pairs.filter(|(was, is)| was != is).map(|(was, is)| Change::Setting { was, is }).collect()
}

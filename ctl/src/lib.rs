//! The appliance's control API: HTTP and JSON over a Unix socket. This crate holds what both ends agree on,
//! the [`types`] and the [`path`]s, and the [`Client`]. The server is the appliance's; nothing here knows
//! DPDK or the board's protocol.

mod client;
mod lists;
pub mod types;

pub use client::{Client, ClientError};
pub use lists::{hosts as whole_hosts, networks as whole_networks, nodes as whole_nodes};
pub use types::*;

/// Where each answer is found. All are `GET` and return JSON, but for [`path::ACCEPT_BOARD`], [`path::CLEAR`],
/// [`path::RELOAD`], [`path::TAKE_OVER`], [`path::TRACE`], [`path::TUNNEL_REKEY`] and [`path::TUNNEL_CLOSE`], which are
/// `POST`. [`path::PORTS`] also takes a `POST`, and each port below it a
/// `PATCH` or `DELETE`. Bodies are JSON.
pub mod path {
    /// [`Version`](crate::Version).
    pub const VERSION: &str = "/v1/version";
    /// List of [`PortInfo`](crate::PortInfo). `POST` adds a [`PortJson`](crate::PortJson); query
    /// [`ChangeQuery`](crate::ChangeQuery), returns [`ChangeReport`](crate::ChangeReport).
    pub const PORTS: &str = "/v1/ports";
    /// A port: `PATCH` merges the body into it (RFC 7396), `DELETE` removes it. Query and answer as of [`PORTS`].
    pub const PORT: &str = "/v1/ports/{name}";
    /// [`ConfigState`](crate::ConfigState).
    pub const CONFIG: &str = "/v1/config";
    /// Reads the configuration file again. Query and answer as of [`PORTS`].
    pub const RELOAD: &str = "/v1/reload";
    /// List of [`PortStats`](crate::PortStats).
    pub const PORT_STATS: &str = "/v1/ports/stats";
    /// [`FwdStats`](crate::FwdStats).
    pub const FWD: &str = "/v1/fwd";
    /// List of [`LcoreStats`](crate::LcoreStats).
    pub const LCORES: &str = "/v1/lcores";
    /// List of [`Drop`](crate::Drop).
    pub const DROPS: &str = "/v1/drops";
    /// [`Page`](crate::Page) of [`NodeEntry`](crate::NodeEntry); query [`ListQuery`](crate::ListQuery).
    pub const NODES: &str = "/v1/nodes";
    /// [`Page`](crate::Page) of [`AddressEntry`](crate::AddressEntry); query [`ListQuery`](crate::ListQuery).
    pub const ADDRESSES: &str = "/v1/addresses";
    /// [`Page`](crate::Page) of [`HostRow`](crate::HostRow); query [`ListQuery`](crate::ListQuery).
    pub const HOSTS: &str = "/v1/hosts";
    /// [`Page`](crate::Page) of [`NetworkRow`](crate::NetworkRow); query [`ListQuery`](crate::ListQuery).
    pub const NETWORKS: &str = "/v1/networks";
    /// [`BoardState`](crate::BoardState).
    pub const BOARD: &str = "/v1/board";
    /// [`Migrations`](crate::Migrations).
    pub const MIGRATIONS: &str = "/v1/migrations";
    /// [`Page`](crate::Page) of [`TunnelInfo`](crate::TunnelInfo); query [`ListQuery`](crate::ListQuery).
    pub const TUNNELS: &str = "/v1/tunnels";
    /// [`Page`](crate::Page) of [`SaInfo`](crate::SaInfo); query [`ListQuery`](crate::ListQuery).
    pub const SAS: &str = "/v1/sas";
    /// Starts a handshake for new keys, or for the first ones. Takes nothing, returns the
    /// [`TunnelInfo`](crate::TunnelInfo) after it. It does not wait for the other host.
    pub const TUNNEL_REKEY: &str = "/v1/tunnels/{host}/rekey";
    /// Ends all sessions of the tunnel at both ends. Takes nothing, returns the [`TunnelInfo`](crate::TunnelInfo) after
    /// it. The next frame that needs the tunnel makes it anew.
    pub const TUNNEL_CLOSE: &str = "/v1/tunnels/{host}/close";
    /// Takes [`AcceptBoard`](crate::AcceptBoard), returns [`AcceptedBoard`](crate::AcceptedBoard).
    pub const ACCEPT_BOARD: &str = "/v1/board/accept";
    /// Takes [`ClearRequest`](crate::ClearRequest), returns `{}`.
    pub const CLEAR: &str = "/v1/clear";
    /// Takes [`TakeOver`](crate::TakeOver), returns [`TakenOver`](crate::TakenOver). The process ends when the other one is ready.
    pub const TAKE_OVER: &str = "/v1/take-over";
    /// Takes [`TraceRequest`](crate::TraceRequest), returns [`TraceReport`](crate::TraceReport).
    pub const TRACE: &str = "/v1/trace";
}

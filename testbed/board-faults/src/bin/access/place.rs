//! The board under test: its endpoints, its CA, and the credentials of those who call it.

use super::{
    credentials::{Ca, Pair, client},
    table::Who,
    wire::Route,
};
use clap::Args;
use std::{net::SocketAddr, path::PathBuf};
use stopover_config::Endpoint;
use stopover_pki::Role;

/// The host for which calls are made, and its number.
pub const VICTIM: (&str, u8) = ("hv-a", 1);

/// Where everything is.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// A folder with `ca`, with `board`, the credentials of the board, and with `made`, in which others are made.
    #[arg(long)]
    pub dir: PathBuf,
    /// The board's address with TLS.
    #[arg(long)]
    pub tls: SocketAddr,
    /// Its address for newcomers.
    #[arg(long)]
    pub enrol: SocketAddr,
    /// Its address with plain TCP.
    #[arg(long)]
    pub plain: SocketAddr,
    /// Its Unix socket.
    #[arg(long)]
    pub unix: PathBuf,
    /// The users of this machine that the board knows as an operator, an observer and a host, and one that it does not know.
    #[arg(long, num_args = 4)]
    pub users: Vec<u32>,
}

impl Place {
    pub fn ca(&self) -> Ca {
        Ca { folder: self.dir.join("ca") }
    }

    /// The board's folder.
    pub fn board(&self) -> PathBuf {
        self.dir.join("board")
    }

    /// The folder of somebody.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join("made").join(name)
    }

    /// Where the board listens with TLS, for the product's client.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tls { host: self.tls.ip().to_string(), port: self.tls.port() }
    }

    /// Root's way.
    pub fn root(&self) -> Route {
        Route::Unix(self.unix.clone())
    }

    /// The way of somebody with a new certificate.
    pub fn certified(&self, role: Role, name: &str) -> anyhow::Result<Route> {
        let folder = self.folder(name);
        self.ca().issue(role, name, &folder)?;
        self.with(Some(Pair::load(&folder)?))
    }

    /// The way of somebody with whatever certificate.
    pub fn with(&self, pair: Option<Pair>) -> anyhow::Result<Route> {
        Ok(Route::Tls(self.tls, client(&self.ca(), pair)?))
    }

    /// The way of each kind of caller that the board knows.
    pub fn route(&self, who: Who) -> anyhow::Result<Route> {
        let user = |number: usize| {
            let uid = self.users.get(number).copied().unwrap_or(u32::MAX - 1);
            Route::UnixAs(self.unix.clone(), uid)
        };
        Ok(match who {
            Who::Host => self.certified(Role::Host, VICTIM.0)?,
            Who::OtherHost => self.certified(Role::Host, "hv-b")?,
            Who::Operator => self.certified(Role::Operator, "alice")?,
            Who::Observer => self.certified(Role::Observer, "bob")?,
            Who::Program => self.certified(Role::Program, "libvirt")?,
            Who::Member => self.certified(Role::Member, "laptop-1")?,
            Who::Unproven => Route::Plain(self.plain),
            Who::Root => self.root(),
            Who::UnixOperator => user(0),
            Who::UnixObserver => user(1),
            Who::UnixHost => user(2),
            Who::Stranger => user(3),
        })
    }
}

//! `pki …`: the commands of a private CA.

use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;
use stopover_net::HostName;
use stopover_pki::{Role, Serial};

/// `pki …`
#[derive(Debug, Args)]
pub struct Pki {
    /// Folder of the CA.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/etc/stopover/ca")]
    pub ca: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// The word after `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a CA in a folder that has none.
    Init(CaDays),
    /// Issue a certificate and its key, into a folder for their holder. If that is the holder's folder already, both are
    /// replaced.
    Issue {
        /// What the holder is: board, host, operator, observer, program or member.
        role: Role,
        /// The holder's name; a host's as in its configuration.
        name: HostName,
        /// The holder's folder.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// For how long.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
        days: u32,
    },
    /// Revoke certificates: all of one holder, or the one with a serial number.
    #[command(group = ArgGroup::new("which").required(true).args(["role", "serial"]))]
    Revoke {
        /// What the holder is.
        #[arg(requires = "name")]
        role: Option<Role>,
        /// The holder's name.
        #[arg(requires = "role")]
        name: Option<HostName>,
        /// Only this certificate, by its number in `pki list`.
        #[arg(long)]
        serial: Option<Serial>,
    },
    /// List the certificates.
    List,
    /// Change the CA's key: begin with a new one beside the old one, or with --finish forget the old one.
    Rotate {
        #[command(flatten)]
        days: CaDays,
        /// Forget the old key.
        #[arg(long)]
        finish: bool,
        /// Forget it even though somebody has no certificate of the new key, and is shut out then.
        #[arg(long, requires = "finish")]
        force: bool,
    },
}

/// Of a CA's certificate.
#[derive(Debug, Clone, Copy, Args)]
pub struct CaDays {
    /// For how long; no certificate that it signs is valid for longer.
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

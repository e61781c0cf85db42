//! What may grow on the board, and how far. Enters: the key `limits` of its file. Leaves: [`Limits`], one number for each
//! [`Limit`]. A limit that is reached is answered with [`Exceeded`], and nothing else changes.

use crate::{fault::Checked, read};
use serde::Deserialize;
use std::fmt;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident $limit:ident: $default:literal, $range:expr, $unit:literal;)*) => {
        /// A limit of the board.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Limit {
            $($(#[doc = $doc])+ $limit,)*
        }

        impl Limit {
            /// Every limit.
            pub const ALL: &'static [Self] = &[$(Self::$limit),*];

            /// Its key in the file.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$limit => stringify!($name),)*
                }
            }
        }

        /// All limits of a board.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// The number of a limit.
            #[must_use]
            pub fn of(&self, limit: Limit) -> u64 {
                match limit {
                    $(Limit::$limit => self.$name,)*
                }
            }
        }

        #[derive(Deserialize, Default)]
        #[serde(rename = "limits", deny_unknown_fields, default)]
        pub(crate) struct RawLimits {
            $($name: Option<i64>,)*
        }

        impl RawLimits {
            pub fn validate(self) -> Checked<Limits> {
                Ok(Limits {
                    $($name: read::number(
                        concat!("limits.", stringify!($name)), self.$name, $default, $range, $unit,
                    )?,)*
                })
            }
        }
    };
}

limits! {
    /// Hosts, up or down.
    hosts Hosts: 65_536, 1..=1_000_000, "hosts";
    /// Networks, declared or in use.
    networks Networks: 1_000_000, 1..=16_777_215, "networks";
    /// Nodes in all.
    nodes Nodes: 20_000_000, 1..=100_000_000, "nodes";
    /// Nodes that one host has claimed.
    nodes_per_host NodesPerHost: 1_000_000, 1..=100_000_000, "nodes";
    /// Nodes of one network that hosts have claimed or the operator has declared.
    nodes_per_network NodesPerNetwork: 10_000_000, 1..=100_000_000, "nodes";
    /// Networks of which one host is a member.
    networks_per_host NetworksPerHost: 100_000, 1..=16_777_215, "networks";
    /// Active migrations.
    migrations Migrations: 10_000, 1..=1_000_000, "migrations";
    /// Open connections.
    connections Connections: 8_192, 8..=1_000_000, "connections";
    /// Open connections of one address, or of one user of this machine.
    connections_per_peer ConnectionsPerPeer: 4_096, 1..=1_000_000, "connections";
    /// Requests of one caller in a second.
    requests_per_s RequestsPerSecond: 10_000, 1..=1_000_000, "requests";
    /// Requests of one caller that wait for the board.
    queued_per_caller QueuedPerCaller: 1_024, 1..=65_536, "requests";
    /// Open watches and event streams of one caller.
    watches_per_caller WatchesPerCaller: 4_096, 1..=1_000_000, "watches";
    /// Networks that one watch follows by number.
    watched_networks WatchedNetworks: 100_000, 1..=16_777_215, "networks";
    /// Lists and backups in all that are being read.
    lists Lists: 128, 1..=256, "lists";
    /// Lists and backups of one caller that are being read.
    lists_per_caller ListsPerCaller: 32, 1..=256, "lists";
    /// Loads that are being received.
    loads Loads: 4, 1..=64, "loads";
    /// Rows of one load.
    load_rows LoadRows: 20_000_000, 1..=100_000_000, "rows";
}

/// A limit that a request would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Which.
    pub limit: Limit,
    /// What there would be.
    pub found: u64,
    /// What there may be.
    pub most: u64,
}

impl Limits {
    /// Whether there may be `found` of what `limit` counts.
    pub fn check(&self, limit: Limit, found: u64) -> Result<(), Exceeded> {
        let most = self.of(limit);
        if found <= most { Ok(()) } else { Err(Exceeded { limit, found, most }) }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, found, most } = self;
        let name = limit.name();
        let remedy = match limit {
            Limit::RequestsPerSecond | Limit::QueuedPerCaller => "call again later",
            Limit::LoadRows => "load them in several parts",
            _ => "remove or close what is not needed",
        };
        write!(
            f,
            "{name}: found {found}; expected at most {most}; hint: {remedy}, or raise `limits.{name}` in the board's file"
        )
    }
}

impl std::error::Error for Exceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_up_to_its_number() {
        let limits = Limits { nodes_per_host: 2, ..Limits::default() };
        assert_eq!(limits.check(Limit::NodesPerHost, 2), Ok(()));
        let exceeded = limits.check(Limit::NodesPerHost, 3).unwrap_err();
        let expected = "nodes_per_host: found 3; expected at most 2; hint: remove or close what is not needed, or raise \
                        `limits.nodes_per_host` in the board's file";
        assert_eq!(exceeded.to_string(), expected);
    }

    #[test]
    fn every_default_is_documented() {
        let docs = include_str!("../../docs/configuration.md");
        for limit in Limit::ALL {
            let row = format!("| `{}` | {} |", limit.name(), Limits::default().of(*limit));
            assert!(docs.contains(&row), "docs/configuration.md lacks {row}");
        }
    }
}

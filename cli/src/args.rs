//! The command line: words and options, in testpmd's words where it has them. Parsing only; whatever leaves
//! this module has valid types. [`board`] has the commands for the board's tables, [`port`] those for an appliance's
//! ports.

mod board;
mod pki;
mod port;

pub use board::{Host, Member, Migration, Network, Node, Which};
pub use pki::{Enrol, Pki, PkiCommand, TokenCommand};
pub use port::{AddPort, Port, SetPort};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use stopover_config::Endpoint;
use stopover_ctl::ChangeQuery;
use stopover_net::{HostName, Mac, Vni};

/// Operate Stopover: look into an appliance, follow frames, and keep the board's tables.
#[derive(Debug, Parser)]
#[command(name = "stopover", version, after_help = ENVIRONMENT)]
pub struct Cli {
    /// Control socket of the appliance [default: the only one in /run/stopover].
    #[arg(long, global = true, value_name = "PATH")]
    pub ctl: Option<PathBuf>,
    /// Board: https://host:port, unix:/path or http://host:port.
    #[arg(long, global = true, value_name = "URL")]
    pub board: Option<Endpoint>,
    /// Folder of your credentials, for a board at https.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub tls: Option<PathBuf>,
    /// Permit a board at http, where anyone who reaches its port may do anything.
    #[arg(long, global = true)]
    pub insecure: bool,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const ENVIRONMENT: &str = "Environment:\n  STOPOVER_CTL    used when --ctl is not given\n  STOPOVER_BOARD  used when --board is not given\n  STOPOVER_TLS    used when --tls is not given\n  STOPOVER_INSECURE=1  as --insecure";

/// The first word.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what an appliance or the board knows.
    #[command(subcommand)]
    Show(Show),
    /// Which board an appliance follows.
    #[command(subcommand, name = "board")]
    FollowBoard(FollowBoard),
    /// Add, change and remove ports of a running appliance.
    #[command(subcommand)]
    Port(Port),
    /// Have the appliance read its configuration file again, and change to it without a restart. All of it is checked
    /// before the first change is made.
    Reload(Change),
    /// Set counters of the appliance to zero.
    #[command(subcommand)]
    Clear(Clear),
    /// Follow one frame through the appliance's stages and print what happened to it and why.
    Trace(Trace),
    /// Encrypted tunnels of the appliance to other hosts.
    #[command(subcommand)]
    Tunnel(Tunnel),
    /// Hosts the operator declares at the board.
    #[command(subcommand)]
    Host(Host),
    /// Networks at the board.
    #[command(subcommand)]
    Network(Network),
    /// Nodes the operator declares at the board.
    #[command(subcommand)]
    Node(Node),
    /// Members (hosts that want flooded frames) the operator declares at the board.
    #[command(subcommand)]
    Member(Member),
    /// Migrations of VMs: lock, complete, abort, and what became of them.
    #[command(subcommand)]
    Migration(Migration),
    /// Keep a private CA: certificates for the board, its hosts and operators.
    Pki(Pki),
    /// Get this machine's first certificate by a token, from the board's endpoint for that (--board). The key is made here.
    Enrol(Enrol),
    /// Events at the board: hosts up and down, conflicts, operator's changes.
    Events {
        /// Wait for further events.
        #[arg(long, short)]
        follow: bool,
        /// Only events after this number.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: u64,
    },
}

/// Options of a change that may concern several ports.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Change {
    /// Only print what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Allow that ports are closed and opened again: their guests lose the link meanwhile.
    #[arg(long)]
    pub reopen: bool,
}

impl From<Change> for ChangeQuery {
    fn from(Change { dry_run, reopen }: Change) -> Self {
        Self { dry_run, reopen }
    }
}

/// `tunnel …`
#[derive(Debug, Subcommand)]
pub enum Tunnel {
    /// Have the keys of the tunnel to a host replaced now, without a frame lost. Does not wait for the other host.
    Rekey {
        /// The other host.
        host: HostName,
    },
    /// Close the tunnel to a host, at both ends. The next frame that needs it makes it anew.
    Close {
        /// The other host.
        host: HostName,
    },
}

/// `board …`
#[derive(Debug, Subcommand)]
pub enum FollowBoard {
    /// Have the appliance follow another board, which answers in place of the one it followed. It takes that board's
    /// state over: nodes which no host claims there again within `stale_ms` are forgotten.
    Accept {
        /// Id of that board, as `show board` prints it; without it, the board that answers now.
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
}

/// `show …`
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Ports of the appliance.
    #[command(subcommand)]
    Port(ShowPort),
    /// Forwarding of the appliance.
    #[command(subcommand)]
    Fwd(FwdStats),
    /// Nodes the appliance has (or with --board, the board).
    Nodes(ScopeArgs),
    /// Hosts the appliance has (or with --board, the board).
    Hosts,
    /// Networks the appliance has (or with --board, the board).
    Networks(ScopeArgs),
    /// Worker lcores of the appliance.
    Lcores,
    /// Why the appliance dropped frames.
    Drops {
        /// Also the reasons for which nothing was dropped.
        #[arg(long)]
        all: bool,
    },
    /// Migrating nodes and what is held for them (or with --board, the board's migrations).
    Migrations,
    /// Encrypted tunnels to other hosts.
    Tunnels,
    /// Security associations of the tunnels: the keys in use, without the keys.
    Sas,
    /// The appliance's connection to the board (or with --board, the board itself).
    Board,
    /// The appliance's version.
    Version,
}

/// `show port …`
#[derive(Debug, Subcommand)]
pub enum ShowPort {
    /// Counters of the device.
    Stats(PortName),
    /// Driver, link, queues, role.
    Info(PortName),
}

/// `… fwd …`
#[derive(Debug, Subcommand)]
pub enum FwdStats {
    /// Counters of forwarding.
    Stats(All),
}

/// A port or all.
#[derive(Debug, Args)]
pub struct PortName {
    /// `all`, or a port's name in the configuration.
    #[arg(value_name = "all|NAME")]
    pub port: String,
}

impl PortName {
    /// The name; `None` for all.
    pub fn name(&self) -> Option<&str> {
        (self.port != "all").then_some(self.port.as_str())
    }
}

/// The word that testpmd's syntax has where there is no choice.
#[derive(Debug, Args)]
pub struct All {
    /// `all`
    #[arg(value_name = "all", value_parser = ["all"], default_value = "all")]
    pub all: String,
}

/// Limits a table to one network.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Only this network.
    #[arg(long)]
    pub vni: Option<Vni>,
}

/// `clear …`
#[derive(Debug, Subcommand)]
pub enum Clear {
    /// Counters of ports.
    #[command(subcommand)]
    Port(ClearPort),
    /// Counters of forwarding, lcores and drops.
    #[command(subcommand)]
    Fwd(FwdStats),
}

/// `clear port …`
#[derive(Debug, Subcommand)]
pub enum ClearPort {
    /// Counters of the device.
    Stats(PortName),
}

/// `trace …`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["hex", "pcap", "capture"]))]
pub struct Trace {
    /// Ingress port of the frame.
    #[arg(long, value_name = "NAME")]
    pub port: String,
    /// The frame in hexadecimal, from the destination MAC on, without FCS. Nothing is sent.
    #[arg(long, value_name = "DIGITS")]
    pub hex: Option<String>,
    /// The first, or the Nth, frame of a pcap or pcapng file. Nothing is sent.
    #[arg(long, value_name = "FILE[:N]")]
    pub pcap: Option<String>,
    /// The next frame that passes the port. It is forwarded as usual.
    #[arg(long)]
    pub capture: bool,
    /// Capture only frames from this MAC.
    #[arg(long, conflicts_with_all = ["hex", "pcap"], value_name = "MAC")]
    pub src_mac: Option<Mac>,
    /// Capture only frames to this MAC.
    #[arg(long, conflicts_with_all = ["hex", "pcap"], value_name = "MAC")]
    pub dst_mac: Option<Mac>,
    /// How long to wait for a frame.
    #[arg(long, conflicts_with_all = ["hex", "pcap"], value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use stopover_net::FloodPolicy;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn testpmds_words() {
        let cli = parse("stopover show port stats all").unwrap();
        assert!(matches!(cli.command, Command::Show(Show::Port(ShowPort::Stats(p))) if p.name().is_none()));
        let cli = parse("stopover show port info vm1 --json --ctl /x.sock").unwrap();
        assert!(cli.json && cli.ctl == Some("/x.sock".into()));
        assert!(
            matches!(cli.command, Command::Show(Show::Port(ShowPort::Info(p))) if p.name() == Some("vm1"))
        );
        for line in [
            "show fwd stats all",
            "show migrations",
            "show tunnels",
            "show sas",
            "tunnel close hv-b",
            "clear port stats all",
            "clear port stats vm1",
            "clear fwd stats all",
        ] {
            parse(&format!("stopover {line}")).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        assert!(parse("stopover show fwd stats some").is_err());
    }

    #[test]
    fn options_are_valid_after_any_word_and_checked() {
        let cli = parse("stopover --board unix:/b.sock show nodes --vni 100").unwrap();
        assert_eq!(cli.board, Some(Endpoint::Unix("/b.sock".into())));
        assert!(matches!(cli.command, Command::Show(Show::Nodes(s)) if s.vni == Vni::new(100).ok()));
        assert!(parse("stopover show nodes --vni 16777216").unwrap_err().contains("expected 1 to 16777215"));
        assert!(parse("stopover --board host:1 show hosts").unwrap_err().contains("begins neither"));
    }

    #[test]
    fn tunnels_are_named_by_host() {
        let cli = parse("stopover tunnel rekey hv-b").unwrap();
        assert!(matches!(cli.command, Command::Tunnel(Tunnel::Rekey { host }) if host.as_str() == "hv-b"));
        assert!(parse("stopover tunnel rekey").is_err());
        assert!(parse("stopover tunnel close hv/b").unwrap_err().contains("host name"));
    }

    #[test]
    fn trace_wants_one_source() {
        assert!(parse("stopover trace --port vm1").is_err());
        assert!(parse("stopover trace --port vm1 --hex ff --capture").is_err());
        assert!(parse("stopover trace --port vm1 --hex ff --src-mac 02:00:00:00:00:01").is_err());
        let cli =
            parse("stopover trace --port vm1 --capture --dst-mac 02:00:00:00:00:01 --timeout 3").unwrap();
        let Command::Trace(t) = cli.command else { panic!("not a trace") };
        assert_eq!((t.timeout, t.dst_mac), (3, Some(Mac::new([2, 0, 0, 0, 0, 1]))));
    }

    #[test]
    fn migrations_are_named_by_number_or_node() {
        let cli =
            parse("stopover migration begin --node 7/52:54:00:00:00:01 --node 8/52:54:00:00:00:02 --from a");
        assert!(
            matches!(cli.unwrap().command, Command::Migration(Migration::Begin { nodes, to: None, lease: 600, .. }) if nodes.len() == 2)
        );
        assert!(parse("stopover migration abort").is_err());
        assert!(parse("stopover migration abort 3 --node 7/52:54:00:00:00:01").is_err());
        assert!(parse("stopover migration complete --node 7 --at b").unwrap_err().contains("VNI/MAC"));
        let cli = parse("stopover migration complete --node 7/52:54:00:00:00:01 --at b").unwrap();
        assert!(
            matches!(cli.command, Command::Migration(Migration::Complete { which, .. }) if which.id.is_none())
        );
    }

    #[test]
    fn declarations() {
        let cli = parse("stopover host add far --vtep 10.0.0.2 --vtep fd00::2").unwrap();
        assert!(
            matches!(cli.command, Command::Host(Host::Add { vteps, udp_port, .. }) if vteps.len() == 2 && udp_port == 4789)
        );
        assert!(parse("stopover host add far").is_err());
        let cli = parse("stopover network add 7 --flood to-segments --mtu 1450").unwrap();
        assert!(
            matches!(cli.command, Command::Network(Network::Add { flood, .. }) if flood == FloodPolicy::ToSegments)
        );
        assert!(parse("stopover network add 7 --mtu 100").unwrap_err().contains("576 to 65535"));
        assert!(parse("stopover node add 7 ff:ff:ff:ff:ff:ff far").unwrap_err().contains("unicast"));
        let cli = parse("stopover node add 7 02:00:00:00:00:01 far --ip 192.168.0.1").unwrap();
        assert!(matches!(cli.command, Command::Node(Node::Add { ips, .. }) if ips.len() == 1));
        let cli =
            parse("stopover node add 7 02:00:00:00:00:01 far --shared-ip 192.168.0.9 --shared-ip fd00::9")
                .unwrap();
        assert!(
            matches!(cli.command, Command::Node(Node::Add { ips, shared_ips, .. }) if ips.is_empty() && shared_ips.len() == 2)
        );
        parse("stopover member add 7 far --segment").unwrap();
        parse("stopover member load m.csv").unwrap();
        parse("stopover events --follow --after 12").unwrap();
    }
}

//! Which calls there are, and who may make them. Enters: the descriptor of the `.proto` files. Leaves: every call, and for
//! each caller what is expected. The table is that of docs/protocol.md, written by hand and not taken from the board's
//! code: so the two can differ, and a call that is new has no expectation before it is listed here.

use anyhow::{Context, ensure};
use prost::Message;
use prost_types::FileDescriptorSet;
use std::{collections::BTreeSet, fmt};

/// The package of all services.
const PACKAGE: &str = "stopover.v1";

/// Who may: `h` the host itself, `o` an operator, `b` an observer, `p` a program, `m` a member.
const MAY: &[(&str, &str, &[&str])] = &[
    (
        "HostService",
        "h",
        &[
            "Register",
            "Heartbeat",
            "Deregister",
            "Claim",
            "Withdraw",
            "Join",
            "Leave",
            "SyncClaims",
            "BeginMigration",
            "CompleteMigration",
            "AbortMigration",
            "ReportMigration",
            "Watch",
        ],
    ),
    ("OperatorService", "o", &["Declare", "Delete", "Load", "Backup"]),
    ("OperatorService", "op", &["BeginMigration", "CompleteMigration", "AbortMigration"]),
    ("ObserverService", "hobpm", &["Info"]),
    ("ObserverService", "hobp", &["ListWatchers"]),
    (
        "ObserverService",
        "obp",
        &["ListHosts", "ListNetworks", "ListMembers", "ListNodes", "ListMigrations", "Events", "Watch"],
    ),
    // At an endpoint of its own alone.
    ("EnrolService", "", &["Enrol"]),
];
/// The service of programs of before has every call under the same name.
const BEFORE: &str = "Board";

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rpc {
    pub service: String,
    pub method: String,
}

impl fmt::Display for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.method)
    }
}

impl Rpc {
    /// Its path in HTTP/2.
    pub fn path(&self) -> String {
        format!("/{PACKAGE}.{}/{}", self.service, self.method)
    }

    /// Whether it is of newcomers.
    pub fn is_enrol(&self) -> bool {
        self.service == "EnrolService"
    }

    /// The service whose rule it has, for a caller that makes it as a host or not.
    fn rule(&self, as_host: bool) -> Option<(&'static str, &'static str)> {
        let of = |service: &str| {
            MAY.iter()
                .find(|(s, _, methods)| *s == service && methods.contains(&self.method.as_str()))
                .map(|(service, may, _)| (*service, *may))
        };
        match (self.service.as_str(), as_host) {
            (BEFORE, true) => ["HostService", "OperatorService", "ObserverService"].into_iter().find_map(of),
            (BEFORE, false) => ["OperatorService", "ObserverService", "HostService"].into_iter().find_map(of),
            (service, _) => of(service),
        }
    }

    /// What is expected when `who` makes the call for a host: for its own one, if it has one.
    pub fn expected(&self, who: Who) -> anyhow::Result<Expected> {
        let (service, may) = self.rule(who.calls_as_host()).context("a call without an expectation")?;
        let of_host = service == "HostService";
        Ok(match who {
            _ if self.is_enrol() => Expected::NotServed,
            Who::Unproven | Who::Root => Expected::Pass,
            Who::Stranger => Expected::Deny,
            // An appliance of any host of this machine.
            Who::UnixHost if of_host => Expected::Pass,
            Who::OtherHost if of_host => Expected::Deny,
            _ if may.contains(who.letter()) => Expected::Pass,
            _ => Expected::Deny,
        })
    }
}

/// A kind of caller that the board knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The host for which the call is, by its certificate.
    Host,
    /// Another host.
    OtherHost,
    Operator,
    Observer,
    Program,
    Member,
    /// Over plain TCP.
    Unproven,
    /// Over a Unix socket.
    Root,
    UnixOperator,
    UnixObserver,
    UnixHost,
    /// A user of this machine that the board does not know.
    Stranger,
}

impl Who {
    pub const ALL: [Self; 12] = [
        Self::Host,
        Self::OtherHost,
        Self::Operator,
        Self::Observer,
        Self::Program,
        Self::Member,
        Self::Unproven,
        Self::Root,
        Self::UnixOperator,
        Self::UnixObserver,
        Self::UnixHost,
        Self::Stranger,
    ];

    /// As the table has it.
    fn letter(self) -> char {
        match self {
            Self::Host | Self::OtherHost => 'h',
            Self::Operator | Self::UnixOperator => 'o',
            // An appliance reads as an observer.
            Self::Observer | Self::UnixObserver | Self::UnixHost => 'b',
            Self::Program => 'p',
            Self::Member => 'm',
            Self::Unproven | Self::Root | Self::Stranger => '-',
        }
    }

    /// Whether it makes calls that hosts and operators share as a host.
    pub fn calls_as_host(self) -> bool {
        matches!(self, Self::Host | Self::OtherHost | Self::UnixHost)
    }
}

/// What a call is expected to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is executed.
    Pass,
    /// It is refused as `forbidden`, and nothing is changed.
    Deny,
    /// There is no such call at this endpoint.
    NotServed,
    /// There is no connection over which it could be made.
    NoConnection,
    /// The token is refused.
    NoToken,
    /// Another process holds the name.
    Held,
}

/// Every call of the descriptor. Each must have an expectation, and each expectation a call.
pub fn rpcs(descriptor: &[u8]) -> anyhow::Result<Vec<Rpc>> {
    let set = FileDescriptorSet::decode(descriptor).context("the descriptor of the .proto files")?;
    let mut found = Vec::new();
    for file in set.file {
        for service in file.service {
            let of = service.name().to_owned();
            for method in service.method {
                found.push(Rpc { service: of.clone(), method: method.name().to_owned() });
            }
        }
    }
    for rpc in &found {
        ensure!(rpc.rule(true).is_some(), "{rpc} has no expectation: give it one in {}", file!());
    }
    let listed = MAY.iter().flat_map(|(service, _, methods)| methods.iter().map(move |m| (*service, *m)));
    let listed: BTreeSet<_> = listed.collect();
    let present: BTreeSet<_> = found.iter().map(|rpc| (rpc.service.as_str(), rpc.method.as_str())).collect();
    for (service, method) in listed {
        ensure!(present.contains(&(service, method)), "{service}.{method} is expected, and no .proto has it");
    }
    Ok(found)
}

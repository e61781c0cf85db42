//! Who may do what. Enters: a [`Principal`], which a connection has proven, and the [`Action`] that it asks for. Leaves: a
//! decision. Pure: no connection, no configuration, no state of the board. Deny is the default: a role may do only what
//! [`Action::roles`] lists for it, and a host only what is its own.
//!
//! | Role | May |
//! |---|---|
//! | host | its own calls of HostService; Info; ListWatchers, which a client calls first on each connection |
//! | operator | everything of OperatorService and ObserverService |
//! | program | an orchestrator: migrations, and everything of ObserverService |
//! | observer | everything of ObserverService |
//! | member | Info |
//! | unproven | everything, for any host: a plain TCP connection proves nothing |
//!
//! Whether a host may end a certain migration is a rule of the board, which knows the migration.

use std::fmt;
use stopover_net::HostName;
use stopover_pki::{Identity, Role as Named};

/// The name of a principal that is no host: of a certificate, or of a user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// A user of this machine.
    #[must_use]
    pub fn of_user(uid: u32) -> Self {
        Self(if uid == 0 { "root".to_owned() } else { format!("uid {uid}") })
    }
}

impl From<HostName> for Name {
    /// Names in certificates obey the rules of host names.
    fn from(name: HostName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A host's appliance.
    Host(HostName),
    /// A person or tool that changes what the board holds.
    Operator(Name),
    /// One who reads.
    Observer(Name),
    /// An orchestrator.
    Program(Name),
    /// A machine that joins a network from behind a NAT.
    Member(Name),
    /// A plain TCP connection.
    Unproven,
}

/// What kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See [`Principal::Host`].
    Host,
    /// See [`Principal::Operator`].
    Operator,
    /// See [`Principal::Observer`].
    Observer,
    /// See [`Principal::Program`].
    Program,
    /// See [`Principal::Member`].
    Member,
    /// See [`Principal::Unproven`].
    Unproven,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] =
        &[Self::Host, Self::Operator, Self::Observer, Self::Program, Self::Member, Self::Unproven];

    /// As messages and metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => Named::Host.as_str(),
            Self::Operator => Named::Operator.as_str(),
            Self::Observer => Named::Observer.as_str(),
            Self::Program => Named::Program.as_str(),
            Self::Member => Named::Member.as_str(),
            Self::Unproven => "unproven",
        }
    }
}

impl Principal {
    /// The holder of a certificate. `None` = a board, which calls no board.
    #[must_use]
    pub fn of_certificate(Identity { role, name }: Identity) -> Option<Self> {
        Some(match role {
            Named::Board => return None,
            Named::Host => Self::Host(name),
            Named::Operator => Self::Operator(name.into()),
            Named::Observer => Self::Observer(name.into()),
            Named::Program => Self::Program(name.into()),
            Named::Member => Self::Member(name.into()),
        })
    }

    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Host(_) => Role::Host,
            Self::Operator(_) => Role::Operator,
            Self::Observer(_) => Role::Observer,
            Self::Program(_) => Role::Program,
            Self::Member(_) => Role::Member,
            Self::Unproven => Role::Unproven,
        }
    }

    /// By which events name the originator of a change without a session. Who has proven nothing has no name.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Unproven => Role::Operator.name().to_owned(),
            Self::Host(_) | Self::Operator(_) | Self::Observer(_) | Self::Program(_) | Self::Member(_) => {
                self.to_string()
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role().name();
        match self {
            Self::Host(name) => write!(f, "{role} {name}"),
            Self::Operator(name) | Self::Observer(name) | Self::Program(name) | Self::Member(name) => {
                write!(f, "{role} {name}")
            }
            Self::Unproven => f.write_str("an unproven caller"),
        }
    }
}

/// The calls of a service, by their names in the `.proto`.
macro_rules! calls {
    ($(#[$doc:meta])* $service:ident: $($call:ident)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names of the .proto, where they are described")]
        pub enum $service { $($call),* }

        impl $service {
            /// Every call.
            pub const ALL: &'static [Self] = &[$(Self::$call),*];

            /// Its name in the `.proto`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$call => stringify!($call)),* }
            }
        }
    };
}

calls! {
    /// Calls of HostService.
    HostCall: Register Heartbeat Deregister Claim Withdraw Join Leave SyncClaims BeginMigration CompleteMigration
        AbortMigration ReportMigration Watch
}
calls! {
    /// Calls of OperatorService.
    OperatorCall: Declare Delete Load Backup BeginMigration CompleteMigration AbortMigration
}
calls! {
    /// Calls of ObserverService.
    ObserverCall: Info ListHosts ListNetworks ListMembers ListNodes ListMigrations ListWatchers Events Watch
}

/// What is asked for. The one service of before is decided as the service that has replaced the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// For this host.
    Host(HostCall, &'a HostName),
    /// For no host.
    Operator(OperatorCall),
    /// Reads.
    Observer(ObserverCall),
}

impl Action<'_> {
    /// The roles that may. A new call has no roles until it is listed here.
    fn roles(&self) -> &'static [Role] {
        match self {
            Self::Host(call, _) => match call {
                HostCall::Register
                | HostCall::Heartbeat
                | HostCall::Deregister
                | HostCall::Claim
                | HostCall::Withdraw
                | HostCall::Join
                | HostCall::Leave
                | HostCall::SyncClaims
                | HostCall::BeginMigration
                | HostCall::CompleteMigration
                | HostCall::AbortMigration
                | HostCall::ReportMigration
                | HostCall::Watch => &[Role::Host, Role::Unproven],
            },
            Self::Operator(call) => match call {
                OperatorCall::Declare | OperatorCall::Delete | OperatorCall::Load | OperatorCall::Backup => {
                    &[Role::Operator, Role::Unproven]
                }
                OperatorCall::BeginMigration
                | OperatorCall::CompleteMigration
                | OperatorCall::AbortMigration => &[Role::Operator, Role::Program, Role::Unproven],
            },
            Self::Observer(call) => match call {
                ObserverCall::Info => Role::ALL,
                ObserverCall::ListWatchers => {
                    &[Role::Host, Role::Operator, Role::Observer, Role::Program, Role::Unproven]
                }
                ObserverCall::ListHosts
                | ObserverCall::ListNetworks
                | ObserverCall::ListMembers
                | ObserverCall::ListNodes
                | ObserverCall::ListMigrations
                | ObserverCall::Events
                | ObserverCall::Watch => &[Role::Operator, Role::Observer, Role::Program, Role::Unproven],
            },
        }
    }

    /// Who may, for messages. Who has proven nothing is no advice.
    fn who_may(&self) -> String {
        let roles = self.roles().iter().filter(|role| **role != Role::Unproven);
        let names: Vec<String> = roles
            .map(|role| match (self, role) {
                (Self::Host(_, host), Role::Host) => format!("host {host}"),
                (_, Role::Operator | Role::Observer) => format!("an {}", role.name()),
                _ => format!("a {}", role.name()),
            })
            .collect();
        names.join(", ")
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(call, host) => write!(f, "HostService.{} for host {host}", call.name()),
            Self::Operator(call) => write!(f, "OperatorService.{}", call.name()),
            Self::Observer(call) => write!(f, "ObserverService.{}", call.name()),
        }
    }
}

/// Who asked for what, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    who: String,
    asked: String,
    may: String,
}

impl Denied {
    /// Of a caller, as `who` describes it.
    #[must_use]
    pub fn new(who: &str, action: &Action<'_>) -> Self {
        Self { who: who.to_owned(), asked: action.to_string(), may: action.who_may() }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may not call {}; expected {}", self.who, self.asked, self.may)
    }
}

/// Whether `who` may do it.
pub fn decide(who: &Principal, action: &Action<'_>) -> Result<(), Denied> {
    let is_own = match (who, action) {
        (Principal::Host(name), Action::Host(_, host)) => name == *host,
        (Principal::Host(_), Action::Operator(_) | Action::Observer(_)) => true,
        // What other roles may do depends on no host.
        (
            Principal::Operator(_)
            | Principal::Observer(_)
            | Principal::Program(_)
            | Principal::Member(_)
            | Principal::Unproven,
            _,
        ) => true,
    };
    if is_own && action.roles().contains(&who.role()) {
        Ok(())
    } else {
        Err(Denied::new(&who.to_string(), action))
    }
}

#[cfg(test)]
mod tests;

//! Whom a connection is of. The listener puts a [`Proof`] into the extensions of every request; the door asks it for the
//! principal. A request without one is of nobody.
//!
//! A Unix socket proves the user of the process that connected (`SO_PEERCRED`). The configuration says what a user is.
//! Root and the board's own user can read and replace the store anyway: each is an operator, and may act for any host, since
//! an appliance of this machine runs as root.

use crate::access::{Action, Name, Principal};
use std::{collections::BTreeSet, fmt};
use stopover_config::bbs::UnixUsers;
use tonic::{Request, Status, service::InterceptorLayer, transport::server::UdsConnectInfo};

/// What a connection proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A process of this machine, on a Unix socket.
    Unix {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its number, if known.
        pid: Option<i32>,
    },
    /// The name in its certificate.
    Certificate(Principal),
    /// Plain TCP: nothing.
    Plain,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, .. } => write!(f, "the user {uid} of this machine"),
            Self::Certificate(principal) => principal.fmt(f),
            Self::Plain => f.write_str("a plain connection"),
        }
    }
}

/// What the users of this machine are.
#[derive(Debug, Clone)]
pub(super) struct Users {
    configured: UnixUsers,
    /// Root, and the board's own.
    trusted: BTreeSet<u32>,
}

impl Users {
    pub fn new(configured: UnixUsers) -> Self {
        Self { configured, trusted: [0, rustix::process::geteuid().as_raw()].into() }
    }

    /// As what a user asks for `action`. `None` = as nobody.
    fn principal(&self, uid: u32, action: &Action<'_>) -> Option<Principal> {
        let UnixUsers { operators, observers, hosts } = &self.configured;
        let is_trusted = self.trusted.contains(&uid);
        let is_host = is_trusted || hosts.contains(&uid);
        match action {
            Action::Host(_, host) if is_host => Some(Principal::Host((*host).clone())),
            _ if is_trusted || operators.contains(&uid) => Some(Principal::Operator(Name::of_user(uid))),
            // An appliance of any host reads as an observer: which host it is, only its own calls say.
            _ if is_host || observers.contains(&uid) => Some(Principal::Observer(Name::of_user(uid))),
            _ => None,
        }
    }
}

impl Proof {
    /// As whom the caller asks for `action`. `None` = as nobody.
    pub(super) fn principal(&self, users: &Users, action: &Action<'_>) -> Option<Principal> {
        match self {
            Self::Unix { uid, .. } => users.principal(*uid, action),
            Self::Certificate(principal) => Some(principal.clone()),
            Self::Plain => Some(Principal::Unproven),
        }
    }
}

/// Of which kind the connections of a listener are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Tls,
    Unix,
}

type Intercepted = Result<Request<()>, Status>;

/// Puts the proof into every request of a listener.
pub(super) fn layer(
    transport: Transport,
) -> InterceptorLayer<impl Fn(Request<()>) -> Intercepted + Clone + Send + Sync + 'static> {
    InterceptorLayer::new(move |mut request: Request<()>| {
        let proof = match transport {
            Transport::Tcp => Some(Proof::Plain),
            // The connection itself has it.
            Transport::Tls => request.extensions().get::<Proof>().cloned(),
            Transport::Unix => peer(&request),
        };
        if let Some(proof) = proof {
            request.extensions_mut().insert(proof);
        }
        Ok(request)
    })
}

/// What the kernel says of the peer of a Unix socket.
fn peer(request: &Request<()>) -> Option<Proof> {
    let user = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    Some(Proof::Unix { uid: user.uid(), gid: user.gid(), pid: user.pid() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{HostCall, ObserverCall, OperatorCall};
    use stopover_net::HostName;

    #[test]
    fn a_user_of_this_machine_is_what_the_configuration_says() {
        let configured =
            UnixUsers { operators: [1001].into(), observers: [1002].into(), hosts: [1003].into() };
        let users = Users { configured, trusted: [0, 990].into() };
        let host = HostName::new("hv-a").unwrap();
        let ask = |uid, action: Action<'_>| {
            let proof = Proof::Unix { uid, gid: 0, pid: None };
            proof.principal(&users, &action)
        };
        let claim = Action::Host(HostCall::Claim, &host);
        let declare = Action::Operator(OperatorCall::Declare);
        let info = Action::Observer(ObserverCall::Info);
        for uid in [0, 990] {
            assert_eq!(ask(uid, claim), Some(Principal::Host(host.clone())));
            assert_eq!(ask(uid, declare), Some(Principal::Operator(Name::of_user(uid))));
        }
        assert_eq!(ask(1001, claim), Some(Principal::Operator(Name::of_user(1001))), "it is no host");
        assert_eq!(ask(1002, declare), Some(Principal::Observer(Name::of_user(1002))));
        assert_eq!(ask(1003, claim), Some(Principal::Host(host.clone())));
        assert_eq!(ask(1003, declare), Some(Principal::Observer(Name::of_user(1003))));
        for action in [claim, declare, info] {
            assert_eq!(ask(1004, action), None);
        }
    }
}

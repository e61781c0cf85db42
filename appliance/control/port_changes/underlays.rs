//! Underlay ports that come and go. Other hosts accept tunnel packets only from addresses that the board names, and send to
//! those. So a port that comes receives before the board is told, and sends a moment later, when the hosts know it. A port
//! that goes is not sent by any more before the board is told, and receives for a moment longer. Without a board the others
//! are told by their operator.

use super::{Outcome, Step, refused};
use crate::control::{Control, plan, replica::HostRecord};
use ipnet::IpNet;
use stopover_config::appliance as config;
use stopover_ctl::ApiError;

/// How long a next hop by another port may take to answer: its requests end after 4 s.
const UNUSED_MS: u64 = 6_000;
/// How long the board may take to answer.
const REGISTER_MS: u64 = 5_000;
/// How long the board's answer may be on its way to other hosts, and frames of these to us.
const SPREAD_MS: u64 = 1_000;

/// An underlay port on its way, until a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnderlayChange {
    port: u16,
    comes: bool,
    stage: Stage,
    due_ms: u64,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Hosts are sent to by other ports. So many had no path before.
    Leaving(usize),
    /// The board is told, in the description of this number.
    Registering(u64),
    /// The others learn it from the board.
    Spreading,
}

impl Control {
    /// A port that came is made known to other hosts.
    pub(super) fn make_known(&mut self, now_ms: u64, port: u16) {
        self.register(now_ms, port, true);
    }

    /// A port goes: hosts are sent to by others.
    pub(super) fn begin_removing_underlay(&mut self, now_ms: u64, port: u16, name: &str) -> Outcome {
        let change = UnderlayChange {
            port,
            comes: false,
            stage: Stage::Leaving(self.unreached()),
            due_ms: now_ms + UNUSED_MS,
        };
        if !self.port_changes.takes_back() {
            self.may_remove_underlay(port, name)?;
        }
        self.use_underlay(now_ms, port, false);
        self.port_changes.step = Some(Step::Underlay(change));
        Ok(())
    }

    /// # Errors
    /// The port is the last, or a host is reached by no other.
    fn may_remove_underlay(&self, port: u16, name: &str) -> Outcome {
        if self.ports.underlays().all(|(number, ..)| number == port) {
            return Err(refused(
                &format!("underlay port {name}, which is the last"),
                "another underlay port beside it",
                "add another first",
            ));
        }
        for (_, record) in self.replica.hosts_from(0) {
            let is_by_it = record.path.as_ref().is_some_and(|path| path.port == port);
            let vtep = record.host.vteps.iter().find(|ip| self.ports.has_family_beside(Some(port), **ip));
            let has_other = vtep.is_some_and(|ip| self.underlay.has_route_beside(usize::from(port), *ip));
            if is_by_it && !has_other {
                return Err(refused(
                    &format!("underlay port {name}, by which alone host {} is reached", record.host.name),
                    "a route to each host by another underlay port",
                    "give another one the route, or remove the host",
                ));
            }
        }
        Ok(())
    }

    /// Hosts are sent to by a port, or not any more.
    fn use_underlay(&mut self, now_ms: u64, port: u16, used: bool) {
        self.ports.set_used(port, used);
        if used {
            let actions = self.underlay.use_port(now_ms, usize::from(port), true);
            self.execute_underlay(now_ms, actions);
        }
        let effects = self.with_replica(|replica, ctx| replica.choose_vteps(ctx));
        self.execute(now_ms, effects);
        if !used {
            let actions = self.underlay.use_port(now_ms, usize::from(port), false);
            self.execute_underlay(now_ms, actions);
        }
    }

    /// Goes on, if it is time to. Returns whether it did.
    pub(super) fn continue_underlay(&mut self, now_ms: u64, change: UnderlayChange) -> bool {
        let UnderlayChange { port, comes, stage, due_ms } = change;
        let is_late = now_ms >= due_ms;
        let takes_back = self.port_changes.takes_back();
        match stage {
            Stage::Leaving(before) if self.unreached() > before && !takes_back => {
                self.underlay_failed(now_ms, change)
            }
            Stage::Leaving(_) if !self.is_sent_by(port) || is_late && takes_back => {
                self.register(now_ms, port, false);
            }
            Stage::Registering(number) if self.is_registered(number) || is_late && takes_back => {
                let due_ms = now_ms + if takes_back { 0 } else { SPREAD_MS };
                let stage = Stage::Spreading;
                self.port_changes.step = Some(Step::Underlay(UnderlayChange { port, comes, stage, due_ms }));
            }
            Stage::Spreading if is_late && comes => self.use_underlay(now_ms, port, true),
            Stage::Spreading if is_late => self.close_port(now_ms, port),
            Stage::Leaving(_) | Stage::Registering(_) if is_late => self.underlay_failed(now_ms, change),
            _ => {
                self.port_changes.step = Some(Step::Underlay(change));
                return false;
            }
        }
        true
    }

    /// It took too long: what was begun is taken back.
    fn underlay_failed(&mut self, now_ms: u64, change: UnderlayChange) {
        let name = self.ports.name(change.port).to_owned();
        let error = match change.stage {
            Stage::Leaving(_) => refused(
                &format!("underlay port {name}, by which hosts are still reached"),
                "next hops by other underlay ports that answer",
                "see `stopover show hosts`",
            ),
            Stage::Registering(_) | Stage::Spreading => self.not_registered(&name),
        };
        if change.comes {
            // It is removed, which tells the board so.
            return self.port_changes.failed(name, error);
        }
        self.use_underlay(now_ms, change.port, true);
        if matches!(change.stage, Stage::Registering(_)) {
            self.describe_host(None);
        }
        self.port_changes.failed(name, error);
    }

    fn not_registered(&self, name: &str) -> ApiError {
        let why = self.board.state().and_then(|state| state.last_error).unwrap_or_default();
        refused(
            &format!("underlay port {name}, of which the board has not learned: {why}"),
            "a board that tells the other hosts",
            "try again when `stopover show board` says that it is connected",
        )
    }

    /// How many hosts have no path, of those with an address that there is a route to.
    fn unreached(&self) -> usize {
        let hosts = self.replica.hosts_from(0);
        hosts.filter(|(_, record)| record.vtep.is_some() && record.path.is_none()).count()
    }

    /// Whether a host is sent to by this port.
    fn is_sent_by(&self, port: u16) -> bool {
        let by_it = |record: &HostRecord| record.path.as_ref().is_some_and(|path| path.port == port);
        self.underlay.is_sent_by(usize::from(port))
            || self.replica.hosts_from(0).any(|(_, record)| by_it(record))
    }

    /// Tells the board of a port, or that it goes.
    fn register(&mut self, now_ms: u64, port: u16, comes: bool) {
        let (stage, due_ms) = match self.describe_host((!comes).then_some(port)) {
            Some(number) => (Stage::Registering(number), now_ms + REGISTER_MS),
            None => (Stage::Spreading, now_ms + if comes { 0 } else { SPREAD_MS }),
        };
        self.port_changes.step = Some(Step::Underlay(UnderlayChange { port, comes, stage, due_ms }));
    }

    fn is_registered(&self, number: u64) -> bool {
        self.board.state().is_none_or(|state| state.connected && state.described >= number)
    }

    /// Registers with the addresses of all underlay ports but this. `None`: there is no board.
    fn describe_host(&self, without: Option<u16>) -> Option<u64> {
        let session = self.board.session()?;
        let ports = || self.ports.underlays().filter(|(number, ..)| Some(*number) != without);
        let addresses = |port: &config::Port| match &port.role {
            config::Role::Underlay(underlay) => underlay.addresses.iter().map(IpNet::addr).collect(),
            config::Role::Vif(_) | config::Role::Segment(_) => Vec::new(),
        };
        let vteps = ports().flat_map(|(_, port, _)| addresses(port)).collect();
        let mtus = ports().map(|(_, port, mtu)| (port, mtu));
        Some(session.describe(vteps, plan::host_details(mtus, self.board.public_key())))
    }
}

//! How much the board may hold. Enters: what a command is about to add. Leaves: leave to add it, or which limit it would
//! exceed. The costs do not depend on what exists.

use super::{Board, Refusal, state::NodeState};
use crate::model::EventKind;
use stopover_config::bbs::{Exceeded, Limit, Limits};
use stopover_net::Vni;

/// The limits, and those that commands have met since they were taken.
#[derive(Default)]
pub(super) struct Quotas {
    limits: Limits,
    exceeded: Vec<Limit>,
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        Self::Quota(exceeded)
    }
}

impl Board {
    /// Sets the limits. What exists already stays.
    pub fn set_quotas(&mut self, limits: Limits) {
        self.quotas.limits = limits;
    }

    /// Limits that commands have met since the last call, once for each time.
    pub fn take_exceeded(&mut self) -> Vec<Limit> {
        std::mem::take(&mut self.quotas.exceeded)
    }

    /// Whether there may be one more where there are `count`.
    fn one_more(&mut self, limit: Limit, count: u64) -> Result<(), Exceeded> {
        let checked = self.quotas.limits.check(limit, count + 1);
        self.quotas.exceeded.extend(checked.as_ref().err().map(|exceeded| exceeded.limit));
        checked
    }

    /// Before a host is added.
    pub(super) fn check_new_host(&mut self) -> Result<(), Exceeded> {
        self.one_more(Limit::Hosts, self.state.hosts.len() as u64)
    }

    /// Before a migration is added.
    pub(super) fn check_new_migration(&mut self) -> Result<(), Exceeded> {
        self.one_more(Limit::Migrations, self.state.active.len() as u64)
    }

    /// Before something is added to a network.
    pub(super) fn check_network(&mut self, vni: Vni) -> Result<(), Exceeded> {
        if self.state.networks.contains_key(&vni) {
            return Ok(());
        }
        self.one_more(Limit::Networks, self.state.networks.len() as u64)
    }

    /// Before a host becomes a member of a network.
    pub(super) fn check_member(&mut self, vni: Vni, host: u32) -> Result<(), Exceeded> {
        self.check_network(vni)?;
        let networks = self.state.hosts.get(&host).map(|h| (h.networks.contains(&vni), h.networks.len()));
        match networks {
            Some((false, count)) => self.one_more(Limit::NetworksPerHost, count as u64),
            _ => Ok(()),
        }
    }

    /// Before a node is put in the place of `old`, if there is one.
    pub(super) fn check_node(&mut self, vni: Vni, old: Option<&NodeState>) -> Result<(), Exceeded> {
        if old.is_some() {
            return Ok(());
        }
        self.check_network(vni)?;
        self.one_more(Limit::Nodes, self.state.nodes)?;
        let in_network = self.state.networks.get(&vni).map_or(0, |n| n.nodes.len() as u64);
        self.one_more(Limit::NodesPerNetwork, in_network)
    }

    /// The same, for a claim of a host. One event names the limit that the host has met.
    pub(super) fn check_claim(
        &mut self,
        vni: Vni,
        host: u32,
        old: Option<&NodeState>,
    ) -> Result<(), Exceeded> {
        if old.is_some_and(|old| old.host == host) {
            return Ok(());
        }
        let claimed = self.state.hosts.get(&host).map_or(0, |h| h.appliance_nodes);
        let checked = self
            .one_more(Limit::NodesPerHost, claimed)
            .and_then(|()| self.check_member(vni, host))
            .and_then(|()| self.check_node(vni, old));
        if let Err(Exceeded { limit, most, .. }) = &checked {
            let (name, limit) = (self.state.name(host), limit.name());
            let text = format!("claims of host {name} are refused: they exceed {limit}, which is {most}");
            self.push_event_once(EventKind::Conflict, text);
        }
        checked
    }
}

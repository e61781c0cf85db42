//! Hosts that remain down. At first nothing changes (fail static): a restart or a bad cable must not lose frames. After
//! a short grace period flooded frames are no longer sent to such a host; frames to its nodes still are. After a long
//! time the host is removed with its nodes.
//!
//! Both times are counted on the lease clock, so that neither a pause of the board nor a step of the wall clock makes a
//! host absent. If no host at all is up, the fault is probably the board's: it counts again from the first host that
//! is up.

use super::{Board, Now, record::HostRecord, state::HostState};
use crate::model::{DeclaredBy, EventKind};

/// Time that the board must have been running, with some host up, before it removes a host: long enough for all hosts to
/// return after a long outage.
const LISTEN_MS: u64 = 3_600_000;

/// How hosts that remain down are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// Time after which flooded frames are no longer sent to a host.
    pub flood_grace_ms: u64,
    /// Time after which it is removed; 0 = never.
    pub forget_after_ms: u64,
}

impl Default for Absence {
    /// A minute; seven days.
    fn default() -> Self {
        Self { flood_grace_ms: 60_000, forget_after_ms: 7 * 24 * 3_600_000 }
    }
}

impl HostState {
    fn is_absent(&self) -> bool {
        !self.record.up && self.record.declared_by == DeclaredBy::Appliance
    }
}

impl Board {
    /// Called after the check of leases.
    pub(super) fn tick_absent(&mut self, now: Now) {
        let mut any_up = false;
        let mut absent = Vec::new();
        for (id, host) in &mut self.state.hosts {
            any_up |= host.record.up && host.record.declared_by == DeclaredBy::Appliance;
            if host.is_absent() {
                // 0: the host was down when the board started, or went down before version 0.2.
                let since = host.record.down_unix_ms;
                let before = || if since == 0 { 0 } else { now.unix_ms.saturating_sub(since) };
                host.absent_before_ms.get_or_insert_with(before);
                absent.push(*id);
            }
        }
        if !any_up {
            self.any_up_since = None;
            return;
        }
        let any_up_since = *self.any_up_since.get_or_insert(now.lease_ms);
        // The order of a hash map must not be visible.
        absent.sort_unstable();
        let most = self.hosts_per_tick();
        let mut left = most;
        for id in absent {
            if left == 0 {
                break;
            }
            let Some(host) = self.state.hosts.get(&id) else { continue };
            let down_this_run_ms = now.lease_ms.saturating_sub(host.down_since);
            let observed_down_ms = now.lease_ms.saturating_sub(host.down_since.max(any_up_since));
            let total_down_ms = down_this_run_ms + host.absent_before_ms.unwrap_or(0);
            let Absence { flood_grace_ms, forget_after_ms } = self.settings.absence;
            let may_remove = forget_after_ms != 0 && observed_down_ms >= forget_after_ms.min(LISTEN_MS);
            let records = host.nodes as usize + host.networks.len();
            let fits = records < most;
            if may_remove && total_down_ms >= forget_after_ms && fits && !self.has_declarations(id) {
                self.remove_absent(now, id, total_down_ms);
                left = left.saturating_sub(1 + records);
            } else if observed_down_ms >= flood_grace_ms && !host.record.no_flood {
                let record = HostRecord { no_flood: true, ..host.record.clone() };
                let text = format!(
                    "host {} has been down for {} s: flooded frames are no longer sent to it; its {} nodes remain",
                    record.name,
                    total_down_ms / 1000,
                    host.nodes
                );
                self.state.put_host(id, Some(record));
                self.push_event(EventKind::HostDown, text);
                left -= 1;
            }
        }
    }

    /// How many hosts may be late, and how many change because they are absent, in one tick, so that the store takes it in
    /// one transaction: each with a record, an event and the removal of an old one. The next tick has the others.
    pub(super) fn hosts_per_tick(&self) -> usize {
        self.settings.limits.writes / 16
    }

    /// Whether the operator has declared nodes or memberships of it. Only the operator removes those.
    fn has_declarations(&self, id: u32) -> bool {
        let Some(host) = self.state.hosts.get(&id) else { return false };
        host.nodes != host.appliance_nodes
            || host
                .networks
                .iter()
                .any(|vni| self.state.member(*vni, id).is_some_and(|m| m.declared.is_some()))
    }

    fn remove_absent(&mut self, now: Now, id: u32, absent_ms: u64) {
        let Some(host) = self.state.hosts.get(&id) else { return };
        let text = format!(
            "host {} has been down for {} s and is removed with its {} nodes",
            host.record.name,
            absent_ms / 1000,
            host.nodes
        );
        self.remove_host(now, id, "one of its hosts was down for too long and is removed");
        self.push_event(EventKind::HostDown, text);
    }

    /// Deletes a host with its nodes and memberships.
    pub(super) fn remove_host(&mut self, now: Now, id: u32, cause: &str) {
        let members: Vec<_> =
            self.state.hosts.get(&id).into_iter().flat_map(|h| h.networks.iter().copied()).collect();
        self.abort_where(now, cause, |m| m.source.id == id || m.target.as_ref().is_some_and(|t| t.id == id));
        self.drop_deferred(id, |_| true);
        self.sweep(id, |_| true);
        for vni in members {
            if self.state.member(vni, id).is_some() {
                self.state.set_member(vni, id, |m| (m.joined, m.declared) = (None, None));
            }
        }
        self.state.put_host(id, None);
    }
}

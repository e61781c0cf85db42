//! Calls about migrations that an appliance begins, ends and reports, and which of them the board has answered. Pure, as
//! `desired`. Each call keeps its idempotency key until the board has answered it.

use super::operator::{BeginMigration, MigrationTicket};
use crate::model::{Report, Uuid};
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};
use stopover_net::{HostName, Mac, Vni};

/// Answers of the board about migrations and deferred claims, in order. Changes of the nodes are in the watch:
/// `NodeLocked`, `NodePut` and `NodeUnlocked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationUpdate {
    /// A claim waits for the end of a migration. Sent once for each migration.
    Deferred {
        /// Network.
        vni: Vni,
        /// Node.
        mac: Mac,
        /// The migration.
        migration: u64,
    },
    /// The nodes are locked; the session renews the lease until the migration ends.
    Begun {
        /// As requested.
        nodes: Vec<(Vni, Mac)>,
        /// For the call that ends it.
        ticket: MigrationTicket,
    },
    /// It has ended.
    Ended {
        /// With its final state.
        ticket: MigrationTicket,
    },
    /// The board refuses the call; it is not repeated.
    Refused {
        /// `begin`, `complete`, `abort` or `report`.
        call: &'static str,
        /// The migration, if the call names one.
        migration: Option<u64>,
        /// The reason, one sentence.
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    /// With the migration to renew, if it has begun.
    Begin(BeginMigration, Option<u64>),
    Complete {
        migration: u64,
        generation: u64,
        at: Option<HostName>,
        cause: String,
        /// The last claim that was made before it. The call waits for the answer to that claim.
        last_claim: u64,
    },
    Abort {
        migration: u64,
        generation: u64,
        cause: String,
    },
    Report {
        migration: u64,
        generation: u64,
        report: Report,
    },
}

impl Call {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begin(..) => "begin",
            Self::Complete { .. } => "complete",
            Self::Abort { .. } => "abort",
            Self::Report { .. } => "report",
        }
    }

    pub fn migration(&self) -> Option<u64> {
        match self {
            Self::Begin(_, renews) => *renews,
            Self::Complete { migration, .. }
            | Self::Abort { migration, .. }
            | Self::Report { migration, .. } => Some(*migration),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Migrations {
    calls: VecDeque<(Uuid, Call)>,
    /// Locks to renew, by migration, and when to renew each.
    leases: BTreeMap<u64, (Instant, BeginMigration)>,
}

impl Migrations {
    /// Adds a call. A report replaces one of the same migration that has not been sent yet.
    pub fn push(&mut self, call: Call) {
        if let Call::Complete { migration, .. } | Call::Abort { migration, .. } = &call {
            self.leases.remove(migration);
        }
        if let Call::Report { migration: new, .. } = &call {
            self.calls.retain(|(_, c)| !matches!(c, Call::Report { migration, .. } if migration == new));
        }
        self.calls.push_back((Uuid::new_v4(), call));
    }

    /// The next call. It remains the next until it is answered. The board accepts a completion only if it has the claims:
    /// a completion waits until `answered` is true for the last claim before it. Calls of other migrations do not wait.
    pub fn next_call(&mut self, now: Instant, answered: impl Fn(u64) -> bool) -> Option<(Uuid, Call)> {
        for (id, (due, begin)) in &mut self.leases {
            if *due <= now {
                *due = now + renew_interval(begin);
                self.calls.push_back((Uuid::new_v4(), Call::Begin(begin.clone(), Some(*id))));
            }
        }
        let mut waiting = Vec::new();
        for (id, call) in &self.calls {
            let migration = call.migration();
            if migration.is_some() && waiting.contains(&migration) {
                continue;
            }
            match call {
                Call::Complete { last_claim, .. } if !answered(*last_claim) => waiting.push(migration),
                _ => return Some((*id, call.clone())),
            }
        }
        None
    }

    /// When the next lock is to be renewed.
    pub fn due(&self) -> Option<Instant> {
        self.leases.values().map(|(due, _)| *due).min()
    }

    /// The answer of the board. Returns the update for the consumer, if there is one.
    pub fn handle_answer(
        &mut self,
        key: Uuid,
        now: Instant,
        answer: Result<MigrationTicket, String>,
    ) -> Option<MigrationUpdate> {
        let place = self.calls.iter().position(|(id, _)| *id == key)?;
        let (_, call) = self.calls.remove(place)?;
        match (answer, call) {
            (Ok(ticket), Call::Begin(begin, renews)) => {
                let nodes = begin.nodes.clone();
                // A migration with an outstanding end is not to be renewed.
                let ends = |c: &Call| !matches!(c, Call::Begin(..) | Call::Report { .. });
                if !self.calls.iter().any(|(_, c)| ends(c) && c.migration() == Some(ticket.migration)) {
                    self.leases.insert(ticket.migration, (now + renew_interval(&begin), begin));
                }
                renews.is_none().then_some(MigrationUpdate::Begun { nodes, ticket })
            }
            (Ok(_), Call::Report { .. }) => None,
            (Ok(ticket), _) => Some(MigrationUpdate::Ended { ticket }),
            (Err(why), call) => {
                let migration = call.migration();
                if let Call::Begin(_, Some(id)) = &call {
                    // Another caller has ended it; the watch has a change about that.
                    self.leases.remove(id);
                    return None;
                }
                Some(MigrationUpdate::Refused { call: call.name(), migration, why })
            }
        }
    }
}

fn renew_interval(begin: &BeginMigration) -> Duration {
    Duration::from_millis(begin.lease_ms / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_renewed_until_its_end_and_a_key_is_kept_until_its_answer() {
        let now = Instant::now();
        let mut migrations = Migrations::default();
        let begin = BeginMigration {
            nodes: vec![(Vni::new(1).unwrap(), Mac::new([2, 0, 0, 0, 0, 1]))],
            source: HostName::new("gw-a").unwrap(),
            target: None,
            cause: "test".into(),
            lease_ms: 3000,
        };
        migrations.push(Call::Begin(begin, None));
        let (key, _) = migrations.next_call(now, |_| true).unwrap();
        assert_eq!(migrations.next_call(now, |_| true).unwrap().0, key, "repeated with its key");
        let ticket = MigrationTicket {
            migration: 4,
            generation: 9,
            state: crate::model::MigrationState::Locked,
            revision: 9,
        };
        assert!(matches!(
            migrations.handle_answer(key, now, Ok(ticket)),
            Some(MigrationUpdate::Begun { .. })
        ));
        assert!(migrations.next_call(now, |_| true).is_none());
        let later = now + Duration::from_secs(1);
        // A completion that waits for its claims delays no other migration.
        let complete =
            Call::Complete { migration: 7, generation: 1, at: None, cause: "test".into(), last_claim: 3 };
        migrations.push(complete.clone());
        migrations.push(Call::Report { migration: 7, generation: 1, report: Report::default() });
        let (renewal, call) = migrations.next_call(later, |claim| claim < 3).unwrap();
        assert_eq!(call.migration(), Some(4));
        assert_eq!(migrations.next_call(later, |_| true).unwrap().1, complete);
        migrations.calls.retain(|(_, call)| call.migration() != Some(7));
        assert_eq!(renewal, migrations.next_call(later, |_| true).unwrap().0);
        let (renewal, call) = migrations.next_call(later, |_| true).unwrap();
        assert!(renewal != key && call.migration() == Some(4));
        migrations.push(Call::Abort { migration: 4, generation: 9, cause: "test".into() });
        assert_eq!(migrations.handle_answer(renewal, later, Ok(ticket)), None);
        assert_eq!(migrations.due(), None, "not renewed after its end");
        let (key, _) = migrations.next_call(later, |_| true).unwrap();
        let refused = migrations.handle_answer(key, later, Err("no".into()));
        assert!(matches!(refused, Some(MigrationUpdate::Refused { call: "abort", migration: Some(4), .. })));
    }
}

//! One process takes the place of another on the same configuration: an upgrade. Enters: at the old process a request, at
//! the new one a configuration. Leaves: the new one forwards, with the connections of VMMs that the old one had; the old
//! one has written its last checkpoint, and ends. `successor` is the part of the old process, `predecessor` that of the
//! new one.
//!
//! They agree by the control socket. The rest is told by a line between them: that the new one is ready, that the old one
//! has stopped, the sockets of VMMs, that all is closed which only one process can have. Until the old one has stopped,
//! whatever fails at the new one leaves it as it was. From then on it does not come back: if the new one fails, whoever
//! supervises the processes has to start one.

mod predecessor;
mod successor;

pub use predecessor::{HandOver, Predecessor};
pub use successor::Successor;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use stopover_ctl::ApiError;
use stopover_vmm::{Line, LineError};

/// The new process has so long to become ready, and the old one to stop and close.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told beside the sockets of VMMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Word {
    /// The new process has all that it can have beside the old one.
    Ready,
    /// The old process goes on.
    Refused(ApiError),
    /// It has sent what it had received, and no longer polls. The sockets of VMMs come next.
    Stopped,
    /// It has closed what only one process can have.
    Closed,
}

impl Word {
    fn send(&self, line: &Line) -> Result<()> {
        line.send::<std::os::fd::OwnedFd>(&serde_json::to_vec(self)?, &[])?;
        Ok(())
    }

    fn receive(line: &Line, until: Instant) -> Result<Self> {
        Ok(serde_json::from_slice(&line.receive(until)?.bytes)?)
    }

    /// The next one, if it is there now.
    fn poll(line: &Line, pause: Duration) -> Result<Option<Self>> {
        match line.receive(Instant::now() + pause) {
            Ok(packet) => Ok(Some(serde_json::from_slice(&packet.bytes)?)),
            Err(LineError::Late) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Whether two processes can have a device at once, each with all that it receives. By the name of its driver, with which
/// virtual devices begin. A tap gives each frame to one of those that have it open, and a NIC belongs to one process.
fn can_be_shared(driver: &str) -> bool {
    ["net_af_packet", "net_null", "net_vhost"].iter().any(|shared| driver.trim().starts_with(shared))
}

/// What may speak against a hand-over now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupied {
    /// It does not forward yet: it has nothing to hand over.
    pub starts: bool,
    /// The configuration is being changed.
    pub changes: bool,
    /// A node is migrating: frames may be held for it, which end with this process.
    pub migrates: bool,
    /// Another process has asked.
    pub yields: bool,
}

impl Occupied {
    /// Why it is refused.
    #[must_use]
    pub fn refusal(self) -> Option<ApiError> {
        let (found, expected, hint) = match self {
            Self { yields: true, .. } => {
                ("another process takes over already", "one at a time", "see the log of the other")
            }
            Self { starts: true, .. } => (
                "an appliance that does not forward yet",
                "one that forwards",
                "see `stopover show board`; stop it with SIGTERM and start the other",
            ),
            Self { changes: true, .. } => {
                ("a change of the configuration under way", "none", "try again when it has ended")
            }
            Self { migrates: true, .. } => (
                "a node that is migrating",
                "none: frames that are held for it would be lost",
                "see `stopover migration list --active`; try again when it has ended",
            ),
            Self { yields: false, starts: false, changes: false, migrates: false } => return None,
        };
        Some(ApiError::new(found, expected, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_some_devices_are_opened_beside_another_process() {
        let shared = ["net_af_packet0,iface=ul0", " net_null1", "net_vhost2", "net_af_packet"];
        assert!(shared.into_iter().all(can_be_shared));
        assert!(
            !["net_tap0", "net_bonding0,member=net_af_packet0", "0000:01:00.0"]
                .into_iter()
                .any(can_be_shared)
        );
    }

    proptest! {
        /// Only a process that has nothing under way gives its place away, and a refusal tells what to do.
        #[test]
        fn what_is_under_way_is_not_interrupted(starts: bool, changes: bool, migrates: bool, yields: bool) {
            let refusal = Occupied { starts, changes, migrates, yields }.refusal();
            prop_assert_eq!(refusal.is_some(), starts || changes || migrates || yields);
            prop_assert!(refusal.is_none_or(|error| !error.hint.is_empty()));
        }
    }
}

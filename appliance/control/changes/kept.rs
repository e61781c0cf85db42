//! Changes that could not be made, and of which a part could not be taken back either: a device that is closed may not open
//! again. Enters: what stayed as it is, and why. Leaves: a configuration that is what runs, so that the next reload finds
//! the difference and removes it; one line in the log, and the operator's answer.

use super::Control;
use std::collections::BTreeSet;
use stopover_config::appliance::{Appliance, QueueRef, diff::Change};
use stopover_ctl::{ApiError, MissingPort};

impl Control {
    /// Keeps what could not be taken back. Returns the error for the operator.
    pub(super) fn keep(&mut self, error: ApiError, kept: Vec<(String, ApiError)>) -> ApiError {
        let running = self.what_runs();
        let was = std::mem::replace(&mut self.config, running);
        let lines: Vec<String> = kept.iter().map(|(of, why)| format!("{of}: {why}")).collect();
        let lines = lines.join("; ");
        log::error!(
            "a change of ports could not be made, nor be taken back as a whole: {lines}; all else is as before; `stopover reload` makes it as the files have it"
        );
        for (name, why) in kept {
            // The others are devices without a port, and ports that run on.
            let has = |config: &Appliance| config.ports.iter().any(|port| port.name == name);
            if has(&was) && !has(&self.config) {
                self.changes.missing.push(MissingPort { name, why: why.to_string() });
            }
        }
        ApiError::new(
            format!("{}; and what was changed before it could not be changed back: {lines}", error.what),
            error.expected,
            "correct that; then `stopover reload` makes it as the files have it; see `stopover port list`",
        )
    }

    /// The configuration that runs.
    fn what_runs(&self) -> Appliance {
        let runs = |name: &str| self.ports.number(name);
        let gone = self.config.port_setups().into_iter().filter(|setup| runs(&setup.port.name).is_none());
        let gone: Vec<Change> = gone.map(|setup| Change::PortRemoved(Box::new(setup))).collect();
        let mut config = self.config.with(&gone);
        for port in &mut config.ports {
            if let Some(wanted) = runs(&port.name).and_then(|number| self.ports.wanted_at(number)) {
                port.clone_from(wanted);
            }
        }
        let index = |number: u16| {
            let name = self.ports.name(number);
            config.ports.iter().position(|port| port.name == name)
        };
        let Some(lcores) = &config.lcores else { return config };
        let named: BTreeSet<QueueRef> = lcores.values().flatten().copied().collect();
        let polled = self.ports.lcores().iter().map(|lcore| {
            let queues = lcore
                .queues
                .iter()
                .filter_map(|at| Some(QueueRef { port: index(at.port)?, queue: at.queue }));
            (lcore.lcore, queues.filter(|queue| named.contains(queue)).collect::<Vec<_>>())
        });
        let polled =
            polled.filter(|(lcore, queues)| lcores.contains_key(lcore) || !queues.is_empty()).collect();
        config.lcores = Some(polled);
        config
    }
}

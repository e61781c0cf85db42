//! Changes of the configuration while the appliance runs: ports added, changed and removed, the file read again. Enters:
//! requests of the operator, the state file written. Leaves: changes made, all or none of a request, and its answer.
//!
//! A request is checked as a whole, then what the state file is to hold is written, then the changes are made: after a
//! crash in between the next start has them. What cannot be made is taken back from the state file. `refuse` decides what
//! can be made now, `make` makes it, `store` writes the file, `kept` is for what cannot be taken back. One request is worked on at a time, the others wait.

mod kept;
mod make;
mod refuse;
mod store;

use super::{
    Control, devices,
    port_changes::{Ended, Failure},
    request::{ConfigChange, Reply, ReplyTo},
    source::{Proposal, Source},
};
use anyhow::Result;
use crossbeam::channel::Receiver;
use std::{collections::VecDeque, io};
use stopover_config::appliance::Appliance;
use stopover_ctl::{ApiError, ChangeLine, ChangeQuery, ChangeReport, ConfigState, MissingPort};
use store::Writer;
use tokio::sync::oneshot::{self, error::TryRecvError};

/// See the module.
#[derive(Debug)]
pub struct Changes {
    source: Source,
    writer: Writer,
    under_way: Option<UnderWay>,
    waiting: VecDeque<(ConfigChange, ChangeQuery, ReplyTo)>,
    /// Ports that do not run, because a change could not be taken back.
    missing: Vec<MissingPort>,
}

/// A request whose state file is being written.
#[derive(Debug)]
struct UnderWay {
    stage: Stage,
    reply: ReplyTo,
}

#[derive(Debug)]
enum Stage {
    /// The new state is being written; then the changes are made.
    Storing(Proposal, ChangeQuery),
    /// Ports are added and removed; then the other changes are made, which cannot fail.
    Ports(Proposal, Vec<ChangeLine>, oneshot::Receiver<Ended>),
    /// The changes could not be made, and the state of before is being written.
    Restoring(ApiError),
}

impl Changes {
    /// For a configuration from this source.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(source: Source) -> Result<Self> {
        Ok(Self {
            source,
            writer: Writer::start()?,
            under_way: None,
            waiting: VecDeque::new(),
            missing: Vec::new(),
        })
    }

    /// The state file has been written, or could not be.
    #[must_use]
    pub const fn stored(&self) -> &Receiver<io::Result<()>> {
        self.writer.stored()
    }

    /// A change is under way.
    #[must_use]
    pub const fn is_changing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whose request is worked on, for lines of the log; empty = nobody's.
    #[must_use]
    pub fn by(&self) -> String {
        self.under_way.as_ref().map_or_else(String::new, |change| format!(" [by {}]", change.reply.by))
    }

    /// For the operator.
    #[must_use]
    pub fn show(&self) -> ConfigState {
        ConfigState { missing: self.missing.clone(), ..self.source.show() }
    }

    /// Changes were made: ports that run now, or are in no file any more, are not missing.
    fn forget_missing(&mut self, made: &Proposal, running: &Appliance) {
        let (was, is) = (&self.source, &made.source);
        self.missing.retain(|port| {
            let runs = running.ports.iter().any(|other| other.name == port.name);
            !runs && !made.is_reload && (is.has(&port.name) || !was.has(&port.name))
        });
    }

    /// Has the state file written; its end is handled by [`Control::continue_change`].
    fn store(&mut self, source: &Source, under_way: UnderWay) {
        let Some(path) = source.state_path() else {
            let error = ApiError::new(
                "an appliance without a configuration file",
                "one that was started with a file, beside which ports can be stored",
                "start it with a file",
            );
            return answer(under_way.reply, Err(error));
        };
        self.writer.store(path, source.state());
        self.under_way = Some(under_way);
    }
}

impl Control {
    /// Changes the configuration, or finds out what would change.
    pub(super) fn change(&mut self, request: ConfigChange, query: ChangeQuery, reply: ReplyTo) {
        if self.successor.is_some() {
            // It has read the files already.
            let error = ApiError::new(
                "a process that takes over",
                "none: it would not have the change",
                "try again when it has the place",
            );
            answer(reply, Err(error));
        } else if self.changes.under_way.is_some() {
            self.changes.waiting.push_back((request, query, reply));
        } else {
            self.begin_change(request, query, reply);
        }
    }

    /// Handles a written state file, and begins with requests that waited for it.
    pub(super) fn continue_change(&mut self) {
        self.continue_ports();
        while let Ok(stored) = self.changes.stored().try_recv() {
            let Some(UnderWay { stage, reply }) = self.changes.under_way.take() else { continue };
            match (stage, stored) {
                (Stage::Storing(proposal, query), Ok(())) => self.finish_change(proposal, query, reply),
                (Stage::Storing(..), Err(e)) => answer(reply, Err(self.not_stored(&e))),
                // Nothing is being written then.
                (stage @ Stage::Ports(..), _) => self.changes.under_way = Some(UnderWay { stage, reply }),
                (Stage::Restoring(error), stored) => {
                    if let Err(e) = stored {
                        log::error!("{}", self.not_stored(&e));
                    }
                    answer(reply, Err(error));
                }
            }
        }
        while self.changes.under_way.is_none()
            && let Some((request, query, reply)) = self.changes.waiting.pop_front()
        {
            self.begin_change(request, query, reply);
        }
    }

    fn begin_change(&mut self, request: ConfigChange, query: ChangeQuery, reply: ReplyTo) {
        if matches!(request, ConfigChange::Reload(_)) && query.reopen && !query.dry_run {
            self.retry_devices(self.now_ms());
        }
        let proposal = match self.propose(request) {
            Ok(proposal) => proposal,
            Err(error) => return answer(reply, Err(error)),
        };
        let lines = self.change_lines(&proposal.changes, query);
        if query.dry_run {
            return answer(reply, Ok(ChangeReport { made: false, changes: lines, notes: proposal.notes }));
        }
        if let Some(error) = refuse::all_of(&lines) {
            return answer(reply, Err(error));
        }
        if let Err(e) = devices::check_number(&self.config.with(&proposal.changes)) {
            let error = ApiError::new(format!("{e:#}"), "ports with which it could start", "remove one");
            return answer(reply, Err(error));
        }
        if proposal.source.state() == self.changes.source.state() {
            return self.finish_change(proposal, query, reply);
        }
        let source = proposal.source.clone();
        self.changes.store(&source, UnderWay { stage: Stage::Storing(proposal, query), reply });
    }

    fn propose(&self, request: ConfigChange) -> Result<Proposal, ApiError> {
        let (source, running) = (&self.changes.source, &self.config);
        match request {
            ConfigChange::AddPort(port) => source.add(running, port),
            ConfigChange::SetPort(name, patch) => source.set(running, &name, &patch),
            ConfigChange::DeletePort(name) => source.delete(running, &name),
            ConfigChange::Reload(file) => Ok(source.reload(running, &file)),
        }
    }

    /// The state file has been written: makes the changes, or takes them back from it.
    fn finish_change(&mut self, proposal: Proposal, query: ChangeQuery, reply: ReplyTo) {
        // A VM may have begun to migrate meanwhile.
        let lines = self.change_lines(&proposal.changes, query);
        if let Some(error) = refuse::all_of(&lines) {
            return self.take_back(&proposal, error, reply);
        }
        let (done, outcome) = oneshot::channel();
        self.port_changes
            .push(make::port_changes(&proposal.changes, &self.config.with(&proposal.changes)), done);
        let stage = Stage::Ports(proposal, lines, outcome);
        self.changes.under_way = Some(UnderWay { stage, reply });
    }

    /// Ports have been added and removed, or could not be.
    fn continue_ports(&mut self) {
        let Some(UnderWay { stage: Stage::Ports(_, _, outcome), .. }) = &mut self.changes.under_way else {
            return;
        };
        let outcome = match outcome.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => Ok(()),
            Ok(outcome) => outcome,
        };
        let Some(UnderWay { stage: Stage::Ports(proposal, lines, _), reply }) = self.changes.under_way.take()
        else {
            return;
        };
        match outcome {
            Ok(()) => {
                self.make(self.now_ms(), &proposal.changes);
                lines.iter().for_each(|line| log::info!("configuration: {} [by {}]", line.what, reply.by));
                proposal.notes.iter().for_each(|note| log::warn!("{note}"));
                self.changes.forget_missing(&proposal, &self.config);
                self.changes.source = proposal.source;
                answer(reply, Ok(ChangeReport { made: true, changes: lines, notes: proposal.notes }));
            }
            Err(Failure { error, kept }) => {
                let error = if kept.is_empty() { error } else { self.keep(error, kept) };
                self.take_back(&proposal, error, reply);
            }
        }
    }

    /// Changes that are stored are not made: the state file is again as it was.
    fn take_back(&mut self, proposal: &Proposal, error: ApiError, reply: ReplyTo) {
        if proposal.source.state() == self.changes.source.state() {
            return answer(reply, Err(error));
        }
        let source = self.changes.source.clone();
        self.changes.store(&source, UnderWay { stage: Stage::Restoring(error), reply });
    }

    fn not_stored(&self, e: &io::Error) -> ApiError {
        let path = self.changes.source.state_path().unwrap_or_default();
        ApiError::new(
            format!("{}: {e}", path.display()),
            "a state file that can be written, so that the change survives a restart",
            "see to its folder and disk, then try again; nothing was changed",
        )
    }
}

fn answer(reply: ReplyTo, report: Result<ChangeReport, ApiError>) {
    let json = report.and_then(|report| {
        serde_json::to_value(report)
            .map_err(|e| ApiError::new(e.to_string(), "an answer that JSON can hold", "tell the developers"))
    });
    // The client may have disconnected.
    let _ = reply.send(json.map(Reply::Json));
}

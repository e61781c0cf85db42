//! The door: the only way of a call to the board's thread and to its store. Enters: the extensions of a request, and the
//! [`Action`] that it asks for. Leaves: a [`Grant`], without which nothing behind the door can be reached; only the door
//! makes one.

use super::{
    caller::{Proof, Users},
    denials::Denials,
    engine::{Engine, Unanswered},
    metrics::Metrics,
    paced::Reading,
    rates::Rates,
    refuse,
    slots::{ALL, Slot, Slots},
};
use crate::{
    access::{self, Action, Denied, Principal},
    board::{Board, Command, Key, Outcome, Refusal, Session},
    store::Store,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use stopover_config::bbs::{Exceeded, Limit, Limits};
use tokio::sync::mpsc;
use tonic::{Code, Extensions, Status, transport::server::TcpConnectInfo};

/// A call that was decided. Its handler may do what it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    principal: Principal,
    /// Whose calls are counted together.
    caller: String,
}

impl Grant {
    /// By which events name the caller.
    fn actor(&self) -> String {
        self.principal.actor()
    }
}

/// What is behind the door.
#[derive(Clone)]
pub(super) struct Door {
    engine: Engine,
    store: Arc<dyn Store>,
    users: Arc<Users>,
    metrics: Arc<Metrics>,
    denials: Arc<Mutex<Denials>>,
    rates: Arc<Mutex<Rates>>,
    slots: Slots,
    limits: Limits,
    started: Instant,
}

impl Door {
    pub fn new(
        engine: Engine,
        store: Arc<dyn Store>,
        users: Users,
        metrics: Arc<Metrics>,
        (limits, slots): (Limits, Slots),
    ) -> Self {
        Self {
            engine,
            store,
            users: Arc::new(users),
            metrics,
            denials: Arc::default(),
            rates: Arc::new(Mutex::new(Rates::new(limits.requests_per_s))),
            slots,
            limits,
            started: Instant::now(),
        }
    }

    /// The answer to what would exceed a limit, which it counts.
    pub fn exceeded(&self, exceeded: Exceeded) -> Status {
        self.metrics.count_limited(exceeded.limit);
        Refusal::Quota(exceeded).into()
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A slot of the caller.
    pub fn slot(&self, grant: &Grant, limit: Limit) -> Result<Slot, Status> {
        self.slots.take(limit, &grant.caller).map_err(|e| self.exceeded(e))
    }

    /// A slot of all callers together.
    pub fn slot_of_all(&self, limit: Limit) -> Result<Slot, Status> {
        self.slots.take(limit, ALL).map_err(|e| self.exceeded(e))
    }

    /// Lets the caller call, if it does not call too often.
    fn grant(
        &self,
        principal: Principal,
        extensions: &Extensions,
        action: &Action<'_>,
    ) -> Result<Grant, Status> {
        let caller = caller(&principal, extensions, action);
        let now = self.started.elapsed();
        if self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(now, &caller) {
            return Ok(Grant { principal, caller });
        }
        let most = self.limits.requests_per_s;
        Err(self.exceeded(Exceeded { limit: Limit::RequestsPerSecond, found: most + 1, most }))
    }

    fn answered<T>(&self, answer: Result<T, Unanswered>) -> Result<T, Status> {
        answer.map_err(|why| match why {
            Unanswered::Exceeded(exceeded) => self.exceeded(exceeded),
            Unanswered::Stopped => why.into(),
        })
    }

    /// Decides.
    pub fn admit(&self, extensions: &Extensions, action: Action<'_>) -> Result<Grant, Status> {
        let (role, denied) = match extensions.get::<Proof>() {
            None => ("nobody", Denied::new("a caller without any proof", &action)),
            Some(proof) => match proof.principal(&self.users, &action) {
                None => ("nobody", Denied::new(&proof.to_string(), &action)),
                Some(principal) => match access::decide(&principal, &action) {
                    Ok(()) => return self.grant(principal, extensions, &action),
                    Err(denied) => (principal.role().name(), denied),
                },
            },
        };
        self.metrics.count_denied(role);
        let why = denied.to_string();
        self.log_denied(&why);
        Err(refuse::status(Code::PermissionDenied, "forbidden", &why))
    }

    fn log_denied(&self, why: &str) {
        let now = self.started.elapsed();
        match self.denials.lock().unwrap_or_else(PoisonError::into_inner).count(now, why) {
            None => {}
            Some(0) => log::warn!("denied: {why}"),
            Some(more) => log::warn!("denied: {why}; and {more} times since the last line about it"),
        }
    }

    /// See [`Engine::apply`].
    pub async fn apply(&self, grant: &Grant, key: Option<Key>, command: Command) -> Result<Outcome, Status> {
        Ok(self.answered(self.engine.apply_by(&grant.caller, grant.actor(), key, command, None).await)??)
    }

    /// Notifies the board that a watch has closed. Never refused, unlike other calls of a caller that has too many waiting.
    pub async fn close_watch(&self, _: &Grant, session: Session) {
        // An error means that the board is stopping.
        let _ = self.engine.apply(None, Command::WatchClosed(session)).await;
    }

    /// The same, with a refusal as a value; `progress` receives how many records are written.
    pub async fn apply_with_progress(
        &self,
        grant: &Grant,
        key: Key,
        command: Command,
        progress: mpsc::UnboundedSender<u64>,
    ) -> Result<Result<Outcome, Refusal>, Status> {
        let by = grant.actor();
        self.answered(self.engine.apply_by(&grant.caller, by, Some(key), command, Some(progress)).await)
    }

    /// See [`Engine::query`].
    pub async fn query<T: Send + 'static>(
        &self,
        grant: &Grant,
        query: impl FnOnce(&Board) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.answered(self.engine.query(&grant.caller, query).await)
    }

    /// For reading all of a list or a backup.
    pub fn read(&self, grant: &Grant) -> Result<Reading, Status> {
        let slots = [self.slot(grant, Limit::ListsPerCaller)?, self.slot_of_all(Limit::Lists)?];
        Ok(Reading { store: self.store.clone(), slots })
    }

    /// For reading.
    pub fn store(&self, _: &Grant) -> Arc<dyn Store> {
        self.store.clone()
    }
}

/// Whose calls are counted together: a name that is proven, or the host that a plain call is for, or its address.
fn caller(principal: &Principal, extensions: &Extensions, action: &Action<'_>) -> String {
    match (principal, action) {
        (_, Action::Host(_, host)) => format!("host {host}"),
        (Principal::Unproven, _) => {
            let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
            peer.map_or_else(|| "plain".to_owned(), |peer| format!("plain {}", peer.ip()))
        }
        _ => principal.actor(),
    }
}

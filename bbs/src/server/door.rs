//! The door: the only way of a call to the board's thread and to its store. Enters: the extensions of a request, and the
//! [`Action`] that it asks for. Leaves: a [`Grant`], without which nothing behind the door can be reached; only the door
//! makes one.

use super::{
    caller::{Proof, Users},
    denials::Denials,
    engine::Engine,
    metrics::Metrics,
    refuse,
};
use crate::{
    access::{self, Action, Denied, Principal},
    board::{Board, Command, Key, Outcome, Refusal},
    store::Store,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::mpsc;
use tonic::{Code, Extensions, Status};

/// A call that was decided. Its handler may do what it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    principal: Principal,
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
    started: Instant,
}

impl Door {
    pub fn new(engine: Engine, store: Arc<dyn Store>, users: Users, metrics: Arc<Metrics>) -> Self {
        let denials = Arc::default();
        Self { engine, store, users: Arc::new(users), metrics, denials, started: Instant::now() }
    }

    /// Decides.
    pub fn admit(&self, extensions: &Extensions, action: Action<'_>) -> Result<Grant, Status> {
        let (role, denied) = match extensions.get::<Proof>() {
            None => ("nobody", Denied::new("a caller without any proof", &action)),
            Some(proof) => match proof.principal(&self.users, &action) {
                None => ("nobody", Denied::new(&proof.to_string(), &action)),
                Some(principal) => match access::decide(&principal, &action) {
                    Ok(()) => return Ok(Grant { principal }),
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
        Ok(self.engine.apply_by(grant.actor(), key, command, None).await??)
    }

    /// The same, with a refusal as a value; `progress` receives how many records are written.
    pub async fn apply_with_progress(
        &self,
        grant: &Grant,
        key: Key,
        command: Command,
        progress: mpsc::UnboundedSender<u64>,
    ) -> Result<Result<Outcome, Refusal>, Status> {
        Ok(self.engine.apply_by(grant.actor(), Some(key), command, Some(progress)).await?)
    }

    /// See [`Engine::query`].
    pub async fn query<T: Send + 'static>(
        &self,
        _: &Grant,
        query: impl FnOnce(&Board) -> T + Send + 'static,
    ) -> Result<T, Status> {
        Ok(self.engine.query(query).await?)
    }

    /// For reading.
    pub fn store(&self, _: &Grant) -> Arc<dyn Store> {
        self.store.clone()
    }
}

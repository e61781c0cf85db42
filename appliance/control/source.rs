//! What this appliance is configured with: the configuration file, and the ports of the state file, which were added while
//! it ran. Enters: the path of the file; requests to add, change and remove ports. Leaves: one configuration to run, what
//! the state file is to hold, and what the configuration file overrules. Nothing is written but by
//! [`Source::forget_replaced`].

use serde_json::Value;
use std::path::{Path, PathBuf};
use stopover_config::{
    ConfigError,
    appliance::{
        self, Appliance, Aside, Merged, PortText, Replaced, State,
        diff::{Change, diff},
    },
};
use stopover_ctl::{ApiError, ConfigState, StatePort};

/// Where the configuration is from. Without a file nothing can be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The configuration file.
    path: Option<PathBuf>,
    /// Ports that run and that the file does not have.
    active: Vec<PortText>,
    /// Ports of the state file that the file overrules.
    aside: Vec<Aside>,
    /// Ports that the state file had and the file has now, until they are reported.
    replaced: Vec<Replaced>,
}

/// What would be if a request were granted.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The source then.
    pub source: Source,
    /// What changes in what runs.
    pub changes: Vec<Change>,
    /// What else the operator has to know.
    pub notes: Vec<String>,
    /// It is the whole of what the files have.
    pub is_reload: bool,
}

impl Source {
    /// Reads the configuration file at `path` and its state file. Returns what is to run, too.
    ///
    /// # Errors
    /// One of the two is wrong.
    pub fn load(path: &Path) -> Result<(Self, Appliance), ConfigError> {
        let state_path = State::path(path);
        let (file, state) = (appliance::load(path)?, State::load(&state_path)?);
        Ok(Self::of(Some(path.to_owned()), state.merge(&file, &state_path)))
    }

    /// For a configuration that is in no file.
    #[must_use]
    pub const fn without_file() -> Self {
        Self { path: None, active: Vec::new(), aside: Vec::new(), replaced: Vec::new() }
    }

    fn of(path: Option<PathBuf>, merged: Merged) -> (Self, Appliance) {
        let Merged { appliance, active, aside, replaced } = merged;
        (Self { path, active, aside, replaced }, appliance)
    }

    /// The configuration file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The state file.
    #[must_use]
    pub fn state_path(&self) -> Option<PathBuf> {
        self.path().map(State::path)
    }

    /// The file with what is forwarded by: `hv-a.checkpoint` beside `hv-a.ron`.
    #[must_use]
    pub fn checkpoint_path(&self) -> Option<PathBuf> {
        self.path().map(|path| path.with_extension("checkpoint"))
    }

    /// The file with the key of this host: `hv-a.host-key` beside `hv-a.ron`.
    #[must_use]
    pub fn host_key_path(&self) -> Option<PathBuf> {
        self.path().map(|path| path.with_extension("host-key"))
    }

    /// What the state file is to hold.
    #[must_use]
    pub fn state(&self) -> State {
        let aside = self.aside.iter().map(|aside| &aside.port);
        State { ports: self.active.iter().chain(aside).cloned().collect() }
    }

    /// Whether it has a port that was added at run time, and is not overruled.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.active.iter().any(|port| port.name() == name)
    }

    /// What the configuration file overrules, a line for each port.
    #[must_use]
    pub fn overruled(&self) -> Vec<String> {
        let aside = self.aside.iter().map(|Aside { port, error }| {
            let name = port.name();
            format!("port {name} is left out, because the configuration file overrules it: {error}")
        });
        let replaced = self.replaced.iter().map(|Replaced { port, same }| {
            let was = if *same { String::new() } else { format!("; it was {}", port.text()) };
            let name = port.name();
            format!(
                "port {name} is the configuration file's now, and not kept in the state file any more{was}"
            )
        });
        aside.chain(replaced).collect()
    }

    /// Forgets what the configuration file has replaced, in the state file too, so that it does not come back when the
    /// file has it no more.
    pub fn forget_replaced(&mut self) {
        let Some(path) = self.state_path().filter(|_| !self.replaced.is_empty()) else { return };
        match self.state().store(&path) {
            Ok(()) => self.replaced.clear(),
            Err(e) => log::warn!("{}: cannot be written: {e}", path.display()),
        }
    }

    /// For the operator.
    #[must_use]
    pub fn show(&self) -> ConfigState {
        let shown = |path: &Path| path.display().to_string();
        let row = |port: &PortText, overruled| StatePort {
            name: port.name().to_owned(),
            port: json(port),
            overruled,
        };
        let active = self.active.iter().map(|port| row(port, None));
        let aside = self.aside.iter().map(|aside| row(&aside.port, Some(aside.error.to_string())));
        ConfigState {
            file: self.path().map(shown),
            state_file: self.state_path().as_deref().map(shown),
            ports: active.chain(aside).collect(),
            missing: Vec::new(),
        }
    }

    /// A port more.
    ///
    /// # Errors
    /// It is wrong, or cannot be beside the ports that run.
    pub fn add(&self, running: &Appliance, port: Value) -> Result<Proposal, ApiError> {
        let port = read(port)?;
        let name = port.name();
        if running.ports.iter().any(|other| other.name == name) {
            return Err(ApiError::new(
                format!("port {name} exists already"),
                "a new name",
                "choose another, change the port with `stopover port set`, or delete it first",
            ));
        }
        let wanted = joined(running, &port)?;
        let mut source = self.clone();
        // It replaces one of its name that could not run.
        source.aside.retain(|aside| aside.port.name() != name);
        source.active.push(port);
        Ok(Proposal { source, changes: diff(running, &wanted), notes: Vec::new(), is_reload: false })
    }

    /// Other values of a port. `patch` is merged into it (RFC 7396).
    ///
    /// # Errors
    /// It was not added at run time, or would be wrong then.
    pub fn set(&self, running: &Appliance, name: &str, patch: &Value) -> Result<Proposal, ApiError> {
        let mut source = self.clone();
        let Some(port) = source.active.iter_mut().find(|port| port.name() == name) else {
            return Err(self.no_port(running, name));
        };
        let rest = running.without(port);
        let mut value = json(port);
        merge_port(&mut value, patch);
        *port = read(value)?;
        if port.name() != name {
            return Err(ApiError::new(
                format!("the name {} for port {name}", port.name()),
                "the name it has",
                "delete the port, and add it with the new name",
            ));
        }
        let wanted = joined(&rest, port)?;
        Ok(Proposal { changes: diff(running, &wanted), source, notes: Vec::new(), is_reload: false })
    }

    /// A port less.
    ///
    /// # Errors
    /// It was not added at run time.
    pub fn delete(&self, running: &Appliance, name: &str) -> Result<Proposal, ApiError> {
        let mut source = self.clone();
        if let Some(at) = source.active.iter().position(|port| port.name() == name) {
            let port = source.active.remove(at);
            let changes = diff(running, &running.without(&port));
            return Ok(Proposal { source, changes, notes: Vec::new(), is_reload: false });
        }
        if let Some(at) = source.aside.iter().position(|aside| aside.port.name() == name) {
            source.aside.remove(at);
            let note = format!("port {name} was left out; it is not in the state file any more");
            return Ok(Proposal { source, changes: Vec::new(), notes: vec![note], is_reload: false });
        }
        Err(self.no_port(running, name))
    }

    /// The configuration file as it is now.
    #[must_use]
    pub fn reload(&self, running: &Appliance, file: &Appliance) -> Proposal {
        let origin = self.state_path().unwrap_or_default();
        let (mut source, wanted) = Self::of(self.path.clone(), self.state().merge(file, &origin));
        let notes = source.overruled();
        // They are reported now, and the state file is written without them.
        source.replaced.clear();
        Proposal { source, changes: diff(running, &wanted), notes, is_reload: true }
    }

    fn no_port(&self, running: &Appliance, name: &str) -> ApiError {
        if running.ports.iter().any(|port| port.name == name) {
            let file = self.path().map_or_else(|| "the file".to_owned(), |path| path.display().to_string());
            return ApiError::new(
                format!("port {name} is a port of {file}"),
                "a port that was added at run time",
                format!("change {file}, then run `stopover reload`"),
            );
        }
        let known = self.active.iter().chain(self.aside.iter().map(|aside| &aside.port));
        let names = known.map(PortText::name).collect::<Vec<_>>().join(", ");
        let expected = if names.is_empty() {
            "a port that was added at run time, of which there is none".to_owned()
        } else {
            format!("a port that was added at run time: {names}")
        };
        ApiError::new(format!("no port {}", name.escape_debug()), expected, "see `stopover port list`")
    }
}

/// An error of the configuration for the operator: where it is, before what was found.
#[must_use]
pub fn refusal(e: &ConfigError) -> ApiError {
    let path = Some(e.path()).filter(|path| !path.as_os_str().is_empty()).map(|p| p.display().to_string());
    let position = e.position().map(|p| match p.column {
        Some(column) => format!("{}:{column}", p.line),
        None => p.line.to_string(),
    });
    let file = path.into_iter().chain(position).collect::<Vec<_>>().join(":");
    // Of a port that a request brings, and not a list.
    let field = e.field_path();
    let field = field.strip_prefix("ports[0].").filter(|_| file.is_empty()).unwrap_or(field).to_owned();
    let at = [file, field].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
    ApiError::new(format!("{at}: found {}", e.found()), e.expected(), e.hint())
}

fn read(value: Value) -> Result<PortText, ApiError> {
    serde_json::from_value(value).map_err(|e| {
        ApiError::new(
            format!("port: {e}"),
            "a port in the keys of the configuration file",
            "see Ports in docs/configuration.md",
        )
    })
}

fn json(port: &PortText) -> Value {
    // Its keys are texts, and it has no numbers that JSON does not have.
    serde_json::to_value(port).unwrap_or_default()
}

fn joined(running: &Appliance, port: &PortText) -> Result<Appliance, ApiError> {
    let (wanted, refused) = running.joined(std::slice::from_ref(port), Path::new(""));
    refused.first().map_or(Ok(wanted), |refused| Err(refusal(&refused.error)))
}

/// Merges a patch into a port. Another role replaces the whole role: the keys of the one mean nothing to the other.
fn merge_port(port: &mut Value, patch: &Value) {
    let kind = |value: &Value| value.get("role")?.as_object()?.keys().next().cloned();
    if let (Some(before), Some(after)) = (kind(port), kind(patch))
        && before != after
        && let Some(role) = port.get_mut("role")
    {
        *role = Value::Null;
    }
    merge(port, patch);
}

/// RFC 7396: values replace values, structures are merged, null removes a key.
fn merge(to: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        to.clone_from(patch);
        return;
    };
    if !to.is_object() {
        *to = Value::Object(Default::default());
    }
    let Value::Object(to) = to else { return };
    for (key, value) in patch {
        if value.is_null() {
            to.remove(key);
        } else {
            merge(to.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

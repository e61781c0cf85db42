//! Changes of the configuration while the appliance runs.

use serde::{Deserialize, Serialize};

/// Query of every request that changes the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeQuery {
    /// Only find out what would change.
    pub dry_run: bool,
    /// Ports may be closed and opened again where a change needs it: they lose frames meanwhile.
    pub reopen: bool,
}

/// One port, in the keys of the configuration file: `{"name": …, "device": …, "role": {"vif": {"vni": 100, …}}}`.
pub type PortJson = serde_json::Value;

/// What has changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// The changes have been made; false for a dry run.
    pub made: bool,
    /// In the order in which they are made; none if everything is as it was.
    pub changes: Vec<ChangeLine>,
    /// Ports of the state file that the configuration file overrules, and the like.
    pub notes: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// In plain words.
    pub what: String,
    /// What it needs.
    pub needs: ChangeNeeds,
    /// Why it cannot be made, and so none of them; only in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeNeeds {
    /// Nothing: it is made while frames flow.
    Nothing,
    /// The port is closed and opened again.
    Reopen,
    /// The appliance is started again.
    Restart,
}

/// Where the configuration is from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// The configuration file.
    pub file: Option<String>,
    /// The state file beside it.
    pub state_file: Option<String>,
    /// Ports that were added at run time.
    pub ports: Vec<StatePort>,
    /// Ports that do not run, because a change that was refused could not be taken back. A reload starts them.
    #[serde(default)]
    pub missing: Vec<MissingPort>,
}

/// A port of the files that does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPort {
    /// Its name.
    pub name: String,
    /// Why it could not be opened again.
    pub why: String,
}

/// A port of the state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePort {
    /// Its name.
    pub name: String,
    /// It, as it was added.
    pub port: PortJson,
    /// Why it does not run: what the configuration file has instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overruled: Option<String>,
}

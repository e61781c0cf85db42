//! Commands for the ports of a running appliance.

use crate::{
    args::{AddPort, Port, SetPort},
    changes::report,
    output::{Failure, Output},
    render,
};
use serde::Serialize;
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use stopover_config::{ConfigError, appliance::PortText};
use stopover_ctl::{ChangeQuery, Client, ConfigState, PortInfo};

/// What runs, and where it is from.
#[derive(Debug, Serialize)]
struct PortList {
    /// The ports that run.
    running: Vec<PortInfo>,
    /// The files, and the ports that were added at run time.
    config: ConfigState,
}

/// `stopover port …`
pub async fn port(client: &Client, command: Port, out: Output) -> Result<(), Failure> {
    match command {
        Port::Add(AddPort { name, device, file, vif, dry_run }) => {
            let port = match file {
                Some(file) => json(&read(&file)?)?,
                None => vif.json(name, device),
            };
            report(&client.add_port(&port, only(dry_run)).await?, out)
        }
        Port::Set(SetPort { name, device, json_patch, vif, change }) => {
            let patch = json_patch.map_or_else(|| vif.json(None, device), Into::into);
            report(&client.set_port(&name, &patch, change.into()).await?, out)
        }
        Port::Delete { name, dry_run } => report(&client.delete_port(&name, only(dry_run)).await?, out),
        Port::List => {
            let list = PortList { running: client.ports().await?, config: client.config().await? };
            out.print(&list, |list| render::ports(&list.running, &list.config))
        }
    }
}

/// No port is reopened.
const fn only(dry_run: bool) -> ChangeQuery {
    ChangeQuery { dry_run, reopen: false }
}

/// A port from a file, or from standard input.
fn read(file: &Path) -> Result<PortText, Failure> {
    if file != Path::new("-") {
        return Ok(PortText::load(file)?);
    }
    let (mut text, origin) = (String::new(), PathBuf::from("standard input"));
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| ConfigError::io(&origin, "a port in the words of the configuration file", &e))?;
    Ok(PortText::parse(&text, &origin)?)
}

fn json(port: &PortText) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(port).map_err(|e| Failure::Message(e.to_string()))
}

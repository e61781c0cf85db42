//! The state file: ports that were added while the appliance ran. It is beside the configuration file, which overrules it.
//! Enters: the file's text, or its path. Leaves: the ports as written, and, put together with the configuration, what
//! runs. The appliance alone writes it, as a whole and atomically.

use super::{Appliance, PortText, raw};
use crate::{
    ConfigError,
    fault::{Checked, fault},
    read,
};
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Ports that were added at run time, in the order in which they were.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// No two have the same name.
    pub ports: Vec<PortText>,
}

/// A configuration with the ports of its state file.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// What is to run.
    pub appliance: Appliance,
    /// The ports of the state file in it.
    pub active: Vec<PortText>,
    /// Ports that the configuration excludes. They stay in the state file.
    pub aside: Vec<Aside>,
    /// Ports whose names the configuration has: they are not added at run time any more.
    pub replaced: Vec<Replaced>,
}

/// A port that the configuration overrules.
#[derive(Debug, Clone, PartialEq)]
pub struct Aside {
    /// The port.
    pub port: PortText,
    /// What the two cannot both have.
    pub error: ConfigError,
}

/// A port that the configuration has under the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// The port that was added at run time.
    pub port: PortText,
    /// The configuration has it just like that.
    pub same: bool,
}

/// The format that this version writes and reads.
const VERSION: i64 = 1;

const HEAD: &str =
    "// Ports that were added while the appliance ran. It writes this file; `stopover port` changes it.\n";

#[derive(Deserialize)]
#[serde(rename = "state", deny_unknown_fields)]
struct Document {
    version: i64,
    #[serde(default)]
    ports: Vec<raw::Port>,
}

impl State {
    /// Where the state file of a configuration file is: `hv-a.state.ron` beside `hv-a.ron`.
    #[must_use]
    pub fn path(config: &Path) -> PathBuf {
        config.with_extension("state.ron")
    }

    /// Reads the file; without one there are no ports.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match path.try_exists() {
            Ok(false) => Ok(Self::default()),
            _ => Self::parse(&read::file(path)?, path),
        }
    }

    /// Checks `text`. `origin` is for messages.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let document = read::ron::<Document>(text, origin)?;
        check(document).map_err(|f| f.locate(text, origin))
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}(\n    version: {VERSION},\n    ports: [\n");
        for port in &self.ports {
            text.push_str(&format!("        {},\n", port.text()));
        }
        text + "    ],\n)\n"
    }

    /// Writes the file: the old one or the new one is there whenever the machine stops.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let new = path.with_extension("ron.new");
        let mut file = File::create(&new)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    }

    /// Puts the configuration and the ports together. The configuration overrules them: a port of a name that it has is
    /// replaced, and one that cannot be beside its ports is set aside. `origin` is for messages.
    #[must_use]
    pub fn merge(&self, file: &Appliance, origin: &Path) -> Merged {
        let has = |port: &PortText| file.ports.iter().any(|other| other.name == port.name());
        let (replaced, others): (Vec<_>, Vec<_>) = self.ports.iter().cloned().partition(has);
        let replaced = replaced.into_iter().map(|port| Replaced { same: port.is_in(file), port });
        let (appliance, refused) = file.joined(&others, origin);
        let error = |index| refused.iter().find(|r| r.index == index).map(|r| r.error.clone());
        let (mut active, mut aside) = (Vec::new(), Vec::new());
        for (index, port) in others.into_iter().enumerate() {
            match error(index) {
                None => active.push(port),
                Some(error) => aside.push(Aside { port, error }),
            }
        }
        Merged { appliance, active, aside, replaced: replaced.collect() }
    }
}

fn check(document: Document) -> Checked<State> {
    if document.version != VERSION {
        return Err(fault(
            "version",
            document.version.to_string(),
            format!("{VERSION}, the format of this version of Stopover"),
            "start the version that wrote the file, or remove the file and add its ports again",
        ));
    }
    let mut state = State::default();
    for (i, raw) in document.ports.into_iter().enumerate() {
        let (at, port) = (format!("ports[{i}]"), PortText(raw));
        port.alone(&at)?;
        if state.ports.iter().any(|other| other.name() == port.name()) {
            return Err(fault(
                format!("{at}.name"),
                format!("port `{}` again", port.name()),
                "each name once",
                "remove one of the two",
            ));
        }
        state.ports.push(port);
    }
    Ok(state)
}

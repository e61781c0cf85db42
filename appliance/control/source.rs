//! What this appliance is configured with: the configuration file, and the ports of the state file, which were added while
//! it ran. Enters: the path of the file. Leaves: one configuration, and what the file overrules of the other.

use std::path::{Path, PathBuf};
use stopover_config::{
    ConfigError,
    appliance::{self, Appliance, Aside, Merged, PortText, Replaced, State},
};

/// Where the configuration is from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The configuration file.
    path: PathBuf,
    /// Ports that run and that the file does not have.
    active: Vec<PortText>,
    /// Ports of the state file that the file overrules.
    aside: Vec<Aside>,
    /// Ports that the state file had and the file has now, until they are reported.
    replaced: Vec<Replaced>,
}

impl Source {
    /// Reads the configuration file at `path` and its state file. Returns what is to run, too.
    ///
    /// # Errors
    /// One of the two is wrong.
    pub fn load(path: &Path) -> Result<(Self, Appliance), ConfigError> {
        let file = appliance::load(path)?;
        let state_path = State::path(path);
        let Merged { appliance, active, aside, replaced } =
            State::load(&state_path)?.merge(&file, &state_path);
        Ok((Self { path: path.to_owned(), active, aside, replaced }, appliance))
    }

    /// What the configuration file overrules, a line for each port.
    #[must_use]
    pub fn overruled(&self) -> Vec<String> {
        let aside = self.aside.iter().map(|Aside { port, error }| {
            format!("port {} is left out, because the configuration file overrules it: {error}", port.name())
        });
        let replaced = self.replaced.iter().map(|Replaced { port, same }| {
            let was = if *same { String::new() } else { format!("; it was {}", port.text()) };
            format!(
                "port {} is the configuration file's now, and not kept in the state file any more{was}",
                port.name()
            )
        });
        aside.chain(replaced).collect()
    }

    /// Forgets what the configuration file has replaced, in the state file too, so that it does not come back when the
    /// file has it no more.
    pub fn forget_replaced(&mut self) {
        if self.replaced.is_empty() {
            return;
        }
        let path = State::path(&self.path);
        match self.state().store(&path) {
            Ok(()) => self.replaced.clear(),
            Err(e) => log::warn!("{}: cannot be written: {e}", path.display()),
        }
    }

    /// What the state file is to hold.
    fn state(&self) -> State {
        let aside = self.aside.iter().map(|aside| &aside.port);
        State { ports: self.active.iter().chain(aside).cloned().collect() }
    }
}

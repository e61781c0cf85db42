//! One port as it is written: what an operator adds while the appliance runs, and what is stored. Enters: RON text, or
//! serde's data model (JSON). Leaves: a [`PortText`], which has the keys of a port and nothing checked but these, or the
//! checked port.

use super::{Appliance, across_ports, diff::PortSetup, raw, validate};
use crate::{ConfigError, fault::Checked, read};
use ron::{Options, extensions::Extensions, ser::PrettyConfig};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// A port in the words of the configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortText(pub(super) raw::Port);

impl PortText {
    /// Reads one port, `(name: …, device: …, role: …)`. `origin` is for messages.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, ConfigError> {
        let port = Self(read::ron(text, origin)?);
        port.alone("").map_err(|f| f.locate(text, origin))?;
        Ok(port)
    }

    /// Reads the file at `path`, which has one port.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read::file(path)?, path)
    }

    /// RON on one line.
    #[must_use]
    pub fn text(&self) -> String {
        let options = Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
        // Structures, lists, texts and numbers have no value that RON cannot write.
        options.to_string_pretty(&self.0, PrettyConfig::new().depth_limit(0)).unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Checks what does not depend on other ports, nor on the devices that exist. `at`: where it stands.
    pub(super) fn alone(&self, at: &str) -> Checked<PortSetup> {
        let raw = self.0.clone();
        let mut devices = BTreeMap::new();
        let vdev = validate::own_vdev(at, &raw, &mut devices)?;
        if vdev.is_none() && !raw.device.contains(':') {
            devices.insert(raw.device.clone(), String::new());
        }
        let port = validate::port(at, raw, &[], &devices, false)?;
        across_ports::Locals::default().add(at, &port)?;
        Ok(PortSetup { port, vdev })
    }

    /// Whether the configuration has exactly this port.
    #[must_use]
    pub fn is_in(&self, appliance: &Appliance) -> bool {
        let Ok(own) = self.alone("") else { return false };
        appliance
            .port_setups()
            .iter()
            .any(|there| there.port == own.port && (own.vdev.is_none() || own.vdev == there.vdev))
    }
}

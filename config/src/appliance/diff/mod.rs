//! What is different between two configurations. Enters: two checked configurations. Leaves: an ordered list of changes,
//! each with what it needs, and in plain words. `apply` makes the second configuration from the first one and the list.
//! Pure.
//!
//! A port is identified by its name, a queue by its port and number, a host of `declared` by its name, a network by its
//! VNI, a node by VNI and MAC, a member by VNI and host. The order of ports and of rows means nothing. A port has its
//! device: the vdev string that creates the device is compared as a part of the port.
//!
//! `settings` are the keys beside ports and rows, `ports` the keys of a port, `rows` those of `declared`, `text` writes
//! values as in the file. They take structures apart without `..`, so that a new key cannot be forgotten.

mod apply;
mod ports;
mod rows;
mod settings;
mod text;

pub use ports::{Field, FieldChange, PortSetup};
pub use rows::DeclaredRow;
pub use settings::Setting;

use super::Appliance;
use std::{collections::BTreeMap, fmt};

/// Receive queues of each lcore, as port and number.
pub type QueuesByName = BTreeMap<u32, Vec<(String, u16)>>;

/// What a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// Nothing: it is made while frames flow.
    Nothing,
    /// The port is closed and opened again. Its guest or its stations lose their link meanwhile.
    Reopen,
    /// The program is started again.
    Restart,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key of the file has another value.
    Setting {
        /// The value before.
        was: Setting,
        /// The new value; of the same key.
        is: Setting,
    },
    /// Virtual devices that no port has.
    SpareVdevs {
        /// Those before.
        was: Vec<String>,
        /// The new ones.
        is: Vec<String>,
    },
    /// A row of `declared` is gone.
    RowRemoved(DeclaredRow),
    /// A port is gone.
    PortRemoved(Box<PortSetup>),
    /// A port has other values.
    PortChanged {
        /// The port before.
        was: Box<PortSetup>,
        /// The new port; of the same name.
        is: Box<PortSetup>,
        /// The keys that differ; at least one.
        fields: Vec<FieldChange>,
    },
    /// A port is new.
    PortAdded(Box<PortSetup>),
    /// The key `lcores` has another value.
    Queues {
        /// The value before; `None`: spread.
        was: Option<QueuesByName>,
        /// The new value.
        is: Option<QueuesByName>,
    },
    /// A row of `declared` is new or has changed.
    RowPut {
        /// The row of the same key before.
        was: Option<DeclaredRow>,
        /// The new row.
        is: DeclaredRow,
    },
}

/// One line about a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// In plain words.
    pub text: String,
    /// What it needs.
    pub needs: Needs,
}

impl Change {
    /// What the whole change needs.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self {
            Self::Setting { is, .. } => is.needs(),
            Self::PortChanged { fields, .. } => {
                fields.iter().map(|change| change.field.needs()).max().unwrap_or(Needs::Nothing)
            }
            Self::SpareVdevs { .. }
            | Self::RowRemoved(_)
            | Self::PortRemoved(_)
            | Self::PortAdded(_)
            | Self::Queues { .. }
            | Self::RowPut { .. } => Needs::Nothing,
        }
    }

    /// The name of the port that it is about.
    #[must_use]
    pub fn port(&self) -> Option<&str> {
        match self {
            Self::PortRemoved(setup) | Self::PortAdded(setup) => Some(&setup.port.name),
            Self::PortChanged { is, .. } => Some(&is.port.name),
            Self::Setting { .. }
            | Self::SpareVdevs { .. }
            | Self::RowRemoved(_)
            | Self::Queues { .. }
            | Self::RowPut { .. } => None,
        }
    }

    /// In plain words: a line, or of a changed port one for each key.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let one = |text: String| vec![Line { text, needs: self.needs() }];
        match self {
            Self::Setting { was, is } => {
                one(format!("`{}` changes from {} to {}", is.key(), was.value(), is.value()))
            }
            Self::SpareVdevs { was, is } => one(format!(
                "virtual devices without a port change from {} to {}",
                text::list(was),
                text::list(is)
            )),
            Self::RowRemoved(row) => one(format!("{row} is not declared any more")),
            Self::PortRemoved(setup) => one(format!("port {} is removed: {setup}", setup.port.name)),
            Self::PortChanged { is, fields, .. } => fields
                .iter()
                .map(|change| Line {
                    text: format!("port {}: {change}", is.port.name),
                    needs: change.field.needs(),
                })
                .collect(),
            Self::PortAdded(setup) => one(format!("port {} is added: {setup}", setup.port.name)),
            Self::Queues { was, is } => one(format!(
                "`lcores` changes from {} to {}",
                text::queues(was.as_ref()),
                text::queues(is.as_ref())
            )),
            Self::RowPut { was: None, is } => one(format!("{is} is declared")),
            Self::RowPut { was: Some(was), is } => one(format!("{was} becomes {}", is.values())),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.needs {
            Needs::Nothing => Ok(()),
            Needs::Reopen => f.write_str(" (the port is closed and opened again)"),
            Needs::Restart => f.write_str(" (needs a restart)"),
        }
    }
}

/// The changes from `was` to `is`, in the order in which they are made: what is given up comes before what is new.
#[must_use]
pub fn diff(was: &Appliance, is: &Appliance) -> Vec<Change> {
    let mut changes = settings::changes(was, is);
    changes.extend(ports::spare_vdevs(was, is));
    let (removed, put) = rows::changes(&was.truth, &is.truth);
    changes.extend(removed);
    changes.extend(ports::changes(was, is));
    let (was, is) = (was.queues_by_name(), is.queues_by_name());
    if was != is {
        changes.push(Change::Queues { was, is });
    }
    changes.extend(put);
    changes
}

impl Appliance {
    /// The key `lcores` with the names of ports.
    #[must_use]
    pub fn queues_by_name(&self) -> Option<QueuesByName> {
        let name = |port: usize| self.ports.get(port).map(|port| port.name.clone());
        let lcores = self.lcores.as_ref()?.iter().map(|(lcore, queues)| {
            let queues = queues.iter().filter_map(|queue| Some((name(queue.port)?, queue.queue)));
            (*lcore, queues.collect())
        });
        Some(lcores.collect())
    }

    /// This configuration with these changes, which [`diff`] made of it and another one.
    #[must_use]
    pub fn with(&self, changes: &[Change]) -> Self {
        apply::apply(self, changes)
    }
}

//! An error of the validators before it has a position in the text: it has the field's path, which
//! becomes line and column when the error is shown ([`crate::locate`]). Private to this crate.

use crate::{ConfigError, locate};
use std::path::Path;

/// An error, with the path of its field.
#[derive(Debug)]
pub(crate) enum Fault {
    /// In the RON document itself.
    Here {
        /// Path of the field as [`locate`] spells it, for example `ports[1].role.mac`.
        field: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
        /// The hint.
        hint: String,
    },
    /// In another file the document names; complete already.
    Elsewhere(ConfigError),
}

pub(crate) type Checked<T> = Result<T, Fault>;

/// Shorthand for [`Fault::Here`].
pub(crate) fn fault(
    field: impl Into<String>,
    found: impl Into<String>,
    expected: impl Into<String>,
    hint: impl Into<String>,
) -> Fault {
    Fault::Here { field: field.into(), found: found.into(), expected: expected.into(), hint: hint.into() }
}

impl Fault {
    /// The error to show, with the position looked up in the document's text.
    pub(crate) fn locate(self, text: &str, path: &Path) -> ConfigError {
        match self {
            Self::Elsewhere(e) => e,
            Self::Here { field, found, expected, hint } => {
                // The fields of a document that is one port begin with a point.
                let field = field.trim_start_matches('.');
                let position = locate::find(text, field);
                ConfigError::new(path, found, expected, hint).at(position).field(display_path(field))
            }
        }
    }
}

impl Fault {
    /// The error to show where there is no text to find the position in.
    pub(crate) fn at_field(self, path: &Path) -> ConfigError {
        match self {
            Self::Elsewhere(e) => e,
            Self::Here { field, found, expected, hint } => {
                ConfigError::new(path, found, expected, hint).field(display_path(&field))
            }
        }
    }
}

/// The path as shown to people, without the marks that only distinguish a map's key from its value.
fn display_path(field: &str) -> String {
    field.replace(['{', '<'], "[").replace(['}', '>'], "]")
}

impl From<ConfigError> for Fault {
    fn from(e: ConfigError) -> Self {
        Self::Elsewhere(e)
    }
}

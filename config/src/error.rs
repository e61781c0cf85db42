//! [`ConfigError`]: the message for a wrong file: the position, what was found, what was
//! expected, and a hint, on one line, so that it reads the same in a terminal, a journal and a log.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A place in a text: both counted from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, the first is 1.
    pub line: u64,
    /// Column in characters, the first is 1. Absent for CSV rows, which have the column's name instead.
    pub column: Option<u64>,
}

/// Why a configuration or bulk file is refused. Renders as
/// `path:line:col: field: found …; expected …; hint: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Detail>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    path: PathBuf,
    position: Option<Position>,
    field: String,
    found: String,
    expected: String,
    hint: String,
}

impl ConfigError {
    /// An error about `path` as a whole (it cannot be read, it is empty); add the rest with the `at` methods.
    pub fn new(
        path: &Path,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self(Box::new(Detail {
            path: path.to_owned(),
            position: None,
            field: String::new(),
            found: escape_controls(found.into()),
            expected: escape_controls(expected.into()),
            hint: escape_controls(hint.into()),
        }))
    }

    /// The same error at a position of the file.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.0.position = Some(position);
        self
    }

    /// The same error, naming the field (`ports[1].role.mac`) or column (`column mac`) it is about.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = escape_controls(field.into());
        self
    }

    /// An I/O failure of `path`, with what helps against the usual ones.
    #[must_use]
    pub fn io(path: &Path, expected: &str, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path, or create the file",
            std::io::ErrorKind::PermissionDenied => "run as a user who may read it, or change its mode",
            std::io::ErrorKind::InvalidData => "save the file as UTF-8 text",
            _ => "see that the file is a readable regular file",
        };
        Self::new(path, error.to_string(), expected, hint)
    }

    /// The file the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where in the file, when the error has a place.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// Path of the field inside the document, empty when the error is about the text itself.
    #[must_use]
    pub fn field_path(&self) -> &str {
        &self.0.field
    }

    /// What was found.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.0.found
    }

    /// What was expected.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// The hint.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0.hint
    }
}

/// Messages quote parts of the file; control characters are escaped as in RON.
fn escape_controls(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.0;
        write!(f, "{}:", d.path.display())?;
        if let Some(p) = d.position {
            write!(f, "{}:", p.line)?;
            if let Some(column) = p.column {
                write!(f, "{column}:")?;
            }
        }
        if !d.field.is_empty() {
            write!(f, " {}:", d.field)?;
        }
        write!(f, " found {}; expected {}; hint: {}", d.found, d.expected, d.hint)
    }
}

impl std::error::Error for ConfigError {}

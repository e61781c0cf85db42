//! Standard output, and failures.

use serde::Serialize;
use std::io::{self, Write};
use stopover_bbs::client::Error as BoardError;
use stopover_config::ConfigError;
use stopover_ctl::ClientError;

/// Why the command failed.
#[derive(Debug)]
pub enum Failure {
    /// To be shown.
    Message(String),
    /// The reader of the output has closed it.
    PipeClosed,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        Self::Message(e.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self::Message(e.to_string())
    }
}

impl From<BoardError> for Failure {
    fn from(e: BoardError) -> Self {
        match e {
            BoardError::Unreachable(_) => {
                Self::Message(format!("{e}; start the board, or give --board https://host:port"))
            }
            _ => Self::Message(e.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Message(format!("cannot write the output: {e}")),
        }
    }
}

/// How answers are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON for machines, instead of text for people.
    pub json: bool,
}

impl Output {
    /// Prints one answer.
    pub fn print<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
            writeln!(stdout)?;
        } else {
            stdout.write_all(text(value).as_bytes())?;
        }
        Ok(stdout.flush()?)
    }

    /// Prints one item of an endless answer; as JSON, each is one line.
    pub fn print_item<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut stdout, value).map_err(io::Error::from)?;
            writeln!(stdout)?;
        } else {
            stdout.write_all(text(value).as_bytes())?;
        }
        Ok(stdout.flush()?)
    }
}

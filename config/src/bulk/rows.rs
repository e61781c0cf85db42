//! The reader under the four tables: CSV records in, [`Row`]s out, one at a time and in constant memory except
//! for the keys that are kept to find repetitions.

use super::{FirstLines, record::Records};
use crate::{
    ConfigError, Position,
    text::{self, Wrong},
};
use std::{
    fs::File,
    io::Read,
    marker::PhantomData,
    net::IpAddr,
    path::{Path, PathBuf},
};
use stopover_net::Vni;

/// A row type: its columns, how it is read and how a repetition is recognised. Implemented by the four
/// tables of [`super`] and not meant for others.
pub trait Row: Sized {
    /// Column names, each with whether it must be present.
    const COLUMNS: &'static [(&'static str, bool)];
    /// Reads one row.
    #[doc(hidden)]
    fn parse(fields: &Fields<'_>) -> Result<Self, Refusal>;
    /// Notes the row's keys; an error when an earlier row had one of them.
    #[doc(hidden)]
    fn remember(&self, seen: &mut Seen, line: u64) -> Result<(), Refusal>;
}

/// Keys of earlier rows.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Seen {
    pub(super) numbers: FirstLines<u128>,
    pub(super) addresses: FirstLines<(u32, IpAddr)>,
    pub(super) names: FirstLines<(u32, String)>,
}

/// Why a row is refused, before file and line are added.
#[doc(hidden)]
#[derive(Debug)]
pub struct Refusal {
    column: &'static str,
    found: String,
    wrong: Wrong,
}

impl Refusal {
    /// A repetition of a key of line `first`.
    pub(super) fn duplicate(column: &'static str, what: String, first: u64) -> Self {
        Self {
            column,
            found: format!("{what} again"),
            wrong: text::wrong(
                format!("it once in the file (it stands in line {first} already)"),
                "remove one of the two rows",
            ),
        }
    }
}

/// The fields of one record by column name.
#[doc(hidden)]
pub struct Fields<'a> {
    record: &'a dyn Fn(usize) -> &'a [u8],
    /// Index in the record of each entry of `Row::COLUMNS`.
    columns: &'a [(&'static str, Option<usize>)],
}

impl Fields<'_> {
    /// Text of a column, trimmed; empty when the file has no such column.
    fn text(&self, column: &'static str) -> Result<&str, Refusal> {
        let index = self.columns.iter().find(|(name, _)| *name == column).and_then(|(_, i)| *i);
        let bytes = index.map_or(&b""[..], |i| (self.record)(i));
        std::str::from_utf8(bytes).map(str::trim).map_err(|_| Refusal {
            column,
            found: format!("bytes that are not UTF-8 (`{}`)", String::from_utf8_lossy(bytes)),
            wrong: text::wrong("UTF-8 text", "save the file as UTF-8"),
        })
    }

    pub(super) fn with<'s, T>(
        &'s self,
        column: &'static str,
        parse: impl FnOnce(&'s str) -> Result<T, Wrong>,
    ) -> Result<T, Refusal> {
        let s = self.text(column)?;
        parse(s).map_err(|wrong| Refusal { column, found: quoted(s), wrong })
    }

    fn number<T>(&self, column: &'static str, parse: impl Fn(i64) -> Result<T, Wrong>) -> Result<T, Refusal> {
        // A text that is not a number fails the same check as a number out of range.
        self.with(column, |s| parse(s.parse().unwrap_or(-1)))
    }

    pub(super) fn number_or<T>(
        &self,
        column: &'static str,
        default: T,
        parse: impl Fn(i64) -> Result<T, Wrong>,
    ) -> Result<T, Refusal> {
        if self.text(column)?.is_empty() { Ok(default) } else { self.number(column, parse) }
    }

    pub(super) fn vni(&self, column: &'static str) -> Result<Vni, Refusal> {
        self.number(column, text::vni)
    }

    pub(super) fn ips(&self, column: &'static str, min: usize, max: usize) -> Result<Vec<IpAddr>, Refusal> {
        self.ip_list(column, &[], min, max)
    }

    /// Further addresses of a row that has `others` already: none of those again, and at most `max` in all.
    pub(super) fn more_ips(
        &self,
        column: &'static str,
        others: &[IpAddr],
        max: usize,
    ) -> Result<Vec<IpAddr>, Refusal> {
        self.ip_list(column, others, 0, max.saturating_sub(others.len()))
    }

    fn ip_list(
        &self,
        column: &'static str,
        others: &[IpAddr],
        min: usize,
        max: usize,
    ) -> Result<Vec<IpAddr>, Refusal> {
        let s = self.text(column)?;
        let mut ips = Vec::new();
        for word in s.split_ascii_whitespace() {
            let ip =
                text::unicast_ip(word).map_err(|wrong| Refusal { column, found: quoted(word), wrong })?;
            if ips.contains(&ip) || others.contains(&ip) {
                return Err(Refusal {
                    column,
                    found: format!("{ip} twice in one row"),
                    wrong: text::wrong("each address once", "remove the repetition"),
                });
            }
            ips.push(ip);
        }
        if (min..=max).contains(&ips.len()) {
            return Ok(ips);
        }
        Err(Refusal {
            column,
            found: format!("{} addresses", ips.len()),
            wrong: text::wrong(format!("{min} to {max}, separated by spaces"), "add or remove addresses"),
        })
    }
}

fn quoted(s: &str) -> String {
    if s.is_empty() { "nothing".to_owned() } else { format!("`{}`", s.escape_debug()) }
}

/// A table being read: an iterator of its rows. It ends after the first error.
#[derive(Debug)]
pub struct Rows<R, T> {
    records: Records<R>,
    path: PathBuf,
    columns: Vec<(&'static str, Option<usize>)>,
    width: usize,
    seen: Seen,
    done: bool,
    rows: PhantomData<fn() -> T>,
}

impl<T: Row> Rows<File, T> {
    /// Opens the file and reads its header.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let file = File::open(path).map_err(|e| ConfigError::io(path, "a readable CSV file", &e))?;
        Self::new(file, path)
    }
}

impl<R: Read, T: Row> Rows<R, T> {
    /// Reads the header from `reader`; `path` is only for messages.
    pub fn new(reader: R, path: &Path) -> Result<Self, ConfigError> {
        let mut rows = Self {
            records: Records::new(reader),
            path: path.to_owned(),
            columns: Vec::new(),
            width: 0,
            seen: Seen::default(),
            done: false,
            rows: PhantomData,
        };
        rows.header()?;
        Ok(rows)
    }

    /// Line of the row returned last.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.records.line()
    }

    /// Bytes of the file read so far, for progress.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.records.bytes()
    }

    /// An error about a column of the row returned last, for checks across rows or files.
    #[must_use]
    pub fn error(&self, column: &str, found: String, expected: &str, hint: &str) -> ConfigError {
        ConfigError::new(&self.path, found, expected, hint)
            .at(Position { line: self.line(), column: None })
            .field(format!("column {column}"))
    }

    fn header(&mut self) -> Result<(), ConfigError> {
        let names = T::COLUMNS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(",");
        let complain = |rows: &Self, found: String, expected: String, hint: &str| {
            Err(ConfigError::new(&rows.path, found, expected, hint)
                .at(Position { line: rows.line(), column: None }))
        };
        if !self.advance()? {
            return complain(
                self,
                "an empty table".into(),
                format!("the header `{names}`"),
                "write the header as first line",
            );
        }
        self.columns = T::COLUMNS.iter().map(|(n, _)| (*n, None)).collect();
        self.width = self.records.len();
        for i in 0..self.width {
            let name = String::from_utf8_lossy(self.records.field(i)).into_owned();
            let Some(column) = self.columns.iter_mut().find(|(n, _)| *n == name) else {
                let found = format!("`{}` in the header", name.escape_debug());
                return complain(
                    self,
                    found,
                    format!("the header `{names}`"),
                    "the first line names the columns; add it, or correct the name",
                );
            };
            if column.1.replace(i).is_some() {
                let found = format!("column `{name}` twice in the header");
                return complain(self, found, format!("the header `{names}`"), "remove one of the two");
            }
        }
        let missing = T::COLUMNS
            .iter()
            .zip(&self.columns)
            .find_map(|((name, required), (_, i))| (*required && i.is_none()).then_some(*name));
        match missing {
            Some(name) => complain(
                self,
                format!("a header without column `{name}`"),
                format!("the header `{names}`"),
                "add the column",
            ),
            None => Ok(()),
        }
    }

    /// Moves to the next record; false at the end.
    fn advance(&mut self) -> Result<bool, ConfigError> {
        self.records.advance().map_err(|(found, expected)| {
            ConfigError::new(&self.path, found, expected, "see that the file is complete and is a CSV table")
                .at(Position { line: self.records.line(), column: None })
        })
    }

    fn row(&mut self) -> Result<Option<T>, ConfigError> {
        if !self.advance()? {
            return Ok(None);
        }
        let line = self.line();
        if self.records.len() != self.width {
            return Err(ConfigError::new(
                &self.path,
                format!("{} fields", self.records.len()),
                format!("{} as in the header", self.width),
                "add or remove commas; quote a field that contains one",
            )
            .at(Position { line, column: None }));
        }
        let records = &self.records;
        let fields = Fields { record: &|i| records.field(i), columns: &self.columns };
        let row = T::parse(&fields).and_then(|row| row.remember(&mut self.seen, line).map(|()| row));
        row.map(Some).map_err(|r| self.error(r.column, r.found, &r.wrong.expected, &r.wrong.hint))
    }
}

impl<R: Read, T: Row> Iterator for Rows<R, T> {
    type Item = Result<T, ConfigError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.row().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

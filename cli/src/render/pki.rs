//! Certificates.

use crate::table::Table;
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;
use stopover_pki::{CertificateState, Given, Identity, Issued, Token, TokenState};

/// A certificate, as it is printed.
#[derive(Debug, Serialize)]
pub struct CertificateRow {
    /// What its holder is.
    pub role: &'static str,
    /// The holder's name.
    pub name: String,
    /// Its number.
    pub serial: String,
    /// Its begin.
    pub from: String,
    /// Its end.
    pub until: String,
    /// Whether it is of use.
    pub state: CertificateState,
    /// Who signed it.
    pub authority: String,
}

impl CertificateRow {
    /// At a time, in seconds since 1970.
    pub fn new(issued: &Issued, now: u64) -> Self {
        Self {
            role: issued.identity.role.as_str(),
            name: issued.identity.name.to_string(),
            serial: issued.serial.to_string(),
            from: moment(issued.from),
            until: moment(issued.until),
            state: issued.state(now),
            authority: issued.authority.clone(),
        }
    }
}

/// An authority, as it is printed.
#[derive(Debug, Serialize)]
pub struct AuthorityRow {
    /// Its name.
    pub authority: String,
    /// Its end.
    pub until: String,
}

/// A change of keys, as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationRow {
    /// Who signs from now on.
    Signs(String),
    /// Who is trusted no more.
    Forgotten(Vec<String>),
}

/// A token that was made, as it is printed. The only place with its secret.
#[derive(Debug, Serialize)]
pub struct NewTokenRow {
    /// All of it.
    pub token: String,
    /// Its end.
    pub until: String,
}

impl NewTokenRow {
    /// With its end in seconds since 1970.
    pub fn new(token: &Token, until: u64) -> Self {
        Self { token: token.to_text(), until: moment(until) }
    }
}

/// Only the token, for a file or a pipe.
pub fn new_token(row: &NewTokenRow) -> String {
    format!("{}\n", row.token)
}

/// A token, as it is printed.
#[derive(Debug, Serialize)]
pub struct TokenRow {
    /// What its holder will be.
    pub role: &'static str,
    /// The holder's name.
    pub name: String,
    /// Its end.
    pub until: String,
    /// Whether it is of use.
    pub state: TokenState,
    /// Number of the certificate that was issued for it.
    pub serial: Option<String>,
}

impl TokenRow {
    /// At a time, in seconds since 1970.
    pub fn new(given: &Given, now: u64) -> Self {
        Self {
            role: given.identity.role.as_str(),
            name: given.identity.name.to_string(),
            until: moment(given.until),
            state: given.state(now),
            serial: given.used.map(|serial| serial.to_string()),
        }
    }
}

/// Their table.
pub fn tokens(rows: &[TokenRow]) -> String {
    let mut table = Table::new(&["ROLE", "NAME", "UNTIL", "STATE", "SERIAL"], "no tokens");
    for TokenRow { role, name, until, state, serial } in rows {
        let serial = serial.clone().unwrap_or_else(|| "-".to_owned());
        table.row([(*role).to_owned(), name.clone(), until.clone(), state.to_string(), serial]);
    }
    table.to_string()
}

/// One that has got its credentials.
#[derive(Debug, Serialize)]
pub struct EnrolledRow {
    /// What it is.
    pub role: &'static str,
    /// Its name.
    pub name: String,
    /// Where its credentials are.
    pub folder: String,
}

impl EnrolledRow {
    /// With its folder.
    pub fn new(identity: &Identity, folder: &Path) -> Self {
        let (role, name) = (identity.role.as_str(), identity.name.to_string());
        Self { role, name, folder: folder.display().to_string() }
    }
}

/// One line.
pub fn enrolled(row: &EnrolledRow) -> String {
    format!("{} has the credentials of {} {}\n", row.folder, row.role, row.name)
}

/// A time in seconds since 1970.
pub fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    moment.map_or_else(|| format!("{seconds} s"), |moment| moment.to_string())
}

/// Their table.
pub fn certificates(rows: &[CertificateRow]) -> String {
    let headers = ["ROLE", "NAME", "SERIAL", "FROM", "UNTIL", "STATE", "AUTHORITY"];
    let mut table = Table::new(&headers, "no certificates");
    for row in rows {
        let CertificateRow { role, name, serial, from, until, state, authority } = row;
        table.row([
            (*role).to_owned(),
            name.clone(),
            serial.clone(),
            from.clone(),
            until.clone(),
            state.to_string(),
            authority.clone(),
        ]);
    }
    table.to_string()
}

/// Who signs.
pub fn authorities(rows: &[AuthorityRow]) -> String {
    let mut table = Table::new(&["AUTHORITY", "UNTIL"], "no authority");
    for AuthorityRow { authority, until } in rows {
        table.row([authority.clone(), until.clone()]);
    }
    table.to_string()
}

/// What became of the keys.
pub fn rotation(row: &RotationRow) -> String {
    match row {
        RotationRow::Signs(name) => {
            format!("{name} signs from now on; the authority before it is trusted too\n")
        }
        RotationRow::Forgotten(names) => format!("{} is trusted no more\n", names.join(", ")),
    }
}

//! Certificates.

use crate::table::Table;
use jiff::Timestamp;
use serde::Serialize;
use stopover_pki::{CertificateState, Issued};

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

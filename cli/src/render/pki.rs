//! Certificates.

use crate::{
    pki::{AuthorityRow, CertificateRow, RotationRow},
    table::Table,
};
use jiff::Timestamp;

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

//! `stopover pki …`: a private CA in a folder of this machine. No appliance and no board is asked.

use crate::{
    args::{Pki, PkiCommand},
    output::{Failure, Output},
    render::{self, AuthorityRow, CertificateRow, RotationRow},
};
use std::time::{SystemTime, UNIX_EPOCH};
use stopover_pki::{CaFolder, Fresh, Identity, Issued, Rotation};

/// Runs one of them.
pub fn pki(Pki { ca, command }: Pki, out: Output) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let fresh = || Fresh::draw(now).map_err(|e| Failure::Message(e.to_string()));
    match command {
        PkiCommand::Init(days) => {
            let made = CaFolder::create(&ca, fresh()?, days.days)?;
            let rows = made.authorities().iter();
            let rows: Vec<AuthorityRow> = rows
                .map(|a| AuthorityRow { authority: a.name().to_owned(), until: render::moment(a.until()) })
                .collect();
            out.print(&rows, |rows| render::authorities(rows))
        }
        PkiCommand::Issue { role, name, out: folder, days } => {
            let identity = Identity { role, name };
            let issued = CaFolder::open(&ca, now)?.issue(&identity, &folder, &fresh()?, days)?;
            out.print(&[CertificateRow::new(&issued, now)][..], render::certificates)
        }
        PkiCommand::Revoke { role, name, serial } => {
            let identity = role.zip(name).map(|(role, name)| Identity { role, name });
            let which = |issued: &Issued| {
                serial.is_none_or(|serial| issued.serial == serial)
                    && identity.as_ref().is_none_or(|identity| issued.identity == *identity)
            };
            let revoked = CaFolder::open(&ca, now)?.revoke(now, which)?;
            let rows: Vec<CertificateRow> = revoked.iter().map(|i| CertificateRow::new(i, now)).collect();
            out.print(&rows[..], render::certificates)
        }
        PkiCommand::List => {
            let found = CaFolder::read(&ca)?;
            let rows: Vec<CertificateRow> =
                found.list().iter().map(|i| CertificateRow::new(i, now)).collect();
            out.print(&rows[..], render::certificates)
        }
        PkiCommand::Rotate { days, finish, force } => {
            let mut ca = CaFolder::open(&ca, now)?;
            let rotation = if finish {
                ca.finish_rotation(now, force)?
            } else {
                ca.begin_rotation(fresh()?, days.days)?
            };
            let row = match rotation {
                Rotation::Begun(name) => RotationRow::Signs(name),
                Rotation::Finished(names) => RotationRow::Forgotten(names),
            };
            out.print(&row, render::rotation)
        }
    }
}

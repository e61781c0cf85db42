//! `stopover pki …`: a private CA in a folder of this machine. No appliance and no board is asked.

use crate::{
    args::{Pki, PkiCommand, TokenCommand},
    output::{Failure, Output},
    render::{self, AuthorityRow, CertificateRow, NewTokenRow, RotationRow, TokenRow},
};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use stopover_pki::{CaFolder, Fresh, Given, Identity, Issued, Rotation, Secret};

/// So long a newcomer may keep the CA to itself.
const PATIENCE: Duration = Duration::from_secs(5);

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
            let issued =
                CaFolder::open_within(&ca, now, PATIENCE)?.issue(&identity, &folder, &fresh()?, days)?;
            out.print(&[CertificateRow::new(&issued, now)][..], render::certificates)
        }
        PkiCommand::Revoke { role, name, serial } => {
            let identity = role.zip(name).map(|(role, name)| Identity { role, name });
            let which = |issued: &Issued| {
                serial.is_none_or(|serial| issued.serial == serial)
                    && identity.as_ref().is_none_or(|identity| issued.identity == *identity)
            };
            let revoked = CaFolder::open_within(&ca, now, PATIENCE)?.revoke(now, which)?;
            let rows: Vec<CertificateRow> = revoked.iter().map(|i| CertificateRow::new(i, now)).collect();
            out.print(&rows[..], render::certificates)
        }
        PkiCommand::List => {
            let found = CaFolder::read(&ca)?;
            let rows: Vec<CertificateRow> =
                found.list().iter().map(|i| CertificateRow::new(i, now)).collect();
            out.print(&rows[..], render::certificates)
        }
        PkiCommand::Token(command) => token(&ca, command, now, out),
        PkiCommand::Rotate { days, finish, force } => {
            let mut ca = CaFolder::open_within(&ca, now, PATIENCE)?;
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

fn token(ca: &Path, command: TokenCommand, now: u64, out: Output) -> Result<(), Failure> {
    let rows = |given: &[Given]| -> Vec<TokenRow> { given.iter().map(|g| TokenRow::new(g, now)).collect() };
    match command {
        TokenCommand::Issue { role, name, valid } => {
            let identity = Identity { role, name };
            let secret = Secret::draw().map_err(|e| Failure::Message(e.to_string()))?;
            let until = now.saturating_add(valid);
            let token =
                CaFolder::open_within(ca, now, PATIENCE)?.issue_token(&identity, secret, now, until)?;
            out.print_item(&NewTokenRow::new(&token, until), render::new_token)
        }
        TokenCommand::List => out.print(&rows(CaFolder::read(ca)?.tokens())[..], render::tokens),
        TokenCommand::Revoke { role, name } => {
            let identity = Identity { role, name };
            let revoked = CaFolder::open_within(ca, now, PATIENCE)?.revoke_tokens(&identity, now)?;
            out.print(&rows(&revoked)[..], render::tokens)
        }
    }
}

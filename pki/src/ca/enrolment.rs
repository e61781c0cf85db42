//! How a CA lets newcomers in: tokens, and certificates for those who have one.

use super::{CRL, CaFolder, LIST, not_signed, required};
use crate::{
    BadRequest, Given, Identity, Issued, Pin, Request, Role, Secret, Serial, SignError, Token,
    authority::random,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use stopover_config::ConfigError;
use stopover_net::HostName;
use thiserror::Error;

/// Pause between two attempts to lock the folder.
const PAUSE: Duration = Duration::from_millis(20);

/// What a newcomer is given, as PEM.
#[derive(Debug)]
pub struct Enrolled {
    /// Its certificate, as it is on the list.
    pub issued: Issued,
    /// Its certificate.
    pub certificate: String,
    /// The trusted authorities.
    pub ca: String,
    /// Their revocation lists.
    pub crl: String,
}

/// Why a newcomer is not let in.
#[derive(Debug, Error)]
pub enum NotEnrolled {
    /// No open token has this name and secret.
    #[error(
        "found no token of this name and secret that can be used; expected one that is neither used, expired nor revoked; \
         hint: make a new one with `stopover pki token issue`"
    )]
    Token,
    /// The token remains open.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// The CA cannot. The token remains open.
    #[error(transparent)]
    Ca(#[from] ConfigError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] SignError),
}

impl CaFolder {
    /// As [`Self::open`], but waits until another command has ended.
    pub fn open_within(folder: &Path, now: u64, patience: Duration) -> Result<Self, ConfigError> {
        let began = Instant::now();
        loop {
            match Self::open(folder, now) {
                Err(e) if e.found() == super::BUSY && began.elapsed() < patience => std::thread::sleep(PAUSE),
                opened => return opened,
            }
        }
    }

    /// Makes a token with which `identity` may be had, once, until a time.
    pub fn issue_token(
        &mut self,
        identity: &Identity,
        secret: Secret,
        now: u64,
        until: u64,
    ) -> Result<Token, ConfigError> {
        if identity.role == Role::Board {
            let hint = "issue the board's certificate by `stopover pki issue board`";
            return Err(ConfigError::new(&self.folder, "a token for a board", "another role", hint));
        }
        let pin = self.pin(now)?;
        self.list.tokens.give(now, identity.clone(), secret.hash(), until);
        self.store_list()?;
        Ok(Token { name: identity.name.clone(), secret, pin })
    }

    /// Of the authority that signed the board's certificate; of the one that signs, as long as there is none.
    fn pin(&self, now: u64) -> Result<Pin, ConfigError> {
        let of_board = self.list.authority_of_board(now);
        match self.authorities.iter().find(|a| Some(a.name()) == of_board) {
            Some(authority) => Ok(authority.pin()),
            None => Ok(self.signer()?.pin()),
        }
    }

    /// Revokes the open tokens of someone, and returns them. None is an error.
    pub fn revoke_tokens(&mut self, identity: &Identity, now: u64) -> Result<Vec<Given>, ConfigError> {
        let revoked = self.list.tokens.revoke(now, identity);
        if revoked.is_empty() {
            let (path, found) = (self.folder.join(LIST), format!("no open token for {identity}"));
            return Err(ConfigError::new(&path, found, "one", "`stopover pki token list` shows them"));
        }
        self.store_list()?;
        Ok(revoked)
    }

    /// Issues the certificate of a newcomer's key. Who it is comes from the token. That the token is used, and the
    /// certificate, are on the disk when this returns; a failure leaves the token as it was.
    pub fn enrol(
        &mut self,
        name: &HostName,
        secret: &Secret,
        request: &[u8],
        now: u64,
        days: u32,
    ) -> Result<Enrolled, NotEnrolled> {
        let given = self.list.tokens.open(now, name, secret).ok_or(NotEnrolled::Token)?;
        let identity = given.identity.clone();
        let request = Request::parse(request)?;
        let crl = String::from_utf8_lossy(&required(&self.folder.join(CRL))?).into_owned();
        let serial = Serial::new(random()?);
        let certified = self.signer()?.certify(&identity, (now, serial), request.key(), days);
        let (issued, certificate) = certified.map_err(|e| not_signed(&self.folder, &e))?;
        self.enlist(&issued)?;
        if let Some(given) = self.list.tokens.open(now, name, secret) {
            given.used = Some(serial);
        }
        self.store_list()?;
        Ok(Enrolled { issued, certificate, ca: self.trusted(), crl })
    }
}

#[cfg(test)]
#[path = "enrolment_tests.rs"]
mod tests;

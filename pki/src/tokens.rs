//! [`Tokens`]: what a CA knows of the tokens that it has given out. Pure data: who may join, until when, and whether it has.
//! No secret enters but to be compared by its hash.

use crate::{Identity, Secret, SecretHash, Serial};
use serde::{Deserialize, Serialize};
use std::fmt;
use stopover_net::HostName;

/// A token that has been of no use for so long is forgotten.
const KEPT_S: u64 = 30 * 86_400;

/// Whether a token is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenState {
    /// It is.
    Open,
    /// Somebody has joined with it.
    Used,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Who may join with it.
    pub identity: Identity,
    /// Of its secret.
    pub hash: SecretHash,
    /// The last second in which it is of use, since 1970.
    pub until: u64,
    /// The certificate that was issued for it.
    pub used: Option<Serial>,
    /// When it was revoked.
    pub revoked: Option<u64>,
}

impl Given {
    /// Whether it is of use now.
    #[must_use]
    pub fn state(&self, now: u64) -> TokenState {
        match (self.used, self.revoked) {
            (Some(_), _) => TokenState::Used,
            (None, Some(_)) => TokenState::Revoked,
            (None, None) if now > self.until => TokenState::Expired,
            (None, None) => TokenState::Open,
        }
    }
}

/// All of them, in the order of issue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens(pub Vec<Given>);

/// The text of one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextGiven {
    identity: String,
    hash: String,
    until: u64,
    used: Option<String>,
    revoked: Option<u64>,
}

impl TextGiven {
    /// Checks it; the error is a field, and what was found there. `is_known` tells whether a certificate is on the list.
    pub fn check(self, is_known: impl Fn(&Serial) -> bool) -> Result<Given, (&'static str, String)> {
        let identity = self.identity.parse().map_err(|e| ("identity", format!("{e}")))?;
        let hash = self.hash.parse().map_err(|e| ("hash", String::from(e)))?;
        let used: Option<Serial> = self.used.map(|s| s.parse()).transpose().map_err(|e| ("used", e))?;
        if let Some(serial) = used.filter(|serial| !is_known(serial)) {
            return Err(("used", format!("{serial}, which was never issued")));
        }
        if let (Some(_), Some(revoked)) = (used, self.revoked) {
            return Err(("revoked", format!("{revoked}, though it was used")));
        }
        Ok(Given { identity, hash, until: self.until, used, revoked: self.revoked })
    }
}

impl From<&Given> for TextGiven {
    fn from(given: &Given) -> Self {
        let Given { identity, hash, until, used, revoked } = given;
        Self {
            identity: identity.to_string(),
            hash: hash.to_string(),
            until: *until,
            used: used.map(|serial| serial.to_string()),
            revoked: *revoked,
        }
    }
}

impl Tokens {
    /// Gives one out. What is long of no use makes room.
    pub fn give(&mut self, now: u64, identity: Identity, hash: SecretHash, until: u64) {
        self.0.retain(|given| given.until.saturating_add(KEPT_S) >= now);
        self.0.push(Given { identity, hash, until, used: None, revoked: None });
    }

    /// The open one with this name and secret. All are compared, and each for as long as any other.
    pub fn open(&mut self, now: u64, name: &HostName, secret: &Secret) -> Option<&mut Given> {
        let hash = secret.hash();
        let mut found = None;
        for given in &mut self.0 {
            let fits = given.hash == hash;
            if fits & (given.identity.name == *name) & (given.state(now) == TokenState::Open) {
                found = Some(given);
            }
        }
        found
    }

    /// Revokes the open ones of someone, and returns them.
    pub fn revoke(&mut self, now: u64, identity: &Identity) -> Vec<Given> {
        let open = |given: &&mut Given| given.state(now) == TokenState::Open && given.identity == *identity;
        let revoke = |given: &mut Given| {
            given.revoked = Some(now);
            given.clone()
        };
        self.0.iter_mut().filter(open).map(revoke).collect()
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

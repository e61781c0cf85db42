//! [`List`]: every certificate that a CA has issued, what was revoked, and its tokens. Pure data and its text; the text is checked
//! whole before any of it is used.

use crate::{
    Identity, Role, Tokens, shown,
    tokens::{Given, TextGiven},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};
use stopover_config::ConfigError;

const VERSION: u32 = 1;
const HINT: &str = "restore the CA folder from its backup";

/// The number of a certificate: random, so that none is used twice and none can be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; Self::LENGTH]);

impl Serial {
    /// Bytes of one.
    pub const LENGTH: usize = 16;

    /// From random bytes. The two highest bits are set to 01, so that every number has 16 bytes and is positive.
    #[must_use]
    pub fn new(mut bytes: [u8; Self::LENGTH]) -> Self {
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self(bytes)
    }

    /// Its bytes, as in the certificate.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let refused = || format!("found `{}`; expected a serial number, 32 of 0-9 a-f", shown(s));
        if s.len() != 2 * Self::LENGTH || !s.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused());
        }
        let number = u128::from_str_radix(s, 16).map_err(|_| refused())?;
        let serial = Self::new(number.to_be_bytes());
        if serial.0 == number.to_be_bytes() { Ok(serial) } else { Err(refused()) }
    }
}

/// Whether a certificate is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateState {
    /// It is.
    Valid,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl fmt::Display for CertificateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its number.
    pub serial: Serial,
    /// Whose it is.
    pub identity: Identity,
    /// Name of the authority that signed it.
    pub authority: String,
    /// Its begin, in seconds since 1970.
    pub from: u64,
    /// Its end.
    pub until: u64,
    /// When it was revoked.
    pub revoked: Option<u64>,
}

impl Issued {
    /// Whether it is of use now.
    #[must_use]
    pub fn state(&self, now: u64) -> CertificateState {
        match self.revoked {
            Some(_) => CertificateState::Revoked,
            None if now > self.until => CertificateState::Expired,
            None => CertificateState::Valid,
        }
    }
}

/// Every certificate, in the order of issue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Number of the present revocation list; a higher one is newer.
    pub crl_number: u64,
    /// The certificates.
    pub issued: Vec<Issued>,
    /// The tokens. They are in the same file, so that a token is used in the step that puts its certificate on the list.
    pub tokens: Tokens,
}

/// The text of a list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    crl_number: u64,
    issued: Vec<TextIssued>,
    #[serde(default)]
    tokens: Vec<TextGiven>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextIssued {
    serial: String,
    identity: String,
    authority: String,
    from: u64,
    until: u64,
    revoked: Option<u64>,
}

impl List {
    /// Reads the text of a file.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let error = |found: String| ConfigError::new(path, found, "the list of issued certificates", HINT);
        let text: Text = serde_json::from_slice(bytes).map_err(|e| error(e.to_string()))?;
        if text.version != VERSION {
            return Err(error(format!("version {}", text.version)).field("version"));
        }
        let mut known = BTreeSet::new();
        let mut issued = Vec::new();
        for (n, one) in text.issued.into_iter().enumerate() {
            let at = |field: &str, found: String| error(found).field(format!("issued[{n}].{field}"));
            let serial: Serial = one.serial.parse().map_err(|e| at("serial", e))?;
            if !known.insert(serial) {
                return Err(at("serial", format!("{serial} for the second time")));
            }
            let identity = one.identity.parse().map_err(|e| at("identity", format!("{e}")))?;
            if one.from > one.until {
                return Err(at("until", format!("{}, before its begin {}", one.until, one.from)));
            }
            let (from, until) = (one.from, one.until);
            issued.push(Issued {
                serial,
                identity,
                authority: one.authority,
                from,
                until,
                revoked: one.revoked,
            });
        }
        let tokens = text.tokens.into_iter().enumerate().map(|(n, one)| {
            one.check(|serial| known.contains(serial))
                .map_err(|(field, found)| error(found).field(format!("tokens[{n}].{field}")))
        });
        let tokens = Tokens(tokens.collect::<Result<Vec<Given>, ConfigError>>()?);
        Ok(Self { crl_number: text.crl_number, issued, tokens })
    }

    /// The text of it.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let one = |i: &Issued| TextIssued {
            serial: i.serial.to_string(),
            identity: i.identity.to_string(),
            authority: i.authority.clone(),
            from: i.from,
            until: i.until,
            revoked: i.revoked,
        };
        let text = Text {
            version: VERSION,
            crl_number: self.crl_number,
            issued: self.issued.iter().map(one).collect(),
            tokens: self.tokens.0.iter().map(TextGiven::from).collect(),
        };
        serde_json::to_string_pretty(&text).map(|text| text + "\n")
    }

    /// Revokes the valid certificates that `which` selects, and returns them. The list has a new number if there are any.
    pub fn revoke(&mut self, now: u64, which: impl Fn(&Issued) -> bool) -> Vec<Issued> {
        let mut revoked = Vec::new();
        for one in &mut self.issued {
            if one.state(now) == CertificateState::Valid && which(one) {
                one.revoked = Some(now);
                revoked.push(one.clone());
            }
        }
        if !revoked.is_empty() {
            self.crl_number = self.crl_number.saturating_add(1);
        }
        revoked
    }

    /// The authority that signed the newest valid certificate of a board.
    #[must_use]
    pub fn authority_of_board(&self, now: u64) -> Option<&str> {
        let is_board =
            |i: &&Issued| i.identity.role == Role::Board && i.state(now) == CertificateState::Valid;
        self.issued.iter().rev().find(is_board).map(|i| i.authority.as_str())
    }

    /// Who has a valid certificate of this authority and none of another.
    #[must_use]
    pub fn only_of(&self, authority: &str, now: u64) -> BTreeSet<Identity> {
        let valid = |of: bool| {
            let all = self.issued.iter().filter(move |i| i.state(now) == CertificateState::Valid);
            all.filter(move |i| (i.authority == authority) == of).map(|i| i.identity.clone())
        };
        let elsewhere: BTreeSet<Identity> = valid(false).collect();
        valid(true).filter(|identity| !elsewhere.contains(identity)).collect()
    }
}

#[cfg(test)]
#[path = "issued_tests.rs"]
mod tests;

//! [`Identity`]: a role and a name, written `stopover://ROLE/NAME`. In a certificate it is the only
//! URI among the subject's alternative names, so that no certificate can be two things at once.

use std::{fmt, str::FromStr};
use stopover_net::HostName;
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

const SCHEME: &str = "stopover://";
/// No URI that is longer can be an identity: room for the longest role and the longest name.
const SHOWN: usize = 100;

/// What a certificate's holder is to the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The board itself.
    Board,
    /// A host's appliance.
    Host,
    /// A person who may change everything.
    Operator,
    /// A person who may read.
    Observer,
    /// A program that orders migrations or registers machines.
    Program,
    /// A member of a network that speaks for itself.
    Member,
}

impl Role {
    /// Every role, in the order of the documents.
    pub const ALL: [Self; 6] =
        [Self::Board, Self::Host, Self::Operator, Self::Observer, Self::Program, Self::Member];

    /// The word in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Host => "host",
            Self::Operator => "operator",
            Self::Observer => "observer",
            Self::Program => "program",
            Self::Member => "member",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = BadIdentity;
    fn from_str(s: &str) -> Result<Self, BadIdentity> {
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or_else(|| BadIdentity::Role(shown(s)))
    }
}

/// Who someone is: a role, and a name that is unique within the role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What the holder is to the board.
    pub role: Role,
    /// The holder's name. Names of every role obey the rules of host names.
    pub name: HostName,
}

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadIdentity {
    /// Another scheme, or no name.
    #[error("found `{0}`; expected stopover://ROLE/NAME; hint: lower case, no port, no slash at the end")]
    Form(String),
    /// An unknown role.
    #[error("role: found `{0}`; expected board, host, operator, observer, program or member")]
    Role(String),
    /// The name breaks the rules of names.
    #[error("name: {0}")]
    Name(String),
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadCertificate {
    /// Not one X.509 certificate.
    #[error("certificate: found {0}; expected one X.509 certificate in DER")]
    Form(&'static str),
    /// The alternative names cannot be read, or are there twice.
    #[error("certificate: alternative names: found {0}; expected one readable list")]
    Names(&'static str),
    /// No URI, or several.
    #[error(
        "certificate: alternative names: found {0} URIs; expected exactly one, stopover://ROLE/NAME; \
         hint: is the certificate of this network's authority?"
    )]
    Uris(usize),
    /// The holder may not be at this end of a connection.
    #[error("certificate: found that of a {0}, which may not be at this end of a connection")]
    Role(Role),
    /// The one URI is no identity.
    #[error("certificate: URI: {0}")]
    Identity(#[from] BadIdentity),
}

impl Identity {
    /// The identity that a certificate gives its holder. Says nothing of who signed it, nor of its dates.
    pub fn of_certificate(der: &[u8]) -> Result<Self, BadCertificate> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| BadCertificate::Form("other bytes"))?;
        if !rest.is_empty() {
            return Err(BadCertificate::Form("bytes after the certificate"));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| BadCertificate::Names("a list that is broken or doubled"))?
            .ok_or(BadCertificate::Uris(0))?;
        let mut uris = Vec::new();
        for name in &names.value.general_names {
            match name {
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::Invalid(..) => return Err(BadCertificate::Names("a name that is not readable")),
                _ => {}
            }
        }
        match uris[..] {
            [uri] => Ok(uri.parse()?),
            _ => Err(BadCertificate::Uris(uris.len())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = BadIdentity;
    fn from_str(s: &str) -> Result<Self, BadIdentity> {
        let (role, name) = s
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| BadIdentity::Form(shown(s)))?;
        let role = role.parse()?;
        let name = HostName::new(name).map_err(|_| BadIdentity::Name(name_error(name)))?;
        Ok(Self { role, name })
    }
}

fn name_error(name: &str) -> String {
    format!(
        "found `{}`; expected 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
        shown(name)
    )
}

/// The beginning of a foreign text, fit for one line of a log.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;

//! The newcomer's end of an enrolment. Enters: a [`Token`], then the board's answer. Leaves: TLS that admits only a board of
//! the token's authority, the request, and the folder of credentials. No sockets.
//!
//! The board proves itself before the token leaves this machine: it presents a certificate that was signed by the key
//! whose pin the token has. So it needs no other trust to begin with.

use crate::{
    CA, CERTIFICATE, CRL, Credentials, Files, Identity, KEY, Pin, SignError, Token,
    files::{self, PUBLIC, SECRET},
    request, tls,
};
use rcgen::KeyPair;
use rustls::ClientConfig;
use std::{path::Path, sync::Arc};
use stopover_config::ConfigError;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// What the board gives a newcomer, as PEM. Not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The certificate.
    pub certificate: String,
    /// The trusted authorities.
    pub ca: String,
    /// Their revocation lists.
    pub crl: String,
}

/// One that has a token and a new key.
#[derive(Debug)]
pub struct Newcomer {
    token: Token,
    key: KeyPair,
}

impl Newcomer {
    /// With a new key, which does not leave this machine.
    pub fn new(token: Token) -> Result<Self, SignError> {
        Ok(Self { token, key: KeyPair::generate()? })
    }

    /// What it shows to the board, once [`Self::tls`] has found it to be the right one.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// TLS that admits a board of the token's authority, and nobody else.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        tls::pinned(self.token.pin)
    }

    /// The request for a certificate.
    pub fn request(&self) -> Result<Vec<u8>, SignError> {
        request::write(&self.key)
    }

    /// Checks that a folder can be written, before the token is used. If it has credentials, they are replaced only with
    /// `force`.
    pub fn check_folder(out: &Path, force: bool) -> Result<(), ConfigError> {
        let names = [CA, CERTIFICATE, KEY, CRL];
        let refused = |path: &Path, found: &str, hint: &str| {
            ConfigError::new(path, found, "a new or an empty folder", hint)
        };
        let foreign = files::foreign_entry(out, &names);
        if let Some(path) = foreign.map_err(|e| ConfigError::io(out, "a folder for credentials", &e))? {
            let hint = "choose another folder for --out";
            return Err(refused(&path, "a file that is not of credentials", hint));
        }
        if let (Some(path), false) =
            (names.iter().map(|name| out.join(name)).find(|path| path.exists()), force)
        {
            let hint = "--force replaces the credentials that are there";
            return Err(refused(&path, "credentials", hint));
        }
        files::try_folder(out)
    }

    /// Checks the answer, and writes the folder of credentials in one step. Returns who the newcomer is.
    pub fn finish(&self, answer: &Answer, out: &Path) -> Result<Identity, ConfigError> {
        let key = self.key.serialize_pem();
        let credentials = Credentials::parse(
            out,
            &Files {
                ca: answer.ca.clone().into(),
                certificate: answer.certificate.clone().into(),
                key: key.clone().into(),
                crl: Some(answer.crl.clone().into()),
            },
        )?;
        let hint = "the board and this program may be of different versions";
        let refused =
            |name, found: &str, expected: &str| Err(ConfigError::new(&out.join(name), found, expected, hint));
        let identity = credentials.identity().clone();
        if identity.name != self.token.name {
            return refused(CERTIFICATE, &identity.to_string(), "a certificate for the token's name");
        }
        if !credentials.authorities.iter().any(|authority| pin_of(authority) == Some(self.token.pin)) {
            return refused(CA, "other authorities", "that of the token among them");
        }
        tls::check(&credentials)?;
        let content = [
            (CA, PUBLIC, answer.ca.as_str()),
            (CERTIFICATE, PUBLIC, answer.certificate.as_str()),
            (KEY, SECRET, key.as_str()),
            (CRL, PUBLIC, answer.crl.as_str()),
        ];
        files::replace_folder(out, &content)?;
        Ok(identity)
    }
}

/// The pin of an authority's certificate.
pub(crate) fn pin_of(certificate: &[u8]) -> Option<Pin> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.is_ca().then(|| Pin::of_key(certificate.public_key().raw))
}

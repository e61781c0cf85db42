//! [`Credentials`]: what one party needs for TLS, from a folder with fixed names.
//!
//! | File | Contents |
//! |---|---|
//! | `ca.pem` | the trusted authorities, one or more |
//! | `cert.pem` | the own certificate, then those between it and the authority |
//! | `key.pem` | its private key; only its owner may read it |
//! | `crl.pem` | the revocation list of each authority; may be absent |
//!
//! Enters: the folder, or the bytes of its files. Leaves: parts that can be read, whose certificate is an identity. Whether
//! they fit together is checked by [`crate::tls`].

use crate::Identity;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use stopover_config::ConfigError;

/// Trusted authorities.
pub const CA: &str = "ca.pem";
/// The own certificate.
pub const CERTIFICATE: &str = "cert.pem";
/// The private key of it.
pub const KEY: &str = "key.pem";
/// What the authorities have revoked.
pub const CRL: &str = "crl.pem";

/// No file of these is longer, in bytes: a revocation list of some hundred thousand certificates.
const MAX_FILE: u64 = 16 << 20;
/// Bits of a mode with which others than the owner may use a file.
const OTHERS: u32 = 0o077;

/// The content of a folder, not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Files {
    /// Of [`CA`].
    pub ca: Vec<u8>,
    /// Of [`CERTIFICATE`].
    pub certificate: Vec<u8>,
    /// Of [`KEY`].
    pub key: Vec<u8>,
    /// Of [`CRL`], if it exists.
    pub crl: Option<Vec<u8>>,
}

impl Files {
    /// Reads them. The key must be its owner's alone.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let required = |name, is_secret| {
            let path = folder.join(name);
            read(&path, is_secret).map_err(|e| match e {
                Unreadable::Io(e) => ConfigError::io(&path, "a file of credentials", &e),
                Unreadable::Refused(e) => e,
            })
        };
        let path = folder.join(CRL);
        let crl = match read(&path, false) {
            Ok(bytes) => Some(bytes),
            Err(Unreadable::Io(e)) if e.kind() == ErrorKind::NotFound => None,
            Err(Unreadable::Io(e)) => {
                return Err(ConfigError::io(&path, "revocation lists, or no such file", &e));
            }
            Err(Unreadable::Refused(e)) => return Err(e),
        };
        Ok(Self {
            ca: required(CA, false)?,
            certificate: required(CERTIFICATE, false)?,
            key: required(KEY, true)?,
            crl,
        })
    }
}

enum Unreadable {
    Io(std::io::Error),
    Refused(ConfigError),
}

fn read(path: &Path, is_secret: bool) -> Result<Vec<u8>, Unreadable> {
    let file = File::open(path).map_err(Unreadable::Io)?;
    let mode = file.metadata().map_err(Unreadable::Io)?.mode();
    if is_secret && mode & OTHERS != 0 {
        return Err(Unreadable::Refused(ConfigError::new(
            path,
            format!("mode {:04o}", mode & 0o7777),
            "a private key that only its owner may read",
            format!("chmod 600 {}", path.display()),
        )));
    }
    let mut bytes = Vec::new();
    let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if length as u64 > MAX_FILE {
        let found = format!("more than {} MiB", MAX_FILE >> 20);
        let e = ConfigError::new(path, found, "a file of credentials", "is it another file?");
        return Err(Unreadable::Refused(e));
    }
    Ok(bytes)
}

/// The parts, each readable in itself.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    identity: Identity,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) crls: Vec<CertificateRevocationListDer<'static>>,
}

impl Credentials {
    /// From a folder.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::parse(folder, &Files::read(folder)?)
    }

    /// From the content of a folder, which is named in messages.
    pub fn parse(folder: &Path, files: &Files) -> Result<Self, ConfigError> {
        let path = |name| folder.join(name);
        let authorities = sections(&path(CA), &files.ca, "certificates of trusted authorities")?;
        let chain: Vec<CertificateDer<'static>> =
            sections(&path(CERTIFICATE), &files.certificate, "the own certificate")?;
        let identity = chain.first().map(|own| Identity::of_certificate(own));
        let identity = identity.transpose().map_err(|e| {
            let hint = "have the authority issue one for this party";
            ConfigError::new(&path(CERTIFICATE), e.to_string(), "a certificate that names its holder", hint)
        })?;
        let (Some(identity), Some(key)) =
            (identity, sections(&path(KEY), &files.key, "one private key")?.into_iter().next())
        else {
            let hint = "copy the whole folder again";
            return Err(ConfigError::new(folder, "an empty list", "a certificate and its key", hint));
        };
        let crls = match &files.crl {
            Some(bytes) => sections(&path(CRL), bytes, "revocation lists")?,
            None => Vec::new(),
        };
        Ok(Self { folder: folder.to_owned(), identity, authorities, chain, key, crls })
    }

    /// Whose they are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// One of their files, for messages.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The PEM sections of one kind; at least one. Others are passed over, as in files that several programs share.
fn sections<T: PemObject>(path: &Path, bytes: &[u8], expected: &str) -> Result<Vec<T>, ConfigError> {
    let refused = |found: String| {
        ConfigError::new(path, found, format!("{expected}, in PEM"), "copy the file from the authority again")
    };
    let found = T::pem_slice_iter(bytes).collect::<Result<Vec<T>, pem::Error>>();
    match found {
        Ok(found) if found.is_empty() => Err(refused("none".to_owned())),
        Ok(found) => Ok(found),
        Err(pem::Error::MissingSectionEnd { .. }) => Err(refused("a section without its end".to_owned())),
        Err(_) => Err(refused("a section that cannot be read".to_owned())),
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;

//! [`CaFolder`]: a private CA in a folder of files.
//!
//! | File | Contents |
//! |---|---|
//! | `ca.key` | the authorities: of each its key and its certificate; the first one signs |
//! | `issued.json` | every certificate issued, what was revoked, the number of the revocation lists, and the tokens |
//! | `ca.pem` | the certificates of the authorities; made from `ca.key` |
//! | `crl.pem` | the revocation list of each authority; made from both |
//! | `lock` | locked while a command changes something |
//!
//! Every change has one step that makes it happen: the replacement of `ca.key` or of `issued.json`. The other two files
//! are made from these, and made again by the next change if a crash came between. A certificate is on the list before it
//! leaves, so that there is none that cannot be revoked.

use crate::{
    Authority, CA, CERTIFICATE, CRL, Fresh, Given, Identity, Issued, KEY, List, Signed,
    authority::SignError,
    files::{self, PUBLIC, SECRET},
};
use std::{
    collections::BTreeSet,
    fs::File,
    path::{Path, PathBuf},
};
use stopover_config::ConfigError;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

mod enrolment;

pub use enrolment::{Enrolled, NotEnrolled};

const CA_KEY: &str = "ca.key";
const LIST: &str = "issued.json";
const LOCK: &str = "lock";

/// What became of a change of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// This authority signs from now on; those before it are trusted as well.
    Begun(String),
    /// These authorities are trusted no more.
    Finished(Vec<String>),
}

/// A CA, open for one command.
#[derive(Debug)]
pub struct CaFolder {
    folder: PathBuf,
    authorities: Vec<Authority>,
    list: List,
    /// Of a folder that is open for changes.
    lock: Option<File>,
}

impl CaFolder {
    /// Makes a new CA.
    pub fn create(folder: &Path, fresh: Fresh, days: u32) -> Result<Self, ConfigError> {
        files::make_folder(folder)?;
        let lock = lock(folder)?;
        for name in [CA_KEY, CA] {
            let path = folder.join(name);
            if read(&path)?.is_some() {
                let hint = "use the CA that is there, or another folder";
                return Err(ConfigError::new(&path, "a CA", "a folder without one", hint));
            }
        }
        // A list without a certificate is of a command that was stopped here.
        let path = folder.join(LIST);
        if let Some(bytes) = read(&path)?
            && !List::parse(&path, &bytes)?.issued.is_empty()
        {
            let hint = "restore the CA folder from its backup, or use another folder";
            return Err(ConfigError::new(
                &path,
                "certificates of a CA without its key",
                "an empty folder",
                hint,
            ));
        }
        let now = fresh.now;
        let first = Authority::create(fresh, days).map_err(|e| not_signed(folder, &e))?;
        let mut ca = Self {
            folder: folder.to_owned(),
            authorities: vec![first],
            list: List { crl_number: 1, ..List::default() },
            lock: Some(lock),
        };
        ca.store_list()?;
        ca.store_authorities()?;
        ca.derive(now)?;
        Ok(ca)
    }

    /// Opens one to read its list.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        Self::load(folder, None)
    }

    /// Opens one to change it. What a crash left undone is done.
    pub fn open(folder: &Path, now: u64) -> Result<Self, ConfigError> {
        required(&folder.join(CA_KEY))?;
        let mut ca = Self::load(folder, Some(lock(folder)?))?;
        ca.derive(now)?;
        Ok(ca)
    }

    fn load(folder: &Path, lock: Option<File>) -> Result<Self, ConfigError> {
        let path = folder.join(LIST);
        let list = List::parse(&path, &required(&path)?)?;
        let path = folder.join(CA_KEY);
        let authorities = Authority::parse(&required(&path)?).map_err(|found| {
            ConfigError::new(&path, found, "pairs of a key and its certificate, in PEM", BACKUP)
        })?;
        Ok(Self { folder: folder.to_owned(), authorities, list, lock })
    }

    /// The certificates.
    #[must_use]
    pub fn list(&self) -> &[Issued] {
        &self.list.issued
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[Given] {
        &self.list.tokens.0
    }

    /// The authorities; the first one signs.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Issues a certificate and writes its holder's folder: a new one, or one of the same holder, which is replaced.
    pub fn issue(
        &mut self,
        identity: &Identity,
        out: &Path,
        fresh: &Fresh,
        days: u32,
    ) -> Result<Issued, ConfigError> {
        free_for(identity, out)?;
        let signed = self.signer()?.issue(identity, fresh, days).map_err(|e| not_signed(&self.folder, &e))?;
        let Signed { issued, certificate, key } = signed;
        self.enlist(&issued)?;
        self.store_list()?;
        let crl = String::from_utf8_lossy(&required(&self.folder.join(CRL))?).into_owned();
        let trusted = self.trusted();
        let content = [
            (CA, PUBLIC, trusted.as_str()),
            (CERTIFICATE, PUBLIC, certificate.as_str()),
            (KEY, SECRET, key.as_str()),
            (CRL, PUBLIC, crl.as_str()),
        ];
        files::replace_folder(out, &content)?;
        Ok(issued)
    }

    /// Revokes valid certificates, and returns them. None is an error.
    pub fn revoke(&mut self, now: u64, which: impl Fn(&Issued) -> bool) -> Result<Vec<Issued>, ConfigError> {
        let revoked = self.list.revoke(now, which);
        if revoked.is_empty() {
            let hint = "`stopover pki list` shows them";
            return Err(ConfigError::new(
                &self.folder.join(LIST),
                "no such certificate",
                "a valid one",
                hint,
            ));
        }
        self.store_list()?;
        self.derive(now)?;
        Ok(revoked)
    }

    /// Makes a new key, which signs from now on.
    pub fn begin_rotation(&mut self, fresh: Fresh, days: u32) -> Result<Rotation, ConfigError> {
        if self.authorities.len() > 1 {
            let hint = "end it with `stopover pki rotate --finish`";
            return Err(ConfigError::new(&self.folder.join(CA_KEY), "a rotation under way", "one key", hint));
        }
        let now = fresh.now;
        let new = Authority::create(fresh, days).map_err(|e| not_signed(&self.folder, &e))?;
        let name = new.name().to_owned();
        self.authorities.insert(0, new);
        self.store_authorities()?;
        self.derive(now)?;
        Ok(Rotation::Begun(name))
    }

    /// Forgets the old key. Refused while somebody has no certificate of the new one, unless `force`.
    pub fn finish_rotation(&mut self, now: u64, force: bool) -> Result<Rotation, ConfigError> {
        let path = self.folder.join(CA_KEY);
        if self.authorities.len() < 2 {
            let hint = "begin with `stopover pki rotate`";
            return Err(ConfigError::new(&path, "one key", "a rotation under way", hint));
        }
        let new = self.signer()?.name().to_owned();
        let old: Vec<String> = self.authorities.iter().skip(1).map(|a| a.name().to_owned()).collect();
        let behind: BTreeSet<Identity> =
            old.iter().flat_map(|authority| self.list.only_of(authority, now)).collect();
        if let (Some(first), false) = (behind.first(), force) {
            let found = format!("{} without a certificate of {new}, the first {first}", behind.len());
            let hint = "issue theirs again, or revoke them; --force shuts them out";
            return Err(ConfigError::new(&self.folder.join(LIST), found, "nobody", hint));
        }
        self.authorities.truncate(1);
        self.store_authorities()?;
        self.derive(now)?;
        Ok(Rotation::Finished(old))
    }

    fn enlist(&mut self, issued: &Issued) -> Result<(), ConfigError> {
        if self.list.issued.iter().any(|other| other.serial == issued.serial) {
            return Err(ConfigError::new(&self.folder, "a serial number again", "a new one", "run it again"));
        }
        self.list.issued.push(issued.clone());
        Ok(())
    }

    fn signer(&self) -> Result<&Authority, ConfigError> {
        let none = || ConfigError::new(&self.folder.join(CA_KEY), "no key", "one or more", BACKUP);
        self.authorities.first().ok_or_else(none)
    }

    fn trusted(&self) -> String {
        self.authorities.iter().map(Authority::certificate_pem).collect()
    }

    fn store_list(&self) -> Result<(), ConfigError> {
        debug_assert!(self.lock.is_some(), "a folder open for changes");
        let path = self.folder.join(LIST);
        let text =
            self.list.to_text().map_err(|e| ConfigError::new(&path, e.to_string(), "a text", BACKUP))?;
        files::replace(&path, PUBLIC, text.as_bytes())
    }

    fn store_authorities(&self) -> Result<(), ConfigError> {
        let text: String = self.authorities.iter().map(Authority::secret_pem).collect();
        files::replace(&self.folder.join(CA_KEY), SECRET, text.as_bytes())
    }

    /// Writes what is made from the other files, unless it is as it must be.
    fn derive(&mut self, now: u64) -> Result<(), ConfigError> {
        let path = self.folder.join(CA);
        let trusted = self.trusted();
        if read(&path)?.as_deref() != Some(trusted.as_bytes()) {
            files::replace(&path, PUBLIC, trusted.as_bytes())?;
        }
        let path = self.folder.join(CRL);
        if read(&path)?.is_some_and(|bytes| self.is_present(&bytes)) {
            return Ok(());
        }
        let lists = self.authorities.iter().map(|a| {
            a.revocations(&self.list.issued, self.list.crl_number, now).map_err(|e| not_signed(&path, &e))
        });
        let text = lists.collect::<Result<String, ConfigError>>()?;
        files::replace(&path, PUBLIC, text.as_bytes())
    }

    /// Whether these are the revocation lists of these authorities with the present number.
    fn is_present(&self, crls: &[u8]) -> bool {
        let Ok(sections) = pem::parse_many(crls) else { return false };
        let fits = |(section, authority): (&pem::Pem, &Authority)| {
            let Ok((_, crl)) = CertificateRevocationList::from_der(section.contents()) else { return false };
            let issuer = crl.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
            issuer == Some(authority.name())
                && crl.crl_number().is_some_and(|n| n.to_string() == self.list.crl_number.to_string())
        };
        sections.len() == self.authorities.len() && sections.iter().zip(&self.authorities).all(fits)
    }
}

const BUSY: &str = "another command at work";
const BACKUP: &str = "restore the CA folder from its backup";

/// A holder's folder may be new, empty, or of the same holder.
fn free_for(identity: &Identity, out: &Path) -> Result<(), ConfigError> {
    let names = [CA, CERTIFICATE, KEY, CRL];
    let expected = format!("a new folder, or that of {identity}");
    let refused = |path: &Path, found: String| {
        ConfigError::new(path, found, expected.clone(), "choose another folder for --out")
    };
    let foreign = files::foreign_entry(out, &names).map_err(|e| ConfigError::io(out, &expected, &e))?;
    if let Some(path) = foreign {
        return Err(refused(&path, "a file that is not of credentials".to_owned()));
    }
    let path = out.join(CERTIFICATE);
    match read(&path)? {
        Some(bytes) => {
            let parsed = pem::parse(bytes).map_err(|_| refused(&path, "no certificate in PEM".to_owned()))?;
            let holder = Identity::of_certificate(parsed.contents());
            let holder = holder.map_err(|e| refused(&path, e.to_string()))?;
            if holder == *identity { Ok(()) } else { Err(refused(&path, holder.to_string())) }
        }
        None if read(&out.join(KEY))?.is_some() => {
            Err(refused(&out.join(KEY), "a key without its certificate".to_owned()))
        }
        None => Ok(()),
    }
}

fn lock(folder: &Path) -> Result<File, ConfigError> {
    let path = folder.join(LOCK);
    let locked = files::lock(&path).map_err(|e| ConfigError::io(&path, "a file to lock", &e))?;
    let busy = || {
        let hint = "wait until the other command has ended";
        ConfigError::new(&path, BUSY, "one at a time", hint)
    };
    locked.ok_or_else(busy)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ConfigError> {
    files::read(path).map_err(|e| ConfigError::io(path, "a file of the CA", &e))
}

fn required(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let missing = || {
        let hint = "make a CA with `stopover pki init`, or name its folder with --ca";
        ConfigError::new(path, "no such file", "the folder of a CA", hint)
    };
    read(path)?.ok_or_else(missing)
}

fn not_signed(path: &Path, e: &SignError) -> ConfigError {
    ConfigError::new(path, e.to_string(), "a signature", "see the hint before, or run it again")
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;

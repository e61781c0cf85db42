//! What the fuzz targets do with arbitrary bytes, and an [`Authority`] for tests, which issues right and wrong certificates.
//! A test's clock enters as seconds since 1970.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use crate::{
    BOARD_NAME, CA, CERTIFICATE, CRL, Credentials, Files, Identity, KEY, List, Request, Role, Token,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// Bytes as one certificate. An identity that is found comes back from its text.
pub fn exercise_identity(der: &[u8]) {
    if let Ok(identity) = Identity::of_certificate(der) {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
}

/// Bytes as the four files of a folder, each behind its length in two bytes (big-endian); the last takes the rest.
pub fn exercise_credentials(input: &[u8]) {
    let mut rest = input;
    let mut next = || {
        let (length, bytes) = rest.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
        let length = usize::from(u16::from_be_bytes(*length)).min(bytes.len());
        let (file, behind) = bytes.split_at(length);
        rest = behind;
        file.to_vec()
    };
    let (ca, certificate, key) = (next(), next(), next());
    let crl = Some(rest.to_vec()).filter(|crl| !crl.is_empty());
    if let Err(e) = Credentials::parse(Path::new("/x"), &Files { ca, certificate, key, crl }) {
        let line = e.to_string();
        assert!(line.starts_with("/x") && line.contains("; hint: ") && !line.contains('\n'), "{line}");
    }
}

/// Bytes as a token. One that is found comes back from its text.
pub fn exercise_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.parse::<Token>() {
        Ok(token) => assert_eq!(token.to_text(), text),
        Err(e) => assert!(e.to_string().contains("; hint: "), "{e}"),
    }
}

/// Bytes as a newcomer's request for a certificate. Whatever key is found can be certified.
pub fn exercise_request(der: &[u8]) {
    let Ok(request) = Request::parse(der) else { return };
    let authority = Authority::default();
    let certified = CertificateParams::default().signed_by(request.key(), &authority.issuer);
    assert!(certified.is_ok());
}

/// Bytes as the list of a CA: certificates and tokens. One that is found comes back from its text.
pub fn exercise_list(input: &[u8]) {
    let path = Path::new("/x");
    match List::parse(path, input) {
        Ok(list) => assert_eq!(List::parse(path, list.to_text().unwrap().as_bytes()), Ok(list)),
        Err(e) => {
            let line = e.to_string();
            assert!(line.starts_with("/x") && line.contains("; hint: ") && !line.contains('\n'), "{line}");
        }
    }
}

/// Bytes as the keys of a CA. Those that are found come back from their text.
pub fn exercise_ca_key(input: &[u8]) {
    let Ok(found) = crate::Authority::parse(input) else { return };
    let text: String = found.iter().map(crate::Authority::secret_pem).collect();
    let again = crate::Authority::parse(text.as_bytes()).unwrap();
    let pins = |of: &[crate::Authority]| of.iter().map(crate::Authority::pin).collect::<Vec<_>>();
    assert_eq!(pins(&again), pins(&found));
}

/// Seconds since 1970, now.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A certificate, its key, both in PEM, and its serial number.
#[derive(Debug, Clone)]
pub struct Issued {
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
    /// Its serial number.
    pub serial: u64,
}

/// What a certificate is to hold.
#[derive(Debug, Clone)]
pub struct Template {
    /// URIs among its names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// First second of validity, since 1970.
    pub from_s: u64,
    /// Last one.
    pub until_s: u64,
}

impl Template {
    /// A right one for a role and a name, for an hour.
    #[must_use]
    pub fn of(role: Role, name: &str) -> Self {
        let dns = if role == Role::Board { vec![BOARD_NAME.to_owned()] } else { Vec::new() };
        let uris = vec![format!("stopover://{role}/{name}")];
        Self { uris, dns, from_s: now_s() - 60, until_s: now_s() + 3600 }
    }
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    next: AtomicU64,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate, next: AtomicU64::new(1) }
    }
}

impl Authority {
    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues whatever is wished.
    #[must_use]
    pub fn issue(&self, template: &Template) -> Issued {
        let at = |s| date_time_ymd(1970, 1, 1) + Duration::from_secs(s);
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::new(template.dns.clone()).unwrap();
        params
            .subject_alt_names
            .extend(template.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())));
        params.not_before = at(template.from_s);
        params.not_after = at(template.until_s);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem(), serial }
    }

    /// A revocation list, in PEM.
    #[must_use]
    pub fn crl(&self, revoked: &[u64]) -> String {
        let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s());
        let one = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::from_secs(86_400),
            crl_number: self.next.fetch_add(1, Ordering::Relaxed).into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Writes a folder of credentials. Files of before are replaced one after another.
    pub fn write(&self, folder: &Path, issued: &Issued, crl: Option<&str>) {
        fs::create_dir_all(folder).unwrap();
        let put = |name: &str, text: &str| {
            let new = folder.join(format!("{name}.new"));
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(new, folder.join(name)).unwrap();
        };
        put(CA, &self.certificate);
        put(CERTIFICATE, &issued.certificate);
        put(KEY, &issued.key);
        match crl {
            Some(crl) => put(CRL, crl),
            None => drop(fs::remove_file(folder.join(CRL))),
        }
    }

    /// A folder for a role and a name, with a right certificate and no revocation list. Returns the serial number.
    pub fn enrol(&self, folder: &Path, role: Role, name: &str) -> u64 {
        let issued = self.issue(&Template::of(role, name));
        self.write(folder, &issued, None);
        issued.serial
    }
}

#[cfg(test)]
#[path = "exercise_tests.rs"]
mod tests;

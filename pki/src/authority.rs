//! [`Authority`]: a key that signs certificates and revocation lists, and the certificate of that key.
//!
//! Enters: keys, serial numbers and times, as arguments. Leaves: certificates and revocation lists that TLS accepts. No
//! files and no clock.

use crate::{
    BOARD_NAME, Identity, Pin, Role,
    issued::{Issued, Serial},
    shown,
};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Certificates begin this long before they are made, for hosts whose clock is behind.
const BACKDATE_S: u64 = 600;
const DAY_S: u64 = 86_400;
const KEY_LABEL: &str = "PRIVATE KEY";
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// What one signature needs from outside.
#[derive(Debug)]
pub struct Fresh {
    /// Now, in seconds since 1970.
    pub now: u64,
    /// A number that was not used before.
    pub serial: Serial,
    /// A key that was not used before.
    pub key: KeyPair,
}

impl Fresh {
    /// A new number and a new key, from the system's source of randomness.
    pub fn draw(now: u64) -> Result<Self, SignError> {
        Ok(Self { now, serial: Serial::new(random()?), key: KeyPair::generate()? })
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], SignError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|e| SignError::Random(e.to_string()))?;
    Ok(bytes)
}

/// Why nothing was signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The library refused.
    #[error("cannot sign: {0}")]
    Library(#[from] rcgen::Error),
    /// No randomness.
    #[error("cannot sign: no randomness: {0}")]
    Random(String),
    /// A date that certificates cannot have.
    #[error(
        "cannot sign: found the time {0} s after 1970; expected a year of four digits; hint: see the clock"
    )]
    Time(u64),
    /// A certificate would outlive its authority.
    #[error(
        "found {days} days; expected at most {rest}, the rest of the authority's time; hint: `stopover pki rotate`"
    )]
    Outlives {
        /// As ordered.
        days: u32,
        /// What is left.
        rest: u64,
    },
}

/// A certificate with its key, as PEM.
#[derive(Debug)]
pub struct Signed {
    /// For the list.
    pub issued: Issued,
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A key that signs.
#[derive(Debug)]
pub struct Authority {
    name: String,
    key: KeyPair,
    until: u64,
    certificate: Vec<u8>,
}

impl Authority {
    /// A new one, which signs its own certificate. Its name has a part of the serial number: revocation lists are found by
    /// the name of their authority, so that two may not share one.
    pub fn create(fresh: Fresh, days: u32) -> Result<Self, SignError> {
        let Fresh { now, serial, key } = fresh;
        let (_, until) = span(now, days);
        let name = format!("Stopover CA {}", serial.to_string().get(..8).unwrap_or_default());
        let mut params = authority_params(&name);
        params.not_before = time(now.saturating_sub(BACKDATE_S))?;
        params.not_after = time(until)?;
        params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuer = CertifiedIssuer::self_signed(params, &key)?;
        let certificate = issuer.der().to_vec();
        Ok(Self { name, key, until, certificate })
    }

    /// What [`Self::secret_pem`] wrote, one authority or several. The error is what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let sections = pem::parse_many(bytes).map_err(|_| "a PEM section that cannot be read".to_owned())?;
        if sections.is_empty() || !sections.len().is_multiple_of(2) {
            return Err(format!("{} PEM sections", sections.len()));
        }
        let pairs = sections.chunks_exact(2).filter_map(|pair| match pair {
            [key, certificate] => Some(Self::of_sections(key, certificate)),
            _ => None,
        });
        pairs.collect()
    }

    fn of_sections(key: &Pem, certificate: &Pem) -> Result<Self, String> {
        if key.tag() != KEY_LABEL || certificate.tag() != CERTIFICATE_LABEL {
            return Err(format!("`{}` before `{}`", shown(key.tag()), shown(certificate.tag())));
        }
        let key = KeyPair::try_from(key.contents()).map_err(|e| format!("a key that is none: {e}"))?;
        let (rest, parsed) = X509Certificate::from_der(certificate.contents())
            .map_err(|_| "a certificate that cannot be read".to_owned())?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err("a certificate that is not an authority's".to_owned());
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("a key of another certificate".to_owned());
        }
        let mut names = parsed.subject().iter_common_name().map(|name| name.as_str());
        let (Some(Ok(name)), None) = (names.next(), names.next()) else {
            return Err("a certificate without one common name".to_owned());
        };
        let until = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { name: name.to_owned(), key, until, certificate: certificate.contents().to_vec() })
    }

    /// Its name, which certificates and lists carry as their issuer's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of its certificate.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until
    }

    /// What a joiner knows it by.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of_key(&self.key.subject_public_key_info())
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new(CERTIFICATE_LABEL, self.certificate.as_slice()), config)
    }

    /// Key and certificate as PEM.
    #[must_use]
    pub fn secret_pem(&self) -> String {
        format!("{}{}", self.key.serialize_pem(), self.certificate_pem())
    }

    /// Signs a certificate for someone, with a new key.
    pub fn issue(&self, identity: &Identity, fresh: &Fresh, days: u32) -> Result<Signed, SignError> {
        let Fresh { now, serial, key } = fresh;
        let (issued, certificate) = self.certify(identity, (*now, *serial), key, days)?;
        Ok(Signed { issued, certificate, key: key.serialize_pem() })
    }

    /// Signs a certificate of a key, which its holder keeps. The certificate is PEM.
    pub fn certify(
        &self,
        identity: &Identity,
        (now, serial): (u64, Serial),
        key: &impl PublicKeyData,
        days: u32,
    ) -> Result<(Issued, String), SignError> {
        let (from, until) = span(now, days);
        if until > self.until {
            return Err(SignError::Outlives { days, rest: self.until.saturating_sub(now) / DAY_S });
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&identity.to_string());
        params.not_before = time(from)?;
        params.not_after = time(until)?;
        params.serial_number = Some(SerialNumber::from_slice(serial.bytes()));
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if identity.role == Role::Board {
            params.subject_alt_names.push(SanType::DnsName(BOARD_NAME.try_into()?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let issuer_params = authority_params(&self.name);
        let certificate = params.signed_by(key, &Issuer::from_params(&issuer_params, &self.key))?;
        let issued = Issued {
            serial,
            identity: identity.clone(),
            authority: self.name.clone(),
            from,
            until,
            revoked: None,
        };
        Ok((issued, certificate.pem()))
    }

    /// The revocation list of this authority, as PEM. It is valid as long as the authority: a list that nobody replaced in
    /// time must not lock everybody out.
    pub fn revocations(&self, all: &[Issued], number: u64, now: u64) -> Result<String, SignError> {
        let mut revoked_certs = Vec::new();
        for issued in all.iter().filter(|issued| issued.authority == self.name) {
            let Some(at) = issued.revoked else { continue };
            revoked_certs.push(RevokedCertParams {
                serial_number: SerialNumber::from_slice(issued.serial.bytes()),
                revocation_time: time(at)?,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            });
        }
        let params = CertificateRevocationListParams {
            this_update: time(now.saturating_sub(BACKDATE_S))?,
            next_update: time(self.until)?,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer_params = authority_params(&self.name);
        Ok(params.signed_by(&Issuer::from_params(&issuer_params, &self.key))?.pem()?)
    }
}

/// What an authority's signatures carry of it.
fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.key_identifier_method = KeyIdMethod::Sha256;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn span(now: u64, days: u32) -> (u64, u64) {
    (now.saturating_sub(BACKDATE_S), now.saturating_add(u64::from(days) * DAY_S))
}

fn time(seconds: u64) -> Result<OffsetDateTime, SignError> {
    i64::try_from(seconds)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
        .ok_or(SignError::Time(seconds))
}

//! [`Request`]: the key for which a newcomer asks a certificate, as a PKCS #10 request in DER. It proves that the newcomer
//! has the key, and nothing else enters: who the newcomer is comes from its token, so a request that asks for a name or for
//! anything else is refused.

use crate::SignError;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PublicKeyData, SubjectPublicKeyInfo,
};
use thiserror::Error;
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::{ParsedCriAttribute, X509CriAttribute},
    prelude::FromDer,
};

/// No request for an admitted key is longer, in bytes.
const LONGEST: usize = 2048;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// Not one request.
    #[error("certificate request: found {0}; expected one PKCS #10 request in DER, of at most 2048 bytes")]
    Form(&'static str),
    /// It asks for something.
    #[error(
        "certificate request: found {0}; expected none; hint: the token decides about the name, so ask for no more than a \
         certificate of the key"
    )]
    Asks(&'static str),
    /// A weak or unusual key.
    #[error("certificate request: found another key; expected one of ECDSA P-256, ECDSA P-384 or Ed25519")]
    Key,
    /// The signature is not of the key.
    #[error("certificate request: found a signature of another key; expected that of the requested key")]
    Signature,
}

/// A key whose holder has proven to have it.
#[derive(Debug)]
pub struct Request(SubjectPublicKeyInfo);

impl Request {
    /// Of the wire.
    pub fn parse(der: &[u8]) -> Result<Self, BadRequest> {
        if der.len() > LONGEST {
            return Err(BadRequest::Form("more bytes"));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|_| BadRequest::Form("other bytes"))?;
        if !rest.is_empty() {
            return Err(BadRequest::Form("bytes after the request"));
        }
        let info = &request.certification_request_info;
        if info.subject.iter().next().is_some() {
            return Err(BadRequest::Asks("a subject"));
        }
        // OpenSSL writes an empty list of extensions.
        let is_empty = |attribute: &X509CriAttribute<'_>| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(asked) => asked.extensions.is_empty(),
            _ => false,
        };
        if !info.attributes().iter().all(is_empty) {
            return Err(BadRequest::Asks("attributes"));
        }
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| BadRequest::Key)?;
        let admitted = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        if !admitted.contains(&key.algorithm()) {
            return Err(BadRequest::Key);
        }
        request.verify_signature().map_err(|_| BadRequest::Signature)?;
        Ok(Self(key))
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &impl PublicKeyData {
        &self.0
    }
}

/// The request for a certificate of a key.
pub(crate) fn write(key: &KeyPair) -> Result<Vec<u8>, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

//! Why a handshake came to nothing: a short list for counters and logs. Enters: the error of the TLS library.

use rustls::{AlertDescription, CertificateError, Error};
use std::fmt;

/// Why a peer was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It presented no certificate.
    NoCertificate,
    /// Its certificate is not of a trusted authority.
    Authority,
    /// The certificate is no longer valid.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The authority has revoked the certificate.
    Revoked,
    /// No revocation list is of the authority of the certificate.
    NoRevocationList,
    /// The certificate does not name its holder, or one that may not be at this end.
    Identity,
    /// The certificate is wrong in another way.
    Certificate,
    /// It does not offer TLS 1.3.
    Version,
    /// It sent no TLS at all.
    NotTls,
    /// It refused us.
    ByPeer(AlertDescription),
    /// It did not finish in time.
    Timeout,
    /// Too many handshakes were under way.
    Busy,
    /// Anything else, such as a connection that was cut.
    Other,
}

impl Refusal {
    /// Every one, as counters have it.
    pub const NAMES: [&'static str; 14] = [
        "no_certificate",
        "authority",
        "expired",
        "not_yet_valid",
        "revoked",
        "no_revocation_list",
        "identity",
        "certificate",
        "version",
        "not_tls",
        "by_peer",
        "timeout",
        "busy",
        "other",
    ];

    /// As counters have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::Authority => "authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::NoRevocationList => "no_revocation_list",
            Self::Identity => "identity",
            Self::Certificate => "certificate",
            Self::Version => "version",
            Self::NotTls => "not_tls",
            Self::ByPeer(_) => "by_peer",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Other => "other",
        }
    }
}

impl From<&Error> for Refusal {
    fn from(e: &Error) -> Self {
        match e {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(e) => match e {
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. } => Self::Authority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::Revoked => Self::Revoked,
                CertificateError::UnknownRevocationStatus => Self::NoRevocationList,
                CertificateError::Other(_)
                | CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::Identity,
                _ => Self::Certificate,
            },
            Error::PeerIncompatible(_) => Self::Version,
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::AlertReceived(alert) => Self::ByPeer(*alert),
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "it has no certificate",
            Self::Authority => "its certificate is of another authority",
            Self::Expired => "its certificate has expired",
            Self::NotYetValid => "its certificate is not valid yet; hint: compare the clocks",
            Self::Revoked => "its certificate is revoked",
            Self::NoRevocationList => "crl.pem has no list of the authority of its certificate",
            Self::Identity => "its certificate is not of a party that may be there",
            Self::Certificate => "its certificate is wrong",
            Self::Version => "it does not offer TLS 1.3",
            Self::NotTls => "it does not use TLS",
            Self::ByPeer(alert) => return write!(f, "it refused this side: {alert:?}"),
            Self::Timeout => "it did not finish the handshake in time",
            Self::Busy => "too many handshakes are under way",
            Self::Other => "the connection broke",
        })
    }
}

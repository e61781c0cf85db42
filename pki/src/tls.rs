//! TLS of both ends. Enters: a folder of [`Credentials`]. Leaves: configurations of the TLS library that admit only TLS 1.3
//! with certificates at both ends, and that change when the folder does. No sockets: those who have them use these.
//!
//! A board is checked by a name that every board's certificate has, and by its role; so addresses are in no certificate.
//! Sessions are never resumed: every connection is checked against the revocation lists of its time.

use crate::{
    BadCertificate, Credentials, Identity, Pin, Role,
    credentials::{CA, CERTIFICATE, CRL, Files},
    enrol::pin_of,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use stopover_config::ConfigError;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The DNS name in every board's certificate.
pub const BOARD_NAME: &str = "board.stopover.internal";
/// gRPC is HTTP/2.
const ALPN: &[u8] = b"h2";

/// What a look at the folder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Nothing new.
    Unchanged,
    /// Other credentials, which are used from now on.
    Changed,
    /// Others which cannot be used, at the second look: the ones of before stay in use. Returned once.
    Refused(ConfigError),
}

/// What was made from a folder, and is made again when the folder changes.
#[derive(Debug)]
struct Rotating<T> {
    folder: PathBuf,
    make: fn(&Credentials) -> Result<T, ConfigError>,
    state: Mutex<State<T>>,
}

struct State<T> {
    files: Files,
    made: Arc<T>,
    /// Why the folder's newest content is not used, and whether that was returned. A folder may be half written at the
    /// first look.
    refused: Option<(ConfigError, bool)>,
}

impl<T: std::fmt::Debug> std::fmt::Debug for State<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No key may get into a log.
        f.debug_struct("State").field("made", &self.made).finish_non_exhaustive()
    }
}

impl<T> Rotating<T> {
    fn load(folder: &Path, make: fn(&Credentials) -> Result<T, ConfigError>) -> Result<Self, ConfigError> {
        let files = Files::read(folder)?;
        let made = Arc::new(make(&Credentials::parse(folder, &files)?)?);
        let state = Mutex::new(State { files, made, refused: None });
        Ok(Self { folder: folder.to_owned(), make, state })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<T> {
        self.state().made.clone()
    }

    fn reload(&self) -> Reload {
        let found = Files::read(&self.folder);
        let mut state = self.state();
        if found.as_ref() == Ok(&state.files) {
            state.refused = None;
            return Reload::Unchanged;
        }
        let made = found.and_then(|files| {
            let made = (self.make)(&Credentials::parse(&self.folder, &files)?)?;
            Ok((files, made))
        });
        match made {
            Ok((files, made)) => {
                *state = State { files, made: Arc::new(made), refused: None };
                Reload::Changed
            }
            Err(e) => match &mut state.refused {
                Some((same, was_returned)) if *same == e => {
                    if std::mem::replace(was_returned, true) {
                        Reload::Unchanged
                    } else {
                        Reload::Refused(e)
                    }
                }
                refused => {
                    *refused = Some((e, false));
                    Reload::Unchanged
                }
            },
        }
    }
}

/// The other end of a connection, as its certificate names it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// The serial number of its certificate, in hexadecimal digits.
    pub serial: String,
    /// The last second for which the certificate is valid, since 1970.
    pub until_s: u64,
    chain: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// From the certificates that it presented, its own first.
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, BadCertificate> {
        let own = chain.first().ok_or(BadCertificate::Form("no certificate"))?;
        let identity = Identity::of_certificate(own)?;
        let (_, certificate) =
            X509Certificate::from_der(own).map_err(|_| BadCertificate::Form("other bytes"))?;
        let until_s = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let serial = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Ok(Self { identity, serial, until_s, chain })
    }
}

#[derive(Debug)]
struct ServerSide {
    identity: Identity,
    config: Arc<ServerConfig>,
    for_newcomers: Arc<ServerConfig>,
    clients: Arc<Clients>,
}

/// The board's end. A clone is the same one.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<Rotating<ServerSide>>);

impl ServerTls {
    /// From a folder, which must be a board's.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Rotating::load(folder, server_side)?)))
    }

    /// Looks whether the folder has changed. Reads files.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.0.reload()
    }

    /// For the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.0.current().config.clone()
    }

    /// For the next connection of one that has no certificate yet. It is shown the authorities too, for it knows one by a
    /// pin.
    #[must_use]
    pub fn for_newcomers(&self) -> Arc<ServerConfig> {
        self.0.current().for_newcomers.clone()
    }

    /// Whose credentials these are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.current().identity.clone()
    }

    /// Whether a peer that was admitted would be admitted `now` as well.
    pub fn check(&self, peer: &Peer, now: UnixTime) -> Result<(), Error> {
        let Some((own, between)) = peer.chain.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        self.0.current().clients.verify_client_cert(own, between, now).map(|_| ())
    }
}

#[derive(Debug)]
struct ClientSide {
    identity: Identity,
    config: Arc<ClientConfig>,
}

/// The end of those who call a board. A clone is the same one.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<Rotating<ClientSide>>);

impl ClientTls {
    /// From a folder.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Rotating::load(folder, client_side)?)))
    }

    /// For the next connection, from the folder as it is now. Credentials that cannot be used are logged once, and those
    /// of before stay in use.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        match self.0.reload() {
            Reload::Unchanged => {}
            Reload::Changed => log::info!("TLS: new credentials of {}", self.identity()),
            Reload::Refused(e) => log::warn!("TLS: the credentials of before stay in use: {e}"),
        }
        self.0.current().config.clone()
    }

    /// Whose credentials these are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.current().identity.clone()
    }
}

/// The name by which a client checks every board.
#[must_use]
pub fn board_name() -> ServerName<'static> {
    // The text is constant, and a test parses it.
    ServerName::try_from(BOARD_NAME).unwrap_or(ServerName::IpAddress(std::net::Ipv6Addr::UNSPECIFIED.into()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The trusted authorities.
fn roots(credentials: &Credentials) -> Result<Arc<RootCertStore>, ConfigError> {
    let mut roots = RootCertStore::empty();
    for authority in &credentials.authorities {
        roots
            .add(authority.clone())
            .map_err(|e| unusable(credentials, CA, "certificates of authorities", &e))?;
    }
    Ok(Arc::new(roots))
}

fn unusable(credentials: &Credentials, name: &str, expected: &str, e: &dyn std::fmt::Display) -> ConfigError {
    let hint = "are all files of the folder of one authority, and written completely?";
    ConfigError::new(&credentials.path(name), e.to_string(), expected, hint)
}

const OWN: &str = "a certificate and the key of it";

fn server_side(credentials: &Credentials) -> Result<ServerSide, ConfigError> {
    let identity = credentials.identity().clone();
    if identity.role != Role::Board {
        let path = credentials.path(CERTIFICATE);
        let hint = "issue one for the board: stopover://board/NAME";
        return Err(ConfigError::new(&path, identity.to_string(), "the identity of a board", hint));
    }
    let inner = WebPkiClientVerifier::builder_with_provider(roots(credentials)?, provider())
        .with_crls(credentials.crls.iter().cloned())
        .build()
        .map_err(|e| unusable(credentials, CRL, "revocation lists of the authorities", &e))?;
    let clients = Arc::new(Clients(inner));
    let builder = || {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        builder.map_err(|e| unusable(credentials, CERTIFICATE, OWN, &e))
    };
    let finish = |built: Result<ServerConfig, Error>| {
        let mut config = built.map_err(|e| unusable(credentials, CERTIFICATE, OWN, &e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    };
    let (chain, key) = (credentials.chain.clone(), || credentials.key.clone_key());
    let with_authorities = [chain.as_slice(), &credentials.authorities].concat();
    let for_newcomers = finish(builder()?.with_no_client_auth().with_single_cert(with_authorities, key()))?;
    let config =
        finish(builder()?.with_client_cert_verifier(clients.clone()).with_single_cert(chain, key()))?;
    Ok(ServerSide { identity, config, for_newcomers, clients })
}

fn client_side(credentials: &Credentials) -> Result<ClientSide, ConfigError> {
    let inner = WebPkiServerVerifier::builder_with_provider(roots(credentials)?, provider())
        .with_crls(credentials.crls.iter().cloned())
        .build()
        .map_err(|e| unusable(credentials, CRL, "revocation lists of the authorities", &e))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| unusable(credentials, CERTIFICATE, OWN, &e))?
        // Stricter than the library's, which it calls first.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Boards(inner)))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(|e| unusable(credentials, CERTIFICATE, OWN, &e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(ClientSide { identity: credentials.identity().clone(), config: Arc::new(config) })
}

/// Whether a folder's parts fit together, at the end of those who call a board.
pub(crate) fn check(credentials: &Credentials) -> Result<(), ConfigError> {
    client_side(credentials).map(|_| ())
}

/// The end of one that has no certificate yet, and knows an authority only by its pin.
pub(crate) fn pinned(pin: Pin) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        // Stricter than the library's: its roots are what has the pin.
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The identity of a certificate, if its holder may be at that end.
fn named(certificate: &CertificateDer<'_>, may_be: fn(Role) -> bool) -> Result<(), Error> {
    let wrong = |why: BadCertificate| CertificateError::Other(OtherError(Arc::new(why)));
    match Identity::of_certificate(certificate) {
        Ok(identity) if may_be(identity.role) => Ok(()),
        Ok(identity) => Err(wrong(BadCertificate::Role(identity.role)).into()),
        Err(e) => Err(wrong(e).into()),
    }
}

/// The library's check of a client's certificate, and that of its identity: anyone but a board.
#[derive(Debug)]
struct Clients(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(own, between, now)?;
        named(own, |role| role != Role::Board)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The same for the certificate of a server: a board.
#[derive(Debug)]
struct Boards(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Boards {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.0.verify_server_cert(own, between, name, ocsp, now)?;
        named(own, |role| role == Role::Board)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The same for a newcomer: a board whose certificate was signed by the authority with the pin, which it presents too.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = between.iter().find(|one| pin_of(one) == Some(self.pin));
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| Error::General(e.to_string()))?;
        Boards(inner).verify_server_cert(own, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

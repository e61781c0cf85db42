//! Right and wrong certificates. Enters: the folder of the board's CA. Leaves: TLS configurations with whatever certificate;
//! they check nothing that the board must check.

use anyhow::{Context, anyhow};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use stopover_net::HostName;
use stopover_pki::{BOARD_NAME, CA, CERTIFICATE, CRL, CaFolder, Fresh, Identity, KEY, Role};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

const DAY_S: u64 = 86_400;
/// So long another command may keep the CA to itself.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn identity(role: Role, name: &str) -> anyhow::Result<Identity> {
    let name = HostName::new(name).map_err(|e| anyhow!("{name}: {e}"))?;
    Ok(Identity { role, name })
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Pair {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Pair {
    /// Of a folder of credentials.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let certificates = CertificateDer::pem_file_iter(folder.join(CERTIFICATE))?;
        let chain = certificates.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { chain, key: PrivateKeyDer::from_pem_file(folder.join(KEY))? })
    }

    /// With the authorities of a folder behind it.
    pub fn followed_by(mut self, folder: &Path) -> anyhow::Result<Self> {
        for authority in CertificateDer::pem_file_iter(folder.join(CA))? {
            self.chain.push(authority?);
        }
        Ok(self)
    }

    /// The own certificate.
    pub fn own(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }
}

/// The end of those who call the board, with a certificate or without one.
pub fn client(ca: &Ca, pair: Option<Pair>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(ca.folder.join(CA))? {
        roots.add(authority?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match pair {
        Some(Pair { chain, key }) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The board's end, with whatever certificate.
pub fn server(Pair { chain, key }: Pair) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The folder of a CA.
#[derive(Debug, Clone)]
pub struct Ca {
    pub folder: PathBuf,
}

/// What a forged certificate has.
pub struct Forged<'a> {
    pub uris: &'a [&'a str],
    pub for_board: bool,
}

impl Ca {
    /// Another CA, which nobody trusts.
    pub fn create(folder: PathBuf) -> anyhow::Result<Self> {
        CaFolder::create(&folder, Fresh::draw(now_s())?, 3650)?;
        Ok(Self { folder })
    }

    pub fn open(&self) -> anyhow::Result<CaFolder> {
        Ok(CaFolder::open_within(&self.folder, now_s(), PATIENCE)?)
    }

    /// Issues credentials, as `stopover pki issue` does.
    pub fn issue(&self, role: Role, name: &str, out: &Path) -> anyhow::Result<()> {
        self.issue_at(role, name, out, now_s())
    }

    /// The same at another time, for a day.
    pub fn issue_at(&self, role: Role, name: &str, out: &Path, at_s: u64) -> anyhow::Result<()> {
        self.open()?.issue(&identity(role, name)?, out, &Fresh::draw(at_s)?, 1)?;
        Ok(())
    }

    /// One that has ended.
    pub fn issue_expired(&self, role: Role, name: &str, out: &Path) -> anyhow::Result<()> {
        self.issue_at(role, name, out, now_s() - 3 * DAY_S)
    }

    /// One that has not begun.
    pub fn issue_young(&self, role: Role, name: &str, out: &Path) -> anyhow::Result<()> {
        self.issue_at(role, name, out, now_s() + 3 * DAY_S)
    }

    /// Revokes all certificates of someone.
    pub fn revoke(&self, role: Role, name: &str) -> anyhow::Result<()> {
        let revoked = identity(role, name)?;
        self.open()?.revoke(now_s(), |issued| issued.identity == revoked)?;
        Ok(())
    }

    /// Copies the trusted authorities and the revocation lists into a folder of credentials, each in one step.
    pub fn publish(&self, to: &Path) -> anyhow::Result<()> {
        for name in [CA, CRL] {
            let new = to.join(format!("{name}.new"));
            fs::copy(self.folder.join(name), &new).with_context(|| format!("{}", new.display()))?;
            fs::rename(&new, to.join(name))?;
        }
        Ok(())
    }

    /// Signs whatever is asked for with the key of this CA.
    pub fn forge(&self, forged: &Forged<'_>) -> anyhow::Result<Pair> {
        let name = self.open()?.authorities().first().context("no authority")?.name().to_owned();
        let key = KeyPair::from_pem(&fs::read_to_string(self.folder.join("ca.key"))?)?;
        signed_by(&name, &key, forged)
    }
}

fn params(forged: &Forged<'_>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    for uri in forged.uris {
        params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
    }
    if forged.for_board {
        params.subject_alt_names.push(SanType::DnsName(BOARD_NAME.try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

/// Signs with a key under the name of an authority, which may be another's.
pub fn signed_by(name: &str, key: &KeyPair, forged: &Forged<'_>) -> anyhow::Result<Pair> {
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(DnType::CommonName, name);
    let own = KeyPair::generate()?;
    let certificate = params(forged)?.signed_by(&own, &Issuer::from_params(&issuer, key))?;
    pair(vec![certificate.der().clone()], &own)
}

/// A certificate that its own key has signed.
pub fn self_signed(forged: &Forged<'_>) -> anyhow::Result<Pair> {
    let own = KeyPair::generate()?;
    let certificate = params(forged)?.self_signed(&own)?;
    pair(vec![certificate.der().clone()], &own)
}

/// A certificate that a host has signed with the key of its own one.
pub fn signed_by_host(folder: &Path, name: &str, forged: &Forged<'_>) -> anyhow::Result<Pair> {
    let key = KeyPair::from_pem(&fs::read_to_string(folder.join(KEY))?)?;
    let mut made = signed_by(name, &key, forged)?;
    made.chain.extend(Pair::load(folder)?.chain);
    Ok(made)
}

fn pair(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> anyhow::Result<Pair> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| anyhow!("{e}"))?;
    Ok(Pair { chain, key })
}

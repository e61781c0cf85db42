#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test may fail")]

use super::*;
use crate::{
    Refusal,
    exercise::{Authority, Issued, Template, now_s},
};
use rustls::{ClientConnection, ServerConnection};
use std::{fs, io::Cursor, time::Duration};
use tempfile::TempDir;

/// Two folders of one authority.
struct Lab {
    dir: TempDir,
    authority: Authority,
    server: ServerTls,
}

impl Lab {
    fn new() -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::default());
        authority.enrol(&dir.path().join("board"), Role::Board, "board");
        let server = ServerTls::load(&dir.path().join("board")).unwrap();
        Self { dir, authority, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn client(&self, issued: &Issued) -> ClientTls {
        let folder = self.path("client");
        self.authority.write(&folder, issued, None);
        ClientTls::load(&folder).unwrap()
    }

    fn host(&self) -> ClientTls {
        self.client(&self.authority.issue(&Template::of(Role::Host, "hv-a")))
    }

    /// Of the board's folder.
    fn revoke(&self, serial: u64) {
        fs::write(self.path("board/crl.pem"), self.authority.crl(&[serial])).unwrap();
        assert_eq!(self.server.reload(), Reload::Changed);
    }

    /// A handshake: whom the server sees, or the errors of server and client.
    fn shake(&self, client: Arc<ClientConfig>) -> Result<Peer, (Option<Error>, Option<Error>)> {
        shake(self.server.config(), client)
    }

    fn refused(&self, client: &ClientTls) -> Refusal {
        let (at_server, _) = self.shake(client.config()).unwrap_err();
        Refusal::from(&at_server.unwrap())
    }
}

fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Result<Peer, (Option<Error>, Option<Error>)> {
    let mut server = ServerConnection::new(server).unwrap();
    let mut client = ClientConnection::new(client, board_name()).unwrap();
    let (mut at_server, mut at_client) = (None, None);
    for _ in 0..6 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut Cursor::new(&bytes)).unwrap();
        at_server = at_server.or(server.process_new_packets().err());
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut Cursor::new(&bytes)).unwrap();
        at_client = at_client.or(client.process_new_packets().err());
    }
    if at_server.is_none() && at_client.is_none() {
        assert!(!server.is_handshaking() && !client.is_handshaking());
        return Ok(Peer::of_chain(server.peer_certificates().unwrap()).unwrap());
    }
    Err((at_server, at_client))
}

#[test]
fn a_host_and_the_board_know_each_other() {
    let lab = Lab::new();
    let peer = lab.shake(lab.host().config()).unwrap();
    assert_eq!(peer.identity.to_string(), "stopover://host/hv-a");
    assert_eq!(peer.serial, "02", "the second of this authority");
    assert!((now_s() + 3500..=now_s() + 3600).contains(&peer.until_s));
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let lab = Lab::new();
    let other = Authority::default().issue(&Template::of(Role::Host, "hv-a"));
    assert_eq!(lab.refused(&lab.client(&other)), Refusal::Authority);
}

#[test]
fn dates_are_checked() {
    let lab = Lab::new();
    let hour = |from_s, until_s| Template { from_s, until_s, ..Template::of(Role::Host, "hv-a") };
    let old = lab.authority.issue(&hour(now_s() - 3600, now_s() - 1));
    assert_eq!(lab.refused(&lab.client(&old)), Refusal::Expired);
    let young = lab.authority.issue(&hour(now_s() + 100, now_s() + 3600));
    assert_eq!(lab.refused(&lab.client(&young)), Refusal::NotYetValid);
}

#[test]
fn a_client_that_is_revoked_is_refused_and_another_is_not() {
    let lab = Lab::new();
    let client = lab.host();
    let peer = lab.shake(client.config()).unwrap();
    lab.revoke(99);
    assert!(lab.shake(client.config()).is_ok());
    assert_eq!(lab.server.check(&peer, UnixTime::now()), Ok(()));
    lab.revoke(2);
    assert_eq!(lab.refused(&client), Refusal::Revoked);
    let e = lab.server.check(&peer, UnixTime::now()).unwrap_err();
    assert_eq!(Refusal::from(&e), Refusal::Revoked);
}

#[test]
fn a_peer_is_checked_again_against_its_dates() {
    let lab = Lab::new();
    let peer = lab.shake(lab.host().config()).unwrap();
    let at = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
    assert_eq!(lab.server.check(&peer, at(peer.until_s)), Ok(()));
    let e = lab.server.check(&peer, at(peer.until_s + 1)).unwrap_err();
    assert_eq!(Refusal::from(&e), Refusal::Expired);
}

#[test]
fn a_client_of_tls_1_2_is_refused() {
    let lab = Lab::new();
    let roots = roots(&Credentials::load(&lab.path("board")).unwrap()).unwrap();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (at_server, _) = lab.shake(Arc::new(old)).unwrap_err();
    assert_eq!(Refusal::from(&at_server.unwrap()), Refusal::Version);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let lab = Lab::new();
    let roots = roots(&Credentials::load(&lab.path("board")).unwrap()).unwrap();
    let mut bare = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    bare.alpn_protocols = vec![ALPN.to_vec()];
    let (at_server, at_client) = lab.shake(Arc::new(bare)).unwrap_err();
    assert_eq!(Refusal::from(&at_server.unwrap()), Refusal::NoCertificate);
    let alert = Refusal::from(&at_client.unwrap());
    assert_eq!(alert, Refusal::ByPeer(rustls::AlertDescription::CertificateRequired));
}

#[test]
fn a_certificate_that_names_nobody_or_a_board_is_no_clients() {
    let lab = Lab::new();
    for uris in [vec![], vec!["https://example.org/".to_owned()], vec!["stopover://board/b".to_owned()]] {
        let issued = lab.authority.issue(&Template { uris, ..Template::of(Role::Host, "hv-a") });
        let folder = lab.path("client");
        lab.authority.write(&folder, &issued, None);
        let Ok(client) = ClientTls::load(&folder) else { continue };
        assert_eq!(lab.refused(&client), Refusal::Identity);
    }
}

#[test]
fn a_client_refuses_all_but_a_board() {
    let lab = Lab::new();
    let client = lab.host();
    // A server whose own certificate is not checked at its start, as a thief's would not be.
    let thief = |template: &Template, authority: &Authority| {
        let issued = authority.issue(template);
        let folder = lab.path("thief");
        authority.write(&folder, &issued, None);
        let chain = Credentials::load(&folder).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.chain.clone(), chain.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (_, at_client) = shake(Arc::new(config), client.config()).map(|_| ()).unwrap_err();
        Refusal::from(&at_client.unwrap())
    };
    let host = Template::of(Role::Host, "hv-b");
    assert_eq!(thief(&host, &lab.authority), Refusal::Identity, "no name of a board");
    let named = Template { dns: vec![BOARD_NAME.to_owned()], ..host };
    assert_eq!(thief(&named, &lab.authority), Refusal::Identity, "the name, but not the role");
    let board = Template::of(Role::Board, "board");
    assert_eq!(thief(&board, &Authority::default()), Refusal::Authority);
    let old = Template { from_s: now_s() - 100, until_s: now_s() - 1, ..board };
    assert_eq!(thief(&old, &lab.authority), Refusal::Expired);
}

#[test]
fn a_board_needs_the_certificate_of_a_board() {
    let lab = Lab::new();
    lab.host();
    let e = ServerTls::load(&lab.path("client")).unwrap_err();
    let found = (e.path().to_owned(), e.found().to_owned());
    assert_eq!(found, (lab.path("client/cert.pem"), "stopover://host/hv-a".to_owned()));
}

#[test]
fn credentials_rotate_at_both_ends_while_they_are_used() {
    let lab = Lab::new();
    let client = lab.host();
    for round in 0..20 {
        lab.authority.enrol(&lab.path("board"), Role::Board, &format!("board-{round}"));
        assert_eq!(lab.server.reload(), Reload::Changed);
        assert_eq!(lab.server.identity().name.as_str(), format!("board-{round}"));
        let serial = lab.authority.enrol(&lab.path("client"), Role::Host, "hv-a");
        let peer = lab.shake(client.config()).unwrap();
        assert_eq!(peer.serial, format!("{serial:02x}"), "the new certificate");
    }
    // Another authority: trusted beside the first, then in its place.
    let other = Authority::default();
    let board = lab.authority.issue(&Template::of(Role::Board, "board"));
    lab.authority.write(&lab.path("board"), &board, None);
    fs::write(lab.path("board/ca.pem"), [lab.authority.certificate(), other.certificate()].concat()).unwrap();
    assert_eq!(lab.server.reload(), Reload::Changed);
    let of_first = lab.shake(client.config()).unwrap();
    other.enrol(&lab.path("client"), Role::Host, "hv-a");
    fs::write(lab.path("client/ca.pem"), lab.authority.certificate()).unwrap();
    assert!(lab.shake(client.config()).is_ok());
    fs::write(lab.path("board/ca.pem"), other.certificate()).unwrap();
    assert_eq!(lab.server.reload(), Reload::Changed);
    let e = lab.server.check(&of_first, UnixTime::now()).unwrap_err();
    assert_eq!(Refusal::from(&e), Refusal::Authority);
}

#[test]
fn a_broken_set_is_reported_once_and_not_used() {
    let lab = Lab::new();
    let client = lab.host();
    let key = lab.path("board/key.pem");
    let good = fs::read(&key).unwrap();
    let other = lab.authority.issue(&Template::of(Role::Board, "board"));
    fs::write(&key, &other.key).unwrap();
    assert_eq!(lab.server.reload(), Reload::Unchanged, "it may be half written");
    let Reload::Refused(e) = lab.server.reload() else { panic!("not refused") };
    assert_eq!(e.path(), lab.path("board/cert.pem"));
    assert_eq!(lab.server.reload(), Reload::Unchanged, "reported already");
    assert!(lab.shake(client.config()).is_ok(), "with the credentials of before");
    fs::remove_file(&key).unwrap();
    assert_eq!(lab.server.reload(), Reload::Unchanged);
    assert!(matches!(lab.server.reload(), Reload::Refused(_)), "another fault");
    fs::write(&key, good).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(lab.server.reload(), Reload::Unchanged, "as it was");
}

#[test]
fn no_secret_is_printed() {
    let lab = Lab::new();
    let text = format!("{:?} {:?}", lab.server, Credentials::load(&lab.path("board")).unwrap());
    let key = fs::read_to_string(lab.path("board/key.pem")).unwrap();
    assert!(!text.contains(key.lines().nth(1).unwrap()) && text.len() < 20_000, "{text}");
}

#[test]
fn the_name_of_boards_is_a_dns_name() {
    assert_eq!(board_name(), ServerName::try_from(BOARD_NAME).unwrap());
}

#[test]
fn every_refusal_has_its_counter() {
    for e in [Error::NoCertificatesPresented, Error::DecryptError] {
        assert!(Refusal::NAMES.contains(&Refusal::from(&e).name()));
    }
}

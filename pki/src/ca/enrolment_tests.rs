#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test may fail")]

use super::*;
use crate::{
    Answer, CertificateState, ClientTls, Fresh, Newcomer, Refusal, Rotation, ServerTls, TokenState,
    board_name, exercise::now_s,
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};
use tempfile::TempDir;

const HOUR: u64 = 3600;

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: TempDir::new().unwrap() };
        CaFolder::create(&lab.path("ca"), fresh(), 3650).unwrap();
        lab.issue("board", "bbs");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> CaFolder {
        CaFolder::open(&self.path("ca"), now_s()).unwrap()
    }

    fn issue(&self, role: &str, name: &str) -> Issued {
        self.open().issue(&identity(&format!("{role}/{name}")), &self.path(name), &fresh(), 365).unwrap()
    }

    fn token(&self, who: &str) -> Token {
        let secret = Secret::draw().unwrap();
        self.open().issue_token(&identity(who), secret, now_s(), now_s() + HOUR).unwrap()
    }

    fn enrol(&self, newcomer: &Newcomer) -> Result<Answer, String> {
        let Token { name, secret, .. } = newcomer.token();
        let enrolled = self.open().enrol(name, secret, &newcomer.request().unwrap(), now_s(), 365);
        let Enrolled { certificate, ca, crl, .. } = enrolled.map_err(|e| e.to_string())?;
        Ok(Answer { certificate, ca, crl })
    }

    fn states(&self) -> Vec<TokenState> {
        let ca = CaFolder::read(&self.path("ca")).unwrap();
        ca.tokens().iter().map(|given| given.state(now_s())).collect()
    }

    /// The newcomer looks at the board's certificate: why it refuses, if it does.
    fn look(&self, board: &str, newcomer: &Newcomer) -> Option<rustls::Error> {
        let server = ServerTls::load(&self.path(board)).unwrap().for_newcomers();
        handshake(server, newcomer.tls().unwrap())
    }
}

fn fresh() -> Fresh {
    Fresh::draw(now_s()).unwrap()
}

fn identity(text: &str) -> Identity {
    format!("stopover://{text}").parse().unwrap()
}

fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Option<rustls::Error> {
    let mut server = ServerConnection::new(server).unwrap();
    let mut client = ClientConnection::new(client, board_name()).unwrap();
    for _ in 0..8 {
        let (mut sent, mut answer) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        server.read_tls(&mut sent.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        client.read_tls(&mut answer.as_slice()).unwrap();
        if let Err(e) = client.process_new_packets() {
            return Some(e);
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    None
}

#[test]
fn a_token_gives_credentials_once() {
    let lab = Lab::new();
    let newcomer = Newcomer::new(lab.token("host/hv-b")).unwrap();
    assert_eq!(lab.look("bbs", &newcomer), None);
    let answer = lab.enrol(&newcomer).unwrap();
    let out = lab.path("etc");
    Newcomer::check_folder(&out, false).unwrap();
    assert_eq!(newcomer.finish(&answer, &out).unwrap(), identity("host/hv-b"));
    assert_eq!(fs::metadata(out.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 4);
    // It meets the board with them.
    let (board, host) = (ServerTls::load(&lab.path("bbs")).unwrap(), ClientTls::load(&out).unwrap());
    assert_eq!(handshake(board.config(), host.config()), None);
    // The list has the certificate, and which token it was for.
    let ca = CaFolder::read(&lab.path("ca")).unwrap();
    let last = ca.list().last().unwrap();
    assert_eq!((&last.identity, last.state(now_s())), (&identity("host/hv-b"), CertificateState::Valid));
    assert_eq!(ca.tokens()[0].used, Some(last.serial));
    let text = fs::read_to_string(lab.path("ca/issued.json")).unwrap();
    assert!(!text.contains(newcomer.token().to_text().split('.').nth(1).unwrap()), "no secret is kept");
    // Once.
    let why = lab.enrol(&newcomer).unwrap_err();
    assert!(why.contains("neither used, expired nor revoked; hint: make a new one"), "{why}");
    assert_eq!(lab.open().list().len(), 2);
}

#[test]
fn what_is_wrong_with_a_token_is_not_told() {
    let lab = Lab::new();
    let (right, revoked) = (lab.token("host/hv-b"), lab.token("operator/alice"));
    let old = lab.open().issue_token(&identity("host/old"), Secret::draw().unwrap(), 0, now_s() - 1).unwrap();
    assert_eq!(lab.open().revoke_tokens(&identity("operator/alice"), now_s()).unwrap().len(), 1);
    let e = lab.open().revoke_tokens(&identity("operator/alice"), now_s()).unwrap_err().to_string();
    assert!(e.contains("found no open token for stopover://operator/alice"), "{e}");
    let wrong_secret = Token { secret: Secret::draw().unwrap(), ..right.clone() };
    let wrong_name = Token { name: HostName::new("hv-c").unwrap(), ..right.clone() };
    let answers: Vec<String> = [old, revoked, wrong_secret, wrong_name]
        .map(|token| lab.enrol(&Newcomer::new(token).unwrap()).unwrap_err())
        .into();
    assert!(answers.iter().all(|why| *why == answers[0]), "{answers:?}");
    assert_eq!(lab.states(), [TokenState::Open, TokenState::Revoked, TokenState::Expired]);
    assert!(lab.enrol(&Newcomer::new(right).unwrap()).is_ok());
}

#[test]
fn a_failure_leaves_the_token_open() {
    let lab = Lab::new();
    let token = lab.token("host/hv-b");
    let e =
        lab.open().enrol(&token.name, &token.secret, b"no request", now_s(), 365).unwrap_err().to_string();
    assert!(e.starts_with("certificate request: found other bytes"), "{e}");
    // The certificate would outlive the CA.
    let newcomer = Newcomer::new(token).unwrap();
    let Token { name, secret, .. } = newcomer.token();
    let e = lab.open().enrol(name, secret, &newcomer.request().unwrap(), now_s(), 36_500).unwrap_err();
    assert!(e.to_string().contains("expected at most 3650"), "{e}");
    // The list cannot be written.
    fs::create_dir(lab.path("ca/issued.json.new")).unwrap();
    let mut ca = CaFolder::load(&lab.path("ca"), None).unwrap();
    ca.lock = super::super::files::lock(&lab.path("ca/lock")).unwrap();
    let e = ca.enrol(name, secret, &newcomer.request().unwrap(), now_s(), 365).unwrap_err().to_string();
    assert!(e.contains("cannot be written"), "{e}");
    drop(ca);
    fs::remove_dir(lab.path("ca/issued.json.new")).unwrap();
    assert_eq!(lab.states(), [TokenState::Open]);
    assert_eq!(lab.open().list().len(), 1);
    assert!(lab.enrol(&newcomer).is_ok());
}

#[test]
fn only_a_board_of_the_pinned_authority_is_shown_the_token() {
    let (lab, other) = (Lab::new(), Lab::new());
    let newcomer = Newcomer::new(lab.token("host/hv-b")).unwrap();
    let why = other.look("bbs", &newcomer).unwrap();
    assert_eq!(Refusal::from(&why), Refusal::Authority, "{why}");
    // A board of another authority that also presents the certificate with the pin, which is no secret.
    let both =
        [fs::read(other.path("bbs/ca.pem")).unwrap(), fs::read(lab.path("bbs/ca.pem")).unwrap()].concat();
    fs::write(other.path("bbs/ca.pem"), both).unwrap();
    let _ = fs::remove_file(other.path("bbs/crl.pem"));
    let why = other.look("bbs", &newcomer).unwrap();
    assert_eq!(Refusal::from(&why), Refusal::Authority, "{why}");
    // Another holder of a certificate of the right authority.
    lab.issue("host", "hv-a");
    let chain = crate::Credentials::load(&lab.path("hv-a")).unwrap();
    let presented = [chain.chain.as_slice(), &chain.authorities].concat();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(presented, chain.key.clone_key())
        .unwrap();
    assert!(handshake(Arc::new(server), newcomer.tls().unwrap()).is_some());
}

#[test]
fn the_pin_is_that_of_the_boards_certificate_also_while_keys_change() {
    let lab = Lab::new();
    assert!(matches!(lab.open().begin_rotation(fresh(), 3650).unwrap(), Rotation::Begun(_)));
    let before = Newcomer::new(lab.token("host/hv-b")).unwrap();
    assert_eq!(lab.look("bbs", &before), None);
    let answer = lab.enrol(&before).unwrap();
    assert_eq!(before.finish(&answer, &lab.path("hv-b")).unwrap().name.as_str(), "hv-b");
    lab.issue("board", "bbs");
    let after = Newcomer::new(lab.token("host/hv-c")).unwrap();
    assert_eq!(lab.look("bbs", &after), None);
    assert!(lab.look("bbs", &before).is_some(), "the board's new certificate has another pin");
}

#[test]
fn no_token_makes_a_board() {
    let lab = Lab::new();
    let e = lab.open().issue_token(&identity("board/b"), Secret::draw().unwrap(), now_s(), now_s() + HOUR);
    assert!(
        e.unwrap_err().to_string().contains("issue the board's certificate by `stopover pki issue board`")
    );
}

#[test]
fn credentials_that_are_there_are_replaced_only_by_force() {
    let lab = Lab::new();
    lab.issue("host", "hv-a");
    let e = Newcomer::check_folder(&lab.path("hv-a"), false).unwrap_err().to_string();
    assert!(e.contains("ca.pem: found credentials; expected a new or an empty folder; hint: --force"), "{e}");
    Newcomer::check_folder(&lab.path("hv-a"), true).unwrap();
    fs::write(lab.path("hv-a/notes"), "precious").unwrap();
    let e = Newcomer::check_folder(&lab.path("hv-a"), true).unwrap_err().to_string();
    assert!(e.contains("notes: found a file that is not of credentials"), "{e}");
    let e = Newcomer::check_folder(&lab.path("absent/hv-b"), false).unwrap_err().to_string();
    assert!(e.contains("make the folder above it first"), "{e}");
    assert!(!lab.path("absent").exists());
}

#[test]
fn an_answer_that_does_not_fit_is_not_written() {
    let lab = Lab::new();
    let newcomer = Newcomer::new(lab.token("host/hv-b")).unwrap();
    let answer = lab.enrol(&newcomer).unwrap();
    let (mut other, out) = (Newcomer::new(lab.token("host/hv-c")).unwrap(), lab.path("etc"));
    let others = lab.enrol(&other).unwrap();
    let refused =
        |newcomer: &Newcomer, answer: &Answer| newcomer.finish(answer, &out).unwrap_err().to_string();
    assert!(refused(&newcomer, &others).contains("a certificate for the token's name"));
    let nothing = Answer { ca: String::new(), ..answer.clone() };
    assert!(refused(&newcomer, &nothing).contains("ca.pem: found none"));
    let foreign = fs::read_to_string(Lab::new().path("bbs/ca.pem")).unwrap();
    let foreign = Answer { ca: foreign, ..answer.clone() };
    assert!(refused(&newcomer, &foreign).contains("that of the token among them"));
    // The right name, but another key.
    other = Newcomer::new(newcomer.token().clone()).unwrap();
    assert!(refused(&other, &answer).contains("a certificate and the key of it"));
    assert!(!out.exists());
}

#[test]
fn one_waits_for_the_folder() {
    let lab = Lab::new();
    let (first, folder) = (lab.open(), lab.path("ca"));
    let e = CaFolder::open_within(&folder, now_s(), Duration::ZERO).unwrap_err().to_string();
    assert!(e.contains("another command at work"), "{e}");
    let second = std::thread::spawn(move || CaFolder::open_within(&folder, now_s(), Duration::from_secs(30)));
    std::thread::sleep(2 * PAUSE);
    drop(first);
    assert!(second.join().unwrap().is_ok());
}

#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test may fail")]

use super::*;
use crate::{CertificateState, ClientTls, Credentials, ServerTls, board_name, exercise::now_s};
use rustls::{ClientConnection, ServerConnection};
use std::{fs, os::unix::fs::PermissionsExt};
use tempfile::TempDir;

struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { dir: TempDir::new().unwrap() };
        CaFolder::create(&lab.path("ca"), fresh(), 3650).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> CaFolder {
        CaFolder::open(&self.path("ca"), now_s()).unwrap()
    }

    fn issue(&self, who: &str) -> Result<Issued, ConfigError> {
        let identity: Identity = format!("stopover://{who}").parse().unwrap();
        let out = self.path(identity.name.as_str());
        self.open().issue(&identity, &out, &fresh(), 365)
    }

    /// Whether the two of them come to terms.
    fn meet(&self, board: &str, caller: &str) -> bool {
        let server = ServerTls::load(&self.path(board)).unwrap();
        let client = ClientTls::load(&self.path(caller)).unwrap();
        let mut server = ServerConnection::new(server.config()).unwrap();
        let mut client = ClientConnection::new(client.config(), board_name()).unwrap();
        for _ in 0..8 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut sent.as_slice()).unwrap();
            let mut answer = Vec::new();
            let served = server.process_new_packets();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            client.read_tls(&mut answer.as_slice()).unwrap();
            if served.is_err() || client.process_new_packets().is_err() {
                return false;
            }
        }
        !server.is_handshaking() && !client.is_handshaking()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

fn fresh() -> Fresh {
    Fresh::draw(now_s()).unwrap()
}

#[test]
fn a_board_and_its_hosts_trust_each_other() {
    let lab = Lab::new();
    for who in ["board/bbs", "host/hv-a", "operator/alice"] {
        lab.issue(who).unwrap();
    }
    assert!(lab.meet("bbs", "hv-a") && lab.meet("bbs", "alice"));
    assert_eq!(Credentials::load(&lab.path("hv-a")).unwrap().identity().to_string(), "stopover://host/hv-a");
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca/ca.key"), mode("hv-a/key.pem"), mode("hv-a/cert.pem")), (0o600, 0o600, 0o644));
    assert_eq!((mode("ca"), mode("hv-a")), (0o700, 0o700));
}

#[test]
fn the_revoked_one_alone_is_shut_out() {
    let lab = Lab::new();
    for who in ["board/bbs", "host/hv-a", "host/hv-b"] {
        lab.issue(who).unwrap();
    }
    let revoked = lab.open().revoke(now_s(), |i| i.identity.name.as_str() == "hv-a").unwrap();
    assert_eq!(revoked.len(), 1);
    fs::copy(lab.path("ca/crl.pem"), lab.path("bbs/crl.pem")).unwrap();
    assert!(!lab.meet("bbs", "hv-a") && lab.meet("bbs", "hv-b"));
    let states: Vec<_> = lab.open().list().iter().map(|i| i.state(now_s())).collect();
    let (valid, revoked) = (CertificateState::Valid, CertificateState::Revoked);
    assert_eq!(states, [valid, revoked, valid]);
    assert!(lab.open().revoke(now_s(), |i| i.identity.name.as_str() == "hv-a").is_err());
}

#[test]
fn a_folder_is_replaced_for_the_same_holder_only() {
    let lab = Lab::new();
    let first = lab.issue("host/hv-a").unwrap();
    let key = lab.bytes("hv-a/key.pem");
    let second = lab.issue("host/hv-a").unwrap();
    assert_ne!((first.serial, key), (second.serial, lab.bytes("hv-a/key.pem")));
    assert!(!lab.path("hv-a.new").exists());
    let before = (lab.bytes("hv-a/key.pem"), lab.bytes("ca/issued.json"));
    let refused = lab.issue("operator/hv-a").unwrap_err().to_string();
    assert!(refused.contains("found stopover://host/hv-a"), "{refused}");
    fs::write(lab.path("hv-a/notes"), "").unwrap();
    assert!(lab.issue("host/hv-a").is_err(), "a folder with other files");
    assert_eq!(before, (lab.bytes("hv-a/key.pem"), lab.bytes("ca/issued.json")));
}

#[test]
fn a_second_ca_and_a_second_command_are_refused() {
    let lab = Lab::new();
    let key = lab.bytes("ca/ca.key");
    assert!(CaFolder::create(&lab.path("ca"), fresh(), 1).is_err());
    let open = lab.open();
    let refused = CaFolder::open(&lab.path("ca"), now_s()).unwrap_err().to_string();
    assert!(refused.contains("another command at work"), "{refused}");
    drop(open);
    assert_eq!(lab.bytes("ca/ca.key"), key);
    assert!(CaFolder::open(&lab.path("none"), now_s()).is_err() && !lab.path("none").exists());
}

#[test]
fn nobody_is_shut_out_by_a_rotation() {
    let lab = Lab::new();
    for who in ["board/bbs", "host/hv-a"] {
        lab.issue(who).unwrap();
    }
    lab.open().begin_rotation(fresh(), 3650).unwrap();
    assert!(lab.open().begin_rotation(fresh(), 3650).is_err(), "one at a time");
    for name in ["ca.pem", "crl.pem"] {
        fs::copy(lab.path("ca").join(name), lab.path("bbs").join(name)).unwrap();
    }
    assert!(lab.meet("bbs", "hv-a"), "the old certificates");
    lab.issue("host/hv-a").unwrap();
    assert!(lab.meet("bbs", "hv-a"), "a new host and an old board");
    let refused = lab.open().finish_rotation(now_s(), false).unwrap_err().to_string();
    assert!(refused.contains("the first stopover://board/bbs"), "{refused}");
    lab.issue("board/bbs").unwrap();
    assert!(lab.meet("bbs", "hv-a"), "both new");
    lab.open().finish_rotation(now_s(), false).unwrap();
    assert_eq!(lab.open().authorities().len(), 1);
    lab.issue("host/hv-b").unwrap();
    assert!(lab.meet("bbs", "hv-b"));
}

#[test]
fn a_crash_between_two_files_is_mended_by_the_next_command() {
    let lab = Lab::new();
    for who in ["board/bbs", "host/hv-a", "host/hv-b"] {
        lab.issue(who).unwrap();
    }
    type Change = fn(&mut CaFolder);
    let changes: [Change; 3] = [
        |ca| drop(ca.revoke(now_s(), |i| i.identity.name.as_str() == "hv-a").unwrap()),
        |ca| drop(ca.begin_rotation(fresh(), 3650).unwrap()),
        |ca| drop(ca.finish_rotation(now_s(), true).unwrap()),
    ];
    for change in changes {
        let old = ["ca/ca.pem", "ca/crl.pem"].map(|name| (name, lab.bytes(name)));
        change(&mut lab.open());
        let trusted = lab.bytes("ca/ca.pem");
        // As if the change had stopped after its one step.
        for (name, bytes) in old {
            fs::write(lab.path(name), bytes).unwrap();
        }
        fs::write(lab.path("ca/ca.pem.new"), "half").unwrap();
        let ca = lab.open();
        assert_eq!(lab.bytes("ca/ca.pem"), trusted);
        assert!(ca.is_present(&lab.bytes("ca/crl.pem")));
    }
    // Of an `init` that stopped after the list.
    fs::create_dir(lab.path("new")).unwrap();
    fs::write(lab.path("new/issued.json"), List::default().to_text().unwrap()).unwrap();
    CaFolder::create(&lab.path("new"), fresh(), 3650).unwrap();
    // Of an `issue` that stopped before the folder was in its place.
    fs::create_dir(lab.path("hv-b.new")).unwrap();
    fs::write(lab.path("hv-b.new/key.pem"), "half").unwrap();
    lab.issue("host/hv-b").unwrap();
    Credentials::load(&lab.path("hv-b")).unwrap();
}

#[test]
fn a_damaged_folder_is_refused_and_nothing_changes() {
    let lab = Lab::new();
    lab.issue("host/hv-a").unwrap();
    for name in ["ca/ca.key", "ca/issued.json"] {
        let whole = lab.bytes(name);
        for length in [0, 1, whole.len() / 2, whole.len() - 40] {
            fs::write(lab.path(name), &whole[..length]).unwrap();
            let crl = lab.bytes("ca/crl.pem");
            let refused = CaFolder::open(&lab.path("ca"), now_s()).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("hint: restore"), "{refused}");
            assert_eq!((lab.bytes(name).len(), lab.bytes("ca/crl.pem")), (length, crl));
        }
        fs::write(lab.path(name), &whole).unwrap();
    }
    let other = Lab::new();
    let keys = [other.bytes("ca/ca.key"), lab.bytes("ca/ca.key")].map(|b| String::from_utf8(b).unwrap());
    let (key, certificate) =
        (&keys[0][..keys[0].find("-----BEGIN C").unwrap()], keys[1].find("-----BEGIN C").unwrap());
    fs::write(lab.path("ca/ca.key"), format!("{key}{}", &keys[1][certificate..])).unwrap();
    let refused = CaFolder::open(&lab.path("ca"), now_s()).unwrap_err().to_string();
    assert!(refused.contains("a key of another certificate"), "{refused}");
}

#[test]
fn no_certificate_outlives_its_authority() {
    let lab = Lab { dir: TempDir::new().unwrap() };
    let mut ca = CaFolder::create(&lab.path("ca"), fresh(), 10).unwrap();
    let who = "stopover://host/hv-a".parse().unwrap();
    let refused = ca.issue(&who, &lab.path("hv-a"), &fresh(), 30).unwrap_err().to_string();
    assert!(refused.contains("found 30 days; expected at most"), "{refused}");
    assert!(!lab.path("hv-a").exists() && ca.list().is_empty());
}

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::{
    Role,
    exercise::{Authority, Template, exercise_credentials},
};
use proptest::prelude::*;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn folder() -> (tempfile::TempDir, Authority) {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::default());
    authority.enrol(dir.path(), Role::Host, "hv-a");
    (dir, authority)
}

#[test]
fn a_folder_is_of_the_one_whom_its_certificate_names() {
    let (dir, authority) = folder();
    let read = Credentials::load(dir.path()).unwrap();
    assert_eq!(read.identity().to_string(), "stopover://host/hv-a");
    assert_eq!((read.authorities.len(), read.chain.len(), read.crls.len()), (1, 1, 0));
    fs::write(dir.path().join(CRL), authority.crl(&[7])).unwrap();
    assert_eq!(Credentials::load(dir.path()).unwrap().crls.len(), 1);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (dir, _) = folder();
    let key = dir.path().join(KEY);
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let expected = format!(
            "{}: found mode {mode:04o}; expected a private key that only its owner may read; hint: chmod 600 {}",
            key.display(),
            key.display()
        );
        assert_eq!(Credentials::load(dir.path()).unwrap_err().to_string(), expected);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(Credentials::load(dir.path()).is_ok());
}

#[test]
fn each_wrong_file_is_named() {
    let (dir, authority) = folder();
    let good = Files::read(dir.path()).unwrap();
    let refused = |change: fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        Credentials::parse(Path::new("/c"), &files).unwrap_err().to_string()
    };
    for (found, expected) in [
        (
            refused(|f| f.ca.clear()),
            "/c/ca.pem: found none; expected certificates of trusted authorities, in PEM",
        ),
        (refused(|f| f.certificate.clear()), "/c/cert.pem: found none; expected the own certificate, in PEM"),
        (refused(|f| f.key = f.ca.clone()), "/c/key.pem: found none; expected one private key, in PEM"),
        (
            refused(|f| f.crl = Some(f.ca.clone())),
            "/c/crl.pem: found none; expected revocation lists, in PEM",
        ),
        (
            refused(|f| f.certificate.truncate(100)),
            "/c/cert.pem: found a section without its end; expected the own certificate, in PEM",
        ),
        (
            refused(|f| f.certificate = f.ca.clone()),
            "/c/cert.pem: found certificate: alternative names: found 0 URIs",
        ),
    ] {
        assert!(found.starts_with(expected) && found.contains("; hint: "), "{found}");
    }
    for name in [CA, CERTIFICATE, KEY] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let e = Credentials::load(dir.path()).unwrap_err();
        assert_eq!(
            (e.path(), e.hint()),
            (dir.path().join(name).as_path(), "check the path, or create the file")
        );
        authority.write(dir.path(), &authority.issue(&Template::of(Role::Host, "hv-a")), None);
    }
}

proptest! {
    #[test]
    fn pem_that_was_changed_never_panics(at in 0_usize..2000, to in any::<u8>()) {
        let authority = Authority::default();
        let issued = authority.issue(&Template::of(Role::Member, "m"));
        let mut input = Vec::new();
        for file in [authority.certificate(), &issued.certificate, &issued.key] {
            input.extend(u16::try_from(file.len()).unwrap().to_be_bytes());
            input.extend(file.as_bytes());
        }
        input.extend(authority.crl(&[1]).as_bytes());
        let at = at % input.len();
        input[at] = to;
        exercise_credentials(&input);
    }
}

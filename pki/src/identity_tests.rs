#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType};

fn certificate(uris: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["hv-a.example".to_owned()]).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[test]
fn every_role_comes_back_from_its_certificate() {
    for role in Role::ALL {
        let identity = Identity { role, name: HostName::new("hv-a.1_b").unwrap() };
        let uri = identity.to_string();
        assert_eq!(uri, format!("stopover://{}/hv-a.1_b", role.as_str()));
        assert_eq!(Identity::of_certificate(&certificate(&[&uri])), Ok(identity));
    }
}

#[test]
fn a_certificate_names_exactly_one() {
    assert_eq!(Identity::of_certificate(&certificate(&[])), Err(BadCertificate::Uris(0)));
    for second in ["stopover://operator/alice", "stopover://host/hv-a", "https://example.org/"] {
        let der = certificate(&["stopover://host/hv-a", second]);
        assert_eq!(Identity::of_certificate(&der), Err(BadCertificate::Uris(2)), "{second}");
    }
}

#[test]
fn other_texts_are_refused() {
    let form = |s: &str| BadIdentity::Form(s.to_owned());
    for text in ["", "stopover://host", "STOPOVER://host/a", "https://host/a", "stopover:/host/a"] {
        assert_eq!(text.parse::<Identity>(), Err(form(text)));
    }
    for role in ["", "Host", "root", "host:1", "a@host"] {
        let refused = format!("stopover://{role}/a").parse::<Identity>();
        assert_eq!(refused, Err(BadIdentity::Role(role.to_owned())));
    }
    for name in ["", "a/", "../a", "a b", "a%20", "a?x", "\u{e9}", &"a".repeat(64)] {
        let refused = format!("stopover://host/{name}").parse::<Identity>();
        assert!(matches!(refused, Err(BadIdentity::Name(_))), "{name}: {refused:?}");
    }
}

#[test]
fn a_certificate_with_a_wrong_uri_says_which() {
    let refused = Identity::of_certificate(&certificate(&["stopover://root/a"])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "certificate: URI: role: found `root`; expected board, host, operator, observer, program or member"
    );
}

#[test]
fn a_certificate_cut_or_lengthened_is_refused() {
    let whole = certificate(&["stopover://host/hv-a"]);
    for length in 0..whole.len() {
        assert!(Identity::of_certificate(&whole[..length]).is_err(), "{length} bytes");
    }
    let longer = [whole.as_slice(), &[0]].concat();
    assert_eq!(Identity::of_certificate(&longer), Err(BadCertificate::Form("bytes after the certificate")));
}

#[test]
fn a_long_foreign_text_is_cut_and_escaped() {
    let text = format!("\n{}", "x".repeat(1000));
    let message = text.parse::<Identity>().unwrap_err().to_string();
    assert!(message.len() < 250 && message.contains("\\n") && !message.contains('\n'), "{message}");
}

proptest! {
    #[test]
    fn any_text_is_an_identity_only_if_it_comes_back(text in "(stopover://)?(host|member|x)?/?[ -~]{0,70}") {
        if let Ok(identity) = text.parse::<Identity>() {
            prop_assert_eq!(identity.to_string(), text);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0_usize..300, to in any::<u8>()) {
        let mut der = certificate(&["stopover://host/hv-a"]);
        let at = at % der.len();
        der[at] = to;
        let _ = Identity::of_certificate(&der);
    }
}

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use crate::Secret;
use proptest::{collection::vec, option, prelude::*};

fn issued() -> impl Strategy<Value = Issued> {
    let identity = ("(host|board|operator)", "[a-z][a-z0-9.-]{0,20}");
    let dates = (0_u64..1000, 0_u64..1000, option::of(0_u64..2000));
    (any::<[u8; 16]>(), identity, "[ -~]{0,20}", dates).prop_map(
        |(serial, (role, name), authority, (from, rest, revoked))| Issued {
            serial: Serial::new(serial),
            identity: format!("stopover://{role}/{name}").parse().unwrap(),
            authority,
            from,
            until: from + rest,
            revoked,
        },
    )
}

fn lists() -> impl Strategy<Value = List> {
    (any::<u64>(), vec(issued(), 0..6), vec(any::<([u8; 32], u64, bool)>(), 0..3)).prop_map(
        |(crl_number, issued, tokens)| {
            let given = |(secret, until, used): ([u8; 32], u64, bool)| Given {
                identity: "stopover://host/a".parse().unwrap(),
                hash: Secret::new(secret).hash(),
                until,
                used: issued.first().map(|i: &Issued| i.serial).filter(|_| used),
                revoked: Some(until).filter(|_| !used),
            };
            let tokens = Tokens(tokens.into_iter().map(given).collect());
            List { crl_number, issued, tokens }
        },
    )
}

fn refused(text: &str) -> String {
    List::parse(Path::new("issued.json"), text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_damaged_list_is_refused_with_its_place() {
    let one = r#"{"serial":"40000000000000000000000000000001","identity":"stopover://host/a","authority":"A","from":1,"until":2,"revoked":null}"#;
    let list = |issued: &str| format!(r#"{{"version":1,"crl_number":1,"issued":[{issued}]}}"#);
    assert!(List::parse(Path::new("x"), list(one).as_bytes()).is_ok());
    let cases = [
        (list(one).replace("\"version\":1", "\"version\":2"), "version: found version 2; expected"),
        (
            list(&format!("{one},{one}")),
            "issued[1].serial: found 40000000000000000000000000000001 for the second",
        ),
        (list(&one.replace("host/a", "root/a")), "issued[0].identity: found role: found `root`"),
        (
            list(&one.replace("\"4", "\"0")),
            "issued[0].serial: found found `00000000000000000000000000000001`",
        ),
        (list(&one.replace(":2,", ":0,")), "issued[0].until: found 0, before its begin 1"),
        (list(&one.replace("revoked", "removed")), "unknown field `removed`"),
        (String::new(), "EOF while parsing"),
    ];
    for (text, expected) in cases {
        let message = refused(&text);
        assert!(message.contains(expected) && message.contains("hint: restore"), "{message}");
    }
}

proptest! {
    #[test]
    fn a_list_comes_back_from_its_text_and_never_from_a_part_of_it(list in lists(), cut in 0_usize..2000) {
        let text = list.to_text().unwrap();
        let path = Path::new("issued.json");
        prop_assert_eq!(List::parse(path, text.as_bytes()).unwrap(), list);
        // The last byte is the end of the line.
        let cut = cut % (text.len() - 1);
        prop_assert!(List::parse(path, &text.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn other_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(List::parse(Path::new("issued.json"), &bytes).is_err());
    }

    #[test]
    fn revoking_changes_only_what_is_valid_and_chosen(mut list in lists(), now in 0_u64..2000) {
        let before = list.clone();
        let revoked = list.revoke(now, |i| i.identity.role == crate::Role::Host);
        for (was, is) in before.issued.iter().zip(&list.issued) {
            let chosen = was.state(now) == CertificateState::Valid && was.identity.role == crate::Role::Host;
            prop_assert_eq!(is.revoked, if chosen { Some(now) } else { was.revoked });
            prop_assert_eq!(revoked.contains(is), chosen);
        }
        let number = if revoked.is_empty() { before.crl_number } else { before.crl_number.saturating_add(1) };
        prop_assert_eq!(list.crl_number, number);
        prop_assert!(list.revoke(now, |i| i.identity.role == crate::Role::Host).is_empty());
    }

    #[test]
    fn a_serial_number_comes_back_from_its_text(bytes in any::<[u8; 16]>()) {
        let serial = Serial::new(bytes);
        prop_assert_eq!(serial.to_string().parse::<Serial>(), Ok(serial));
    }
}

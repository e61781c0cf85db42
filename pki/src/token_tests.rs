#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use proptest::prelude::*;

fn token(name: &str, secret: [u8; 32], pin: [u8; 32]) -> Token {
    Token { name: HostName::new(name).unwrap(), secret: Secret(secret), pin: Pin(pin) }
}

#[test]
fn the_text_has_the_name_the_secret_and_the_pin() {
    let text = token("hv-a.example", [0; 32], [255; 32]).to_text();
    let expected = format!("hv-a.example.{}.{}8", "A".repeat(43), "_".repeat(42));
    assert_eq!(text, expected);
}

#[test]
fn what_is_no_token_is_refused_without_its_secret() {
    let right = token("hv-a", [7; 32], [9; 32]).to_text();
    let cases = [
        (String::new(), "fewer than three parts"),
        ("hv-a.x".into(), "fewer than three parts"),
        (right[1..].replacen("v-a", "-a", 1), "another name"),
        (right[..right.len() - 1].into(), "a pin that is not whole"),
        (format!("{right}="), "a pin that is not whole"),
        (right.replacen("Bw", "B", 1), "a secret that is not whole"),
        (format!("{right}\n"), "a pin that is not whole"),
        (format!("{}{right}", "x".repeat(200)), "too long"),
    ];
    for (text, why) in cases {
        let error = text.parse::<Token>().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("; hint: "), "{text}: {error}");
        assert!(!error.contains("BwcHBwcH"), "{error}");
    }
    assert!(!format!("{:?}", token("a", [7; 32], [9; 32])).contains("7, 7"));
}

#[test]
fn a_hash_is_that_of_sha_256() {
    // `printf '%032d' 0 | sha256sum`
    let zeros = Secret([b'0'; 32]).hash().0;
    assert_eq!(zeros[..4], [0x84, 0xe0, 0xc0, 0xea], "{zeros:02x?}");
    assert_eq!(Secret([1; 32]).hash(), Secret([1; 32]).hash());
    assert_ne!(Secret([1; 32]).hash(), Secret([2; 32]).hash());
}

proptest! {
    #[test]
    fn every_token_comes_back_from_its_text(name in "[a-z0-9][A-Za-z0-9._-]{0,62}", secret: [u8; 32], pin: [u8; 32]) {
        let token = token(&name, secret, pin);
        prop_assert_eq!(token.to_text().parse(), Ok(token.clone()));
        prop_assert_eq!(token.secret.hash().to_string().parse(), Ok(token.secret.hash()));
    }

    #[test]
    fn two_texts_are_not_the_same_token(at in 0_usize..200, to in any::<char>(), secret: [u8; 32]) {
        let right = token("hv-a", secret, [9; 32]);
        let mut text: Vec<char> = right.to_text().chars().collect();
        let at = at % text.len();
        let is_same = text[at] == to;
        text[at] = to;
        let text: String = text.into_iter().collect();
        prop_assert!(is_same || text.parse() != Ok(right));
    }
}

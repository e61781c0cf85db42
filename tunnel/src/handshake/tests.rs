//! What the tests of this module share, and its small cases. The machine as a whole is tested in `tests/handshake`.

use super::*;
use proptest::prelude::*;

/// Random bytes from a seed, for tests alone (splitmix64).
pub(super) struct Counter(pub(super) u64);

impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ z >> 31).to_be_bytes()[..chunk.len()]);
        }
    }
}

#[test]
fn a_public_key_is_as_rfc_7748_has_it() {
    let secret = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&secret[2 * at..2 * at + 2], 16).unwrap()).collect();
    let key = StaticKey::new(bytes.try_into().unwrap());
    let public = "PublicKey(8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a)";
    assert_eq!(format!("{:?}", key.public()), public);
    assert_eq!(format!("{key:?}"), "StaticKey(secret)");
}

#[test]
fn control_messages_that_are_wrong() {
    for text in [&[][..], &[0], &[1, 0xc0, 0, 0], &[1, 0, 0, 0, 1], &[2, 0], &[3, 0, 0, 0], &[5, 0], &[6]] {
        assert_eq!(Control::parse(text), None, "{text:?}");
    }
    assert_eq!(Control::parse(&[1]), Some(Control::Confirm(Vec::new())));
}

proptest! {
    #[test]
    fn any_datagram_is_taken_or_dropped(input in prop::collection::vec(any::<u8>(), 0..1300)) {
        crate::exercise::handshake(&input);
    }

    #[test]
    fn any_datagram_of_a_kind(
        mut input in prop::collection::vec(any::<u8>(), 16..1300), kind in 1u8..5, pieces in 1u8..4,
    ) {
        input[..8].copy_from_slice(&[0, 0, 0, 0, kind, 1, 0, pieces]);
        crate::exercise::handshake(&input);
    }

    #[test]
    fn any_control_message(input in prop::collection::vec(any::<u8>(), 0..50), kind in 0u8..7) {
        crate::exercise::control(&input);
        crate::exercise::control(&[&[kind], &input[..]].concat());
    }
}

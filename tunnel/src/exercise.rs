//! What the fuzz targets of `fuzz/` do with arbitrary bytes, and what the unit tests do with the saved corpus and with
//! generated input: one function per target, asserting what must hold for any input at all.
//!
//! Compiled for the unit tests, and with the feature `exercise` for the fuzz targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use crate::Millis;
use crate::cipher::Algorithm;
use crate::esp::{self, Header, Text};
use crate::handshake::datagram::{self as parts, BadDatagram, Parsed};
use crate::handshake::{Action, Config, Control, Endpoint, Now, Random, StaticKey, Timing};
use crate::wire::{self, Datagram};

/// A UDP payload of the tunnel's port.
pub fn datagram(input: &[u8]) {
    let kind = wire::classify(input, input.len());
    let head = input.get(..wire::HEAD_LEN).unwrap_or(input);
    assert_eq!(wire::classify(head, input.len()), kind, "the first bytes and the length decide alone");
    if let Ok(kind) = kind {
        assert_eq!(
            kind == Datagram::Vxlan,
            input.len() > 1 && input[0] & 0x08 != 0,
            "one bit is VXLAN's alone"
        );
    }
    let header = Header::new_checked(input);
    if let Ok(header) = header {
        assert_eq!(kind, Ok(Datagram::Esp(header.spi)));
        assert_eq!(header.to_bytes(), input[..esp::HEAD_LEN]);
    }
    trailer(input);
}

/// The same bytes as an opened text.
fn trailer(opened: &[u8]) {
    let Ok(Text::Udp(len)) = esp::open_trailer(opened) else { return };
    // Framed again it has the same trailer, if its padding is the least.
    let mut buffer = [&[0; esp::HEAD_LEN], &opened[..len], &[0; esp::TAIL_LEN]].concat();
    let header = Header::of(crate::Spi::from_bits(0xc000_0000).unwrap(), 1);
    let text = esp::HEAD_LEN..esp::HEAD_LEN + len;
    let framed = esp::frame_text(&mut buffer, text, header, esp::NEXT_UDP).unwrap();
    let again = &buffer[framed][esp::HEAD_LEN..];
    let again = &again[..again.len() - esp::TAG_LEN];
    assert!(again.len() <= opened.len().next_multiple_of(4));
    assert_eq!(esp::open_trailer(again), Ok(Text::Udp(len)));
    assert_eq!(again[..len], opened[..len]);
}

/// The same byte again and again.
struct Fixed(u8);

impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
    }
}

/// A datagram of a handshake, from an unknown sender: it is dropped, and no SA comes of it. What the input lacks to be
/// one of a known kind is not added.
pub fn handshake(input: &[u8]) {
    let config = Config {
        queues: 2,
        algorithm: Algorithm::Aes128Gcm,
        sas: 8,
        busy_above: 0,
        timing: Timing::default(),
    };
    let now = Now { at: Millis(0), wall_ns: 0 };
    let rng = &mut Fixed(0);
    let mut endpoint = Endpoint::new(StaticKey::new([1; 32]), config, now, rng);
    let mut out = Vec::new();
    endpoint.add_peer(1, StaticKey::new([2; 32]).public(), ([192, 0, 2, 1], 4789).into(), now, &mut out);
    let done = endpoint.receive(([192, 0, 2, 1], 4789).into(), input, now, rng, &mut out);
    assert!(done.is_err());
    let sent = out
        .iter()
        .all(|action| matches!(action, Action::Send { datagram, .. } if datagram.len() <= parts::MOST_LEN));
    assert!(sent && out.len() <= 2, "{out:?}");
    match parts::parse(input) {
        Ok(Parsed::Piece(piece)) => {
            assert_eq!(piece.body.len(), input.len() - parts::HEADER_LEN - 2 * parts::MAC_LEN);
            let built = parts::build_pieces(piece.message, piece.sender, piece.receiver, piece.body);
            assert_eq!(piece.pieces == 1, built[0][..input.len() - 32] == input[..input.len() - 32]);
        }
        Ok(Parsed::Control { sealed, .. }) => assert!(input.ends_with(sealed)),
        Ok(Parsed::Cookie { sealed, .. }) => assert!(input.ends_with(sealed)),
        Err(reason) => assert!(reason != BadDatagram::Long || input.len() > 60),
    }
}

/// The opened text of a control message.
pub fn control(text: &[u8]) {
    if let Some(control) = Control::parse(text) {
        assert_eq!(control.to_bytes(), text);
    }
}

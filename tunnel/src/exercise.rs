//! What the fuzz targets of `fuzz/` do with arbitrary bytes, and what the unit tests do with the saved corpus and with
//! generated input: one function per target, asserting what must hold for any input at all.
//!
//! Compiled for the unit tests, and with the feature `exercise` for the fuzz targets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use crate::esp::{self, Header, Text};
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

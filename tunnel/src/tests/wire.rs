//! The kinds of datagrams, and the layout of ESP.

use crate::Spi;
use crate::esp::{self, Aad, BadTrailer, Header, NoRoom, SequenceBits, Text};
use crate::exercise;
use crate::wire::{Datagram, NoKind, classify};
use proptest::prelude::*;
use std::ops::Range;

fn spi(bits: u32) -> Spi {
    Spi::from_bits(bits).unwrap()
}

#[test]
fn the_first_bytes_tell_the_kinds_apart() {
    let esp = Datagram::Esp(spi(0xc010_0005));
    let kinds: [(&[u8], usize, Result<Datagram, NoKind>); 16] = [
        (&[0x08, 0, 0, 0, 0, 0, 7, 0], 60, Ok(Datagram::Vxlan)),
        (&[0xff, 0, 0, 0, 0, 0, 7, 0], 60, Ok(Datagram::Vxlan)),
        (&[0x08, 0, 0, 0, 0, 0, 7], 7, Err(NoKind::Short)),
        (&[0xff], 1, Ok(Datagram::Keepalive)),
        (&[0x00], 1, Ok(Datagram::Keepalive)),
        (&[], 0, Err(NoKind::Short)),
        (&[0, 0, 0, 0, 1, 1, 1, 1], 200, Ok(Datagram::Handshake)),
        (&[0, 0, 0, 0], 4, Err(NoKind::Short)),
        (&[0xc0, 0x10, 0, 5, 0, 0, 0, 1], esp::SHORTEST, Ok(esp)),
        (&[0xc0, 0x10, 0, 5, 0, 0, 0, 1], esp::SHORTEST - 1, Err(NoKind::Short)),
        (&[0xc0, 0x10, 0, 5], esp::SHORTEST, Err(NoKind::Short)),
        (&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42], 20, Ok(Datagram::Stun)),
        (&[0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x43], 20, Err(NoKind::Unknown)),
        (&[0x40, 0x01, 0, 4, 1, 2, 3, 4], 8, Ok(Datagram::Relayed)),
        (&[0x50, 0x01, 0, 4, 1, 2, 3, 4], 60, Err(NoKind::Unknown)),
        (&[0x80, 0x01, 0, 4, 1, 2, 3, 4], 60, Err(NoKind::Unknown)),
    ];
    for (head, len, kind) in kinds {
        assert_eq!(classify(head, len), kind, "{head:02x?} of {len}");
    }
}

#[test]
fn a_text_gets_header_and_trailer() {
    let header = Header::of(spi(0xc000_0001), 0x0000_0002_0000_0003);
    let mut buffer = vec![0xee; esp::HEAD_LEN + 5 + esp::TAIL_LEN];
    let range = esp::frame_text(&mut buffer, 16..21, header, esp::NEXT_UDP).unwrap();
    assert_eq!(range, 0..16 + 8 + 16);
    assert_eq!(
        buffer[..24],
        [0xc0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0xee, 0xee, 0xee, 0xee, 0xee, 1, 1, 17]
    );
    assert_eq!(Header::new_checked(&buffer[range]), Ok(header));
    assert_eq!(header.nonce([9, 8, 7, 6]), [9, 8, 7, 6, 0, 0, 0, 2, 0, 0, 0, 3]);
}

#[test]
fn no_room_is_an_error_and_changes_nothing() {
    let header = Header::of(spi(0xc000_0001), 1);
    let whole = esp::sealed_len(20);
    for (len, text, error) in [
        (whole, 15..35, NoRoom::Head),
        (whole - 1, 16..36, NoRoom::Tail),
        (whole, Range { start: 16, end: 15 }, NoRoom::Tail),
    ] {
        let mut buffer = vec![0xee; len];
        assert_eq!(esp::frame_text(&mut buffer, text, header, 17), Err(error));
        assert!(buffer.iter().all(|byte| *byte == 0xee));
    }
    assert!(esp::frame_text(&mut vec![0; whole], 16..36, header, 17).is_ok());
}

#[test]
fn padding_and_next_header_are_checked() {
    for (opened, expected) in [
        (&[7, 7, 0, 17][..], Ok(Text::Udp(2))),
        (&[7, 1, 1, 17], Ok(Text::Udp(1))),
        (&[1, 2, 3, 4, 5, 6, 6, 17], Ok(Text::Udp(0))),
        (&[1, 2, 2, 59], Ok(Text::Dummy)),
        (&[7, 2, 1, 17], Err(BadTrailer::Padding)),
        (&[1, 2, 3, 17], Err(BadTrailer::Padding)),
        (&[1, 2, 255, 17], Err(BadTrailer::Padding)),
        (&[17], Err(BadTrailer::Padding)),
        (&[], Err(BadTrailer::Padding)),
        (&[7, 7, 0, 4], Err(BadTrailer::NextHeader)),
    ] {
        assert_eq!(esp::open_trailer(opened), expected, "{opened:?}");
    }
}

#[test]
fn the_aad_has_as_many_bits_as_the_sequence() {
    let aad = |bits| Aad::new(spi(0xc000_0001), 0x0000_0002_0000_0003, bits);
    assert_eq!(aad(SequenceBits::Extended).as_slice(), [0xc0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    assert_eq!(aad(SequenceBits::Short).as_slice(), [0xc0, 0, 0, 1, 0, 0, 0, 3]);
}

proptest! {
    #[test]
    fn a_framed_text_comes_back(
        text in prop::collection::vec(any::<u8>(), 0..200), sequence: u64, head in 16usize..40,
    ) {
        let mut buffer = vec![0; head + text.len() + esp::TAIL_LEN];
        buffer[head..head + text.len()].copy_from_slice(&text);
        let header = Header::of(spi(0xc000_0001), sequence);
        let range = esp::frame_text(&mut buffer, head..head + text.len(), header, esp::NEXT_UDP).unwrap();
        prop_assert_eq!(range.len(), esp::sealed_len(text.len()));
        prop_assert!(range.len() <= esp::HEAD_LEN + text.len() + esp::TAIL_LEN && range.len().is_multiple_of(4));
        let sealed = &buffer[range][esp::HEAD_LEN..];
        let opened = &sealed[..sealed.len() - esp::TAG_LEN];
        prop_assert_eq!(esp::open_trailer(opened), Ok(Text::Udp(text.len())));
        prop_assert_eq!(&opened[..text.len()], &text[..]);
    }

    #[test]
    fn any_bytes_are_a_datagram_or_refused(input in prop::collection::vec(any::<u8>(), 0..120)) {
        exercise::datagram(&input);
    }

    #[test]
    fn any_esp_is_read(mut input in prop::collection::vec(any::<u8>(), 36..120), bits: u32) {
        input[..4].copy_from_slice(&(bits & 0xf7ff_ffff | 0xc000_0000).to_be_bytes());
        exercise::datagram(&input);
    }
}

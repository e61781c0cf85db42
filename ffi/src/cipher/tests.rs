//! The engine against itself, and the edges of its buffers. Known answers are tested with all engines in `engines`.

use super::*;
use memory::SLOT_LEN;

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
const AAD: [u8; 12] = [9; 12];

fn gcm() -> Gcm {
    Gcm::new(&KeyMemory::new()).unwrap()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn nothing_around_a_text_changes() {
    let mut gcm = gcm();
    for key in [&[1; 16][..], &[1; 32]] {
        let key = gcm.expand(key).unwrap();
        for len in 0..600 {
            for start in [0, 1, 15] {
                let plain = text(len);
                let mut buffer = [&[0xee; 64][..start], &plain, &[0xee; 64]].concat();
                let mut tag = [0; TAG_LEN];
                gcm.seal(&key, &NONCE, &AAD, &mut buffer[start..start + len], &mut tag).unwrap();
                assert!(len < 16 || buffer[start..start + len] != plain);
                gcm.open(&key, &NONCE, &AAD, &mut buffer[start..start + len], &tag).unwrap();
                let expected = [&[0xee; 64][..start], &plain, &[0xee; 64]].concat();
                assert_eq!(buffer, expected, "{len} bytes at {start}");
            }
        }
    }
}

#[test]
fn a_wrong_tag_leaves_no_text() {
    let mut gcm = gcm();
    let key = gcm.expand(&[1; 32]).unwrap();
    for len in [0, 1, 16, 50, 1440] {
        let (mut sealed, mut tag) = (text(len), [0; TAG_LEN]);
        gcm.seal(&key, &NONCE, &AAD, &mut sealed, &mut tag).unwrap();
        for bit in 0..8 * TAG_LEN {
            let (mut buffer, mut wrong) = (sealed.clone(), tag);
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(gcm.open(&key, &NONCE, &AAD, &mut buffer, &wrong), Err(GcmFailure::BadTag));
            assert_eq!(buffer, vec![0; len]);
        }
        gcm.open(&key, &NONCE, &AAD, &mut sealed, &tag).unwrap();
        assert_eq!(sealed, text(len));
    }
}

#[test]
fn keys_of_other_lengths_and_long_texts_are_refused() {
    let mut gcm = gcm();
    for len in [0, 15, 17, 24, 31, 33] {
        let error = gcm.expand(&vec![1; len]).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Invalid, format!("a key of AES-GCM has {len} bytes; hint: it has 16 or 32"))
        );
    }
    let key = gcm.expand(&[1; 16]).unwrap();
    let mut long = vec![0; MOST + 1];
    assert_eq!(gcm.seal(&key, &NONCE, &[], &mut long, &mut [0; TAG_LEN]), Err(GcmFailure::TooLong));
    assert_eq!(gcm.open(&key, &NONCE, &[], &mut long, &[0; TAG_LEN]), Err(GcmFailure::TooLong));
    assert_eq!(gcm.seal(&key, &NONCE, &long, &mut [0; 8], &mut [0; TAG_LEN]), Err(GcmFailure::TooLong));
}

#[test]
fn a_key_has_one_slot_while_it_lives() {
    let memory = KeyMemory::new();
    let gcm = Gcm::new(&memory).unwrap();
    let before = memory.stats().taken;
    assert_eq!(before, SLOT_LEN, "the context; the keys of the known answers are gone");
    let keys: Vec<GcmKey> = (0..10).map(|byte| gcm.expand(&[byte; 16]).unwrap()).collect();
    assert_eq!(memory.stats().taken, before + 10 * SLOT_LEN);
    drop(keys);
    assert_eq!(memory.stats().taken, before);
    drop(gcm);
    assert_eq!(memory.stats().taken, 0);
}

#[test]
fn lcores_share_keys_and_keys_outlive_their_engine() {
    let memory = KeyMemory::new();
    let key = Gcm::new(&memory).unwrap().expand(&[3; 16]).unwrap();
    drop(memory);
    let seal = |key: GcmKey| {
        let (mut sealed, mut tag) = (text(1000), [0; TAG_LEN]);
        for len in (0..1500).step_by(50) {
            key.prefetch(len);
        }
        gcm().seal(&key, &NONCE, &AAD, &mut sealed, &mut tag).unwrap();
        (sealed, tag)
    };
    let threads: Vec<_> = (0..3).map(|_| (key.clone(), seal)).collect();
    let threads: Vec<_> =
        threads.into_iter().map(|(key, seal)| std::thread::spawn(move || seal(key))).collect();
    let expected = seal(key);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn no_text_shows_a_key() {
    let gcm = gcm();
    assert_eq!(format!("{:?}", gcm.expand(&[0xab; 16]).unwrap()), "GcmKey(secret)");
    assert!(format!("{gcm:?}").starts_with("Gcm("));
}

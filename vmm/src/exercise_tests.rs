#![allow(clippy::unwrap_used, reason = "a test may fail")]

use crate::exercise::{exercise_messages, exercise_piece};
use proptest::prelude::*;
use std::{fs, path::Path};

type Exercise = fn(&[u8]);

const TARGETS: [(&str, Exercise); 2] = [("vhost_user", exercise_messages), ("passing", exercise_piece)];

/// The saved inputs of the fuzz targets, and each with a byte changed.
#[test]
fn corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (target, exercise) in TARGETS {
        let mut replayed = 0;
        for folder in ["corpus", "crashes"] {
            for entry in fs::read_dir(root.join(folder).join(target)).into_iter().flatten() {
                let mut input = fs::read(entry.unwrap().path()).unwrap();
                exercise(&input);
                replayed += 1;
                for at in 0..input.len() {
                    input[at] ^= 0x11;
                    exercise(&input);
                    input[at] ^= 0x11;
                }
            }
        }
        assert!(replayed >= 3, "the corpus of {target} is there");
    }
}

/// Messages as a VMM could send them, in any order.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(0..3_u8, 8),
        prop::collection::vec(0..3_u8, 40),
        prop::collection::vec(any::<u8>(), 0..50),
    ];
    let message = (0..2_u8, 0..42_u32, payload).prop_map(|(fds, request, payload)| {
        let head = [request, 1, payload.len() as u32].map(u32::to_ne_bytes).concat();
        [&[fds][..], &head, &payload].concat()
    });
    prop::collection::vec(message, 0..40).prop_map(|messages| messages.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, exercise) in TARGETS {
            exercise(&bytes);
        }
    }

    #[test]
    fn whatever_is_set_up_is_set_up_again(input in messages()) {
        exercise_messages(&input);
    }
}

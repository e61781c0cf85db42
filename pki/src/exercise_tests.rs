#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use proptest::prelude::*;

type Exercise = fn(&[u8]);

const TARGETS: [(&str, Exercise); 6] = [
    ("certificate", exercise_identity),
    ("credentials", exercise_credentials),
    ("token", exercise_token),
    ("request", exercise_request),
    ("ca_list", exercise_list),
    ("ca_key", exercise_ca_key),
];

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
                for at in (0..input.len()).step_by(1 + input.len() / 64) {
                    input[at] ^= 0x11;
                    exercise(&input);
                    input[at] ^= 0x11;
                }
            }
        }
        assert!(replayed >= 3, "the corpus of {target} is there");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (_, exercise) in TARGETS {
            exercise(&bytes);
        }
    }
}

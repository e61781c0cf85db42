//! The whole map, at its smallest: a lookup during the change that rebuilds the segment it is in.

use super::explore;
use crate::{epoch::domain, map64::new_seeded};
use loom::thread;

/// As many as the smallest segment takes: the next insert rebuilds it.
const FULL: u64 = 56;

#[test]
fn a_key_is_found_while_its_segment_is_rebuilt() {
    explore(2, || {
        let (mut writer, mut parked) = domain(1);
        let (mut map, reading_half) = new_seeded(&writer, usize::MAX, 5).unwrap();
        for key in 1..=FULL {
            map.insert(&mut writer, key, key + 1000).unwrap();
        }
        let before = map.capacity();
        let mut reader = parked.pop().unwrap().online();
        let reading = thread::spawn(move || {
            assert!([Some(1007), Some(1008)].contains(&reading_half.get(&reader, 7)));
            reader.quiescent();
            let mut values = [0; 2];
            let found = reading_half.lookup_burst(&reader, &[7, FULL + 1], &mut values);
            assert!(found & 1 == 1 && [1007, 1008].contains(&values[0]), "{found:b} {values:?}");
            assert!(found & 2 == 0 || values[1] == 1, "{found:b} {values:?}");
        });
        map.insert(&mut writer, FULL + 1, 1).unwrap();
        assert!(map.capacity() > before, "the insert was meant to rebuild the segment");
        map.update(&mut writer, 7, 1008);
        writer.advance();
        map.maintain(&mut writer);
        reading.join().unwrap();
    });
}

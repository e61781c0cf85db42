//! The wide map against a plain hash map, with hashes of a few bits so that chains are long.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use proptest::{collection::vec, prelude::*};
use std::collections::HashMap;
use stopover_lockfree::{
    epoch::domain,
    map_wide::{self, WideKey},
    map64::MapError,
};

#[derive(Debug, Clone)]
enum Op {
    Insert(WideKey, u64),
    Update(WideKey, u64),
    Remove(WideKey),
    Retain(u64),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let key = (0..3u64, 0..40u64).prop_map(|(network, address)| [network, u64::MAX - address, address]);
    prop_oneof![
        8 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Insert(k, v)),
        2 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Update(k, v)),
        6 => key.prop_map(Op::Remove),
        1 => (0..3u64).prop_map(Op::Retain),
        2 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_agrees_with_a_hash_map(hash_bits in prop_oneof![1..5u32, Just(64)], ops in vec(op(), 0..600)) {
        let (mut writer, mut parked) = domain(1);
        let mut reader = parked.pop().unwrap().online();
        let (mut map, lookups) = map_wide::with_hash_bits(&writer, 1000, hash_bits).unwrap();
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Insert(key, value) => {
                    assert_eq!(map.insert(&mut writer, &key, value).unwrap(), model.insert(key, value));
                }
                Op::Update(key, value) => {
                    let expected = model.get_mut(&key).map(|v| std::mem::replace(v, value));
                    assert_eq!(map.update(&mut writer, &key, value), expected);
                }
                Op::Remove(key) => assert_eq!(map.remove(&mut writer, &key), model.remove(&key)),
                Op::Retain(rest) => {
                    let before = model.len();
                    model.retain(|k, _| k[2] % 3 == rest);
                    assert_eq!(map.retain(&mut writer, |k, _| k[2] % 3 == rest), before - model.len());
                }
                Op::Settle => {
                    writer.advance();
                    reader.quiescent();
                    map.maintain(&mut writer);
                    writer.reclaim();
                }
            }
            assert_eq!(map.len(), model.len());
        }
        assert_eq!(map.iter(&writer).collect::<HashMap<_, _>>(), model);
        for (network, address) in (0..3).flat_map(|n| (0..41).map(move |a| (n, a))) {
            let key = [network, u64::MAX - address, address];
            assert_eq!(lookups.get(&reader, &key), model.get(&key).copied());
            assert_eq!(map.get(&writer, &key), model.get(&key).copied());
        }
    }
}

#[test]
fn the_limit_holds_for_new_keys_only() {
    let (mut writer, _parked) = domain(1);
    let (mut map, _lookups) = map_wide::new(&writer, 2).unwrap();
    map.insert(&mut writer, &[0, 0, 0], 1).unwrap();
    map.insert(&mut writer, &[u64::MAX; 3], 2).unwrap();
    assert_eq!(map.insert(&mut writer, &[1, 2, 3], 3), Err(MapError::Limit(2)));
    assert_eq!(map.insert(&mut writer, &[0, 0, 0], 4), Ok(Some(1)));
    assert_eq!(map.remove(&mut writer, &[u64::MAX; 3]), Some(2));
    assert_eq!(map.insert(&mut writer, &[1, 2, 3], 3), Ok(None));
}

//! The filter, one thread at a time.

use stopover_lockfree::filter;

#[test]
fn added_keys_may_be_contained_until_removed() {
    let (mut writer, reader) = filter::new();
    let keys: Vec<u64> = (0..5000).map(|n| 1 << 48 | 0x5254_0000_0000 | n).collect();
    assert!(!keys.iter().any(|key| reader.may_contain(*key)));
    keys.iter().for_each(|key| writer.add(*key));
    assert!(keys.iter().all(|key| reader.may_contain(*key)));
    // Keys that share no bit with a remaining key are no longer contained; the others are.
    keys.iter().skip(1000).for_each(|key| writer.remove(*key));
    assert!(keys.iter().take(1000).all(|key| reader.may_contain(*key)));
    let still = keys.iter().skip(1000).filter(|key| reader.may_contain(**key)).count();
    assert!(still < 120, "{still} of 4000 share a bit with one of 1000");
    keys.iter().take(1000).for_each(|key| writer.remove(*key));
    assert!(!keys.iter().any(|key| reader.may_contain(*key)));
}

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn identity(name: &str) -> Identity {
    format!("stopover://host/{name}").parse().unwrap()
}

fn secret(n: u8) -> Secret {
    Secret::new([n; 32])
}

fn serial(n: u8) -> Serial {
    Serial::new([n; 16])
}

#[derive(Debug, Clone)]
enum Step {
    Give { secret: u8, name: bool, valid: u64 },
    Use { secret: u8, name: bool },
    Revoke { name: bool },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_u8, any::<bool>(), 0..50_u64).prop_map(|(secret, name, valid)| Step::Give {
            secret,
            name,
            valid
        }),
        (0..6_u8, any::<bool>()).prop_map(|(secret, name)| Step::Use { secret, name }),
        any::<bool>().prop_map(|name| Step::Revoke { name }),
        (0..40_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// A token is of use once, to its name, in its time, unless it was revoked.
    #[test]
    fn a_token_is_of_use_once(steps in prop::collection::vec(steps(), 0..60)) {
        let name = |first: bool| HostName::new(if first { "hv-a" } else { "hv-b" }).unwrap();
        let (mut tokens, mut now) = (Tokens::default(), 1000);
        // What is open: of a secret, its name and end.
        let mut model: BTreeMap<u8, (bool, u64)> = BTreeMap::new();
        let mut given = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Give { secret: n, name: first, valid } => {
                    // No secret is drawn twice.
                    if given.insert(n) {
                        tokens.give(now, identity(name(first).as_str()), secret(n).hash(), now + valid);
                        model.insert(n, (first, now + valid));
                    }
                }
                Step::Use { secret: n, name: first } => {
                    let expected = model.get(&n).is_some_and(|(of, until)| *of == first && now <= *until);
                    let found = tokens.open(now, &name(first), &secret(n));
                    prop_assert_eq!(found.is_some(), expected);
                    if let Some(found) = found {
                        found.used = Some(serial(n));
                        model.remove(&n);
                    }
                }
                Step::Revoke { name: first } => {
                    let open = model.values().filter(|(of, until)| *of == first && now <= *until).count();
                    prop_assert_eq!(tokens.revoke(now, &identity(name(first).as_str())).len(), open);
                    model.retain(|_, (of, until)| *of != first || now > *until);
                }
                Step::Wait(s) => now += s,
            }
            for one in &tokens.0 {
                prop_assert_eq!(TextGiven::from(one).check(|_| true), Ok(one.clone()));
            }
        }
    }
}

#[test]
fn what_is_long_of_no_use_is_forgotten() {
    let mut tokens = Tokens::default();
    tokens.give(100, identity("a"), secret(1).hash(), 200);
    tokens.give(200 + KEPT_S, identity("b"), secret(2).hash(), 300 + KEPT_S);
    assert_eq!(tokens.0.len(), 2);
    tokens.give(201 + KEPT_S, identity("c"), secret(3).hash(), 300 + KEPT_S);
    assert_eq!(tokens.0.len(), 2, "{tokens:?}");
}

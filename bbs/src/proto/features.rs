//! Features: model to wire and wire to model.

use super::{details::names, parse::Checked, v1};
use crate::model::{Change, Feature, Features, Share};

/// Most names of a program; more than there will be features.
const MAX_FEATURES: usize = 64;

impl From<Features> for v1::Features {
    fn from(features: Features) -> Self {
        Self { names: features.names().map(str::to_owned).collect() }
    }
}

/// The features of a program that this version knows too; `None` for a program of before.
pub fn parse(field: &str, m: Option<v1::Features>) -> Checked<Option<Features>> {
    let Some(m) = m else { return Ok(None) };
    let names = names("names", m.names, MAX_FEATURES).map_err(|e| e.within(field))?;
    Ok(Some(Features::named(names.iter().map(|name| name.as_str()))))
}

/// A change for a reader with these features; `None` if it is left out. The error is the feature for which the reader is
/// refused.
pub fn change(change: &Change, features: Features) -> Result<Option<v1::Change>, Feature> {
    let mut m = v1::Change::from(change);
    let Some(needed) = Feature::of_change(change) else { return Ok(Some(m)) };
    match features.share(needed, needed.without()) {
        Share::Whole => {}
        Share::LeftOut => match &mut m.change {
            Some(v1::change::Change::HostPut(host)) => host.details = None,
            _ => return Ok(None),
        },
        Share::Refused(feature) => return Err(feature),
    }
    Ok(Some(m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeclaredBy, Host, HostDetails, PublicKey};
    use stopover_net::HostName;

    fn host_put(public_key: Option<PublicKey>) -> Change {
        Change::HostPut(Host {
            id: 1,
            name: HostName::new("gw-a").unwrap(),
            vteps: vec!["10.0.0.1".parse().unwrap()],
            udp_port: 4789,
            declared_by: DeclaredBy::Appliance,
            up: true,
            no_flood: false,
            down_unix_ms: 0,
            details: HostDetails { public_key, ..HostDetails::default() },
        })
    }

    #[test]
    fn a_reader_of_before_gets_hosts_without_details() {
        let with = host_put(PublicKey::new([7; 32]));
        assert_eq!(change(&with, Features::all()), Ok(Some(v1::Change::from(&with))));
        assert_ne!(v1::Change::from(&with), v1::Change::from(&host_put(None)));
        assert_eq!(change(&with, Features::default()), Ok(Some(v1::Change::from(&host_put(None)))));
        let gone = Change::HostGone { id: 7 };
        assert_eq!(change(&gone, Features::default()), Ok(Some(v1::Change::from(&gone))));
    }

    #[test]
    fn names_are_bounded_and_read() {
        let named =
            |names: &[&str]| Some(v1::Features { names: names.iter().map(|n| (*n).into()).collect() });
        assert_eq!(parse("features", None), Ok(None));
        assert_eq!(parse("features", named(&[])), Ok(Some(Features::default())));
        assert_eq!(parse("features", named(&["of-tomorrow", "host-details"])), Ok(Some(Features::all())));
        let many: Vec<String> = (0..65).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (names, path, text) in [
            (&["a b"][..], "features.names[0]", "no short name"),
            (&["a", "a"], "features.names[1]", "a second time"),
            (&many, "features.names", "at most 64"),
        ] {
            let why = parse("features", named(names)).unwrap_err();
            assert_eq!(why.path, path);
            assert!(why.to_string().contains(text), "{why}");
        }
    }
}

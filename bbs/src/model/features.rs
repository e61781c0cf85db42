//! Features of the protocol: what was added to it after the programs of before. A host names those that it knows at its
//! registration, a watcher at the start of its watch, and the board answers with those in force. It never sends what is
//! not in force: that is left out, or, where a reader must not act without it, the reader is refused. A program that
//! names none is one of before. docs/protocol.md has the list.

use super::{Change, HostDetails};

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// NICs, capabilities and public key of hosts.
    HostDetails,
}

/// What a reader that does not know a feature is sent of what needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// It is left out: the reader works as well as before the feature.
    LeftOut,
    /// Nothing more: without it the reader would do what it must not.
    Refused,
}

/// See [`Features::share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Send it.
    Whole,
    /// Leave out what needs the feature.
    LeftOut,
    /// Refuse the reader, for this feature.
    Refused(Feature),
}

impl Feature {
    /// All that this version knows.
    pub const ALL: &'static [Self] = &[Self::HostDetails];

    /// On the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostDetails => "host-details",
        }
    }

    /// For a reader that does not know it.
    #[must_use]
    pub const fn without(self) -> Without {
        match self {
            Self::HostDetails => Without::LeftOut,
        }
    }

    /// The feature that a change needs of its reader. A new kind or field of a change names its feature here.
    #[must_use]
    pub fn of_change(change: &Change) -> Option<Self> {
        match change {
            Change::HostPut(host) => (host.details != HostDetails::default()).then_some(Self::HostDetails),
            Change::HostGone { .. }
            | Change::NetworkPut(_)
            | Change::NetworkGone { .. }
            | Change::MemberPut { .. }
            | Change::MemberGone { .. }
            | Change::NodePut { .. }
            | Change::NodeGone { .. }
            | Change::NodeLocked { .. }
            | Change::NodeUnlocked { .. } => None,
        }
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// All that this version knows.
    #[must_use]
    pub fn all() -> Self {
        Feature::ALL.iter().copied().collect()
    }

    /// Those of this version among the names; names that only a newer program knows are not in force.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let known = |name: &str| Feature::ALL.iter().copied().find(|feature| feature.name() == name);
        names.into_iter().filter_map(known).collect()
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Feature::ALL.iter().filter(move |feature| self.contains(**feature)).map(|feature| feature.name())
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u32) != 0
    }

    /// What a reader with these features is sent of what needs `needed`.
    #[must_use]
    pub const fn share(self, needed: Feature, without: Without) -> Share {
        match without {
            _ if self.contains(needed) => Share::Whole,
            Without::LeftOut => Share::LeftOut,
            Without::Refused => Share::Refused(needed),
        }
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().fold(0, |bits, feature| bits | 1 << feature as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");

    #[test]
    fn names_that_only_a_newer_program_knows_are_not_in_force() {
        let features = Features::named(["of-tomorrow", "host-details", ""]);
        assert_eq!(features, Features::all());
        assert_eq!(features.names().collect::<Vec<_>>(), ["host-details"]);
        assert_eq!(Features::named(["host-detail", "HOST-DETAILS"]), Features::default());
        assert_eq!(Features::default().names().count(), 0);
    }

    #[test]
    fn what_is_not_in_force_is_left_out_or_refused() {
        let (feature, none) = (Feature::HostDetails, Features::default());
        for without in [Without::LeftOut, Without::Refused] {
            assert_eq!(Features::all().share(feature, without), Share::Whole);
        }
        assert_eq!(none.share(feature, Without::LeftOut), Share::LeftOut);
        assert_eq!(none.share(feature, Without::Refused), Share::Refused(feature));
    }

    #[test]
    fn the_documents_list_every_feature() {
        let doc = std::fs::read_to_string(DOC).unwrap();
        let (_, table) = doc.split_once("<!-- features -->\n").expect("the marker in docs/protocol.md");
        let rows: Vec<_> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), Feature::ALL.len(), "{rows:?}");
        for (row, feature) in rows.iter().zip(Feature::ALL) {
            let without = match feature.without() {
                Without::LeftOut => "left out",
                Without::Refused => "refused",
            };
            assert!(row.starts_with(&format!("| `{}` |", feature.name())), "{row}");
            assert!(row.ends_with(&format!("| {without} |")), "{row}");
        }
    }
}

//! The addresses of one node, compactly: a board of ten million nodes keeps ten million of these, and nearly all
//! have at most one address of each family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A sorted set of addresses. The usual cases need no allocation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ips(Repr);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Repr {
    #[default]
    None,
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Both(Ipv4Addr, Ipv6Addr),
    /// Anything else.
    Many(Box<[IpAddr]>),
}

// What makes ten million affordable.
const _: () = assert!(size_of::<Ips>() == 24);

impl Ips {
    /// In ascending order, v4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + Clone + '_ {
        let (pair, many): ([Option<IpAddr>; 2], &[IpAddr]) = match &self.0 {
            Repr::None => ([None, None], &[]),
            Repr::V4(a) => ([Some((*a).into()), None], &[]),
            Repr::V6(b) => ([Some((*b).into()), None], &[]),
            Repr::Both(a, b) => ([Some((*a).into()), Some((*b).into())], &[]),
            Repr::Many(many) => ([None, None], many),
        };
        pair.into_iter().flatten().chain(many.iter().copied())
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.iter().any(|mine| mine == ip)
    }

    /// As a list.
    #[must_use]
    pub fn to_vec(&self) -> Vec<IpAddr> {
        self.iter().collect()
    }
}

impl From<IpAddr> for Ips {
    fn from(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(a) => Repr::V4(a),
            IpAddr::V6(b) => Repr::V6(b),
        })
    }
}

impl FromIterator<IpAddr> for Ips {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(iter: I) -> Self {
        let mut list: Vec<IpAddr> = iter.into_iter().collect();
        list.sort_unstable();
        list.dedup();
        Self(match list[..] {
            [] => Repr::None,
            [one] => return one.into(),
            [IpAddr::V4(a), IpAddr::V6(b)] => Repr::Both(a, b),
            _ => Repr::Many(list.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(list: Vec<IpAddr>) {
            let set: BTreeSet<IpAddr> = list.iter().copied().collect();
            let ips: Ips = list.iter().copied().collect();
            prop_assert_eq!(ips.to_vec(), set.iter().copied().collect::<Vec<_>>());
            for ip in list {
                prop_assert!(ips.contains(ip));
            }
            prop_assert!(!ips.contains("0.0.0.1".parse().unwrap()) || set.contains(&"0.0.0.1".parse().unwrap()));
        }
    }
}

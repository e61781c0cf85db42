//! The addresses of one node in compact form: a board of ten million nodes has ten million of these, and nearly all have
//! at most one address of each family.

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
    /// Some are not the node's own: all addresses, and how each is held.
    Mixed(Box<Mixed>),
}

/// Addresses, and how the node holds each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mixed {
    all: Box<[IpAddr]>,
    holds: Box<[Hold]>,
}

/// How firmly a node holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Hold {
    /// Like its node: declared, or learned.
    #[default]
    Own,
    /// A declared node announced it; other nodes may have it as well.
    Shared,
    /// A declared node uses it without a declaration.
    Used,
}

// A board keeps millions of these.
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
            Repr::Mixed(mixed) => ([None, None], &mixed.all),
        };
        pair.into_iter().flatten().chain(many.iter().copied())
    }

    /// Whether the address is in the set.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.iter().any(|mine| mine == ip)
    }

    /// The same addresses, held as `hold` returns.
    #[must_use]
    pub fn with_holds(self, hold: impl Fn(IpAddr) -> Hold) -> Self {
        let holds: Box<[Hold]> = self.iter().map(hold).collect();
        if holds.iter().all(|hold| *hold == Hold::Own) {
            return self;
        }
        Self(Repr::Mixed(Box::new(Mixed { all: self.iter().collect(), holds })))
    }

    /// How the node holds an address.
    #[must_use]
    pub fn hold(&self, ip: IpAddr) -> Hold {
        let Repr::Mixed(mixed) = &self.0 else { return Hold::Own };
        let place = mixed.all.iter().position(|mine| *mine == ip);
        place.and_then(|at| mixed.holds.get(at)).copied().unwrap_or_default()
    }

    /// The addresses for which `keep` is true, held as before.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(IpAddr) -> bool) -> Self {
        self.iter().filter(|ip| keep(*ip)).collect::<Self>().with_holds(|ip| self.hold(ip))
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
            let hold = |ip: IpAddr| if ip.is_ipv4() { Hold::Shared } else { Hold::Own };
            let mixed = ips.clone().with_holds(hold);
            prop_assert_eq!(mixed.to_vec(), ips.to_vec());
            prop_assert!(ips.iter().all(|ip| mixed.hold(ip) == hold(ip) && ips.hold(ip) == Hold::Own));
            prop_assert!(mixed.filtered(|ip| ip.is_ipv6()) == ips.filtered(|ip| ip.is_ipv6()));
            prop_assert!(!ips.contains("0.0.0.1".parse().unwrap()) || set.contains(&"0.0.0.1".parse().unwrap()));
        }
    }
}

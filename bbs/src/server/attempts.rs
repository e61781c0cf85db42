//! How often newcomers may try to get a certificate: each address, and all together. Nobody guesses a secret of 256 bits;
//! this bounds the work that strangers cause. Pure; the clock enters as an argument.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// An address may try so often at once, and then once in each interval: several hosts behind one address.
const OF_ADDRESS: Rate = Rate { burst: 20, interval: Duration::from_secs(3) };
/// All together.
const OF_ALL: Rate = Rate { burst: 100, interval: Duration::from_millis(100) };
/// Addresses that are remembered. When more try at once, further ones share the attempts of one.
const ADDRESSES: usize = 1024;
/// A host can have every address of such a network.
const IPV6_PREFIX: u32 = 64;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// When the attempts made so far will be forgotten: each adds an interval.
#[derive(Debug, Clone, Copy)]
struct Spent(Instant);

impl Spent {
    fn may_try(self, now: Instant, rate: Rate) -> bool {
        self.0.saturating_duration_since(now) + rate.interval <= rate.interval * rate.burst
    }

    fn add(&mut self, now: Instant, rate: Rate) {
        self.0 = self.0.max(now) + rate.interval;
    }
}

/// The attempts of late.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    of_address: HashMap<IpAddr, Spent>,
    of_all: Option<Spent>,
}

impl Attempts {
    /// Whether `from` may try now. If so, it has.
    pub fn admit(&mut self, now: Instant, from: IpAddr) -> bool {
        let mut key = network(from);
        if !self.of_address.contains_key(&key) && self.of_address.len() >= ADDRESSES {
            self.of_address.retain(|_, spent| spent.0 > now);
            if self.of_address.len() >= ADDRESSES {
                key = Ipv6Addr::UNSPECIFIED.into();
            }
        }
        let of_all = self.of_all.get_or_insert(Spent(now));
        let of_address = self.of_address.entry(key).or_insert(Spent(now));
        let may_try = of_all.may_try(now, OF_ALL) && of_address.may_try(now, OF_ADDRESS);
        if may_try {
            of_all.add(now, OF_ALL);
            of_address.add(now, OF_ADDRESS);
        }
        may_try
    }
}

/// What counts as one address.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - IPV6_PREFIX))).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    #[test]
    fn an_address_may_try_in_a_burst_and_then_at_intervals() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let mut tries = |s: u64, from: IpAddr| {
            (0..1000).filter(|_| attempts.admit(start + Duration::from_secs(s), from)).count()
        };
        assert_eq!(tries(0, ip(1)), 20);
        assert_eq!(tries(2, ip(1)), 0);
        assert_eq!(tries(2, ip(2)), 20, "another address");
        assert_eq!(tries(3, ip(1)), 1);
        assert_eq!(tries(33, ip(1)), 10);
        assert_eq!(tries(1000, ip(1)), 20, "not more than a burst");
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(tries(2000, of("2001:db8::1")), 20);
        assert_eq!(tries(2000, of("2001:db8::2:1")), 0, "the same network");
        assert_eq!(tries(2000, of("2001:db8:0:1::1")), 20);
        assert_eq!(tries(3000, of("::ffff:10.0.0.1")), 20);
        assert_eq!(tries(3000, of("10.0.0.1")), 0, "the same host");
    }

    #[test]
    fn all_together_may_try_only_so_often() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let mut tries = |ms: u64, first: u32| {
            let now = start + Duration::from_millis(ms);
            (first..first + 10_000).filter(|n| attempts.admit(now, ip(*n))).count()
        };
        assert_eq!(tries(0, 0), 100);
        assert_eq!(tries(1000, 20_000), 10);
        assert_eq!(tries(60_000, 40_000), 100);
        assert!(attempts.of_address.len() <= ADDRESSES + 1, "{}", attempts.of_address.len());
    }

    #[test]
    fn a_refused_attempt_costs_nobody_anything() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let one = (0..1000).filter(|_| attempts.admit(now, ip(1))).count();
        let others = (2..1000).filter(|n| attempts.admit(now, ip(*n))).count();
        assert_eq!((one, others), (20, 80));
    }
}

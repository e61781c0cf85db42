//! The counters of the underlay control plane, and the token buckets that limit its work. Every frame that enters
//! [`super::Underlay::input`] is counted under exactly one [`Outcome`], so `received = Σ outcomes` always holds.

/// How a frame was handled, or why it was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Outcome {
    /// An ARP request for an address of ours, answered.
    ArpAnswered,
    /// A neighbour solicitation for an address of ours, answered.
    NdAnswered,
    /// A ping of an address of ours, answered.
    EchoAnswered,
    /// A multicast listener query, answered with our groups.
    MldAnswered,
    /// An ARP packet from which a neighbour entry was confirmed or corrected.
    ArpUpdated,
    /// A neighbour advertisement from which a neighbour entry was confirmed or corrected.
    NdUpdated,
    /// Fragmentation needed / packet too big that lowered a path MTU or kept it low.
    PathMtuLowered,
    /// Another station uses an address of ours.
    Conflict,
    /// An answer was due, but the port's answer budget was spent.
    RateLimited,
    /// ARP, ND or MLD between other stations, or without effect here. Normal on a shared link.
    NotForUs,
    /// The frame came from our own MAC: a loop or an echoing switch.
    OwnFrame,
    /// It belongs to another VLAN than the one configured.
    WrongVlan,
    /// Sent to another unicast MAC.
    OtherMac,
    /// An IP packet to an address that is not ours.
    OtherAddress,
    /// An EtherType other than ARP, IPv4, IPv6.
    EtherType,
    /// Shorter than its headers say.
    Truncated,
    /// ARP, ND, ICMP or IP fields that contradict the RFCs.
    Malformed,
    /// A wrong IPv4 header or ICMP checksum.
    Checksum,
    /// A source MAC or IP address that is invalid, or not of this link.
    BadSource,
    /// An IP fragment; no valid packet to us is fragmented.
    Fragment,
    /// An ICMP type that is not handled.
    UnexpectedIcmp,
    /// UDP to us that is not VXLAN to our port.
    UnexpectedUdp,
    /// TCP to us; nothing listens.
    UnexpectedTcp,
    /// Another IP protocol to us.
    UnexpectedProtocol,
    /// Packet too big that quotes no packet of ours, or has an impossible MTU.
    PathMtuRefused,
}

impl Outcome {
    /// All of them, in the order of the declaration.
    pub const ALL: [(Self, &'static str); 25] = [
        (Self::ArpAnswered, "arp_answered"),
        (Self::NdAnswered, "nd_answered"),
        (Self::EchoAnswered, "echo_answered"),
        (Self::MldAnswered, "mld_answered"),
        (Self::ArpUpdated, "arp_heard"),
        (Self::NdUpdated, "nd_heard"),
        (Self::PathMtuLowered, "path_mtu_lowered"),
        (Self::Conflict, "address_conflict"),
        (Self::RateLimited, "rate_limited"),
        (Self::NotForUs, "not_for_us"),
        (Self::OwnFrame, "own_frame"),
        (Self::WrongVlan, "wrong_vlan"),
        (Self::OtherMac, "other_mac"),
        (Self::OtherAddress, "other_address"),
        (Self::EtherType, "ethertype"),
        (Self::Truncated, "truncated"),
        (Self::Malformed, "malformed"),
        (Self::Checksum, "checksum"),
        (Self::BadSource, "bad_source"),
        (Self::Fragment, "fragment"),
        (Self::UnexpectedIcmp, "unexpected_icmp"),
        (Self::UnexpectedUdp, "unexpected_udp"),
        (Self::UnexpectedTcp, "unexpected_tcp"),
        (Self::UnexpectedProtocol, "unexpected_protocol"),
        (Self::PathMtuRefused, "path_mtu_refused"),
    ];

    /// The name of the counter.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The counters of one underlay port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    outcomes: [u64; Outcome::ALL.len()],
    /// Frames handed to [`super::Underlay::input`].
    pub received: u64,
    /// Frames returned to be sent.
    pub sent: u64,
    /// ARP requests and neighbour solicitations among the sent.
    pub solicitations: u64,
    /// Learned neighbours that were removed for newer ones.
    pub evicted: u64,
}

impl Counters {
    pub(super) fn count(&mut self, outcome: Outcome) {
        self.received += 1;
        self.outcomes[outcome as usize] += 1;
    }

    /// Frames with this outcome.
    #[must_use]
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Every counter with its name, for display and metrics.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let outcomes = Outcome::ALL.iter().map(|&(o, name)| (name, self.get(o)));
        let others = [
            ("received", self.received),
            ("sent", self.sent),
            ("solicitations", self.solicitations),
            ("neighbours_evicted", self.evicted),
        ];
        others.into_iter().chain(outcomes).collect()
    }
}

/// A token bucket: `rate` per second, at most `burst` at once. Starts full.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate_per_s: u64,
    burst: u64,
    /// In thousandths of a token, so that one millisecond adds `rate_per_s` of them.
    milli_tokens: u64,
    filled_ms: u64,
}

impl Bucket {
    pub(super) const fn new(rate_per_s: u64, burst: u64) -> Self {
        Self { rate_per_s, burst, milli_tokens: burst * 1_000, filled_ms: 0 }
    }

    /// Takes a token if there is one. Time that steps back adds nothing.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        let filled = self.milli_tokens.saturating_add(passed_ms.saturating_mul(self.rate_per_s));
        self.milli_tokens = filled.min(self.burst * 1_000);
        let granted = self.milli_tokens >= 1_000;
        if granted {
            self.milli_tokens -= 1_000;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_declaration_order_and_distinct() {
        for (i, (outcome, name)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, i);
            assert_eq!(outcome.name(), *name);
            assert_eq!(Outcome::ALL.iter().filter(|(_, n)| n == name).count(), 1);
        }
    }

    #[test]
    fn the_accounting_holds() {
        let mut c = Counters::default();
        for (outcome, _) in Outcome::ALL {
            c.count(outcome);
        }
        c.count(Outcome::Malformed);
        assert_eq!((c.received, c.get(Outcome::Malformed), c.get(Outcome::Fragment)), (26, 2, 1));
    }

    #[test]
    fn bucket_grants_the_burst_then_the_rate() {
        let mut b = Bucket::new(1_000, 3);
        assert_eq!((0..5).map(|_| b.take(50)).collect::<Vec<_>>(), [true, true, true, false, false]);
        assert!(b.take(51));
        assert!(!b.take(51));
        assert!(!b.take(0), "time stepping back grants nothing");
        assert_eq!((0..9).filter(|_| b.take(u64::MAX)).count(), 3);
    }

    #[test]
    fn a_slow_bucket_keeps_fractions() {
        let mut b = Bucket::new(10, 1);
        assert!(b.take(0));
        assert_eq!((1..=100).filter(|ms| b.take(*ms)).count(), 1);
    }
}

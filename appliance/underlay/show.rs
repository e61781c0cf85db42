//! Rows for the operator: how a destination is reached. For tests: all neighbours and all tracked destinations.

#[cfg(test)]
use super::actions::Resolution;
use super::neighbours::State;
use super::routes::NextHop;
use super::{Underlay, UnderlayPort};
use std::net::IpAddr;
use stopover_net::Mac;

/// How a destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathTo {
    /// The route taken; `None` without one.
    pub hop: Option<NextHop>,
    /// Our address that it is sent from; `None` while the next hop has no MAC.
    pub source: Option<IpAddr>,
    /// State and MAC of the next hop; `None` if it was never requested.
    pub neighbour: Option<(State, Option<Mac>)>,
}

/// One neighbour of one underlay port.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourRow {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Index of the port.
    pub port: usize,
    /// Its MAC, while one is known.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: State,
    /// Milliseconds since its last message (since the first request, if none); `None` for a static one.
    pub age_ms: Option<u64>,
    /// Named as a gateway or next hop by the configuration.
    pub router: bool,
    /// The destinations that are sent to it.
    pub used_by: Vec<IpAddr>,
}

/// One tracked destination.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRow {
    /// The remote VTEP address.
    pub dst: IpAddr,
    /// The route taken; `None` without one.
    pub hop: Option<NextHop>,
    /// What its outer header is built from; `None` while the next hop has no MAC.
    pub resolution: Option<Resolution>,
    /// A path MTU learned from a router, in bytes, and the milliseconds until it expires.
    pub path_mtu: Option<(u16, u64)>,
}

impl Underlay {
    /// How a tracked destination is reached.
    #[must_use]
    pub fn path_to(&self, dst: IpAddr) -> Option<PathTo> {
        let destination = self.destinations.get(&dst)?;
        let neighbour = destination.hop.and_then(|hop| self.cache.get(hop.port, hop.next_hop_ip));
        Some(PathTo {
            hop: destination.hop,
            source: destination.reported.map(|r| r.src_ip),
            neighbour: neighbour.map(|n| (n.state(), n.mac())),
        })
    }

    /// All neighbours, in order of port and address.
    #[cfg(test)]
    #[must_use]
    pub fn show(&self, now_ms: u64) -> Vec<NeighbourRow> {
        let rows = self.cache.iter().map(|(port, ip, n)| NeighbourRow {
            ip,
            port,
            mac: n.mac(),
            state: n.state(),
            age_ms: (n.state() != State::Static).then(|| n.age_ms(now_ms)),
            router: n.is_router(),
            used_by: n.users().iter().copied().collect(),
        });
        rows.collect()
    }

    /// All tracked destinations, in order of address.
    #[cfg(test)]
    #[must_use]
    pub fn show_destinations(&self, now_ms: u64) -> Vec<DestinationRow> {
        let rows = self.destinations.iter().map(|(&dst, d)| DestinationRow {
            dst,
            hop: d.hop,
            resolution: d.reported,
            path_mtu: d.path_mtu.map(|p| (p.mtu, p.until_ms.saturating_sub(now_ms))),
        });
        rows.collect()
    }

    /// The configuration of all underlay ports.
    pub fn ports(&self) -> impl Iterator<Item = &UnderlayPort> {
        self.ports.iter().map(|p| &p.config)
    }
}

//! Rows for the operator: the neighbours and the wanted destinations, as they are now.

use super::actions::Resolution;
use super::neighbours::State;
use super::routes::NextHop;
use super::{Underlay, UnderlayPort};
use std::net::IpAddr;
use stopover_config::net::Mac;

/// One neighbour of one underlay port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourRow {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Index of the port.
    pub port: usize,
    /// Its MAC, while one is known.
    pub mac: Option<Mac>,
    /// How sure we are.
    pub state: State,
    /// Milliseconds since it was last heard (since it was first asked, if never); `None` for a static one.
    pub age_ms: Option<u64>,
    /// Named as a gateway or next hop by the configuration.
    pub router: bool,
    /// The destinations that are sent to it.
    pub used_by: Vec<IpAddr>,
}

/// One wanted destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRow {
    /// The remote VTEP address.
    pub dst: IpAddr,
    /// The route taken; `None` without one.
    pub hop: Option<NextHop>,
    /// What its outer header is built from; `None` while the next hop has no MAC.
    pub resolution: Option<Resolution>,
    /// A path MTU learned from a router, in bytes, and the milliseconds until it is forgotten.
    pub path_mtu: Option<(u16, u64)>,
}

impl Underlay {
    /// All neighbours, in order of port and address.
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

    /// All wanted destinations, in order of address.
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

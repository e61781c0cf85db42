//! Whole lists out of the appliance's pages: which node has which addresses, which members belong to one network, and in
//! an order for people.

use crate::{AddressEntry, HostRow, NetworkRow, NodeEntry, NodeRow, SaInfo, TunnelInfo};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};
use stopover_net::{Mac, Vni};

/// Nodes in the order of VNI and MAC, with their addresses in order.
pub fn nodes(entries: Vec<NodeEntry>, addresses: Vec<AddressEntry>) -> Vec<NodeRow> {
    let mut ips: HashMap<(Vni, Mac), Vec<IpAddr>> = HashMap::new();
    for AddressEntry { vni, ip, mac } in addresses {
        ips.entry((vni, mac)).or_default().push(ip);
    }
    let with_ips = |NodeEntry { vni, mac, host, port, origin }| {
        let mut ips = ips.remove(&(vni, mac)).unwrap_or_default();
        ips.sort_unstable();
        NodeRow { vni, mac, ips, host, port, origin }
    };
    let mut rows: Vec<_> = entries.into_iter().map(with_ips).collect();
    rows.sort_unstable_by_key(|row| (row.vni, row.mac));
    rows
}

/// Hosts in the order of their names.
pub fn hosts(mut rows: Vec<HostRow>) -> Vec<HostRow> {
    rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// Tunnels in the order of their hosts' names.
pub fn tunnels(mut rows: Vec<TunnelInfo>) -> Vec<TunnelInfo> {
    rows.sort_unstable_by(|a, b| a.host.cmp(&b.host));
    rows
}

/// SAs in the order of their hosts' names; of one host those that open come first, and older sessions before newer ones.
pub fn sas(mut rows: Vec<SaInfo>) -> Vec<SaInfo> {
    rows.sort_by(|a, b| {
        let key = |sa: &SaInfo| (sa.direction, std::cmp::Reverse(sa.age_s), sa.session, sa.lcore);
        a.host.cmp(&b.host).then_with(|| key(a).cmp(&key(b))).then_with(|| a.spi.cmp(&b.spi))
    });
    rows
}

/// Networks in the order of their VNIs, one row for each, with its members in the order of their names.
pub fn networks(parts: Vec<NetworkRow>) -> Vec<NetworkRow> {
    let mut whole: HashMap<Vni, NetworkRow> = HashMap::new();
    for part in parts {
        match whole.entry(part.vni) {
            Entry::Occupied(mut row) => {
                let row = row.get_mut();
                row.members.extend(part.members);
                row.fits = row.fits.into_iter().chain(part.fits).min();
            }
            Entry::Vacant(place) => {
                place.insert(part);
            }
        }
    }
    let mut rows: Vec<_> = whole.into_values().collect();
    for row in &mut rows {
        row.members.sort_unstable_by(|a, b| a.host.cmp(&b.host));
    }
    rows.sort_unstable_by_key(|row| row.vni);
    rows
}

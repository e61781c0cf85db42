//! The `declared` key: hosts, networks, nodes and members without a board, from the file itself and from
//! the CSV files it names. Both have the same checks; only the position in the message differs.

use super::{Declared, across_ports::Locals, raw};
use crate::{
    bulk::{self, HostRow, MemberRow, NetworkRow, NodeRow, Row, Rows},
    fault::{Checked, Fault, fault},
    text::{self, Wrong},
};
use std::{
    collections::HashSet,
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
};
use stopover_net::{HostName, Mac, Vni};

pub(super) fn check(raw: raw::Declared, own: &HostName, locals: &Locals, origin: &Path) -> Checked<Declared> {
    let mut table = Table::new(own, locals);
    let file = |key: &str, name: Option<String>| -> Checked<Option<PathBuf>> {
        match name {
            Some(name) if name.is_empty() => Err(fault(
                format!("declared.{key}"),
                "an empty path",
                "the path of a CSV file",
                "name the file, or remove the key",
            )),
            Some(name) => Ok(Some(origin.parent().unwrap_or(Path::new("")).join(name))),
            None => Ok(None),
        }
    };

    for (i, h) in raw.hosts.into_iter().enumerate() {
        let at = format!("declared.hosts[{i}]");
        let row = host(&at, h)?;
        table.host(row, |column| Location::Key(format!("{at}.{column}")))?;
    }
    for_each_row(file("hosts_file", raw.hosts_file)?, |row: HostRow, rows| {
        table.host(row, |c| Location::Row(rows, c))
    })?;

    for (i, n) in raw.networks.into_iter().enumerate() {
        let at = format!("declared.networks[{i}]");
        let row = network(&at, n)?;
        table.network(row, |column| Location::Key(format!("{at}.{column}")))?;
    }
    for_each_row(file("networks_file", raw.networks_file)?, |row: NetworkRow, rows| {
        table.network(row, |c| Location::Row(rows, c))
    })?;

    for (i, n) in raw.nodes.into_iter().enumerate() {
        let at = format!("declared.nodes[{i}]");
        let row = node(&at, n)?;
        table.node(row, |column| Location::Key(format!("{at}.{column}")))?;
    }
    for_each_row(file("nodes_file", raw.nodes_file)?, |row: NodeRow, rows| {
        table.node(row, |c| Location::Row(rows, c))
    })?;

    for (i, m) in raw.members.into_iter().enumerate() {
        let at = format!("declared.members[{i}]");
        let row = MemberRow {
            vni: vni(&at, m.vni)?,
            host: host_name(format!("{at}.host"), &m.host)?,
            segment: m.segment,
        };
        table.member(row, |column| Location::Key(format!("{at}.{column}")))?;
    }
    for_each_row(file("members_file", raw.members_file)?, |row: MemberRow, rows| {
        table.member(row, |c| Location::Row(rows, c))
    })?;
    Ok(table.rows)
}

/// Feeds the rows of a CSV file to `take`, which may refuse the row.
fn for_each_row<T: Row>(
    path: Option<PathBuf>,
    mut take: impl FnMut(T, &Rows<File, T>) -> Checked<()>,
) -> Checked<()> {
    let Some(path) = path else { return Ok(()) };
    let mut rows = bulk::Rows::<File, T>::open(&path)?;
    while let Some(row) = rows.next() {
        take(row?, &rows)?;
    }
    Ok(())
}

/// The origin of a row, and one of its columns.
enum Location<'a, T> {
    Key(String),
    Row(&'a Rows<File, T>, &'static str),
}

impl<T: Row> Location<'_, T> {
    fn fault(self, found: String, expected: &str, hint: &str) -> Fault {
        match self {
            Self::Key(at) => fault(at, found, expected, hint),
            Self::Row(rows, column) => Fault::Elsewhere(rows.error(column, found, expected, hint)),
        }
    }
}

/// The rows so far, and the keys they have, which must be unique.
struct Table<'a> {
    own: &'a HostName,
    locals: &'a Locals,
    rows: Declared,
    hosts: HashSet<HostName>,
    vteps: HashSet<(IpAddr, u16)>,
    networks: HashSet<Vni>,
    macs: HashSet<(Vni, Mac)>,
    ips: HashSet<(Vni, IpAddr)>,
    members: HashSet<(Vni, HostName)>,
}

const ONCE: &str = "it once in this file and the files it names";
const REMOVE_ONE: &str = "remove one of the two";

impl<'a> Table<'a> {
    fn new(own: &'a HostName, locals: &'a Locals) -> Self {
        Self {
            own,
            locals,
            rows: Declared::default(),
            hosts: HashSet::new(),
            vteps: HashSet::new(),
            networks: HashSet::new(),
            macs: HashSet::new(),
            ips: HashSet::new(),
            members: HashSet::new(),
        }
    }

    /// Rows about this appliance itself are left out, so that all appliances can share the same files.
    fn host<'p>(
        &mut self,
        row: HostRow,
        location: impl Fn(&'static str) -> Location<'p, HostRow>,
    ) -> Checked<()> {
        if row.name == *self.own {
            return Ok(());
        }
        if !self.hosts.insert(row.name.clone()) {
            return Err(location("name").fault(format!("host `{}` again", row.name), ONCE, REMOVE_ONE));
        }
        for vtep in &row.vteps {
            if self.locals.vteps.contains(vtep) {
                return Err(location("vteps").fault(
                    format!("VTEP {vtep} of host `{}`, an address of this appliance", row.name),
                    "an address of the other host",
                    "correct it, or name the host as this appliance is named",
                ));
            }
            if !self.vteps.insert((*vtep, row.udp_port)) {
                let found = format!("VTEP {vtep} of host `{}`, which another host has already", row.name);
                return Err(location("vteps").fault(
                    found,
                    "an address for each host",
                    "correct one of the two",
                ));
            }
        }
        self.rows.hosts.push(row);
        Ok(())
    }

    fn network<'p>(
        &mut self,
        row: NetworkRow,
        location: impl Fn(&'static str) -> Location<'p, NetworkRow>,
    ) -> Checked<()> {
        if !self.networks.insert(row.vni) {
            return Err(location("vni").fault(format!("network {} again", row.vni), ONCE, REMOVE_ONE));
        }
        self.rows.networks.push(row);
        Ok(())
    }

    fn known_host<'p, T: Row + 'p>(
        &self,
        host: &HostName,
        location: impl Fn(&'static str) -> Location<'p, T>,
    ) -> Checked<()> {
        if self.hosts.contains(host) {
            return Ok(());
        }
        Err(location("host").fault(
            format!("host `{host}`"),
            "a host that `declared` names",
            "add it to hosts or hosts_file, or correct the name",
        ))
    }

    fn node<'p>(
        &mut self,
        row: NodeRow,
        location: impl Fn(&'static str) -> Location<'p, NodeRow>,
    ) -> Checked<()> {
        if let Some(ip) = row.shared_ips.first() {
            return Err(location("shared_ips").fault(
                format!("the shared address {ip}"),
                "no shared addresses without a board, which follows who announces them",
                "give the address to one node in `ips`, or declare the nodes at a board",
            ));
        }
        if row.host == *self.own {
            return Ok(());
        }
        self.known_host(&row.host, &location)?;
        if let Some(owner) = self.locals.macs.get(&(row.vni, row.mac)) {
            return Err(location("mac").fault(
                format!(
                    "MAC {} in network {} on host `{}`, which {owner} has here",
                    row.mac, row.vni, row.host
                ),
                "each MAC once in a network",
                "correct one of the two",
            ));
        }
        if !self.macs.insert((row.vni, row.mac)) {
            return Err(location("mac").fault(
                format!("MAC {} in network {} again", row.mac, row.vni),
                ONCE,
                REMOVE_ONE,
            ));
        }
        for ip in &row.ips {
            if let Some(owner) = self.locals.ips.get(&(row.vni, *ip)) {
                return Err(location("ips").fault(
                    format!(
                        "address {ip} in network {} on host `{}`, which {owner} has here",
                        row.vni, row.host
                    ),
                    "each address once in a network",
                    "correct one of the two",
                ));
            }
            if !self.ips.insert((row.vni, *ip)) {
                return Err(location("ips").fault(
                    format!("address {ip} in network {} again", row.vni),
                    ONCE,
                    REMOVE_ONE,
                ));
            }
        }
        self.rows.nodes.push(row);
        Ok(())
    }

    fn member<'p>(
        &mut self,
        row: MemberRow,
        location: impl Fn(&'static str) -> Location<'p, MemberRow>,
    ) -> Checked<()> {
        if row.host == *self.own {
            return Ok(());
        }
        self.known_host(&row.host, &location)?;
        if !self.members.insert((row.vni, row.host.clone())) {
            let found = format!("host `{}` in network {} again", row.host, row.vni);
            return Err(location("host").fault(found, ONCE, REMOVE_ONE));
        }
        self.rows.members.push(row);
        Ok(())
    }
}

fn value_fault(at: String, found: impl std::fmt::Display) -> impl FnOnce(Wrong) -> Fault {
    let found = format!("`{found}`");
    move |w| fault(at, found, w.expected, w.hint)
}

fn vni(at: &str, n: i64) -> Checked<Vni> {
    text::vni(n).map_err(value_fault(format!("{at}.vni"), n))
}

fn host_name(at: String, s: &str) -> Checked<HostName> {
    text::host_name(s).map_err(value_fault(at, s.escape_debug()))
}

fn addresses(at: &str, list: &[String], min: usize, max: usize) -> Checked<Vec<IpAddr>> {
    let mut ips = Vec::with_capacity(list.len());
    for (i, s) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let ip = text::unicast_ip(s).map_err(value_fault(at.clone(), s.escape_debug()))?;
        if ips.contains(&ip) {
            return Err(fault(at, format!("{ip} again"), "each address once", "remove the repetition"));
        }
        ips.push(ip);
    }
    if !(min..=max).contains(&ips.len()) {
        return Err(fault(
            at,
            format!("{} addresses", ips.len()),
            format!("{min} to {max}"),
            "add or remove addresses",
        ));
    }
    Ok(ips)
}

fn host(at: &str, raw: raw::Host) -> Checked<HostRow> {
    Ok(HostRow {
        name: host_name(format!("{at}.name"), &raw.name)?,
        vteps: addresses(&format!("{at}.vteps"), &raw.vteps, 1, text::MAX_VTEPS)?,
        udp_port: match raw.udp_port {
            None => text::VXLAN_UDP_PORT,
            Some(n) => text::udp_port(n).map_err(value_fault(format!("{at}.udp_port"), n))?,
        },
    })
}

fn network(at: &str, raw: raw::Network) -> Checked<NetworkRow> {
    let name = raw.name.unwrap_or_default();
    let name =
        text::network_name(&name).map_err(value_fault(format!("{at}.name"), name.escape_debug()))?.to_owned();
    Ok(NetworkRow {
        vni: vni(at, raw.vni)?,
        name: Some(name).filter(|n| !n.is_empty()),
        flood: match raw.flood {
            None => stopover_net::FloodPolicy::default(),
            Some(s) => s.parse().map_err(|_| {
                fault(
                    format!("{at}.flood"),
                    format!("`{}`", s.escape_debug()),
                    "flood, drop or to-segments",
                    "choose one of the three policies",
                )
            })?,
        },
        mtu: match raw.mtu {
            None => 0,
            Some(n) => text::network_mtu(n).map_err(value_fault(format!("{at}.mtu"), n))?,
        },
    })
}

fn node(at: &str, raw: raw::Node) -> Checked<NodeRow> {
    Ok(NodeRow {
        vni: vni(at, raw.vni)?,
        mac: text::station_mac(&raw.mac).map_err(value_fault(format!("{at}.mac"), raw.mac.escape_debug()))?,
        host: host_name(format!("{at}.host"), &raw.host)?,
        ips: addresses(&format!("{at}.ips"), &raw.ips, 0, text::MAX_NODE_IPS)?,
        shared_ips: Vec::new(),
    })
}

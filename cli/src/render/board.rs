//! The board's tables and events.

use crate::table::{Table, join, opt, yes_no};
use jiff::Timestamp;
use serde::Serialize;
use stopover_bbs::client::{
    BoardInfo, DeclaredBy, Event, HostEntry, MemberEntry, NetworkEntry, NodeEntry, WatcherEntry,
};

/// The board and its watchers.
#[derive(Debug, Serialize)]
pub struct BoardView {
    /// The board itself.
    #[serde(flatten)]
    pub info: BoardInfo,
    /// Its watchers.
    pub watching: Vec<WatcherEntry>,
}

/// `show board --board`
pub fn board(view: &BoardView) -> String {
    let i = &view.info;
    let mut t = Table::new(&["WATCHER", "PEER", ">SENT", ">ACKED", ">NETWORKS", ">RESYNCS"], "no watchers");
    for w in &view.watching {
        t.row([
            w.name.clone(),
            w.peer.clone(),
            w.sent_revision.to_string(),
            w.acked_revision.to_string(),
            w.networks.map_or_else(|| "all".to_owned(), |n| n.to_string()),
            w.resyncs.to_string(),
        ]);
    }
    let insecure = if i.insecure { super::tables::INSECURE } else { "" };
    let read_only = i.read_only.as_ref().map_or_else(String::new, |why| format!("{why}\n"));
    format!(
        "board {} runs stopover {}\n{insecure}{read_only}revision {}, watches resume from {}\n{} hosts, {} networks, {} nodes, {} members; hosts may be silent for {} ms\n\n{t}",
        i.board_id,
        i.version,
        i.revision,
        i.oldest_resumable,
        i.hosts,
        i.networks,
        i.nodes,
        i.members,
        i.lease_ms
    )
}

fn by(d: DeclaredBy) -> String {
    match d {
        DeclaredBy::Appliance => "appliance",
        DeclaredBy::Operator => "operator",
    }
    .to_owned()
}

/// `show hosts --board`, `host list`
pub fn board_hosts(rows: &[HostEntry]) -> String {
    let headers =
        ["HOST", ">ID", "VTEPS", ">UDP", "UP", "DECLARED-BY", ">NODES", ">NETWORKS", "WATCHING", ">ACKED"];
    let mut t = Table::new(&headers, "no hosts");
    for e in rows {
        t.row([
            e.host.name.to_string(),
            e.host.id.to_string(),
            join(&e.host.vteps),
            e.host.udp_port.to_string(),
            yes_no(e.host.up),
            by(e.host.declared_by),
            e.nodes.to_string(),
            e.networks.to_string(),
            yes_no(e.watching),
            opt(Some(e.acked_revision).filter(|&r| r != 0)),
        ]);
    }
    t.to_string()
}

/// `host show`
pub fn board_host(e: &HostEntry) -> String {
    let (host, details) = (&e.host, &e.host.details);
    let mut t = Table::new(&["NIC", "ADDRESS", ">MTU"], "no NICs are known");
    for nic in &details.nics {
        t.row([nic.name.to_string(), nic.address.to_string(), nic.mtu.to_string()]);
    }
    format!(
        "host {} has id {} and is {}, declared by {}\nVTEPs {} at UDP port {}\n{} nodes, {} networks\ncapabilities {}\npublic key {}\n\n{t}",
        host.name,
        host.id,
        if host.up { "up" } else { "down" },
        by(host.declared_by),
        join(&host.vteps),
        host.udp_port,
        e.nodes,
        e.networks,
        some(join(&details.capabilities)),
        some(opt(details.public_key)),
    )
}

/// A list, or a dash.
fn some(list: String) -> String {
    if list.is_empty() { "-".to_owned() } else { list }
}

/// `show networks --board`, `network list`
pub fn board_networks(rows: &[NetworkEntry]) -> String {
    let headers = [">VNI", "NAME", "FLOOD", ">MTU", "DECLARED", ">NODES", ">MEMBERS"];
    let mut t = Table::new(&headers, "no networks");
    for e in rows {
        t.row([
            e.network.vni.to_string(),
            e.network.name.clone(),
            e.network.flood.to_string(),
            opt(Some(e.network.mtu).filter(|&m| m != 0)),
            yes_no(e.declared),
            e.nodes.to_string(),
            e.members.to_string(),
        ]);
    }
    t.to_string()
}

/// `show nodes --board`, `node list`
pub fn board_nodes(rows: &[NodeEntry]) -> String {
    let mut t = Table::new(&[">VNI", "MAC", "IPS", "HOST", "DECLARED-BY", ">GENERATION"], "no nodes");
    for e in rows {
        t.row([
            e.node.vni.to_string(),
            e.node.mac.to_string(),
            join(&e.node.ips),
            e.host.clone(),
            by(e.declared_by),
            e.node.generation.to_string(),
        ]);
    }
    t.to_string()
}

/// `member list`
pub fn board_members(rows: &[MemberEntry]) -> String {
    let mut t = Table::new(&[">VNI", "HOST", "SEGMENT", "BECAUSE"], "no members");
    for e in rows {
        let reasons = [(e.joined, "joined"), (e.declared, "declared"), (e.has_nodes, "has-nodes")];
        let because = join(reasons.iter().filter(|(holds, _)| *holds).map(|(_, word)| word));
        t.row([e.member.vni.to_string(), e.host.clone(), yes_no(e.member.segment), because]);
    }
    t.to_string()
}

/// One line of `events`
pub fn event(e: &Event) -> String {
    let by = if e.actor.is_empty() { String::new() } else { format!(" [by {}]", e.actor) };
    format!("{:>6}  {}  r{:<8}  {:<13}  {}{by}\n", e.number, utc(e.unix_ms), e.revision, e.kind, e.text)
}

/// ISO 8601 in UTC, from milliseconds since 1970; `?` for a time that no calendar of ours reaches.
pub(super) fn utc(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "?".to_owned(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_bbs::client::{
        EventKind, Host, HostDetails, Member, Network, Nic, Node, PublicKey, ShortName,
    };
    use stopover_net::{FloodPolicy, HostName, Mac, Vni};

    fn short(name: &str) -> ShortName {
        ShortName::new(name).unwrap()
    }

    fn vni() -> Vni {
        Vni::new(100).unwrap()
    }

    #[test]
    fn time_is_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(utc(u64::MAX), "?");
    }

    #[test]
    fn events_on_a_line() {
        let (number, unix_ms, kind, revision) = (3, 0, EventKind::Conflict, 9);
        let mut e = Event { number, unix_ms, kind, text: "who".into(), revision, actor: "operator".into() };
        let line = "     3  1970-01-01T00:00:00.000Z  r9         conflict       who";
        assert_eq!(event(&e), format!("{line} [by operator]\n"));
        e.actor.clear();
        assert_eq!(event(&e), format!("{line}\n"));
    }

    fn far() -> HostEntry {
        let host = Host {
            id: 1,
            name: HostName::new("far").unwrap(),
            vteps: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            udp_port: 4789,
            declared_by: DeclaredBy::Operator,
            up: true,
            no_flood: false,
            down_unix_ms: 0,
            details: Default::default(),
        };
        HostEntry { host, nodes: 2, networks: 1, watching: false, acked_revision: 0 }
    }

    #[test]
    fn a_host_with_and_without_details() {
        let mut entry = far();
        let alone = "\
host far has id 1 and is up, declared by operator
VTEPs 10.0.0.2 fd00::2 at UDP port 4789
2 nodes, 1 networks
capabilities -
public key -

no NICs are known
";
        assert_eq!(board_host(&entry), alone);
        entry.host.details = HostDetails {
            nics: vec![Nic { name: short("ul0"), address: "10.0.0.2".parse().unwrap(), mtu: 1600 }],
            capabilities: vec![short("vxlan"), short("end-markers")],
            public_key: PublicKey::new([0xab; 32]),
        };
        let full = board_host(&entry);
        let key = "ab".repeat(32);
        assert!(full.contains(&format!("capabilities vxlan end-markers\npublic key {key}\n\n")), "{full}");
        assert!(full.ends_with("NIC  ADDRESS    MTU\nul0  10.0.0.2  1600\n"), "{full}");
    }

    #[test]
    fn tables_of_the_board() {
        assert_eq!(
            board_hosts(&[far()]),
            "\
HOST  ID  VTEPS              UDP  UP   DECLARED-BY  NODES  NETWORKS  WATCHING  ACKED
far    1  10.0.0.2 fd00::2  4789  yes  operator         2         1  no            -
"
        );
        let network = Network { vni: vni(), name: "shop".into(), flood: FloodPolicy::Drop, mtu: 1450 };
        assert_eq!(
            board_networks(&[NetworkEntry { network, declared: true, nodes: 2, members: 1 }]),
            "VNI  NAME  FLOOD   MTU  DECLARED  NODES  MEMBERS\n100  shop  drop   1450  yes           2        1\n"
        );
        let node = Node {
            vni: vni(),
            mac: Mac::new([2, 0, 0, 0, 0, 1]),
            ips: vec![],
            host_id: 1,
            generation: 8,
            facts: Default::default(),
        };
        assert_eq!(
            board_nodes(&[NodeEntry { node, host: "far".into(), declared_by: DeclaredBy::Appliance }]),
            "\
VNI  MAC                IPS  HOST  DECLARED-BY  GENERATION
100  02:00:00:00:00:01  -    far   appliance             8
"
        );
        let member = Member { vni: vni(), host_id: 1, segment: true };
        let entry =
            MemberEntry { member, host: "far".into(), joined: true, declared: false, has_nodes: true };
        assert_eq!(
            board_members(&[entry]),
            "VNI  HOST  SEGMENT  BECAUSE\n100  far   yes      joined has-nodes\n"
        );
    }

    #[test]
    fn board_summary() {
        let info = BoardInfo {
            board_id: "00ff".into(),
            revision: 12,
            oldest_resumable: 3,
            hosts: 2,
            networks: 1,
            nodes: 4,
            members: 2,
            watchers: 1,
            lease_ms: 5000,
            version: "0.1.0".into(),
            insecure: true,
            read_only: None,
        };
        let watcher = WatcherEntry {
            id: 1,
            name: "hv-a".into(),
            peer: "10.9.0.2:40000".into(),
            sent_revision: 12,
            acked_revision: 11,
            networks: None,
            resyncs: 0,
            session: 1,
        };
        assert_eq!(
            board(&BoardView { info, watching: vec![watcher] }),
            "\
board 00ff runs stopover 0.1.0
insecure: plain TCP, whoever reaches the board may do anything
revision 12, watches resume from 3
2 hosts, 1 networks, 4 nodes, 2 members; hosts may be silent for 5000 ms

WATCHER  PEER            SENT  ACKED  NETWORKS  RESYNCS
hv-a     10.9.0.2:40000    12     11       all        0
"
        );
    }
}

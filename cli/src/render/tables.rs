//! The appliance's tables.

use crate::table::{Table, join, opt, yes_no};
use std::fmt::Write as _;
use stopover_ctl::{BoardState, HostRow, NetworkRow, NextHopState, NodeOrigin, NodeRow};

/// `show nodes`
pub fn nodes(rows: &[NodeRow]) -> String {
    let mut t = Table::new(&[">VNI", "MAC", "IPS", "HOST", "PORT", "ORIGIN"], "no nodes");
    for n in rows {
        let origin = match n.origin {
            NodeOrigin::Vif => "vif",
            NodeOrigin::Station => "station",
            NodeOrigin::Learned => "learned",
            NodeOrigin::Board => "board",
            NodeOrigin::Declared => "declared",
        };
        t.row([
            n.vni.to_string(),
            n.mac.to_string(),
            join(&n.ips),
            n.host.clone(),
            n.port.clone().unwrap_or_default(),
            origin.to_owned(),
        ]);
    }
    t.to_string()
}

/// `show hosts`
pub fn hosts(rows: &[HostRow]) -> String {
    let headers = [
        "HOST",
        ">ID",
        "VTEPS",
        ">UDP",
        "UP",
        ">NODES",
        "VIA",
        "SOURCE",
        "NEXT-HOP",
        "NEXT-HOP-MAC",
        "STATE",
    ];
    let mut t = Table::new(&headers, "no hosts");
    for h in rows {
        let path = h.path.as_ref();
        let state = match path.map(|p| p.state) {
            None if h.own => "own",
            None => "",
            Some(NextHopState::NoRoute) => "no-route",
            Some(NextHopState::Resolving) => "resolving",
            Some(NextHopState::Reachable) => "reachable",
            Some(NextHopState::Stale) => "stale",
            Some(NextHopState::Failed) => "failed",
            Some(NextHopState::Static) => "static",
        };
        t.row([
            h.name.clone(),
            h.id.to_string(),
            join(&h.vteps),
            h.udp_port.to_string(),
            yes_no(h.up),
            h.nodes.to_string(),
            path.and_then(|p| p.port.clone()).unwrap_or_default(),
            opt(path.and_then(|p| p.source)),
            opt(path.and_then(|p| p.next_hop)),
            opt(path.and_then(|p| p.next_hop_mac)),
            state.to_owned(),
        ]);
    }
    t.to_string()
}

/// `show networks`
pub fn networks(rows: &[NetworkRow]) -> String {
    let headers = [">VNI", "NAME", "FLOOD", ">MTU", ">NODES", ">IPS", "PORTS", "MEMBERS"];
    let mut t = Table::new(&headers, "no networks");
    for n in rows {
        let members =
            n.members.iter().map(|m| if m.segment { format!("{}(segment)", m.host) } else { m.host.clone() });
        t.row([
            n.vni.to_string(),
            n.name.clone().unwrap_or_default(),
            n.flood.to_string(),
            match n.fits {
                Some(fits) if fits < n.mtu => format!("{}({fits} fit)", n.mtu),
                _ => opt(Some(n.mtu).filter(|&m| m != 0)),
            },
            n.nodes.to_string(),
            n.ips.to_string(),
            join(&n.ports),
            join(members),
        ]);
    }
    t.to_string()
}

/// The line about plain TCP in each status.
pub(super) const INSECURE: &str = "insecure: plain TCP, whoever reaches the board may do anything\n";

/// `show board`
pub fn board_state(b: &BoardState) -> String {
    if !b.configured {
        return "no board: the configuration declares everything\n".to_owned();
    }
    let state = if b.connected { "connected to" } else { "not connected to" };
    let endpoint = b.endpoint.as_deref().unwrap_or("any board");
    // Writing to a String cannot fail.
    let mut s = format!("{state} {endpoint} for {} s\n", b.since_s);
    let _ = writeln!(s, "revision {}, in force on every lcore {}", b.revision, b.acknowledged);
    if b.insecure {
        s += INSECURE;
    }
    if !b.forwarding {
        s += "nothing is forwarded before the first snapshot\n";
    }
    if b.stale {
        s += "stale: forwarding by a checkpoint that the board has not confirmed\n";
    }
    if let Some(error) = &b.checkpoint_error {
        let _ = writeln!(s, "no checkpoint can be written: {error}");
    }
    if let Some(board) = &b.board {
        let _ = writeln!(s, "board {board}");
    }
    if let Some(other) = &b.other_board {
        let _ = writeln!(s, "another board answers: {other}; `stopover board accept` has it followed");
    }
    if let Some(ms) = b.stale_ms {
        let _ = writeln!(s, "nodes that the board does not know are kept for {} s", ms.div_ceil(1000));
    }
    if let Some(e) = &b.last_error {
        let _ = writeln!(s, "last error: {e}");
    }
    if !b.refused.is_empty() {
        let mut t = Table::new(&[">VNI", "REFUSED-MAC", "WHY"], "");
        for r in &b.refused {
            t.row([r.vni.to_string(), r.mac.to_string(), r.why.clone()]);
        }
        let _ = write!(s, "\n{t}");
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_ctl::{HostPath, MemberHost, RefusedClaim};
    use stopover_net::{FloodPolicy, Mac, Vni};

    fn vni(n: u32) -> Vni {
        Vni::new(n).unwrap()
    }

    #[test]
    fn nodes_local_and_remote() {
        let node = |last: u8, host: &str, port: Option<&str>, origin| NodeRow {
            vni: vni(100),
            mac: Mac::new([2, 0, 0, 0, 0, last]),
            ips: vec![format!("192.168.0.{last}").parse().unwrap()],
            host: host.into(),
            port: port.map(Into::into),
            origin,
        };
        assert_eq!(
            nodes(&[node(1, "hv-a", Some("vm1"), NodeOrigin::Vif), node(2, "hv-b", None, NodeOrigin::Board)]),
            "\
VNI  MAC                IPS          HOST  PORT  ORIGIN
100  02:00:00:00:00:01  192.168.0.1  hv-a  vm1   vif
100  02:00:00:00:00:02  192.168.0.2  hv-b  -     board
"
        );
        assert_eq!(nodes(&[]), "no nodes\n");
    }

    #[test]
    fn hosts_with_their_next_hop() {
        let mut h = HostRow {
            name: "hv-b".into(),
            id: 2,
            vteps: vec!["10.0.1.1".parse().unwrap()],
            udp_port: 4789,
            up: true,
            own: false,
            path: Some(HostPath {
                vtep: Some("10.0.1.1".parse().unwrap()),
                port: Some("ul0".into()),
                source: Some("10.0.0.1".parse().unwrap()),
                next_hop: Some("10.0.0.254".parse().unwrap()),
                next_hop_mac: None,
                state: NextHopState::Resolving,
            }),
            nodes: 12,
            nics: vec![],
            capabilities: vec![],
            public_key: None,
        };
        let mut own = h.clone();
        (own.name, own.id, own.own, own.path, own.nodes) = ("hv-a".into(), 1, true, None, 2);
        h.up = false;
        assert_eq!(
            hosts(&[own, h]),
            "\
HOST  ID  VTEPS      UDP  UP   NODES  VIA  SOURCE    NEXT-HOP    NEXT-HOP-MAC  STATE
hv-a   1  10.0.1.1  4789  yes      2  -    -         -           -             own
hv-b   2  10.0.1.1  4789  no      12  ul0  10.0.0.1  10.0.0.254  -             resolving
"
        );
    }

    #[test]
    fn networks_with_their_members() {
        let n = NetworkRow {
            vni: vni(100),
            name: Some("shop".into()),
            flood: FloodPolicy::ToSegments,
            mtu: 1500,
            fits: Some(1450),
            ports: vec!["vm1".into(), "br0".into()],
            members: vec![
                MemberHost { host: "hv-a".into(), segment: true },
                MemberHost { host: "hv-b".into(), segment: false },
            ],
            nodes: 3,
            ips: 4,
        };
        assert_eq!(
            networks(&[n]),
            "\
VNI  NAME  FLOOD                   MTU  NODES  IPS  PORTS    MEMBERS
100  shop  to-segments  1500(1450 fit)      3    4  vm1 br0  hv-a(segment) hv-b
"
        );
    }

    #[test]
    fn the_watch() {
        let mut b = BoardState {
            configured: true,
            connected: false,
            endpoint: Some("http://10.9.0.1:7480".into()),
            insecure: false,
            revision: 40,
            acknowledged: 39,
            since_s: 12,
            last_error: Some("connection refused".into()),
            forwarding: true,
            stale: false,
            checkpoint: None,
            checkpoint_error: None,
            board: Some("0a".into()),
            other_board: None,
            other_branches: 0,
            stale_ms: None,
            refused: vec![RefusedClaim {
                vni: vni(7),
                mac: Mac::new([2, 0, 0, 0, 0, 1]),
                why: "held by hv-b".into(),
            }],
        };
        assert_eq!(
            board_state(&b),
            "\
not connected to http://10.9.0.1:7480 for 12 s
revision 40, in force on every lcore 39
board 0a
last error: connection refused

VNI  REFUSED-MAC        WHY
  7  02:00:00:00:00:01  held by hv-b
"
        );
        (b.forwarding, b.other_board, b.stale_ms) = (false, Some("0b".into()), Some(4200));
        (b.insecure, b.stale, b.checkpoint_error) = (true, true, Some("no room".into()));
        b.refused.clear();
        assert_eq!(
            board_state(&b),
            "\
not connected to http://10.9.0.1:7480 for 12 s
revision 40, in force on every lcore 39
insecure: plain TCP, whoever reaches the board may do anything
nothing is forwarded before the first snapshot
stale: forwarding by a checkpoint that the board has not confirmed
no checkpoint can be written: no room
board 0a
another board answers: 0b; `stopover board accept` has it followed
nodes that the board does not know are kept for 5 s
last error: connection refused
"
        );
        b.configured = false;
        assert_eq!(board_state(&b), "no board: the configuration declares everything\n");
    }
}

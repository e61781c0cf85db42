//! Wire to model: the only way in. Every field is checked; the error names it, says what was found, what was
//! expected and how to mend it. Nothing behind this door need check again.

use super::v1;
use crate::model::{
    Accepted, Change, Claim, DeclaredBy, Event, EventKind, Host, MAX_IPS, MAX_VTEPS, Network, Node,
    NodeFacts, Point, Registration, Row, StationKind, Target, Unlocked, Uuid,
};
use std::{
    collections::HashSet,
    fmt::{self, Display},
    net::IpAddr,
};
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

/// Default UDP port of VXLAN (RFC 7348 section 5).
pub const VXLAN_PORT: u16 = 4789;
/// Longest name of a network, in bytes.
pub const MAX_NETWORK_NAME: usize = 128;
/// Smallest MTU a network may declare: what every IPv4 host must be able to receive (RFC 791 section 3.1).
pub const MIN_MTU: u32 = 576;
/// Most items in one call.
pub const MAX_ITEMS: usize = 4096;

/// A field of a message that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Path of the field, outermost first, such as `claims[3].mac`.
    pub path: String,
    what: String,
}

impl BadField {
    /// `found` was there, `expected` should be; `hint` says what to do if that is not plain.
    pub fn new(path: impl Into<String>, found: impl Display, expected: impl Display) -> Self {
        Self { path: path.into(), what: format!("found {found}; expected {expected}") }
    }

    fn with_text(path: impl Into<String>, what: impl Display) -> Self {
        Self { path: path.into(), what: what.to_string() }
    }

    /// The same error seen from one level further out.
    #[must_use]
    pub fn within(mut self, outer: impl Display) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }

    pub(super) fn indexed(self, list: &str, i: usize) -> Self {
        self.within(format_args!("{list}[{i}]"))
    }
}

impl Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

impl std::error::Error for BadField {}

/// What a checked field is, or which field is bad.
pub type Checked<T> = Result<T, BadField>;

/// A VNI in range.
pub fn vni(field: &str, n: u32) -> Checked<Vni> {
    Vni::new(n).map_err(|e| BadField::with_text(field, e))
}

/// A host name.
pub fn host_name(field: &str, s: String) -> Checked<HostName> {
    HostName::new(s).map_err(|e| BadField::with_text(field, e))
}

/// Six bytes that may belong to a station.
pub fn mac(field: &str, bytes: &[u8]) -> Checked<Mac> {
    let six: [u8; 6] = bytes.try_into().map_err(|_| {
        BadField::new(
            field,
            format_args!("{} bytes", bytes.len()),
            "a MAC address of 6 bytes, as on the wire",
        )
    })?;
    Mac::new(six).station().map_err(|e| BadField::with_text(field, e))
}

/// Four or sixteen bytes: an address that one station may own.
pub fn ip(field: &str, bytes: &[u8]) -> Checked<IpAddr> {
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(v4)
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(v6)
    } else {
        let found = format!("{} bytes", bytes.len());
        return Err(BadField::new(field, found, "an IPv4 address of 4 bytes or an IPv6 address of 16"));
    };
    let broadcast = matches!(ip, IpAddr::V4(a) if a.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err(BadField::new(field, ip, "a unicast address that one station may own"));
    }
    Ok(ip)
}

pub(super) fn ip_list(field: &str, list: &[Vec<u8>], most: usize) -> Checked<Vec<IpAddr>> {
    if list.len() > most {
        return Err(BadField::new(
            field,
            format_args!("{} addresses", list.len()),
            format_args!("at most {most}"),
        ));
    }
    let mut ips = Vec::with_capacity(list.len());
    for (i, bytes) in list.iter().enumerate() {
        let at = format!("{field}[{i}]");
        let ip = ip(&at, bytes)?;
        if ips.contains(&ip) {
            return Err(BadField::new(at, format_args!("{ip} a second time"), "each address once"));
        }
        ips.push(ip);
    }
    Ok(ips)
}

fn vteps(field: &str, list: &[Vec<u8>]) -> Checked<Vec<IpAddr>> {
    if list.is_empty() {
        return Err(BadField::new(
            field,
            "no address",
            format_args!("1 to {MAX_VTEPS}: give the host its VTEP address"),
        ));
    }
    ip_list(field, list, MAX_VTEPS)
}

fn port(field: &str, n: u32) -> Checked<u16> {
    match u16::try_from(n) {
        Ok(p) if p != 0 => Ok(p),
        _ => Err(BadField::new(field, n, "a UDP port from 1 to 65535 (VXLAN's is 4789)")),
    }
}

/// An idempotency key or other identifier of 16 bytes.
pub fn id(field: &str, bytes: &[u8]) -> Checked<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| {
        BadField::new(
            field,
            format_args!("{} bytes", bytes.len()),
            "16 bytes unique to the request, such as a UUID",
        )
    })
}

/// At most [`MAX_ITEMS`] items.
pub(super) fn bounded<T>(field: &str, items: Vec<T>) -> Checked<Vec<T>> {
    if items.len() > MAX_ITEMS {
        return Err(BadField::new(
            field,
            format_args!("{} items", items.len()),
            format_args!("at most {MAX_ITEMS} in one call: split it"),
        ));
    }
    Ok(items)
}

/// A message that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Checked<T> {
    value.ok_or_else(|| BadField::new(field, "nothing", "this message to be set"))
}

/// Who speaks, in which session; the key only where the call has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    /// The host spoken for.
    pub host: HostName,
    /// Its registration.
    pub session: u64,
    /// The request's key, not checked yet.
    key: Vec<u8>,
}

impl SessionRef {
    /// Takes the message apart.
    pub fn parse(session_ref: Option<v1::SessionRef>) -> Checked<Self> {
        let s = required("session_ref", session_ref)?;
        Ok(Self { host: host_name("session_ref.host", s.host)?, session: s.session, key: s.key })
    }

    /// The key of a call that changes something.
    pub fn key(&self) -> Checked<Uuid> {
        id("session_ref.key", &self.key)
    }
}

/// A place in a board's history.
pub fn point(field: &str, m: &v1::Point) -> Checked<Point> {
    let run = if m.run_id.is_empty() { None } else { Some(id(&format!("{field}.run_id"), &m.run_id)?) };
    Ok(Point { board: id(&format!("{field}.board_id"), &m.board_id)?, run, revision: m.revision })
}

impl TryFrom<&v1::RegisterRequest> for Registration {
    type Error = BadField;
    fn try_from(m: &v1::RegisterRequest) -> Checked<Self> {
        Ok(Self {
            host: host_name("host", m.host.clone())?,
            vteps: vteps("vteps", &m.vteps)?,
            udp_port: port("udp_port", m.udp_port)?,
            instance: id("instance", &m.instance)?,
            holds: m.holds.as_ref().map(|p| point("holds", p)).transpose()?,
        })
    }
}

impl TryFrom<&v1::NodeClaim> for Claim {
    type Error = BadField;
    fn try_from(m: &v1::NodeClaim) -> Checked<Self> {
        let ips = ip_list("ips", &m.ips, MAX_IPS)?;
        let among = |field: &str, list: &[Vec<u8>]| {
            let some = ip_list(field, list, MAX_IPS)?;
            match some.iter().position(|ip| !ips.contains(ip)) {
                Some(i) => Err(BadField::new(format!("{field}[{i}]"), some[i], "one of `ips`")),
                None => Ok(some),
            }
        };
        Ok(Self {
            vni: vni("vni", m.vni)?,
            mac: mac("mac", &m.mac)?,
            facts: facts(m.kind, m.router),
            received: m.heard,
            announced: among("announced", &m.announced)?,
            shared: among("shared", &m.shared)?,
            used: among("used", &m.used)?,
            ips,
        })
    }
}

/// A kind or flag that only a newer program knows is as if it had not been said.
fn facts(kind: i32, router: i32) -> NodeFacts {
    let kind = match v1::StationKind::try_from(kind) {
        Ok(v1::StationKind::Learned) => StationKind::Learned,
        Ok(v1::StationKind::Unspecified | v1::StationKind::Declared) | Err(_) => StationKind::Declared,
    };
    let router = match v1::RouterFlag::try_from(router) {
        Ok(v1::RouterFlag::Router) => Some(true),
        Ok(v1::RouterFlag::Host) => Some(false),
        Ok(v1::RouterFlag::Unspecified) | Err(_) => None,
    };
    NodeFacts { kind, router }
}

impl TryFrom<v1::AcceptedAddresses> for Accepted {
    type Error = BadField;
    fn try_from(m: v1::AcceptedAddresses) -> Checked<Self> {
        Ok(Self { ips: ip_list("ips", &m.ips, MAX_IPS)?, refused: m.refused })
    }
}

/// All claims of a call; no node twice.
pub fn claims(list: Vec<v1::NodeClaim>) -> Checked<Vec<Claim>> {
    let mut seen = HashSet::new();
    let mut claims = Vec::with_capacity(list.len().min(MAX_ITEMS));
    for (i, m) in bounded("claims", list)?.iter().enumerate() {
        let claim = Claim::try_from(m).map_err(|e| e.indexed("claims", i))?;
        if !seen.insert((claim.vni, claim.mac)) {
            return Err(BadField::new(
                format!("claims[{i}].mac"),
                format_args!("{} of VNI {} a second time", claim.mac, claim.vni),
                "each node once in a call",
            ));
        }
        claims.push(claim);
    }
    Ok(claims)
}

/// A node's key.
pub fn node_key(m: &v1::NodeKey) -> Checked<(Vni, Mac)> {
    Ok((vni("vni", m.vni)?, mac("mac", &m.mac)?))
}

/// All keys of a withdrawal.
pub fn node_keys(list: Vec<v1::NodeKey>) -> Checked<Vec<(Vni, Mac)>> {
    bounded("nodes", list)?
        .iter()
        .enumerate()
        .map(|(i, m)| node_key(m).map_err(|e| e.indexed("nodes", i)))
        .collect()
}

/// All networks of a join, with `segment`.
pub fn joins(list: Vec<v1::Join>) -> Checked<Vec<(Vni, bool)>> {
    bounded("joins", list)?
        .iter()
        .enumerate()
        .map(|(i, m)| Ok((vni("vni", m.vni).map_err(|e| e.indexed("joins", i))?, m.segment)))
        .collect()
}

/// A list of networks of a call.
pub fn vnis(field: &str, list: Vec<u32>) -> Checked<Vec<Vni>> {
    bounded(field, list)?.into_iter().enumerate().map(|(i, n)| vni(&format!("{field}[{i}]"), n)).collect()
}

/// A list of networks without a bound on their number.
pub fn vnis_unbounded(field: &str, list: Vec<u32>) -> Checked<Vec<Vni>> {
    list.into_iter().enumerate().map(|(i, n)| vni(&format!("{field}[{i}]"), n)).collect()
}

fn flood(field: &str, n: i32) -> Checked<FloodPolicy> {
    match v1::FloodPolicy::try_from(n) {
        Ok(v1::FloodPolicy::Unspecified | v1::FloodPolicy::Flood) => Ok(FloodPolicy::Flood),
        Ok(v1::FloodPolicy::Drop) => Ok(FloodPolicy::Drop),
        Ok(v1::FloodPolicy::ToSegments) => Ok(FloodPolicy::ToSegments),
        Err(_) => Err(BadField::new(field, n, "FLOOD, DROP or TO_SEGMENTS")),
    }
}

impl TryFrom<v1::Network> for Network {
    type Error = BadField;
    fn try_from(m: v1::Network) -> Checked<Self> {
        if m.name.len() > MAX_NETWORK_NAME || m.name.chars().any(char::is_control) {
            let expected = format!("at most {MAX_NETWORK_NAME} bytes without control characters");
            return Err(BadField::new("name", format_args!("{} bytes", m.name.len()), expected));
        }
        let mtu = match m.mtu {
            0 => 0,
            n if n < MIN_MTU => {
                return Err(BadField::new("mtu", n, format_args!("{MIN_MTU} to 65535, or 0")));
            }
            n => u16::try_from(n)
                .map_err(|_| BadField::new("mtu", n, format_args!("{MIN_MTU} to 65535, or 0")))?,
        };
        Ok(Self { vni: vni("vni", m.vni)?, name: m.name, flood: flood("flood", m.flood)?, mtu })
    }
}

impl TryFrom<v1::Row> for Row {
    type Error = BadField;
    fn try_from(m: v1::Row) -> Checked<Self> {
        use v1::row::Row as R;
        match required("row", m.row)? {
            R::Host(h) => host_row(h).map(Row::Host).map_err(|e| e.within("host")),
            R::Network(n) => {
                let n = Network::try_from(n).map_err(|e| e.within("network"))?;
                let name = Some(n.name).filter(|name| !name.is_empty());
                Ok(Row::Network(NetworkRow { vni: n.vni, name, flood: n.flood, mtu: n.mtu }))
            }
            R::Node(n) => node_row(n).map(Row::Node).map_err(|e| e.within("node")),
            R::Member(r) => member_row(r).map(Row::Member).map_err(|e| e.within("member")),
        }
    }
}

fn host_row(m: v1::HostRow) -> Checked<HostRow> {
    let udp_port = if m.udp_port == 0 { VXLAN_PORT } else { port("udp_port", m.udp_port)? };
    Ok(HostRow { name: host_name("name", m.name)?, vteps: vteps("vteps", &m.vteps)?, udp_port })
}

fn node_row(m: v1::NodeRow) -> Checked<NodeRow> {
    let ips = ip_list("ips", &m.ips, MAX_IPS)?;
    let shared_ips = ip_list("shared_ips", &m.shared_ips, MAX_IPS - ips.len())?;
    if let Some(i) = shared_ips.iter().position(|ip| ips.contains(ip)) {
        return Err(BadField::new(format!("shared_ips[{i}]"), shared_ips[i], "none of `ips`"));
    }
    Ok(NodeRow {
        vni: vni("vni", m.vni)?,
        mac: mac("mac", &m.mac)?,
        ips,
        host: host_name("host", m.host)?,
        shared_ips,
    })
}

fn member_row(m: v1::MemberRow) -> Checked<MemberRow> {
    Ok(MemberRow { vni: vni("vni", m.vni)?, host: host_name("host", m.host)?, segment: m.segment })
}

impl TryFrom<v1::DeleteRequest> for Target {
    type Error = BadField;
    fn try_from(m: v1::DeleteRequest) -> Checked<Self> {
        use v1::delete_request::Target as T;
        let target = required("target", m.target)?;
        if m.cascade && !matches!(target, T::Host(_)) {
            return Err(BadField::new("cascade", "true", "false, or `host` as target"));
        }
        Ok(match target {
            T::Host(name) => Target::Host { name: host_name("host", name)?, cascade: m.cascade },
            T::Network(n) => Target::Network { vni: vni("network", n)? },
            T::Node(key) => {
                let (vni, mac) = node_key(&key).map_err(|e| e.within("node"))?;
                Target::Node { vni, mac }
            }
            T::Member(row) => {
                let row = member_row(row).map_err(|e| e.within("member"))?;
                Target::Member { vni: row.vni, host: row.host }
            }
        })
    }
}

// ---- what a client reads from a board ----------------------------------------------------------------------

// A newer board may say what this version does not know. What can be passed over is: a kind of change, which concerns
// nothing that this version has, is left out; a value gets the meaning that promises least. Ending the session for it
// would cost more than not knowing it.

fn declared_by(field: &str, n: i32) -> Checked<DeclaredBy> {
    match v1::DeclaredBy::try_from(n) {
        Ok(v1::DeclaredBy::Appliance) => Ok(DeclaredBy::Appliance),
        // Of a newer board's: nothing is expected of such a host.
        Ok(v1::DeclaredBy::Operator) | Err(_) => Ok(DeclaredBy::Operator),
        Ok(v1::DeclaredBy::Unspecified) => Err(BadField::new(field, n, "APPLIANCE or OPERATOR")),
    }
}

/// Who declared an entry of a list.
pub fn entry_declared_by(n: i32) -> Checked<DeclaredBy> {
    declared_by("declared_by", n)
}

impl TryFrom<v1::Host> for Host {
    type Error = BadField;
    fn try_from(m: v1::Host) -> Checked<Self> {
        Ok(Self {
            id: m.id,
            name: host_name("name", m.name)?,
            vteps: vteps("vteps", &m.vteps)?,
            udp_port: port("udp_port", m.udp_port)?,
            declared_by: declared_by("declared_by", m.declared_by)?,
            up: m.up,
            no_flood: m.no_flood,
            down_unix_ms: m.down_unix_ms,
        })
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = BadField;
    fn try_from(m: v1::Node) -> Checked<Self> {
        Ok(Self {
            vni: vni("vni", m.vni)?,
            mac: mac("mac", &m.mac)?,
            ips: ip_list("ips", &m.ips, MAX_IPS)?,
            host_id: m.host_id,
            generation: m.generation,
            facts: facts(m.kind, m.router),
        })
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = BadField;
    fn try_from(m: v1::Change) -> Checked<Self> {
        use v1::change::Change as C;
        Ok(match required("change", m.change)? {
            C::HostPut(h) => Self::HostPut(h.try_into()?),
            C::HostGone(id) => Self::HostGone { id },
            C::NetworkPut(n) => {
                // A newer board's policy: as of a network that nobody declared.
                let known = v1::FloodPolicy::try_from(n.flood).is_ok();
                let flood = if known { n.flood } else { v1::FloodPolicy::Flood.into() };
                Self::NetworkPut(v1::Network { flood, ..n }.try_into()?)
            }
            C::NetworkGone(n) => Self::NetworkGone { vni: vni("network_gone", n)? },
            C::MemberPut(m) => {
                Self::MemberPut { vni: vni("vni", m.vni)?, host_id: m.host_id, segment: m.segment }
            }
            C::MemberGone(m) => Self::MemberGone { vni: vni("vni", m.vni)?, host_id: m.host_id },
            C::NodePut(p) => Self::NodePut {
                node: required("node", p.node)?.try_into()?,
                gone_ips: ip_list("gone_ips", &p.gone_ips, MAX_IPS)?,
            },
            C::NodeLocked(l) => Self::NodeLocked {
                vni: vni("vni", l.vni)?,
                mac: mac("mac", &l.mac)?,
                migration: l.migration,
                generation: l.generation,
                source: l.source,
                target: Some(l.target).filter(|id| *id != 0),
            },
            C::NodeUnlocked(u) => Self::NodeUnlocked {
                vni: vni("vni", u.vni)?,
                mac: mac("mac", &u.mac)?,
                migration: u.migration,
                generation: u.generation,
                outcome: if u.completed { Unlocked::Completed } else { Unlocked::Aborted },
            },
            C::NodeGone(g) => Self::NodeGone {
                vni: vni("vni", g.vni)?,
                mac: mac("mac", &g.mac)?,
                ips: ip_list("ips", &g.ips, MAX_IPS)?,
            },
        })
    }
}

/// A list of changes. Kinds that this version does not know are left out.
pub fn changes(list: Vec<v1::Change>) -> Checked<Vec<Change>> {
    list.into_iter()
        .enumerate()
        .filter(|(_, m)| m.change.is_some())
        .map(|(i, m)| Change::try_from(m).map_err(|e| e.indexed("changes", i)))
        .collect()
}

impl TryFrom<v1::Event> for Event {
    type Error = BadField;
    fn try_from(m: v1::Event) -> Checked<Self> {
        let kind = match v1::EventKind::try_from(m.kind) {
            Ok(v1::EventKind::HostUp) => EventKind::HostUp,
            Ok(v1::EventKind::HostDown) => EventKind::HostDown,
            Ok(v1::EventKind::HostReplaced) => EventKind::HostReplaced,
            Ok(v1::EventKind::Conflict) => EventKind::Conflict,
            Ok(v1::EventKind::TakenOver) => EventKind::TakenOver,
            Ok(v1::EventKind::Operator) => EventKind::Operator,
            Ok(v1::EventKind::Migration) => EventKind::Migration,
            Ok(v1::EventKind::Lineage) => EventKind::Lineage,
            // Of a newer board: its text says what happened.
            Ok(v1::EventKind::Unspecified) | Err(_) => EventKind::Other,
        };
        Ok(Self {
            number: m.number,
            unix_ms: m.unix_ms,
            kind,
            text: m.text,
            revision: m.revision,
            actor: m.actor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// What a board of a later version may say: kinds of changes, values and fields that are not there yet.
    #[test]
    fn what_a_newer_board_says_is_understood_as_far_as_it_is_known() {
        // Field 99 of Change and of WatchResponse, a message of one byte.
        let newer = [0x9a, 0x06, 0x01, 0x00];
        let unknown = v1::Change::decode(&newer[..]).unwrap();
        let response = v1::WatchResponse::decode(&newer[..]).unwrap();
        assert!(response.response.is_none(), "passed over");
        let host = v1::Host {
            id: 1,
            name: "gw-a".into(),
            vteps: vec![vec![10, 0, 0, 1]],
            udp_port: 4789,
            declared_by: 77,
            up: true,
            ..v1::Host::default()
        };
        let network = v1::Network { vni: 5, name: String::new(), flood: 77, mtu: 0 };
        let put = |change| v1::Change { change: Some(change) };
        let known = changes(vec![
            unknown,
            put(v1::change::Change::HostPut(host)),
            put(v1::change::Change::NetworkPut(network.clone())),
        ])
        .unwrap();
        assert!(matches!(&known[0], Change::HostPut(h) if h.declared_by == DeclaredBy::Operator));
        assert!(matches!(&known[1], Change::NetworkPut(n) if n.flood == FloodPolicy::Flood));
        assert_eq!(known.len(), 2);
        let event = v1::Event { number: 1, kind: 77, text: "so it is".into(), ..v1::Event::default() };
        assert_eq!(Event::try_from(event).unwrap().kind, EventKind::Other);
        // What somebody asks of this board is another matter: it must be understood whole.
        assert!(Network::try_from(network).is_err());
    }
}

//! Wire to model: the only conversion of requests. Every field is checked. An error names the field, what was found, what
//! was expected, and has a hint. Code that uses the result need not check again.

pub use super::fields::{BadField, Checked, ip};
use super::{details, v1};
use crate::model::{
    Accepted, Claim, MAX_IPS, MAX_VTEPS, Network, NodeFacts, Point, Registration, Row, StationKind, Target,
    Uuid,
};
use std::{collections::HashSet, net::IpAddr};
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

pub(super) fn vteps(field: &str, list: &[Vec<u8>]) -> Checked<Vec<IpAddr>> {
    if list.is_empty() {
        return Err(BadField::new(
            field,
            "no address",
            format_args!("1 to {MAX_VTEPS}: give the host its VTEP address"),
        ));
    }
    ip_list(field, list, MAX_VTEPS)
}

pub(super) fn port(field: &str, n: u32) -> Checked<u16> {
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

/// The host and session of a caller; the key only if the call has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    /// The host.
    pub host: HostName,
    /// Its registration.
    pub session: u64,
    /// The request's key, not checked yet.
    key: Vec<u8>,
}

impl SessionRef {
    /// Checks the message.
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
        let vteps = vteps("vteps", &m.vteps)?;
        Ok(Self {
            host: host_name("host", m.host.clone())?,
            details: details::parse("details", m.details.clone(), &vteps)?.into(),
            vteps,
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

/// An unknown kind or flag, of a newer program, counts as not set.
pub(super) fn facts(kind: i32, router: i32) -> NodeFacts {
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

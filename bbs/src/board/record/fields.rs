//! Fields that several kinds of records have. They are read more liberally than requests: what is stored was checked.

use crate::model::{DeclaredBy, NodeFacts, StationKind};
use std::net::IpAddr;
use stopover_net::{FloodPolicy, HostName};

/// 4 or 16 bytes, as on the wire.
pub(super) fn ip_bytes(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

pub(super) fn ips_bytes(list: &[IpAddr]) -> Vec<Vec<u8>> {
    list.iter().map(ip_bytes).collect()
}

pub(super) fn ips(list: &[Vec<u8>]) -> Option<Vec<IpAddr>> {
    list.iter().map(|bytes| ip(bytes)).collect()
}

pub(super) fn host_name(text: String) -> Option<HostName> {
    HostName::new(text).ok()
}

pub(super) fn declared_by_number(by: DeclaredBy) -> u32 {
    match by {
        DeclaredBy::Appliance => 1,
        DeclaredBy::Operator => 2,
    }
}

pub(super) fn declared_by(n: u32) -> Option<DeclaredBy> {
    match n {
        1 => Some(DeclaredBy::Appliance),
        2 => Some(DeclaredBy::Operator),
        _ => None,
    }
}

pub(super) fn flood_number(policy: FloodPolicy) -> u32 {
    match policy {
        FloodPolicy::Flood => 1,
        FloodPolicy::Drop => 2,
        FloodPolicy::ToSegments => 3,
    }
}

pub(super) fn flood(n: u32) -> Option<FloodPolicy> {
    match n {
        0 | 1 => Some(FloodPolicy::Flood),
        2 => Some(FloodPolicy::Drop),
        3 => Some(FloodPolicy::ToSegments),
        _ => None,
    }
}

/// Kind and router flag.
pub(super) fn facts_numbers(facts: NodeFacts) -> (u32, u32) {
    let kind = match facts.kind {
        StationKind::Declared => 1,
        StationKind::Learned => 2,
    };
    let router = match facts.router {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    };
    (kind, router)
}

pub(super) fn facts(kind: u32, router: u32) -> NodeFacts {
    let kind = if kind == 2 { StationKind::Learned } else { StationKind::Declared };
    let router = match router {
        1 => Some(true),
        2 => Some(false),
        _ => None,
    };
    NodeFacts { kind, router }
}

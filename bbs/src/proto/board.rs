//! What a client reads from a board: hosts, nodes, changes and events, wire to model. Every field is checked as in
//! [`super::parse`].
//!
//! A newer board can send values that this version does not know. A kind of change that is not known is left out: the board
//! refuses a reader that must not act without it (see [`crate::model::Features`]). A value that is not known gets the
//! meaning that allows and promises least. An error would end the session, which costs more.

use super::{
    details,
    parse::{BadField, Checked, facts, host_name, ip_list, mac, port, required, vni, vteps},
    v1,
};
use crate::model::{Change, DeclaredBy, Event, EventKind, Host, MAX_IPS, Node, Unlocked};

fn declared_by(field: &str, n: i32) -> Checked<DeclaredBy> {
    match v1::DeclaredBy::try_from(n) {
        Ok(v1::DeclaredBy::Appliance) => Ok(DeclaredBy::Appliance),
        // A value of a newer board: nothing is expected of such a host.
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
        let vteps = vteps("vteps", &m.vteps)?;
        Ok(Self {
            id: m.id,
            name: host_name("name", m.name)?,
            details: details::parse("details", m.details, &vteps)?,
            vteps,
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
                let known = v1::FloodPolicy::try_from(n.flood).is_ok();
                if !known {
                    log::warn!(
                        "network {}: found flood policy {}; expected 0 to 3; nothing is flooded there; hint: the \
                         board is newer, upgrade this program",
                        n.vni,
                        n.flood
                    );
                }
                // It may forbid what any other policy allows.
                let flood = if known { n.flood } else { v1::FloodPolicy::Drop.into() };
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
            // A kind of a newer board: the text has the details.
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
    use crate::model::Network;
    use prost::Message;
    use stopover_net::FloodPolicy;

    /// A board of a later version may send kinds of changes, values and fields that this version does not have.
    #[test]
    fn unknown_values_of_a_newer_board_are_tolerated() {
        // Field 99 of Change and of WatchResponse, a message of one byte.
        let newer = [0x9a, 0x06, 0x01, 0x00];
        let unknown = v1::Change::decode(&newer[..]).unwrap();
        let response = v1::WatchResponse::decode(&newer[..]).unwrap();
        assert!(response.response.is_none(), "left out");
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
        assert!(matches!(&known[1], Change::NetworkPut(n) if n.flood == FloodPolicy::Drop));
        assert_eq!(known.len(), 2);
        let event = v1::Event { number: 1, kind: 77, text: "new".into(), ..v1::Event::default() };
        assert_eq!(Event::try_from(event).unwrap().kind, EventKind::Other);
        // A request must be understood completely.
        assert!(Network::try_from(network).is_err());
    }
}

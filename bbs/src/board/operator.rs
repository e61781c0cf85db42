//! Declarations, deletions and loads of the operator. A declaration takes over only a shared address; the operator has to
//! resolve any other conflict.

use super::{
    Board, DONE, Hold, Ips, Now, Outcome, Refusal,
    nodes::Holder,
    record::HostRecord,
    state::{NodeState, OPERATOR},
};
use crate::model::{
    DeclaredBy, EventKind, HostDetails, Network, NodeFacts, Row, RowError, StationKind, Target,
};
use std::net::IpAddr;
use stopover_config::bulk::{HostRow, MemberRow, NetworkRow, NodeRow};
use stopover_net::{HostName, Mac, Vni};

/// Most errors of a load that are returned; the rest are counted.
const ERRORS_NAMED: usize = 20;

impl Board {
    pub(super) fn declare(&mut self, row: Row) -> Result<Outcome, Refusal> {
        let text = describe(&row);
        match self.declare_row(row) {
            Ok(()) => {
                self.push_event(EventKind::Operator, format!("declared {text}"));
                Ok(DONE)
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Conflict(_)) {
                    self.push_event(EventKind::Conflict, format!("declaration of {text} refused: {refusal}"));
                }
                Err(refusal)
            }
        }
    }

    fn declare_row(&mut self, row: Row) -> Result<(), Refusal> {
        match row {
            Row::Host(row) => self.declare_host(row),
            Row::Network(row) => {
                let NetworkRow { vni, name, flood, mtu } = row;
                self.check_network(vni)?;
                let network = Network { vni, name: name.unwrap_or_default(), flood, mtu };
                self.state.put_network(vni, Some(network));
                Ok(())
            }
            Row::Node(row) => self.declare_node(row),
            Row::Member(MemberRow { vni, host, segment }) => {
                let host = self.known_host(&host)?;
                self.check_member(vni, host)?;
                self.state.set_member(vni, host, |m| m.declared = Some(segment));
                Ok(())
            }
        }
    }

    fn declare_host(&mut self, row: HostRow) -> Result<(), Refusal> {
        let HostRow { name, vteps, udp_port } = row;
        let known = self.state.by_name.get(&name).copied();
        if let Some(host) = known.and_then(|id| self.state.hosts.get(&id))
            && host.record.declared_by == DeclaredBy::Appliance
            && host.record.up
        {
            if host.record.vteps == vteps && host.record.udp_port == udp_port {
                return Ok(());
            }
            return Err(Refusal::Conflict(format!(
                "host {name} is registered by its own appliance, with other VTEPs: change the appliance's \
                 configuration, or stop it first"
            )));
        }
        self.vteps_are_free(&vteps, udp_port, known)?;
        if known.is_none() {
            self.check_new_host()?;
        }
        let id = known.unwrap_or_else(|| self.new_host_id());
        let declared_by = DeclaredBy::Operator;
        let record = HostRecord {
            name,
            vteps,
            udp_port,
            declared_by,
            up: true,
            no_flood: false,
            down_unix_ms: 0,
            details: HostDetails::default(),
        };
        self.state.put_host(id, Some(record));
        // An appliance of that name that still runs has to register again, and that registration is refused.
        if let Some(host) = self.state.hosts.get_mut(&id) {
            host.begin_session(0);
        }
        Ok(())
    }

    pub(super) fn known_host(&self, name: &HostName) -> Result<u32, Refusal> {
        self.state.by_name.get(name).copied().ok_or_else(|| {
            Refusal::NotFound(format!("there is no host {name}: declare it first, or start its appliance"))
        })
    }

    fn declare_node(&mut self, row: NodeRow) -> Result<(), Refusal> {
        let NodeRow { vni, mac, host, ips, shared_ips } = row;
        let host = self.known_host(&host)?;
        let hold = |ip: IpAddr| if shared_ips.contains(&ip) { Hold::Shared } else { Hold::Own };
        let ips = ips.into_iter().chain(shared_ips.iter().copied()).collect::<Ips>().with_holds(hold);
        let (taken, kept): (Vec<_>, Vec<_>) =
            self.holders(vni, mac, &ips, host).into_iter().partition(|holder| match holder {
                Holder::Ip(ip, node, _) => shared_ips.contains(ip) && self.is_shared(vni, *node, *ip),
                Holder::Mac(_) => false,
            });
        if let Some(holder) = kept.first() {
            return Err(Refusal::Conflict(self.describe(holder, vni, mac)));
        }
        let mut ips = ips;
        for holder in taken {
            if let Holder::Ip(ip, node, _) = holder {
                if self.has_announced(vni, node, ip) {
                    // That node keeps it: a table that is loaded again must not take an address from the node that uses it.
                    ips = ips.filtered(|own| own != ip);
                } else {
                    self.take_address(vni, node, ip);
                }
            }
        }
        let old = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)).cloned();
        self.check_node(vni, old.as_ref())?;
        let generation = old.as_ref().map_or(self.state.next_revision(), NodeState::generation);
        let facts = NodeFacts { kind: StationKind::Declared, router: old.and_then(|n| n.facts().router) };
        let node = NodeState::new(ips, generation, facts, (host, OPERATOR));
        self.state.put_node(vni, mac, Some(node));
        Ok(())
    }

    pub(super) fn delete(&mut self, now: Now, target: Target) -> Result<Outcome, Refusal> {
        let text = match target {
            Target::Host { name, cascade } => self.delete_host(now, &name, cascade)?,
            Target::Network { vni } => {
                if self.state.networks.get(&vni).is_none_or(|n| n.declared.is_none()) {
                    return Err(Refusal::NotFound(format!("network {vni} is not declared")));
                }
                self.state.put_network(vni, None);
                format!("network {vni}")
            }
            Target::Node { vni, mac } => self.delete_node(now, vni, mac)?,
            Target::Member { vni, host } => {
                let id = self.known_host(&host)?;
                if self.state.member(vni, id).is_none_or(|m| m.declared.is_none()) {
                    return Err(Refusal::NotFound(format!(
                        "the operator has not declared host {host} a member of VNI {vni}; a membership by nodes or by \
                         the appliance ends with them"
                    )));
                }
                self.state.set_member(vni, id, |m| m.declared = None);
                format!("member {host} of VNI {vni}")
            }
        };
        self.push_event(EventKind::Operator, format!("deleted {text}"));
        Ok(DONE)
    }

    fn delete_node(&mut self, now: Now, vni: Vni, mac: Mac) -> Result<String, Refusal> {
        let Some(node) = self.state.networks.get(&vni).and_then(|n| n.nodes.get(&mac)) else {
            return Err(Refusal::NotFound(format!("there is no node {mac} in VNI {vni}")));
        };
        let text = format!("node {mac} in VNI {vni} of host {}", self.state.name(node.host));
        self.abort_where(now, "the operator deleted a node of it", |m| m.has_node(vni, mac));
        self.state.put_node(vni, mac, None);
        Ok(text)
    }

    fn delete_host(&mut self, now: Now, name: &HostName, cascade: bool) -> Result<String, Refusal> {
        let id = self.known_host(name)?;
        let Some(host) = self.state.hosts.get(&id) else {
            return Err(Refusal::NotFound(format!("there is no host {name}")));
        };
        let record = &host.record;
        if record.declared_by == DeclaredBy::Appliance && record.up {
            return Err(Refusal::InUse(format!("host {name} is alive: stop its appliance first")));
        }
        let (nodes, networks) = (host.nodes, host.networks.len());
        if !cascade && (nodes > 0 || networks > 0) {
            return Err(Refusal::InUse(format!(
                "host {name} has {nodes} nodes and is a member of {networks} networks: delete them first, or with \
                 the host (cascade)"
            )));
        }
        self.remove_host(now, id, "the operator deleted one of its hosts");
        Ok(format!("host {name} with {nodes} nodes"))
    }

    /// Declares all rows or none. Hosts and networks are declared first, since the other rows name them.
    pub(super) fn load(&mut self, rows: Vec<(u64, Row)>) -> Result<Outcome, Refusal> {
        let count = rows.len();
        let (first, second): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, row)| matches!(row, Row::Host(_) | Row::Network(_)));
        let mut errors = Vec::new();
        let mut total = 0;
        for (number, row) in first.into_iter().chain(second) {
            if let Err(refusal) = self.declare_row(row) {
                total += 1;
                if errors.len() < ERRORS_NAMED {
                    errors.push(RowError { number, why: refusal.to_string() });
                }
            }
        }
        if total > 0 {
            let first = errors.first().map(|e| format!("row {}: {}", e.number, e.why)).unwrap_or_default();
            self.push_event(
                EventKind::Conflict,
                format!("load of {count} rows refused, {total} wrong; {first}"),
            );
            return Err(Refusal::Rows { errors, total });
        }
        self.push_event(EventKind::Operator, format!("loaded {count} rows"));
        Ok(DONE)
    }
}

fn describe(row: &Row) -> String {
    match row {
        Row::Host(r) => format!("host {}", r.name),
        Row::Network(r) => format!("network {}", r.vni),
        Row::Node(r) => format!("node {} in VNI {} on host {}", r.mac, r.vni, r.host),
        Row::Member(r) => format!("member {} of VNI {}", r.host, r.vni),
    }
}

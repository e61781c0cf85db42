//! What cannot be changed now, and why. Enters: changes, what the operator allows, which nodes are migrating. Leaves: a line
//! for each change, with the reason if it is refused.

use super::Control;
use stopover_config::appliance::{
    Dscp, Role,
    diff::{Change, Field, Needs, PortSetup},
};
use stopover_ctl::{ApiError, ChangeLine, ChangeNeeds, ChangeQuery};

const RESTART: &str = "it needs a restart";
const NOT_ALLOWED: &str = "the port would be closed and opened again; `--reopen` allows it";
const MIGRATING: &str = "a node of the port is migrating";
/// Parts that are built once, at the start.
const NOT_POSSIBLE: &str = "it is not possible while the appliance runs; restart it";

impl Control {
    /// Describes changes, and names those that cannot be made.
    pub(super) fn change_lines(&self, changes: &[Change], query: ChangeQuery) -> Vec<ChangeLine> {
        changes.iter().flat_map(|change| self.lines_of(change, query)).collect()
    }

    fn lines_of(&self, change: &Change, query: ChangeQuery) -> Vec<ChangeLine> {
        let fields: Vec<Option<Field>> = match change {
            Change::PortChanged { fields, .. } => fields.iter().map(|change| Some(change.field)).collect(),
            _ => vec![None],
        };
        let lines = change.lines().into_iter().zip(fields);
        lines
            .map(|(line, field)| {
                let why = match line.needs {
                    Needs::Restart => Some(RESTART),
                    _ if !is_possible(change, field) => Some(NOT_POSSIBLE),
                    Needs::Reopen if !query.reopen => Some(NOT_ALLOWED),
                    _ if self.disturbs_migration(change, field) => Some(MIGRATING),
                    Needs::Reopen | Needs::Nothing => None,
                };
                let needs = match line.needs {
                    Needs::Nothing => ChangeNeeds::Nothing,
                    Needs::Reopen => ChangeNeeds::Reopen,
                    Needs::Restart => ChangeNeeds::Restart,
                };
                ChangeLine { what: line.text, needs, refused: why.map(str::to_owned) }
            })
            .collect()
    }

    /// Whether a node that is migrating would lose its port, or change under its migration.
    fn disturbs_migration(&self, change: &Change, field: Option<Field>) -> bool {
        let ends_nodes = match (change, field) {
            (Change::PortRemoved(_), _) => true,
            (_, Some(field)) => {
                let of_node = matches!(field, Field::Vni | Field::Mac | Field::Vlans | Field::Stations);
                of_node || field.needs() == Needs::Reopen
            }
            _ => false,
        };
        let number = change.port().and_then(|name| self.port_number(name));
        ends_nodes && number.is_some_and(|port| self.has_migrating_node(port))
    }

    fn has_migrating_node(&self, port: u16) -> bool {
        let mut here = self.stations.iter().filter(|(_, _, station)| station.port == port);
        self.migrations.is_migrating(port)
            || here.any(|(bd, mac, _)| self.migrations.is_node_migrating(&(bd, mac)))
    }

    /// The number of a port.
    pub(super) fn port_number(&self, name: &str) -> Option<u16> {
        self.config.ports.iter().position(|port| port.name == name).and_then(|at| u16::try_from(at).ok())
    }
}

/// Whether the parts of this appliance can make the change while it runs: what [`Control::make`] cannot do yet is here.
fn is_possible(change: &Change, field: Option<Field>) -> bool {
    match (change, field) {
        (Change::PortChanged { was, is, .. }, Some(field)) => is_field_possible(field, was, is),
        (
            Change::PortAdded(_)
            | Change::PortRemoved(_)
            | Change::PortChanged { .. }
            | Change::Queues { .. },
            _,
        ) => false,
        (
            Change::Setting { .. }
            | Change::SpareVdevs { .. }
            | Change::RowRemoved(_)
            | Change::RowPut { .. },
            _,
        ) => true,
    }
}

/// The packet path has a copy of every other key.
fn is_field_possible(field: Field, was: &PortSetup, is: &PortSetup) -> bool {
    let copies_priority = |setup: &PortSetup| match &setup.port.role {
        Role::Underlay(underlay) => underlay.dscp == Dscp::Pcp,
        Role::Vif(_) | Role::Segment(_) => false,
    };
    match field {
        Field::Dscp => copies_priority(was) == copies_priority(is),
        Field::Ttl | Field::Gateways | Field::Routes | Field::Neighbours => true,
        Field::AgeingS | Field::MaxStations | Field::NewStationsPerS | Field::Stations => true,
        Field::Device
        | Field::Rxq
        | Field::Txq
        | Field::Mtu
        | Field::Promiscuous
        | Field::Role
        | Field::Vni
        | Field::Mac
        | Field::Addresses
        | Field::SharedAddresses
        | Field::Guard
        | Field::Allowed
        | Field::Router
        | Field::DhcpServer
        | Field::Vlans
        | Field::Vlan
        | Field::UdpPort
        | Field::Udp6ZeroChecksum => false,
    }
}

/// The error for a request of which a line is refused.
pub(super) fn all_of(lines: &[ChangeLine]) -> Option<ApiError> {
    let refused: Vec<String> =
        lines.iter().filter_map(|line| Some(format!("{} ({})", line.what, line.refused.as_ref()?))).collect();
    let whole = match lines.len() - refused.len() {
        0 => String::new(),
        1 => "; so the other change is not made either".to_owned(),
        n => format!("; so the other {n} changes are not made either"),
    };
    (!refused.is_empty()).then(|| {
        ApiError::new(
            format!("nothing was changed: {}{whole}", refused.join("; ")),
            "changes that can be made while frames flow",
            "take these back, or restart the appliance when that is possible",
        )
    })
}

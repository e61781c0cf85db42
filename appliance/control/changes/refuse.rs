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
const OTHER_LCORES: &str = "an lcore of it does not run; restart the appliance to have it";
const NOT_OF_UNDERLAY: &str =
    "an underlay port keeps it while it runs; add another underlay port, then remove this one";
const LAST_UNDERLAY: &str = "it is the last underlay port; add another first";
/// Parts that are built once, at the start.
const NOT_POSSIBLE: &str = "it is not possible while the appliance runs; restart it";

impl Control {
    /// Describes changes, and names those that cannot be made.
    pub(super) fn change_lines(&self, changes: &[Change], query: ChangeQuery) -> Vec<ChangeLine> {
        let after = self.config.with(changes);
        let has_underlay = after.ports.iter().any(|port| matches!(port.role, Role::Underlay(_)));
        changes.iter().flat_map(|change| self.lines_of(change, query, has_underlay)).collect()
    }

    /// `has_underlay`: there is an underlay port with all changes made.
    fn lines_of(&self, change: &Change, query: ChangeQuery, has_underlay: bool) -> Vec<ChangeLine> {
        let fields: Vec<Option<Field>> = match change {
            Change::PortChanged { fields, .. } => fields.iter().map(|change| Some(change.field)).collect(),
            _ => vec![None],
        };
        let lines = change.lines().into_iter().zip(fields);
        lines
            .map(|(line, field)| {
                let why = match line.needs {
                    Needs::Restart => Some(RESTART),
                    _ if !is_possible(change, field) && is_of_underlay(change) => Some(NOT_OF_UNDERLAY),
                    _ if !is_possible(change, field) => Some(NOT_POSSIBLE),
                    _ if !has_underlay
                        && matches!(change, Change::PortRemoved(_))
                        && is_of_underlay(change) =>
                    {
                        Some(LAST_UNDERLAY)
                    }
                    Needs::Reopen if !query.reopen => Some(NOT_ALLOWED),
                    _ if self.disturbs_migration(change, field) => Some(MIGRATING),
                    _ if self.names_other_lcores(change) => Some(OTHER_LCORES),
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
        let number = change.port().and_then(|name| self.ports.number(name));
        ends_nodes && number.is_some_and(|port| self.has_migrating_node(port))
    }

    fn names_other_lcores(&self, change: &Change) -> bool {
        let Change::Queues { is: Some(is), .. } = change else { return false };
        let runs = |number: &u32| self.ports.lcores().iter().any(|lcore| lcore.lcore == *number);
        !is.keys().all(runs)
    }

    /// Whether a node of a port is locked, or takes part in a migration.
    pub(crate) fn has_migrating_node(&self, port: u16) -> bool {
        let mut here = self.stations.iter().filter(|(_, _, station)| station.port == port);
        self.migrations.is_migrating(port)
            || here.any(|(bd, mac, _)| self.migrations.is_node_migrating(&(bd, mac)))
    }
}

/// Whether the parts of this appliance can make the change while it runs: what [`Control::make`] cannot do yet is here.
fn is_possible(change: &Change, field: Option<Field>) -> bool {
    match (change, field) {
        (Change::PortChanged { was, is, .. }, Some(field)) => is_field_possible(field, was, is),
        (Change::PortChanged { .. }, None) => false,
        (
            Change::Setting { .. }
            | Change::PortAdded(_)
            | Change::PortRemoved(_)
            | Change::SpareVdevs { .. }
            | Change::Queues { .. }
            | Change::RowRemoved(_)
            | Change::RowPut { .. },
            _,
        ) => true,
    }
}

fn is_of_underlay(change: &Change) -> bool {
    match change {
        Change::PortRemoved(setup) | Change::PortAdded(setup) => !is_for_guests(setup),
        Change::PortChanged { was, is, .. } => ![was, is].into_iter().all(|setup| is_for_guests(setup)),
        _ => false,
    }
}

/// The others are underlay ports.
const fn is_for_guests(setup: &PortSetup) -> bool {
    matches!(setup.port.role, Role::Vif(_) | Role::Segment(_))
}

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
        | Field::Vlans => [was, is].into_iter().all(is_for_guests),
        Field::Addresses | Field::SharedAddresses => is_for_guests(is),
        Field::Guard | Field::Allowed | Field::Router | Field::DhcpServer => true,
        Field::Vlan | Field::UdpPort | Field::Udp6ZeroChecksum => false,
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

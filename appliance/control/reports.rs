//! Log lines for the operator that subsystems request. Enters: what happened, by numbers. Leaves: lines with the names
//! of ports, networks and hosts.

use super::{
    Control,
    effects::{Limit, Reason, Report},
};

impl Control {
    /// Logs it.
    pub(super) fn log_report(&self, report: &Report) {
        match report {
            Report::Limit(limit) => self.log_limit(*limit),
            Report::Loop { port, vlan, vni, blocked } => {
                let port = self.ports.name(*port);
                let place = format!("port {port}{}, network {vni}", in_vlan(*vlan));
                match blocked {
                    Some(reason) => log::warn!("{place}: blocked, {}", self.why_blocked(reason)),
                    None => log::info!("{place}: forwards again"),
                }
            }
            Report::Repeats { port, vlan } => log::warn!(
                "port {}{}: the same frames arrive again and again; repetitions are dropped as segment_loop",
                self.ports.name(*port),
                in_vlan(*vlan)
            ),
            Report::Underlay(event) => log::warn!("underlay: {event}"),
        }
    }

    fn log_limit(&self, limit: Limit) {
        match limit {
            Limit::Port(port) => log::warn!(
                "port {}: it has as many stations as `max_stations` allows; frames of further ones are dropped as station_limit",
                self.ports.name(port)
            ),
            Limit::Rate(port) => log::warn!(
                "port {}: more new stations than `new_stations_per_s` allows; frames of some are dropped as station_limit",
                self.ports.name(port)
            ),
            Limit::Addresses(port) => log::warn!(
                "port {}: its stations announce new addresses faster than twice `new_stations_per_s`; some are not learned until they are announced again (stopover_segment_addresses_refused_total)",
                self.ports.name(port)
            ),
            Limit::Bd(bd) => log::warn!(
                "network {}: it has as many stations here as `max_network_stations` allows; frames of further ones are dropped as station_limit",
                self.stations.vni(bd).map_or_else(|| "?".to_owned(), |vni| vni.to_string())
            ),
        }
    }

    /// Why a port is blocked, for the operator.
    pub(super) fn why_blocked(&self, reason: &Reason) -> String {
        match reason {
            Reason::Reflected => "because its LAN sends back what it is sent".to_owned(),
            Reason::Forwards(host) if *host == self.config.name => {
                "because another port of this host forwards for the same LAN".to_owned()
            }
            Reason::Forwards(host) => format!("because {host} forwards for the same LAN"),
        }
    }
}

fn in_vlan(vlan: u16) -> String {
    if vlan == 0 { String::new() } else { format!(", VLAN {vlan}") }
}

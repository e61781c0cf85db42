//! Loops through segments: carries the probes of [`super::loops`] to and from the ports, and blocks and unblocks
//! ports as it decides.

use super::{
    Control,
    loops::{Action, Reason},
};
use crate::pipeline::ports::Role;

impl Control {
    /// A segment port received a frame for the address of loop probes.
    pub(super) fn on_probe(&mut self, now_ms: u64, port: u16, frame: &[u8]) {
        let replica = &self.replica;
        let knows = |name: &_| replica.hosts_from(0).any(|(_, record)| record.host.name == *name);
        let actions = self.loops.on_probe(now_ms, port, frame, knows);
        self.act_on_loops(now_ms, actions);
    }

    /// A segment port has gained or lost its link.
    pub(super) fn segment_link(&mut self, now_ms: u64, port: u16, up: bool) {
        let actions = self.loops.link(now_ms, port, up);
        self.act_on_loops(now_ms, actions);
    }

    /// An lcore saw a frame repeat.
    pub(super) fn on_loop(&mut self, now_ms: u64, port: u16, vlan: u16) {
        if self.loops.suspect(now_ms, port, vlan) {
            log::warn!(
                "port {}{}: the same frames arrive again and again; repetitions are dropped as segment_loop",
                self.port_name(port),
                in_vlan(vlan)
            );
        }
    }

    /// Lets time pass for loop detection.
    pub(super) fn watch_loops(&mut self, now_ms: u64) {
        let actions = self.loops.tick(now_ms);
        self.act_on_loops(now_ms, actions);
    }

    pub(super) fn act_on_loops(&mut self, now_ms: u64, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(port, frame) => self.send(usize::from(port), &frame),
                Action::Block { port, vlan, on } => self.block(now_ms, port, vlan, on),
                Action::Report { port, vlan, vni, blocked } => {
                    let port = self.port_name(port);
                    let place = format!("port {port}{}, network {vni}", in_vlan(vlan));
                    match blocked {
                        Some(reason) => log::warn!("{place}: blocked, {}", self.why_blocked(&reason)),
                        None => log::info!("{place}: forwards again"),
                    }
                }
            }
        }
    }

    fn block(&mut self, now_ms: u64, port: u16, vlan: u16, on: bool) {
        if let Some(Role::Segment(segment)) = self.stage_ports.get(usize::from(port)).map(|p| &p.role) {
            segment.gate.set_blocked(vlan, on);
        }
        let claim_updates = self.stations.block(&mut self.tables, now_ms, port, vlan, on);
        self.send_claims(claim_updates);
        self.on_station_removals(now_ms);
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

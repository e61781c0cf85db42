//! Answers to the operator's questions, from what runs now. Each `show_*` fills one type of the crate
//! `stopover-ctl`, which documents its fields.

use super::{
    Control,
    server::{Answer, Ask, Question},
    stations::Kind,
};
use crate::lcore::counters::{LcoreReading, PortReading};
use crate::pipeline::fate::{Books, Drop};
use crate::tables::words::Place;
use dpdk_sys::Offloads;
use hashbrown::HashMap;
use serde::Serialize;
use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};
use stopover_config::{
    appliance::{Role, Truth},
    net::{Mac, VlanId, Vni},
};
use stopover_ctl::{self as ctl, ApiError};

/// Each lcore's number and counters.
pub(crate) type Readings = Vec<(u32, LcoreReading)>;

impl Control {
    /// Answers a question.
    pub(crate) fn answer(&mut self, ask: Ask) {
        let answer = match ask.question {
            Question::Trace(request) => return self.trace(request, ask.reply),
            Question::Version => to_json(&self.show_version()),
            Question::Ports => self.show_ports().and_then(|rows| to_json(&rows)),
            Question::PortStats => self.show_port_stats().and_then(|rows| to_json(&rows)),
            Question::Fwd => to_json(&self.show_fwd(&self.since_cleared())),
            Question::Lcores => to_json(&self.show_lcores(&self.since_cleared())),
            Question::Drops => to_json(&self.show_drops(&self.since_cleared())),
            Question::Nodes(scope) => to_json(&self.show_nodes(scope.vni)),
            Question::Hosts => to_json(&self.show_hosts()),
            Question::Networks(scope) => to_json(&self.show_networks(scope.vni)),
            Question::Board => to_json(&self.show_board()),
            Question::Migrations => to_json(&self.migrations()),
            Question::Clear(request) => self.clear(&request),
            Question::Metrics => Ok(serde_json::Value::String(self.metrics())),
        };
        // Whoever asked may have gone.
        let _ = ask.reply.send(answer);
    }

    fn show_version(&self) -> ctl::Version {
        ctl::Version {
            name: self.config.name.to_string(),
            version: concat!(env!("CARGO_PKG_VERSION"), " (", env!("STOPOVER_COMMIT"), ")").to_owned(),
            dpdk: self.dpdk.clone(),
            pid: std::process::id(),
            uptime_s: self.began.elapsed().as_secs(),
        }
    }

    fn show_ports(&self) -> Result<Vec<ctl::PortInfo>, ApiError> {
        self.ports
            .iter()
            .zip(&self.config.ports)
            .zip(0u16..)
            .map(|((port, config), number)| {
                let (granted, link) = (port.device.granted(), port.device.link());
                let (rx_offloads, tx_offloads) = offload_names(granted.offloads);
                Ok(ctl::PortInfo {
                    name: port.name.clone(),
                    device: config.device.as_str().to_owned(),
                    port_id: port.device.id(),
                    driver: port.device.info().driver.clone(),
                    role: self.show_role(&config.role, number),
                    mac: Mac::new(port.device.mac().map_err(|e| device_error(&e))?),
                    mtu: granted.mtu,
                    promiscuous: config.promiscuous,
                    link_up: link.up,
                    speed_mbps: link.speed_mbps,
                    full_duplex: link.full_duplex,
                    socket: port.device.info().socket,
                    rxd: granted.rxd,
                    txd: granted.txd,
                    rxq_lcores: port.rx_lcores.clone(),
                    txq: granted.txq,
                    rx_offloads,
                    tx_offloads,
                })
            })
            .collect()
    }

    fn show_role(&self, role: &Role, number: u16) -> ctl::PortRole {
        match role {
            Role::Underlay(underlay) => ctl::PortRole::Underlay {
                addresses: underlay.addresses.iter().map(|(ip, len)| format!("{ip}/{len}")).collect(),
                vlan: underlay.vlan,
            },
            Role::Vif(vif) => ctl::PortRole::Vif {
                vni: vif.vni,
                vm_mac: vif.mac,
                addresses: vif.addresses.clone(),
                guard: vif.guard,
            },
            Role::Segment(segment) => ctl::PortRole::Segment {
                vni: segment.vni,
                vlans: segment.vlans.iter().map(|(vlan, vni)| (*vlan, *vni)).collect(),
                stations: self.stations.iter().filter(|(_, _, s)| s.port == number).count() as u64,
                blocked: self
                    .loops
                    .blocked()
                    .filter(|(segment, _)| segment.port == number)
                    .map(|(segment, reason)| ctl::BlockedSegment {
                        vni: segment.vni,
                        vlan: VlanId::new(segment.vlan).ok(),
                        reason: self.why_blocked(reason),
                    })
                    .collect(),
            },
        }
    }

    fn show_port_stats(&self) -> Result<Vec<ctl::PortStats>, ApiError> {
        self.ports
            .iter()
            .map(|port| {
                let (now, then) = (port.device.stats().map_err(|e| device_error(&e))?, &port.cleared);
                Ok(ctl::PortStats {
                    name: port.name.clone(),
                    rx_packets: now.rx_packets.saturating_sub(then.rx_packets),
                    rx_bytes: now.rx_bytes.saturating_sub(then.rx_bytes),
                    rx_missed: now.rx_missed.saturating_sub(then.rx_missed),
                    rx_errors: now.rx_errors.saturating_sub(then.rx_errors),
                    rx_nombuf: now.rx_nombuf.saturating_sub(then.rx_nombuf),
                    tx_packets: now.tx_packets.saturating_sub(then.tx_packets),
                    tx_bytes: now.tx_bytes.saturating_sub(then.tx_bytes),
                    tx_errors: now.tx_errors.saturating_sub(then.tx_errors),
                })
            })
            .collect()
    }

    /// Each lcore's counters since they were last cleared.
    fn since_cleared(&self) -> Readings {
        self.readings()
            .into_iter()
            .zip(&self.cleared)
            .map(|((lcore, now), then)| (lcore, now.since(then)))
            .collect()
    }

    /// Each lcore's counters since the start.
    pub(crate) fn readings(&self) -> Readings {
        self.lcores.iter().map(|lcore| (lcore.lcore, lcore.counters.read())).collect()
    }

    pub(crate) fn show_fwd(&self, readings: &Readings) -> ctl::FwdStats {
        let mut sum = Books::default();
        for (_, reading) in readings {
            sum.add(&reading.books);
        }
        let ports = self
            .ports
            .iter()
            .enumerate()
            .map(|(at, port)| {
                let total = |f: fn(&PortReading) -> u64| -> u64 {
                    readings.iter().map(|(_, reading)| reading.ports.get(at).map_or(0, f)).sum()
                };
                ctl::PortFwd {
                    name: port.name.clone(),
                    rx_packets: total(|p| p.received),
                    rx_dropped: port.missed(),
                    tx_packets: total(|p| p.sent),
                    tx_dropped: total(|p| p.tx_dropped),
                }
            })
            .collect();
        let books = ctl::Books {
            received: sum.received,
            copied: sum.copied,
            originated: sum.originated,
            sent: sum.sent,
            to_control: sum.to_control,
            held: sum.held,
            dropped: sum.dropped.iter().sum(),
            unaccounted: sum.unaccounted(),
        };
        ctl::FwdStats { ports, books }
    }

    pub(crate) fn show_lcores(&self, readings: &Readings) -> Vec<ctl::LcoreStats> {
        self.lcores
            .iter()
            .zip(readings)
            .map(|(lcore, (_, LcoreReading { books, time, .. }))| ctl::LcoreStats {
                lcore: lcore.lcore,
                state: match (lcore.is_finished(), lcore.queues.is_empty(), lcore.asleep.load(Relaxed)) {
                    (true, ..) => ctl::LcoreState::Stopped,
                    (_, true, _) => ctl::LcoreState::Idle,
                    (.., false) => ctl::LcoreState::Polling,
                    (.., true) => ctl::LcoreState::Sleeping,
                },
                queues: lcore.queues.clone(),
                polls: time.polls,
                empty_polls: time.empty_polls,
                bursts: time.bursts,
                frames: books.received,
                sleeps: time.sleeps,
                busy_cycles: time.busy_cycles,
                idle_cycles: time.idle_cycles,
                cycles_per_frame: (books.received > 0)
                    .then(|| time.busy_cycles as f64 / books.received as f64),
                revision: self.passed,
            })
            .collect()
    }

    pub(crate) fn show_drops(&self, readings: &Readings) -> Vec<ctl::Drop> {
        let of = |reason: Drop, r: &LcoreReading| r.books.dropped.get(reason as usize).copied().unwrap_or(0);
        Drop::ALL
            .iter()
            .map(|reason| ctl::Drop {
                reason: reason.name().to_owned(),
                count: readings.iter().map(|(_, r)| of(*reason, r)).sum(),
                explanation: reason.explanation().to_owned(),
                lcores: readings
                    .iter()
                    .map(|(lcore, r)| ctl::LcoreCount { lcore: *lcore, count: of(*reason, r) })
                    .filter(|c| c.count > 0)
                    .collect(),
            })
            .collect()
    }

    fn show_nodes(&self, only: Option<Vni>) -> Vec<ctl::NodeRow> {
        let vnis: HashMap<_, _> = self.replica.networks().map(|(vni, record)| (record.net, vni)).collect();
        let mut ips: HashMap<_, Vec<IpAddr>> = HashMap::new();
        for (net, ip, mac) in self.tables.owners() {
            ips.entry((net, mac)).or_default().push(ip);
        }
        let mut rows: Vec<_> = self
            .tables
            .nodes()
            .filter_map(|(net, mac, place)| {
                let vni = *vnis.get(&net)?;
                if only.is_some_and(|only| only != vni) {
                    return None;
                }
                let mut ips = ips.remove(&(net, mac)).unwrap_or_default();
                ips.sort_unstable();
                let (host, port, origin) = match place {
                    Place::Local { port, .. } | Place::Moving { port, .. } => {
                        let kind = self.stations.get(net, mac).map(|s| s.kind);
                        (self.config.name.to_string(), Some(self.port_name(port).to_owned()), origin(kind))
                    }
                    Place::Remote { host } => {
                        let name =
                            self.replica.host(host).map_or_else(String::new, |h| h.host.name.to_string());
                        (name, None, self.remote_origin())
                    }
                };
                Some(ctl::NodeRow { vni, mac, ips, host, port, origin })
            })
            .collect();
        rows.sort_unstable_by_key(|row| (row.vni, row.mac));
        rows
    }

    fn remote_origin(&self) -> ctl::NodeOrigin {
        match self.config.truth {
            Truth::Board(_) => ctl::NodeOrigin::Board,
            Truth::Declared(_) => ctl::NodeOrigin::Declared,
        }
    }

    fn show_hosts(&self) -> Vec<ctl::HostRow> {
        let mut nodes: HashMap<u32, u64> = HashMap::new();
        let mut own_nodes = 0;
        for (_, _, place) in self.tables.nodes() {
            match place {
                Place::Remote { host } => *nodes.entry(host).or_default() += 1,
                Place::Local { .. } | Place::Moving { .. } => own_nodes += 1,
            }
        }
        let destinations = self.underlay.show_destinations(self.now_ms());
        let neighbours = self.underlay.show(self.now_ms());
        let mut rows: Vec<_> = self
            .replica
            .hosts()
            .map(|(id, record)| {
                let own = record.host.name == self.config.name;
                let path = (!own).then(|| self.path(record.vtep, &destinations, &neighbours));
                ctl::HostRow {
                    name: record.host.name.to_string(),
                    id,
                    vteps: record.host.vteps.clone(),
                    udp_port: record.host.udp_port,
                    up: record.host.up,
                    own,
                    path,
                    nodes: if own { own_nodes } else { nodes.get(&id).copied().unwrap_or(0) },
                }
            })
            .collect();
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    fn path(
        &self,
        vtep: Option<IpAddr>,
        destinations: &[crate::underlay::DestinationRow],
        neighbours: &[crate::underlay::NeighbourRow],
    ) -> ctl::HostPath {
        let destination = destinations.iter().find(|d| Some(d.dst) == vtep);
        let hop = destination.and_then(|d| d.hop.as_ref());
        let neighbour =
            hop.and_then(|hop| neighbours.iter().find(|n| n.port == hop.port && n.ip == hop.next_hop_ip));
        ctl::HostPath {
            vtep,
            port: hop.map(|hop| self.port_name(hop.port as u16).to_owned()),
            source: destination.and_then(|d| d.resolution.as_ref()).map(|r| r.src_ip),
            next_hop: hop.map(|hop| hop.next_hop_ip),
            next_hop_mac: neighbour.and_then(|n| n.mac),
            state: match (hop, neighbour) {
                (None, _) => ctl::NextHopState::NoRoute,
                (Some(_), None) => ctl::NextHopState::Resolving,
                (Some(_), Some(neighbour)) => next_hop_state(neighbour.state),
            },
        }
    }

    fn show_networks(&self, only: Option<Vni>) -> Vec<ctl::NetworkRow> {
        let mut nodes: HashMap<_, u64> = HashMap::new();
        let mut ips: HashMap<_, u64> = HashMap::new();
        for (net, ..) in self.tables.nodes() {
            *nodes.entry(net).or_default() += 1;
        }
        for (net, ..) in self.tables.owners() {
            *ips.entry(net).or_default() += 1;
        }
        let mut rows: Vec<_> = self
            .replica
            .networks()
            .filter(|(vni, _)| only.is_none_or(|only| only == *vni))
            .map(|(vni, record)| {
                let mut members: Vec<_> = record
                    .members
                    .iter()
                    .filter_map(|(id, segment)| {
                        let host = self.replica.host(*id)?.host.name.to_string();
                        Some(ctl::MemberHost { host, segment: *segment })
                    })
                    .collect();
                members.sort_unstable_by(|a, b| a.host.cmp(&b.host));
                ctl::NetworkRow {
                    vni,
                    name: (!record.name.is_empty()).then(|| record.name.clone()),
                    flood: record.flood,
                    mtu: record.mtu,
                    ports: record.ports.iter().map(|m| self.port_name(m.port).to_owned()).collect(),
                    members,
                    nodes: nodes.get(&record.net).copied().unwrap_or(0),
                    ips: ips.get(&record.net).copied().unwrap_or(0),
                }
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.vni);
        rows
    }

    pub(crate) fn show_board(&self) -> ctl::BoardState {
        let state = self.session.as_ref().map(stopover_bbs::client::Session::state);
        let vnis: HashMap<_, _> = self.replica.networks().map(|(vni, record)| (record.net, vni)).collect();
        let refused = self.stations.iter().filter_map(|(net, mac, station)| {
            Some(ctl::RefusedClaim { vni: *vnis.get(&net)?, mac, why: station.refused.clone()? })
        });
        ctl::BoardState {
            configured: state.is_some(),
            connected: state.as_ref().is_some_and(|s| s.connected),
            endpoint: state.as_ref().and_then(|s| s.endpoint.as_ref()).map(ToString::to_string),
            revision: self.applied,
            acknowledged: self.passed,
            since_s: state.as_ref().and_then(|s| s.since.elapsed().ok()).map_or(0, |d| d.as_secs()),
            last_error: state.and_then(|s| s.last_error),
            refused: refused.collect(),
        }
    }

    fn clear(&mut self, request: &ctl::ClearRequest) -> Answer {
        match request {
            ctl::ClearRequest::FwdStats => {
                self.cleared = self.lcores.iter().map(|lcore| lcore.counters.read()).collect();
            }
            ctl::ClearRequest::PortStats { port } => {
                if let Some(name) = port
                    && !self.ports.iter().any(|p| p.name == *name)
                {
                    return Err(self.no_such_port(name));
                }
                for handle in
                    self.ports.iter_mut().filter(|p| port.as_ref().is_none_or(|name| *name == p.name))
                {
                    handle.cleared = handle.device.stats().map_err(|e| device_error(&e))?;
                }
            }
        }
        Ok(serde_json::json!({}))
    }
}

fn to_json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_value(value)
        .map_err(|e| ApiError::new(e.to_string(), "an answer that JSON can hold", "tell the developers"))
}

fn device_error(e: &dpdk_sys::Error) -> ApiError {
    ApiError::new(e.to_string(), "a device that answers", "see the appliance's log")
}

fn origin(kind: Option<Kind>) -> ctl::NodeOrigin {
    match kind {
        Some(Kind::Vif) => ctl::NodeOrigin::Vif,
        Some(Kind::Static) => ctl::NodeOrigin::Station,
        Some(Kind::Learned) | None => ctl::NodeOrigin::Learned,
    }
}

fn next_hop_state(state: crate::underlay::State) -> ctl::NextHopState {
    use crate::underlay::State;
    match state {
        State::Incomplete => ctl::NextHopState::Resolving,
        State::Reachable => ctl::NextHopState::Reachable,
        State::Stale | State::Probe => ctl::NextHopState::Stale,
        State::Failed => ctl::NextHopState::Failed,
        State::Static => ctl::NextHopState::Static,
    }
}

fn offload_names(offloads: Offloads) -> (Vec<String>, Vec<String>) {
    let pick = |list: &[(bool, &str)]| {
        list.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect()
    };
    let rx = pick(&[
        (offloads.rx_ip_csum, "IPV4_CKSUM"),
        (offloads.rx_l4_csum, "UDP_CKSUM"),
        (offloads.rx_l4_csum, "TCP_CKSUM"),
        (offloads.scatter, "SCATTER"),
        (offloads.rss, "RSS_HASH"),
    ]);
    let tx = pick(&[
        (offloads.tx_ip_csum, "IPV4_CKSUM"),
        (offloads.tx_l4_csum, "UDP_CKSUM"),
        (offloads.tx_l4_csum, "TCP_CKSUM"),
        (offloads.tso, "TCP_TSO"),
        (offloads.multi_segs, "MULTI_SEGS"),
    ]);
    (rx, tx)
}

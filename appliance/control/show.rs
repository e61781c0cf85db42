//! Answers the operator's requests from the current state. Each `show_*` fills one type of the crate `stopover-ctl`,
//! which documents its fields.

use super::{
    Control,
    device_state::{Cause, Condition},
    mtu,
    request::{Actor, Answer, List, PendingRequest, Reply, Request},
    rows::Rows,
};
use crate::lcore::counters::{LcoreReading, PortReading};
use crate::pipeline::drop_reason::DropReason;
use crate::pipeline::packet_counters::PacketReading;
use dpdk::Offloads;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;
use stopover_config::appliance::{Role, Truth};
use stopover_ctl::{self as ctl, ApiError};
use stopover_net::{Mac, VlanId};

/// Each lcore's number and counters.
pub(crate) type Readings = Vec<(u32, LcoreReading)>;

impl Control {
    /// Answers a request.
    pub(crate) fn answer(&mut self, pending: PendingRequest) {
        let answer = match pending.request {
            Request::TakeOver(request) => return self.take_over(request, pending.reply),
            Request::Trace(_) if !self.forwards() => Err(not_forwarding()),
            Request::Trace(request) => return self.trace(request, pending.reply),
            Request::Version => to_json(&self.show_version()),
            Request::Ports => self.show_ports().and_then(|rows| to_json(&rows)),
            Request::PortStats => self.show_port_stats().and_then(|rows| to_json(&rows)),
            Request::Fwd => to_json(&self.show_fwd(&self.since_cleared())),
            Request::Lcores => to_json(&self.show_lcores(&self.since_cleared())),
            Request::Drops => to_json(&self.show_drops(&self.since_cleared())),
            Request::List(list, part) => {
                let port = |port| self.ports.name(port).to_owned();
                let rows = self.rows(&port);
                Ok(match list {
                    List::Tunnels => Reply::Tunnels(self.list_tunnels(&part)),
                    List::Sas => Reply::Sas(self.list_sas(&part)),
                    List::Nodes => Reply::Nodes(rows.nodes(&part)),
                    List::Addresses => Reply::Addresses(rows.addresses(&part)),
                    List::Hosts => Reply::Hosts(rows.hosts(&part)),
                    List::Networks => Reply::Networks(rows.networks(&part)),
                })
            }
            Request::Config => to_json(&self.changes.show()),
            Request::Change(..) if !self.forwards() => Err(not_forwarding()),
            Request::Change(change, query) => return self.change(change, query, pending.reply),
            Request::Board => to_json(&self.show_board()),
            Request::Migrations => to_json(&self.show_migrations()),
            Request::Clear(_) if !self.forwards() => Err(not_forwarding()),
            Request::Clear(request) => self.clear(&request),
            Request::Tunnel(host, command) => self.command_tunnel(&host, command),
            Request::AcceptBoard(request) => self.accept_board(&request, pending.reply.by),
            Request::Metrics => Ok(Reply::Json(serde_json::Value::String(self.metrics()))),
        };
        // The client may have disconnected.
        let _ = pending.reply.send(answer);
    }

    fn show_version(&self) -> ctl::Version {
        ctl::Version {
            name: self.config.name.to_string(),
            version: concat!(env!("CARGO_PKG_VERSION"), " (", env!("STOPOVER_COMMIT"), ")").to_owned(),
            dpdk: self.eal.version(),
            pid: std::process::id(),
            uptime_s: self.began.elapsed().as_secs(),
        }
    }

    fn show_ports(&self) -> Result<Vec<ctl::PortInfo>, ApiError> {
        self.ports
            .handles()
            .filter_map(|(number, port)| Some((number, port, self.ports.wanted_at(number)?)))
            .map(|(number, port, config)| {
                let (granted, link) = (port.device.granted(), port.device.link());
                let (rx_offloads, tx_offloads) = offload_names(granted.offloads);
                Ok(ctl::PortInfo {
                    name: config.name.clone(),
                    device: config.device.as_str().to_owned(),
                    port_id: port.device.id(),
                    driver: port.device.info().driver.clone(),
                    role: self.show_role(&config.role, number),
                    mac: Mac::new(port.device.mac().map_err(|e| device_error(&e))?),
                    mtu: granted.mtu,
                    inside: mtu::inside(&config.role, granted.mtu, self.tunnels.is_some()),
                    promiscuous: config.promiscuous,
                    link_up: link.up && port.in_service,
                    device_state: device_state(self.device_events.condition(number)),
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
                addresses: underlay.addresses.iter().map(ToString::to_string).collect(),
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
            .handles()
            .map(|(_, port)| {
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
            .zip(self.api.cleared())
            .map(|((lcore, now), then)| (lcore, now.since(then)))
            .collect()
    }

    /// Each lcore's counters since the start.
    pub(crate) fn readings(&self) -> Readings {
        let lcores = self.ports.lcores().iter().enumerate();
        lcores
            .map(|(at, lcore)| (lcore.lcore, self.ports.without_earlier(at, lcore.counters.read())))
            .collect()
    }

    pub(crate) fn show_fwd(&self, readings: &Readings) -> ctl::FwdStats {
        let mut sum = PacketReading::default();
        for (_, reading) in readings {
            sum.add(&reading.packets);
        }
        let ports = self
            .ports
            .handles()
            .map(|(number, port)| {
                let total = |f: fn(&PortReading) -> u64| -> u64 {
                    let at = usize::from(number);
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
        let accounting = ctl::Accounting {
            received: sum.received,
            copied: sum.copied,
            originated: sum.originated,
            sent: sum.sent,
            to_control: sum.to_control,
            held: sum.held,
            dropped: sum.dropped.iter().sum(),
            unaccounted: sum.unaccounted(),
        };
        ctl::FwdStats { ports, accounting }
    }

    pub(crate) fn show_lcores(&self, readings: &Readings) -> Vec<ctl::LcoreStats> {
        self.ports
            .lcores()
            .iter()
            .zip(readings)
            .map(|(lcore, (_, LcoreReading { packets, time, .. }))| ctl::LcoreStats {
                lcore: lcore.lcore,
                socket: lcore.socket,
                state: match (lcore.is_finished(), lcore.queues.is_empty(), lcore.asleep.load(Relaxed)) {
                    (true, ..) => ctl::LcoreState::Stopped,
                    (_, true, _) => ctl::LcoreState::Idle,
                    (.., false) => ctl::LcoreState::Polling,
                    (.., true) => ctl::LcoreState::Sleeping,
                },
                queues: lcore
                    .queues
                    .iter()
                    .map(|at| format!("{}:{}", self.ports.name(at.port), at.queue))
                    .collect(),
                polls: time.polls,
                empty_polls: time.empty_polls,
                bursts: time.bursts,
                frames: packets.received,
                sleeps: time.sleeps,
                busy_cycles: time.busy_cycles,
                idle_cycles: time.idle_cycles,
                cycles_per_frame: (packets.received > 0)
                    .then(|| time.busy_cycles as f64 / packets.received as f64),
                revision: self.board.acknowledged(),
            })
            .collect()
    }

    pub(crate) fn show_drops(&self, readings: &Readings) -> Vec<ctl::Drop> {
        let of = |reason: DropReason, r: &LcoreReading| {
            r.packets.dropped.get(reason as usize).copied().unwrap_or(0)
        };
        DropReason::ALL
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

    /// The sources of the rows of long lists.
    fn rows<'a>(&'a self, port: &'a dyn Fn(u16) -> String) -> Rows<'a> {
        Rows {
            own: &self.config.name,
            remote_origin: match self.config.truth {
                Truth::Board(_) => ctl::NodeOrigin::Board,
                Truth::Declared(_) => ctl::NodeOrigin::Declared,
            },
            port,
            tables: &self.tables,
            replica: &self.replica,
            stations: &self.stations,
            underlay: &self.underlay,
        }
    }

    pub(crate) fn show_board(&self) -> ctl::BoardState {
        let state = self.board.state();
        let refused = self.stations.iter().filter_map(|(bd, mac, station)| {
            let why = station.refused.clone()?;
            Some(ctl::RefusedClaim { vni: self.replica.vni_of(bd)?, mac, why })
        });
        ctl::BoardState {
            configured: state.is_some(),
            connected: state.as_ref().is_some_and(|s| s.connected),
            endpoint: state.as_ref().and_then(|s| s.endpoint.as_ref()).map(ToString::to_string),
            insecure: self.config.plain_board().is_some(),
            revision: self.board.revision(),
            acknowledged: self.board.acknowledged(),
            forwarding: self.forwards(),
            stale: self.board.is_stale(),
            checkpoint: self.checkpoints.latest(),
            checkpoint_error: self.checkpoints.failure().map(str::to_owned),
            board: state.as_ref().and_then(|s| s.board).map(|board| board.simple().to_string()),
            other_board: state.as_ref().and_then(|s| s.other_board).map(|board| board.simple().to_string()),
            other_branches: self.board.other_branches(),
            stale_ms: self.board.stale_until_ms().map(|until| until.saturating_sub(self.now_ms())),
            since_s: state.as_ref().and_then(|s| s.since.elapsed().ok()).map_or(0, |d| d.as_secs()),
            last_error: state.and_then(|s| s.last_error),
            refused: refused.collect(),
        }
    }

    fn show_migrations(&self) -> ctl::Migrations {
        let names = (&self.replica, &self.ports);
        self.migrations.show(self.now_ms(), &self.config.migration, &self.hold, names)
    }

    /// The operator accepts the board that answers now.
    fn accept_board(&self, request: &ctl::AcceptBoard, by: Actor) -> Answer {
        let session = self.board.session();
        let Some((session, other)) = session.and_then(|s| Some((s, s.state().other_board?))) else {
            return Err(ApiError::new(
                "no other board answers",
                "another board than the one that is followed",
                "see `stopover show board`; the first board of an appliance is followed without this command",
            ));
        };
        let board = other.simple().to_string();
        if request.board.as_ref().is_some_and(|wanted| *wanted != board) {
            return Err(ApiError::new(
                format!("board {board} answers"),
                format!("board {}", request.board.as_deref().unwrap_or_default()),
                "give the id of the board that answers, or none",
            ));
        }
        log::warn!("board {board} is followed from now on: the operator accepted it [by {by}]");
        session.accept_board(other);
        to_json(&ctl::AcceptedBoard { board })
    }

    fn clear(&mut self, request: &ctl::ClearRequest) -> Answer {
        match request {
            ctl::ClearRequest::FwdStats => {
                self.api.clear(self.readings().into_iter().map(|(_, reading)| reading).collect());
            }
            ctl::ClearRequest::PortStats { port } => {
                if let Some(name) = port
                    && self.ports.number(name).is_none()
                {
                    return Err(self.no_such_port(name));
                }
                for handle in
                    self.ports.handles_mut().filter(|p| port.as_ref().is_none_or(|name| *name == p.name))
                {
                    handle.cleared = handle.device.stats().map_err(|e| device_error(&e))?;
                }
            }
        }
        Ok(Reply::Json(serde_json::json!({})))
    }
}

fn to_json<T: Serialize>(value: &T) -> Answer {
    serde_json::to_value(value)
        .map(Reply::Json)
        .map_err(|e| ApiError::new(e.to_string(), "an answer that JSON can hold", "tell the developers"))
}

/// Before the board's first snapshot.
fn not_forwarding() -> ApiError {
    ApiError::new(
        "nothing is forwarded yet",
        "an appliance that has the board's first snapshot",
        "see `stopover show board` for what it waits for",
    )
}

fn device_error(e: &dpdk::Error) -> ApiError {
    ApiError::new(e.to_string(), "a device that answers", "see the appliance's log")
}

const fn device_state(condition: Condition) -> ctl::DeviceState {
    match condition {
        Condition::InService => ctl::DeviceState::InService,
        Condition::Recovering => ctl::DeviceState::Recovering,
        Condition::Out(Cause::Reset) => ctl::DeviceState::Resetting,
        Condition::Out(Cause::Failed) => ctl::DeviceState::Failed,
        Condition::Out(Cause::Removed) => ctl::DeviceState::Removed,
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

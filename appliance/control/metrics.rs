//! The page for Prometheus. Each counter is one of those of `show`, so `stopover show drops` explains what an alert
//! reports.

use super::Control;
use crate::lcore::counters::EventReading;
use dpdk::cycles;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric, MetricEncoder,
        prometheus_text,
    },
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::fmt;
use stopover_config::appliance::Role;
use stopover_ctl as ctl;

/// The values of one scrape, counted since the start: a counter that an operator's `clear` reset would not be a
/// counter.
#[derive(Debug)]
struct Reading {
    fwd: ctl::FwdStats,
    drops: Vec<(String, u64)>,
    lcores: Vec<LcoreTime>,
    board: ctl::BoardState,
    port_drops: Vec<PortDrops>,
    devices: Vec<DeviceReading>,
    events_lost: [(&'static str, u64); 3],
    segments: Vec<SegmentReading>,
    migrations: [(&'static str, &'static str, u64); 7],
    hold_free: u64,
    mbufs: u32,
    table_bytes: u64,
    tsc_hz: u64,
    control_rounds: u64,
    log_lines_dropped: u64,
    tunnels: TunnelReading,
}

/// Without the other hosts' names: there may be thousands.
#[derive(Debug, Default)]
struct TunnelReading {
    up: u64,
    sessions: u64,
    handshake_drops: Vec<(&'static str, u64)>,
    keys_unlocked: u64,
}

#[derive(Debug)]
struct LcoreTime {
    lcore: String,
    busy_cycles: u64,
    idle_cycles: u64,
}

#[derive(Debug)]
struct PortDrops {
    port: String,
    counts: [(&'static str, u64); 3],
}

/// The device of a port. vhost-user ports have none.
#[derive(Debug)]
struct DeviceReading {
    port: String,
    in_service: bool,
    counts: [(&'static str, u64); 4],
}

#[derive(Debug)]
struct SegmentReading {
    port: String,
    stations: u32,
    limit: u32,
    refused_addresses: u64,
    blocked: u64,
}

impl Control {
    /// The page for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("stopover");
        registry.register_collector(Box::new(self.read_metrics()));
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut page, &registry);
        page
    }

    fn read_metrics(&self) -> Reading {
        let readings = self.readings();
        let fwd = self.show_fwd(&readings);
        let port_drops = self.ports.handles().map(|(_, port)| {
            let sent = fwd.ports.iter().find(|p| p.name == port.name).map_or(0, |p| p.tx_dropped);
            let device = port.device.stats().unwrap_or_default();
            let counts = [("tx", sent), ("rx_missed", device.rx_missed), ("rx_nombuf", device.rx_nombuf)];
            PortDrops { port: port.name.clone(), counts }
        });
        let devices = self.ports.handles().filter(|(_, port)| port.vhost.is_none()).map(|(number, port)| {
            let counts = self.device_events.counts(number);
            let counts = [
                ("reset", counts.resets),
                ("removed", counts.removals),
                ("recovering", counts.recoveries),
                ("failed", counts.failures),
            ];
            DeviceReading { port: port.name.clone(), in_service: port.in_service, counts }
        });
        let segments = self.ports.wanted().filter_map(|(number, port)| {
            let Role::Segment(segment) = &port.role else { return None };
            Some(SegmentReading {
                port: port.name.clone(),
                stations: self.stations.learned_at(number),
                limit: segment.max_stations,
                refused_addresses: self.stations.refused_addresses(number),
                blocked: self.loops.blocked().filter(|(segment, _)| segment.port == number).count() as u64,
            })
        });
        let lcores = self.show_lcores(&readings).into_iter().map(|lcore| LcoreTime {
            lcore: lcore.lcore.to_string(),
            busy_cycles: lcore.busy_cycles,
            idle_cycles: lcore.idle_cycles,
        });
        let lost = |count: fn(&EventReading) -> u64| readings.iter().map(|(_, r)| count(&r.events)).sum();
        Reading {
            drops: self.show_drops(&readings).into_iter().map(|drop| (drop.reason, drop.count)).collect(),
            lcores: lcores.collect(),
            board: self.show_board(),
            port_drops: port_drops.collect(),
            devices: devices.collect(),
            events_lost: [
                ("arrivals", lost(|e| e.arrivals_lost)),
                ("routers", lost(|e| e.routers_lost)),
                ("stations", lost(|e| e.stations_lost)),
            ],
            segments: segments.collect(),
            migrations: self.migrations.totals(),
            hold_free: self.hold.free_bytes() as u64,
            mbufs: self.ports.pools().in_use(),
            table_bytes: self.tables.memory_bytes() as u64,
            tsc_hz: cycles::tsc_hz().max(1),
            control_rounds: self.rounds,
            log_lines_dropped: stopover_logging::dropped(),
            tunnels: self.tunnels.as_ref().map_or_else(TunnelReading::default, |tunnels| TunnelReading {
                up: tunnels.up_count(),
                sessions: tunnels.session_count(),
                handshake_drops: tunnels.handshake_drops().collect(),
                keys_unlocked: tunnels.engines().memory().stats().unlocked as u64,
            }),
            fwd,
        }
    }
}

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.frames(&mut page)?;
        self.ports(&mut page)?;
        self.segments(&mut page)?;
        self.migrations(&mut page)?;
        self.board(&mut page)?;
        self.tunnels(&mut page)?;
        let seconds = self.lcores.iter().flat_map(|time| {
            [("busy", time.busy_cycles), ("idle", time.idle_cycles)].map(|(state, cycles)| {
                let labels = [("lcore", time.lcore.as_str()), ("state", state)];
                (labels, cycles as f64 / self.tsc_hz as f64)
            })
        });
        page.counters("lcore_seconds", "Time of packet processing threads by lcore and state", seconds)?;
        page.counter(
            "log_lines_dropped",
            "Lines of the log that stderr did not take",
            self.log_lines_dropped,
        )?;
        page.counter("control_rounds", "Rounds of the control thread's loop", self.control_rounds)?;
        page.gauge("mbufs_in_use", "Buffers taken from the pool", self.mbufs)?;
        page.gauge("table_bytes", "Memory of the node and address tables", self.table_bytes)
    }
}

impl Reading {
    fn frames(&self, page: &mut Page<'_>) -> fmt::Result {
        let accounting = self.fwd.accounting;
        page.counters(
            "frames",
            "Frames by outcome or origin",
            [
                ("received", accounting.received),
                ("copied", accounting.copied),
                ("originated", accounting.originated),
                ("sent", accounting.sent),
                ("to_control", accounting.to_control),
            ]
            .map(|(what, count)| ([("what", what)], count)),
        )?;
        page.gauge(
            "unaccounted_frames",
            "Frames that packet accounting misses; 0 at any quiet moment",
            accounting.unaccounted,
        )?;
        page.gauge("held_frames", "Frames that wait, in a hold or for a full device", accounting.held)?;
        let drops = self.drops.iter().map(|(reason, count)| ([("reason", reason.as_str())], *count));
        page.counters("dropped_frames", "Frames dropped, by reason", drops)?;
        page.counters(
            "events_lost",
            "Events for the control thread that found their ring full, by kind; they are reported again",
            self.events_lost.map(|(kind, count)| ([("kind", kind)], count)),
        )
    }

    fn ports(&self, page: &mut Page<'_>) -> fmt::Result {
        let frames = self.fwd.ports.iter().flat_map(|port| {
            [("rx", port.rx_packets), ("tx", port.tx_packets)]
                .map(|(direction, count)| ([("port", port.name.as_str()), ("direction", direction)], count))
        });
        page.counters("port_frames", "Frames by port and direction", frames)?;
        let drops = self.port_drops.iter().flat_map(|drops| {
            drops.counts.map(|(what, count)| ([("port", drops.port.as_str()), ("what", what)], count))
        });
        page.counters(
            "port_dropped_frames",
            "Frames that a port's device or queue did not take, or had no buffer for",
            drops,
        )?;
        let in_service = self.devices.iter().map(|d| ([("port", d.port.as_str())], u32::from(d.in_service)));
        page.gauges("device_in_service", "1 while the device of a port is in service", in_service)?;
        let events = self.devices.iter().flat_map(|d| {
            d.counts.map(|(event, count)| ([("port", d.port.as_str()), ("event", event)], count))
        });
        page.counters("device_events", "Events that took the device of a port out of service", events)
    }

    fn segments(&self, page: &mut Page<'_>) -> fmt::Result {
        let labelled = |s: &SegmentReading| [("port", s.port.clone())];
        let stations = self.segments.iter().map(|s| (labelled(s), s.stations));
        page.gauges("segment_stations", "Stations learned at a segment port", stations)?;
        let limits = self.segments.iter().map(|s| (labelled(s), s.limit));
        page.gauges("segment_stations_limit", "Most stations of a segment port", limits)?;
        page.counters(
            "segment_addresses_refused",
            "New addresses of a segment port's stations that were not learned because they arrived too fast",
            self.segments.iter().map(|s| (labelled(s), s.refused_addresses)),
        )?;
        page.gauges(
            "segment_blocked",
            "Networks for which a segment port is blocked, because another port forwards for its LAN",
            self.segments.iter().map(|s| (labelled(s), s.blocked)),
        )
    }

    fn migrations(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("hold_free_bytes", "Free memory of the hold", self.hold_free)?;
        for (name, help, count) in self.migrations {
            page.counter(name, help, count)?;
        }
        Ok(())
    }

    fn tunnels(&self, page: &mut Page<'_>) -> fmt::Result {
        let tunnels = &self.tunnels;
        page.gauge("tunnels_up", "Hosts to which there is an encrypted tunnel", tunnels.up)?;
        page.counter(
            "tunnel_sessions",
            "Sets of keys that were agreed on with other hosts",
            tunnels.sessions,
        )?;
        page.counters(
            "handshake_dropped_datagrams",
            "Datagrams of handshakes that were dropped, by reason",
            tunnels.handshake_drops.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
        )?;
        page.gauge(
            "tunnel_key_bytes_unlocked",
            "Memory of keys that could not be locked, and may be written to swap space",
            tunnels.keys_unlocked,
        )
    }

    fn board(&self, page: &mut Page<'_>) -> fmt::Result {
        let board = &self.board;
        page.gauge(
            "board_insecure",
            "1 if an endpoint of the board is plain TCP: whoever reaches the board may do anything",
            u32::from(board.insecure),
        )?;
        page.gauge("board_connected", "1 while the watch of the board runs", u32::from(board.connected))?;
        page.gauge(
            "forwarding",
            "1 once ports run; 0 while waiting for the board's first snapshot",
            u32::from(board.forwarding),
        )?;
        page.gauge(
            "board_stale",
            "1 while what is forwarded by is a checkpoint's, and the board has not confirmed it",
            u32::from(board.stale),
        )?;
        page.gauge(
            "checkpoint_failed",
            "1 while checkpoints cannot be written",
            u32::from(board.checkpoint_error.is_some()),
        )?;
        if let Some(checkpoint) = board.checkpoint {
            page.gauge(
                "checkpoint_revision",
                "Revision of the board in the checkpoint",
                checkpoint.revision,
            )?;
            page.gauge(
                "checkpoint_timestamp_seconds",
                "When the checkpoint was written, since 1970",
                checkpoint.unix_ms / 1000,
            )?;
        }
        page.gauge(
            "board_other",
            "1 while another board answers, which is not followed until the operator accepts it",
            u32::from(board.other_board.is_some()),
        )?;
        page.counter(
            "board_other_branch",
            "Snapshots of another history than what was forwarded",
            board.other_branches,
        )?;
        page.gauge("board_revision", "Revision of the board that was received", board.revision)?;
        page.gauge("board_acknowledged_revision", "Revision that every lcore forwards by", board.acknowledged)
    }
}

/// Writes metric families whose samples are all known.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        samples(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |family| ConstCounter::new(value).encode(family))
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |family| ConstGauge::new(value).encode(family))
    }

    fn counters<K: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (K, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Counter, |mut family| {
            samples.into_iter().try_for_each(|(labels, value)| {
                ConstCounter::new(value).encode(family.encode_family(&labels)?)
            })
        })
    }

    fn gauges<K: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (K, V)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, |mut family| {
            samples
                .into_iter()
                .try_for_each(|(labels, value)| ConstGauge::new(value).encode(family.encode_family(&labels)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let port = |name: &str| ctl::PortFwd { name: name.into(), rx_packets: 3, ..ctl::PortFwd::default() };
        let lcore = LcoreTime { lcore: "2".into(), busy_cycles: 3_000, idle_cycles: 500 };
        let segment =
            SegmentReading { port: "lan".into(), stations: 4, limit: 9, refused_addresses: 0, blocked: 1 };
        let reading = Reading {
            log_lines_dropped: 0,
            fwd: ctl::FwdStats { ports: vec![port("ul0"), port("lan")], ..ctl::FwdStats::default() },
            drops: vec![("too_big".into(), 7)],
            lcores: vec![lcore],
            board: ctl::BoardState {
                connected: true,
                insecure: true,
                revision: 12,
                checkpoint: Some(ctl::CheckpointState { revision: 11, unix_ms: 1_790_000_000_999 }),
                ..ctl::BoardState::default()
            },
            port_drops: vec![PortDrops {
                port: "ul0".into(),
                counts: [("tx", 1), ("rx_missed", 2), ("rx_nombuf", 0)],
            }],
            devices: vec![DeviceReading {
                port: "ul0".into(),
                in_service: false,
                counts: [("reset", 3), ("removed", 0), ("recovering", 0), ("failed", 0)],
            }],
            events_lost: [("arrivals", 0), ("routers", 0), ("stations", 5)],
            segments: vec![segment],
            migrations: [("migration_held", "Frames put into the hold", 6); 7],
            hold_free: 4096,
            mbufs: 8,
            table_bytes: 1 << 20,
            tsc_hz: 1_000,
            control_rounds: 50,
            tunnels: TunnelReading {
                up: 3,
                sessions: 17,
                handshake_drops: vec![("handshake_bad_mac", 4)],
                keys_unlocked: 4096,
            },
        };
        let mut registry = Registry::with_prefix("stopover");
        registry.register_collector(Box::new(reading));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).unwrap();
        page
    }

    #[test]
    fn page_has_samples_of_every_kind() {
        let page = page();
        for line in [
            "stopover_frames_total{what=\"received\"} 0",
            "stopover_dropped_frames_total{reason=\"too_big\"} 7",
            "stopover_port_frames_total{port=\"lan\",direction=\"rx\"} 3",
            "stopover_port_dropped_frames_total{port=\"ul0\",what=\"rx_missed\"} 2",
            "stopover_device_in_service{port=\"ul0\"} 0",
            "stopover_device_events_total{port=\"ul0\",event=\"reset\"} 3",
            "stopover_events_lost_total{kind=\"stations\"} 5",
            "stopover_segment_stations{port=\"lan\"} 4",
            "stopover_segment_addresses_refused_total{port=\"lan\"} 0",
            "stopover_lcore_seconds_total{lcore=\"2\",state=\"busy\"} 3.0",
            "stopover_lcore_seconds_total{lcore=\"2\",state=\"idle\"} 0.5",
            "stopover_control_rounds_total 50",
            "stopover_migration_held_total 6",
            "stopover_hold_free_bytes 4096",
            "stopover_board_connected 1",
            "stopover_board_stale 0",
            "stopover_tunnels_up 3",
            "stopover_tunnel_sessions_total 17",
            "stopover_handshake_dropped_datagrams_total{reason=\"handshake_bad_mac\"} 4",
            "stopover_tunnel_key_bytes_unlocked 4096",
            "stopover_board_insecure 1",
            "stopover_checkpoint_failed 0",
            "stopover_checkpoint_revision 11",
            "stopover_checkpoint_timestamp_seconds 1790000000",
            "stopover_board_other 0",
            "stopover_board_revision 12",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
    }

    #[test]
    fn only_counters_end_in_total() {
        for line in page().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        }
    }
}

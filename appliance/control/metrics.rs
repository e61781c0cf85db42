//! Prometheus' text format (version 0.0.4) of what `show` tells. Names end in their unit; every counter is
//! one of the books, so that what an alert says is what `stopover show drops` explains.

use super::Control;
use crate::lcore::counters::EventReading;
use std::fmt::Write;
use stopover_config::appliance::Role;

/// Collects the text.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Labels are names of ours (ports, reasons, lcores), which need no escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(key, text)| format!("{key}=\"{text}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

impl Control {
    /// The page that Prometheus scrapes.
    pub(crate) fn metrics(&self) -> String {
        let mut page = Page(String::new());
        // Since the start: a counter that an operator's `clear` set back would be a counter no more.
        let readings = self.readings();
        let fwd = self.show_fwd(&readings);
        page.family(
            "stopover_frames_total",
            "counter",
            "Frames by what became of them or where they came from.",
        );
        let books = fwd.books;
        for (what, count) in [
            ("received", books.received),
            ("copied", books.copied),
            ("originated", books.originated),
            ("sent", books.sent),
            ("to_control", books.to_control),
        ] {
            page.sample("stopover_frames_total", &[("what", what)], count);
        }
        page.family("stopover_unaccounted_frames", "gauge", "Frames without a fate; 0 at any quiet moment.");
        page.sample("stopover_unaccounted_frames", &[], books.unaccounted);
        self.migration_metrics(&mut page, books.held);
        page.family("stopover_dropped_frames_total", "counter", "Frames dropped, by reason.");
        for drop in self.show_drops(&readings) {
            page.sample("stopover_dropped_frames_total", &[("reason", &drop.reason)], drop.count);
        }
        page.family("stopover_port_frames_total", "counter", "Frames by port and direction.");
        for port in &fwd.ports {
            page.sample(
                "stopover_port_frames_total",
                &[("port", &port.name), ("direction", "rx")],
                port.rx_packets,
            );
            page.sample(
                "stopover_port_frames_total",
                &[("port", &port.name), ("direction", "tx")],
                port.tx_packets,
            );
        }
        page.family(
            "stopover_port_dropped_frames_total",
            "counter",
            "Frames that a port's device or queue did not take, or had no buffer for.",
        );
        for port in &self.ports {
            let sent = fwd.ports.iter().find(|p| p.name == port.name).map_or(0, |p| p.tx_dropped);
            let device = port.device.stats().unwrap_or_default();
            for (what, count) in
                [("tx", sent), ("rx_missed", device.rx_missed), ("rx_nombuf", device.rx_nombuf)]
            {
                let labels = [("port", port.name.as_str()), ("what", what)];
                page.sample("stopover_port_dropped_frames_total", &labels, count);
            }
        }
        page.family(
            "stopover_events_lost_total",
            "counter",
            "Events for the control thread that found their ring full, by kind; they are told again.",
        );
        for (kind, lost) in [
            ("arrivals", (|e| e.arrivals_lost) as fn(&EventReading) -> u64),
            ("routers", |e| e.routers_lost),
            ("stations", |e| e.stations_lost),
        ] {
            let count: u64 = readings.iter().map(|(_, reading)| lost(&reading.events)).sum();
            page.sample("stopover_events_lost_total", &[("kind", kind)], count);
        }
        page.family("stopover_segment_stations", "gauge", "Stations learned at a segment port.");
        page.family("stopover_segment_stations_limit", "gauge", "Most stations of a segment port.");
        page.family(
            "stopover_segment_addresses_refused_total",
            "counter",
            "New addresses of a segment port's stations that were not learned because they came too fast.",
        );
        page.family(
            "stopover_segment_blocked",
            "gauge",
            "Networks for which a segment port is blocked, because another port forwards for its LAN.",
        );
        for (number, port) in (0u16..).zip(&self.config.ports) {
            let Role::Segment(segment) = &port.role else { continue };
            let labels = [("port", port.name.as_str())];
            page.sample("stopover_segment_stations", &labels, self.stations.learned_at(number));
            page.sample("stopover_segment_stations_limit", &labels, segment.max_stations);
            let refused = self.stations.refused_addresses(number);
            page.sample("stopover_segment_addresses_refused_total", &labels, refused);
            let blocked = self.loops.blocked().filter(|(segment, _)| segment.port == number).count();
            page.sample("stopover_segment_blocked", &labels, blocked);
        }
        page.family("stopover_lcore_cycles_total", "counter", "TSC cycles by lcore and state.");
        for lcore in self.show_lcores(&readings) {
            let number = lcore.lcore.to_string();
            let labels = |state| [("lcore", number.as_str()), ("state", state)];
            page.sample("stopover_lcore_cycles_total", &labels("busy"), lcore.busy_cycles);
            page.sample("stopover_lcore_cycles_total", &labels("idle"), lcore.idle_cycles);
        }
        let board = self.show_board();
        page.family("stopover_board_connected", "gauge", "1 while the watch of the board runs.");
        page.sample("stopover_board_connected", &[], u8::from(board.connected));
        page.family(
            "stopover_forwarding",
            "gauge",
            "1 once ports run; 0 while the board's first snapshot is waited for.",
        );
        page.sample("stopover_forwarding", &[], u8::from(board.forwarding));
        page.family(
            "stopover_board_other",
            "gauge",
            "1 while another board answers, which is not followed without the operator's word.",
        );
        page.sample("stopover_board_other", &[], u8::from(board.other_board.is_some()));
        page.family(
            "stopover_board_other_branch_total",
            "counter",
            "Snapshots that were not of the history of what was forwarded by.",
        );
        page.sample("stopover_board_other_branch_total", &[], board.other_branches);
        page.family("stopover_board_revision", "gauge", "Revision of the board that was received.");
        page.sample("stopover_board_revision", &[], board.revision);
        page.family(
            "stopover_board_acknowledged_revision",
            "gauge",
            "Revision that every lcore forwards by.",
        );
        page.sample("stopover_board_acknowledged_revision", &[], board.acknowledged);
        page.family("stopover_mbufs_in_use", "gauge", "Buffers taken from the pool.");
        page.sample("stopover_mbufs_in_use", &[], self.pool.in_use());
        page.family("stopover_table_bytes", "gauge", "Memory of the node and address tables.");
        page.sample("stopover_table_bytes", &[], self.tables.memory_bytes());
        page.0
    }

    fn migration_metrics(&self, page: &mut Page, held: u64) {
        page.family("stopover_held_frames", "gauge", "Frames that wait, in a hold or for a full device.");
        page.sample("stopover_held_frames", &[], held);
        page.family("stopover_hold_bytes_free", "gauge", "Memory of the hold that nobody uses.");
        page.sample("stopover_hold_bytes_free", &[], self.hold.free_bytes());
        for (name, help, count) in self.moves.totals() {
            page.family(name, "counter", help);
            page.sample(name, &[], count);
        }
    }
}

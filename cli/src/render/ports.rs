//! Ports, counters, lcores and drops.

use crate::table::{Table, join, opt, yes_no};
use std::fmt::Write as _;
use stopover_ctl::{
    DeviceState, Drop, FwdStats, LcoreState, LcoreStats, PortInfo, PortRole, PortStats, Version,
};
use stopover_net::IPV6_MIN_MTU;

/// `show version`
pub fn version(v: &Version) -> String {
    format!("{} runs stopover {} on {}, process {}, up {} s\n", v.name, v.version, v.dpdk, v.pid, v.uptime_s)
}

/// `show port stats`
pub fn port_stats(rows: &[PortStats]) -> String {
    let headers = [
        "PORT",
        ">RX-packets",
        ">RX-bytes",
        ">RX-missed",
        ">RX-errors",
        ">RX-nombuf",
        ">TX-packets",
        ">TX-bytes",
        ">TX-errors",
    ];
    let mut t = Table::new(&headers, "no ports");
    for p in rows {
        let [a, b, c, d, e, f, g, h] = [
            p.rx_packets,
            p.rx_bytes,
            p.rx_missed,
            p.rx_errors,
            p.rx_nombuf,
            p.tx_packets,
            p.tx_bytes,
            p.tx_errors,
        ]
        .map(|n| n.to_string());
        t.row([p.name.clone(), a, b, c, d, e, f, g, h]);
    }
    t.to_string()
}

/// `show port info`
pub fn port_info(rows: &[PortInfo]) -> String {
    let mut s = String::new();
    for (i, p) in rows.iter().enumerate() {
        if i > 0 {
            s.push('\n');
        }
        let speed = p.speed_mbps.map_or_else(|| "speed unknown".to_owned(), |m| format!("{m} Mb/s"));
        let duplex = if p.full_duplex { "full duplex" } else { "half duplex" };
        let link = match (p.link_up, device_state(p)) {
            (true, _) => format!("up, {speed}, {duplex}"),
            (false, None) => "down".to_owned(),
            (false, Some(state)) => format!("down, device {state}"),
        };
        let rxq = p.rxq_lcores.iter().enumerate().map(|(q, lcore)| format!("{q} on lcore {lcore}"));
        let rxq = rxq.collect::<Vec<_>>().join(", ");
        let lines = [
            ("role", role(&p.role)),
            ("device", format!("{}, driver {}, port id {}", p.device, p.driver, p.port_id)),
            ("socket", opt(p.socket)),
            ("MAC", p.mac.to_string()),
            ("link", link),
            ("MTU", mtu(p)),
            ("promiscuous", yes_no(p.promiscuous)),
            ("RX queues", format!("{} of {} descriptors: {rxq}", p.rxq_lcores.len(), p.rxd)),
            ("TX queues", format!("{} of {} descriptors", p.txq, p.txd)),
            ("RX offloads", join(&p.rx_offloads)),
            ("TX offloads", join(&p.tx_offloads)),
        ];
        // Writing to a String cannot fail.
        let _ = writeln!(s, "port {}", p.name);
        for (name, value) in lines.into_iter().filter(|(_, v)| !v.is_empty()) {
            let _ = writeln!(s, "  {name:<12} {value}");
        }
    }
    if s.is_empty() { "no ports\n".to_owned() } else { s }
}

/// Why a port is down whose device is not in service.
pub fn device_state(p: &PortInfo) -> Option<&'static str> {
    match p.device_state {
        DeviceState::InService => None,
        DeviceState::Recovering => Some("recovering"),
        DeviceState::Resetting => Some("resetting"),
        DeviceState::Failed => Some("failed"),
        DeviceState::Removed => Some("removed"),
    }
}

/// With the MTU inside the tunnel, on an underlay port.
fn mtu(p: &PortInfo) -> String {
    let mut text = p.mtu.to_string();
    for inside in &p.inside {
        let family = if inside.over_ipv6 { "IPv6" } else { "IPv4" };
        let _ = write!(text, ", {} inside over {family}", inside.mtu);
        if inside.mtu < IPV6_MIN_MTU {
            let _ = write!(text, " (too small for guests' IPv6, which needs {IPV6_MIN_MTU})");
        }
    }
    text
}

fn role(role: &PortRole) -> String {
    match role {
        PortRole::Underlay { addresses, vlan } => {
            let vlan = vlan.map(|v| format!(", VLAN {v}")).unwrap_or_default();
            format!("underlay, VTEP {}{vlan}", join(addresses))
        }
        PortRole::Vif { vni, vm_mac, addresses, guard } => {
            let addresses = if addresses.is_empty() { "no addresses".to_owned() } else { join(addresses) };
            format!("vif, VNI {vni}, VM {vm_mac}, {addresses}, guard {}", if *guard { "on" } else { "off" })
        }
        PortRole::Segment { vni, vlans, stations, blocked } => {
            let untagged = vni.map(|v| format!(", untagged VNI {v}")).unwrap_or_default();
            let tagged: String = vlans.iter().map(|(vlan, vni)| format!(", VLAN {vlan} VNI {vni}")).collect();
            let blocked: String =
                blocked.iter().map(|b| format!(", VNI {} blocked {}", b.vni, b.reason)).collect();
            format!("segment{untagged}{tagged}, {stations} stations{blocked}")
        }
    }
}

/// `show fwd stats`
pub fn fwd_stats(fwd: &FwdStats) -> String {
    let mut t = Table::new(&["PORT", ">RX-packets", ">RX-dropped", ">TX-packets", ">TX-dropped"], "no ports");
    let mut total = [0u64; 4];
    for p in &fwd.ports {
        let counts = [p.rx_packets, p.rx_dropped, p.tx_packets, p.tx_dropped];
        for (sum, n) in total.iter_mut().zip(counts) {
            *sum += n;
        }
        let [a, b, c, d] = counts.map(|n| n.to_string());
        t.row([p.name.clone(), a, b, c, d]);
    }
    let [a, b, c, d] = total.map(|n| n.to_string());
    t.row(["all".to_owned(), a, b, c, d]);

    let k = &fwd.accounting;
    let mut accounting = Table::new(
        &[">received", ">copied", ">originated", ">sent", ">to-control", ">held", ">dropped", ">unaccounted"],
        "",
    );
    let cells =
        [k.received, k.copied, k.originated, k.sent, k.to_control, k.held, k.dropped].map(|n| n.to_string());
    let [a, b, c, d, e, f, g] = cells;
    accounting.row([a, b, c, d, e, f, g, k.unaccounted.to_string()]);
    format!("{t}\n{accounting}")
}

/// `show lcores`
pub fn lcores(rows: &[LcoreStats]) -> String {
    let headers = [
        ">LCORE",
        ">SOCKET",
        "STATE",
        ">FRAMES",
        ">BURSTS",
        ">POLLS",
        ">EMPTY",
        ">SLEEPS",
        ">BUSY%",
        ">CYCLES/FRAME",
        ">REVISION",
        "QUEUES",
    ];
    let mut t = Table::new(&headers, "no lcores");
    for l in rows {
        let cycles = l.busy_cycles as f64 + l.idle_cycles as f64;
        let busy = if cycles > 0.0 {
            format!("{:.1}", 100.0 * l.busy_cycles as f64 / cycles)
        } else {
            String::new()
        };
        let state = match l.state {
            LcoreState::Main => "main",
            LcoreState::Polling => "polling",
            LcoreState::Sleeping => "sleeping",
            LcoreState::Idle => "idle",
            LcoreState::Stopped => "stopped",
        };
        t.row([
            l.lcore.to_string(),
            l.socket.to_string(),
            state.to_owned(),
            l.frames.to_string(),
            l.bursts.to_string(),
            l.polls.to_string(),
            l.empty_polls.to_string(),
            l.sleeps.to_string(),
            busy,
            opt(l.cycles_per_frame.map(|c| format!("{c:.0}"))),
            l.revision.to_string(),
            join(&l.queues),
        ]);
    }
    t.to_string()
}

/// `show drops`
pub fn drops(rows: &[Drop]) -> String {
    let mut t = Table::new(&["REASON", ">COUNT", "LCORES", "MEANING"], "nothing dropped");
    for d in rows {
        let lcores = d.lcores.iter().filter(|l| l.count > 0).map(|l| format!("{}:{}", l.lcore, l.count));
        t.row([d.reason.clone(), d.count.to_string(), join(lcores), d.explanation.clone()]);
    }
    t.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopover_ctl::{Accounting, BlockedSegment, LcoreCount, PortFwd};
    use stopover_net::{Mac, VlanId, Vni};

    #[test]
    fn statistics_of_ports() {
        let row = |name: &str, n: u64| PortStats {
            name: name.into(),
            rx_packets: n,
            rx_bytes: n * 64,
            tx_packets: 7,
            tx_bytes: 448,
            ..PortStats::default()
        };
        assert_eq!(
            port_stats(&[row("vm1", 12), row("ul0", 1_000_000)]),
            "\
PORT  RX-packets  RX-bytes  RX-missed  RX-errors  RX-nombuf  TX-packets  TX-bytes  TX-errors
vm1           12       768          0          0          0           7       448          0
ul0      1000000  64000000          0          0          0           7       448          0
"
        );
    }

    fn vif() -> PortInfo {
        PortInfo {
            name: "vm1".into(),
            device: "net_vhost0".into(),
            port_id: 1,
            driver: "net_vhost".into(),
            role: PortRole::Vif {
                vni: Vni::new(100).unwrap(),
                vm_mac: Mac::new([0x52, 0x54, 0, 0, 0, 1]),
                addresses: vec!["192.168.0.1".parse().unwrap()],
                guard: true,
            },
            mac: Mac::new([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            inside: vec![],
            promiscuous: false,
            link_up: true,
            device_state: DeviceState::InService,
            speed_mbps: Some(10_000),
            full_duplex: true,
            socket: None,
            rxd: 512,
            txd: 256,
            rxq_lcores: vec![1, 2],
            txq: 2,
            rx_offloads: vec![],
            tx_offloads: vec!["MULTI_SEGS".into(), "TCP_CKSUM".into()],
        }
    }

    #[test]
    fn information_about_ports() {
        let mut p = vif();
        assert_eq!(
            port_info(std::slice::from_ref(&p)),
            "\
port vm1
  role         vif, VNI 100, VM 52:54:00:00:00:01, 192.168.0.1, guard on
  device       net_vhost0, driver net_vhost, port id 1
  MAC          02:00:00:00:00:09
  link         up, 10000 Mb/s, full duplex
  MTU          1500
  promiscuous  no
  RX queues    2 of 512 descriptors: 0 on lcore 1, 1 on lcore 2
  TX queues    2 of 256 descriptors
  TX offloads  MULTI_SEGS TCP_CKSUM
"
        );
        p.link_up = false;
        p.mtu = 1340;
        p.inside = vec![
            stopover_ctl::Inside { over_ipv6: false, mtu: 1290 },
            stopover_ctl::Inside { over_ipv6: true, mtu: 1270 },
        ];
        assert!(port_info(std::slice::from_ref(&p)).contains(
            "MTU          1340, 1290 inside over IPv4, 1270 inside over IPv6 (too small for guests' IPv6, which needs 1280)\n"
        ));
        p.role = PortRole::Segment {
            vni: None,
            vlans: vec![(VlanId::new(10).unwrap(), Vni::new(1010).unwrap())],
            stations: 3,
            blocked: vec![],
        };
        let text = port_info(std::slice::from_ref(&p));
        assert!(
            text.contains("segment, VLAN 10 VNI 1010, 3 stations\n") && text.contains("link         down\n")
        );
        if let PortRole::Segment { blocked, .. } = &mut p.role {
            let reason = "because gw-a forwards for the same LAN".to_owned();
            blocked.push(BlockedSegment { vni: Vni::new(1010).unwrap(), vlan: None, reason });
        }
        let text = port_info(&[p]);
        assert!(text.contains("3 stations, VNI 1010 blocked because gw-a forwards for the same LAN\n"));
    }

    #[test]
    fn forwarding_and_accounting() {
        let fwd = FwdStats {
            ports: vec![
                PortFwd { name: "vm1".into(), rx_packets: 10, rx_dropped: 1, tx_packets: 0, tx_dropped: 0 },
                PortFwd { name: "ul0".into(), rx_packets: 0, rx_dropped: 0, tx_packets: 9, tx_dropped: 0 },
            ],
            accounting: Accounting { received: 10, sent: 9, dropped: 1, ..Accounting::default() },
        };
        assert_eq!(
            fwd_stats(&fwd),
            "\
PORT  RX-packets  RX-dropped  TX-packets  TX-dropped
vm1           10           1           0           0
ul0            0           0           9           0
all           10           1           9           0

received  copied  originated  sent  to-control  held  dropped  unaccounted
      10       0           0     9           0     0        1            0
"
        );
    }

    #[test]
    fn lcores_and_drops() {
        let l = LcoreStats {
            lcore: 1,
            socket: 0,
            state: LcoreState::Sleeping,
            queues: vec!["ul0:0".into(), "vm1:0".into()],
            polls: 100,
            empty_polls: 90,
            bursts: 10,
            frames: 320,
            sleeps: 5,
            busy_cycles: 32_000,
            idle_cycles: 96_000,
            cycles_per_frame: Some(100.0),
            revision: 17,
        };
        assert_eq!(
            lcores(&[l]),
            "\
LCORE  SOCKET  STATE     FRAMES  BURSTS  POLLS  EMPTY  SLEEPS  BUSY%  CYCLES/FRAME  REVISION  QUEUES
    1       0  sleeping     320      10    100     90       5   25.0           100        17  ul0:0 vm1:0
"
        );
        let d = Drop {
            reason: "unknown_vni".into(),
            count: 3,
            explanation: "no local port is in the network".into(),
            lcores: vec![LcoreCount { lcore: 1, count: 3 }, LcoreCount { lcore: 2, count: 0 }],
        };
        assert_eq!(
            drops(&[d]),
            "REASON       COUNT  LCORES  MEANING\nunknown_vni      3  1:3     no local port is in the network\n"
        );
        assert_eq!(drops(&[]), "nothing dropped\n");
    }
}

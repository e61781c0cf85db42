//! Configurations made of choices: each choice is a small number, and every list of them is a valid configuration. Few
//! edits of the list make few differences.

use proptest::prelude::*;
use std::fmt::Write as _;

const TUNNELS: [&str; 5] = [
    "None",
    "()",
    "(mode: required, networks: {100: off}, cipher: aes256, window: 4096)",
    "(mode: required, hosts: {\"hv-b\": off}, engine: aws_lc, peers: 10)",
    "(networks: {100: required}, engine: ipsec_mb, rekey_s: 60, export_keys: \"/run/esp_sa\")",
];

/// How many choices a configuration is made of; later ones are 0.
const CHOICES: usize = 160;

#[derive(Debug, Clone)]
pub struct Made {
    choices: Vec<u8>,
    /// Shifts the order of ports and rows.
    order: u8,
}

/// Reads one choice after another.
struct Reader<'a>(std::slice::Iter<'a, u8>);

impl Reader<'_> {
    /// A number below `n`.
    fn below(&mut self, n: u8) -> u8 {
        self.0.next().map_or(0, |choice| choice % n)
    }

    fn of<'t>(&mut self, words: &[&'t str]) -> &'t str {
        words[usize::from(self.below(words.len() as u8))]
    }
}

impl Made {
    pub fn any() -> impl Strategy<Value = Self> {
        proptest::collection::vec(any::<u8>(), CHOICES).prop_map(|choices| Self { choices, order: 0 })
    }

    pub fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
        proptest::collection::vec((0..CHOICES, any::<u8>()), 0..6)
    }

    pub fn edited(&self, edits: &[(usize, u8)]) -> Self {
        let mut made = self.clone();
        for (at, choice) in edits {
            made.choices[*at] = *choice;
        }
        made.order = edits.len() as u8;
        made
    }

    pub fn in_another_order(&self, order: u8) -> Self {
        Self { order, ..self.clone() }
    }

    fn shifted(&self, mut items: Vec<String>) -> String {
        let by = usize::from(self.order) % items.len().max(1);
        items.rotate_left(by);
        items.join(", ")
    }

    pub fn text(&self) -> String {
        let mut r = Reader(self.choices.iter());
        let mut text = String::from("(name: \"gw\", eal: [\"-l\", \"0-3\"],\n");
        for (key, values) in [
            ("burst", ["32", "16", "64"]),
            ("rxd", ["512", "256", "1024"]),
            ("mbcache", ["256", "128", "0"]),
            ("idle", ["poll", "adaptive()", "adaptive(cap_us: 7)"]),
            ("metrics", ["None", "\"127.0.0.1:9481\"", "\"[::1]:9481\""]),
            ("max_network_stations", ["65536", "10", "20"]),
            ("stale_ms", ["30000", "0", "1"]),
            ("checkpoint_s", ["10", "0", "1"]),
            ("migration", ["()", "(window_ms: 20)", "(hold_mib: 8, marker_wait_ms: 9)"]),
        ] {
            let _ = writeln!(text, "{key}: {},", r.of(&values));
        }
        let (mut vdevs, mut ports, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..6 {
            port(n, &mut r, &mut vdevs, &mut ports, &mut queues);
        }
        let _ = writeln!(text, "vdevs: [{}],", self.shifted(vdevs));
        let _ = writeln!(text, "ports: [{}],", self.shifted(ports));
        if r.below(2) == 1 {
            let second = queues.split_off(1 + usize::from(r.below(queues.len() as u8)).min(queues.len() - 1));
            let _ = write!(text, "lcores: {{1: [{}]", queues.join(", "));
            if !second.is_empty() {
                let _ = write!(text, ", 2: [{}]", second.join(", "));
            }
            text.push_str("},\n");
        }
        let truth = r.below(4);
        // Only a board has the public keys of hosts.
        if truth < 2 {
            let _ = writeln!(text, "tunnels: {},", r.of(&TUNNELS));
        }
        match truth {
            0 => text.push_str("board: [\"http://10.9.0.1:7480\"], insecure: true,\n"),
            1 => {
                text.push_str("board: [\"unix:/run/bbs.sock\", \"http://10.9.0.1:7480\"], insecure: true,\n")
            }
            _ => text.push_str(&self.declared(&mut r)),
        }
        text + ")"
    }

    fn declared(&self, r: &mut Reader<'_>) -> String {
        let (mut hosts, mut networks, mut nodes, mut members) = (vec![], vec![], vec![], vec![]);
        for n in 0..3 {
            if r.below(4) != 0 {
                let port = r.of(&["4789", "8472"]);
                hosts.push(format!(
                    "(name: \"h{n}\", vteps: [\"10.0.9.1{n}{}\"], udp_port: {port})",
                    r.below(2)
                ));
                for node in 0..3 {
                    if r.below(3) != 0 {
                        let ips = r
                            .of(&["", "\"10.9.9.9\"", "\"10.9.9.9\", \"fd00::9\""])
                            .replace("9.9.9\"", &format!("{n}.{node}.9\""));
                        let ips = ips.replace("::9", &format!("::{n}{node}"));
                        nodes.push(format!(
                            "(vni: 900, mac: \"02:00:00:09:0{n}:0{node}\", host: \"h{n}\", ips: [{ips}])"
                        ));
                    }
                }
                if r.below(2) == 1 {
                    let segment = r.of(&["true", "false"]);
                    members.push(format!("(vni: 900, host: \"h{n}\", segment: {segment})"));
                }
            }
            if r.below(2) == 1 {
                networks.push(format!(
                    "(vni: 90{n}, name: {}, flood: \"{}\", mtu: {})",
                    r.of(&["None", "\"shop\""]),
                    r.of(&["flood", "drop", "to-segments"]),
                    r.of(&["0", "1450"])
                ));
            }
        }
        format!(
            "declared: (hosts: [{}], networks: [{}], nodes: [{}], members: [{}]),\n",
            self.shifted(hosts),
            self.shifted(networks),
            self.shifted(nodes),
            self.shifted(members)
        )
    }
}

/// Port `n`, or none; port 0 is always there. Each has networks, MACs and addresses of its own.
fn port(
    n: u8,
    r: &mut Reader<'_>,
    vdevs: &mut Vec<String>,
    ports: &mut Vec<String>,
    queues: &mut Vec<String>,
) {
    let is_there = r.below(4) != 0 || n == 0;
    let arguments = r.of(&[",size=64", ",size=128"]);
    let device = match r.below(3) {
        0 => {
            vdevs.push(format!("\"net_null{n}{arguments}\""));
            format!("net_null{n}")
        }
        1 => format!("net_null{n}{arguments}"),
        _ => format!("0000:0{n}:00.{}", r.below(2)),
    };
    if !is_there {
        return;
    }
    let rxq = 1 + r.below(2);
    queues.extend((0..rxq).map(|queue| format!("\"p{n}:{queue}\"")));
    let role = match r.below(3) {
        0 => vif(n, r),
        1 => segment(n, r),
        _ => underlay(n, r),
    };
    ports.push(format!(
        "(name: \"p{n}\", device: \"{device}\", rxq: {rxq}, txq: {}, mtu: {}, promiscuous: {}, role: {role})",
        r.below(3),
        r.of(&["None", "1600"]),
        r.of(&["None", "true", "false"]),
    ));
}

fn vif(n: u8, r: &mut Reader<'_>) -> String {
    let vni = 10 * u32::from(n) + 1 + u32::from(r.below(2));
    let guard = r.of(&[
        "",
        "guard: false",
        "router: true",
        "dhcp_server: true",
        "allowed: [(ip: \"10.3.0.0/16\")]",
        "allowed: [(ip: \"10.3.0.0/16\"), (ip: \"10.4.0.9\", mac: \"02:00:00:00:09:09\")]",
    ]);
    format!(
        "vif(vni: {vni}, mac: \"02:00:00:00:0{n}:0{}\", addresses: [{}], shared_addresses: [{}], {guard})",
        r.below(2),
        r.of(&["", "\"10.1.0.1\"", "\"10.1.0.1\", \"fd00::1\"", "\"fd00::1\", \"10.1.0.1\""]),
        r.of(&["", "\"10.2.0.1\""]),
    )
}

fn segment(n: u8, r: &mut Reader<'_>) -> String {
    let base = 100 * (u32::from(n) + 1);
    format!(
        "segment(vni: {base}, vlans: {{{}}}, ageing_s: {}, max_stations: {}, new_stations_per_s: {}, stations: [{}])",
        ["", "5: B1", "5: B2, 6: B1"][usize::from(r.below(3))].replace('B', &(base / 10).to_string()),
        r.of(&["300", "10"]),
        r.of(&["16384", "10"]),
        r.of(&["2000", "10"]),
        ["", "(mac: \"02:00:00:01:00:01\", vni: B)", "(mac: \"02:00:00:01:00:01\", vni: B, addresses: [\"10.5.0.1\"], shared_addresses: [\"10.5.0.2\"])"]
            [usize::from(r.below(3))]
        .replace('B', &base.to_string()),
    )
}

/// At most four VTEP addresses over all ports: only the first two of these ports have a role of underlay.
fn underlay(n: u8, r: &mut Reader<'_>) -> String {
    if n > 1 {
        return vif(n, r);
    }
    let (own, other) = (format!("10.0.{n}.1/24"), format!("10.0.{n}.3"));
    format!(
        "underlay(addresses: [{}], vlan: {}, gateways: [{}], routes: [{}], neighbours: [{}], ttl: {}, dscp: {}, udp6_zero_checksum: {})",
        [format!("\"{own}\""), format!("\"{own}\", \"fd00:{n}::1/64\"")][usize::from(r.below(2))],
        r.of(&["None", "30"]),
        ["", "\"G\""][usize::from(r.below(2))].replace('G', &other),
        ["", "(to: \"10.8.0.0/16\", via: \"G\")"][usize::from(r.below(2))].replace('G', &other),
        ["", "(ip: \"G\", mac: \"02:00:00:02:00:01\")"][usize::from(r.below(2))].replace('G', &other),
        r.of(&["64", "9"]),
        r.of(&["copy", "pcp", "fixed(0)", "fixed(46)"]),
        r.of(&["true", "false"]),
    )
}

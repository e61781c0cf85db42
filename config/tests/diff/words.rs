//! Each key of the file in turn: its change is noticed, has its words, and needs what it needs.

use super::{diff, lines, ordered, parse};

const GOOD: &str = r#"(
    name: "gw-a",
    eal: ["-l", "0-2"],
    vdevs: ["net_vhost0,iface=/run/vm1.sock", "net_tap0"],
    burst: 32, rxd: 512, txd: 512, mbcache: 256, mbufs: 16384, mbuf_size: 2176,
    idle: adaptive(), metrics: "127.0.0.1:9481", max_network_stations: 100, stale_ms: 30000, checkpoint_s: 10,
    migration: (hold_mib: 64, hold_node_mib: 32, hold_ms: 10000, window_ms: 1000, marker_wait_ms: 500),
    declared: (
        hosts: [(name: "far", vteps: ["10.0.0.9"])],
        networks: [(vni: 100, name: "shop", mtu: 1450)],
        nodes: [(vni: 100, mac: "02:00:00:00:00:09", host: "far", ips: ["192.168.0.9"])],
        members: [(vni: 7, host: "far")],
    ),
    ports: [
        (name: "ul0", device: "0000:03:00.0", role: underlay(addresses: ["10.0.0.1/24"], gateways: ["10.0.0.254"])),
        (name: "vm1", device: "net_vhost0", role: vif(vni: 100, mac: "52:54:00:00:00:01", addresses: ["192.168.0.1"])),
        (name: "br0", device: "net_tap0", role: segment(vlans: {10: 110, 20: 120}, stations: [(mac: "02:00:00:00:00:07", vni: 110)])),
    ],
    lcores: {1: ["ul0:0", "vm1:0"], 2: ["br0:0"]},
)"#;

const RESTART: &str = " (needs a restart)";
const REOPEN: &str = " (the port is closed and opened again)";

/// What stands once in [`GOOD`], what replaces it, the line, and what it needs.
type Case = (&'static str, &'static str, &'static str, &'static str);

const SETTINGS: &[Case] = &[
    (
        "\"gw-a\"",
        "\"gw-a\", ctl: \"/run/stopover/gw-b.sock\"",
        "`ctl` changes from /run/stopover/gw-a.sock to /run/stopover/gw-b.sock",
        RESTART,
    ),
    ("\"gw-a\"", "\"gw-b\", ctl: \"/run/stopover/gw-a.sock\"", "`name` changes from gw-a to gw-b", RESTART),
    ("\"0-2\"", "\"0-3\"", "`eal` changes from [-l 0-2] to [-l 0-3]", RESTART),
    ("burst: 32", "burst: 32, insecure: true", "`insecure` changes from false to true", RESTART),
    ("burst: 32", "burst: 64", "`burst` changes from 32 to 64", RESTART),
    ("rxd: 512", "rxd: 256", "`rxd` changes from 512 to 256", RESTART),
    ("txd: 512", "txd: 256", "`txd` changes from 512 to 256", RESTART),
    ("mbcache: 256", "mbcache: 0", "`mbcache` changes from 256 to 0", RESTART),
    ("mbufs: 16384", "mbufs: 32768", "`mbufs` changes from 16384 to 32768", RESTART),
    ("mbuf_size: 2176", "mbuf_size: 9216", "`mbuf_size` changes from 2176 to 9216", RESTART),
    ("adaptive()", "poll", "`idle` changes from adaptive(cap_us: 100, poll_us: 50) to poll", RESTART),
    ("metrics: \"127.0.0.1:9481\", ", "", "`metrics` changes from 127.0.0.1:9481 to none", RESTART),
    ("hold_mib: 64", "hold_mib: 65", "`migration.hold_mib` changes from 64 to 65", RESTART),
    ("hold_node_mib: 32", "hold_node_mib: 33", "`migration.hold_node_mib` changes from 32 to 33", RESTART),
    ("hold_ms: 10000", "hold_ms: 10001", "`migration.hold_ms` changes from 10000 to 10001", RESTART),
    (
        "marker_wait_ms: 500",
        "marker_wait_ms: 501",
        "`migration.marker_wait_ms` changes from 500 to 501",
        RESTART,
    ),
    ("window_ms: 1000", "window_ms: 1001", "`migration.window_ms` changes from 1000 to 1001", ""),
    ("stations: 100", "stations: 101", "`max_network_stations` changes from 100 to 101", ""),
    ("stale_ms: 30000", "stale_ms: 0", "`stale_ms` changes from 30000 to 0", ""),
    ("checkpoint_s: 10", "checkpoint_s: 0", "`checkpoint_s` changes from 10 to 0", ""),
    (
        "1: [\"ul0:0\", \"vm1:0\"], 2: [\"br0:0\"]",
        "2: [\"vm1:0\", \"ul0:0\", \"br0:0\"]",
        "`lcores` changes from lcore 1: ul0:0 vm1:0, lcore 2: br0:0 to lcore 2: vm1:0 ul0:0 br0:0",
        "",
    ),
    (
        "    lcores: {1: [\"ul0:0\", \"vm1:0\"], 2: [\"br0:0\"]},\n",
        "",
        "`lcores` changes from lcore 1: ul0:0 vm1:0, lcore 2: br0:0 to spread",
        "",
    ),
];

const PORTS: &[Case] = &[
    (
        "iface=/run/vm1.sock",
        "iface=/run/vm2.sock",
        "port vm1: `device` changes from net_vhost0,iface=/run/vm1.sock to net_vhost0,iface=/run/vm2.sock",
        REOPEN,
    ),
    (
        "\"0000:03:00.0\"",
        "\"0000:03:00.1\"",
        "port ul0: `device` changes from 0000:03:00.0 to 0000:03:00.1",
        REOPEN,
    ),
    (
        "device: \"net_tap0\"",
        "device: \"net_tap0\", txq: 1",
        "port br0: `txq` changes from one per lcore to 1",
        REOPEN,
    ),
    (
        "device: \"net_tap0\"",
        "device: \"net_tap0\", mtu: 1600",
        "port br0: `mtu` changes from the device's to 1600",
        REOPEN,
    ),
    (
        "device: \"net_tap0\"",
        "device: \"net_tap0\", promiscuous: false",
        "port br0: `promiscuous` changes from true to false",
        REOPEN,
    ),
    (
        "vif(vni: 100, mac: \"52:54:00:00:00:01\", addresses: [\"192.168.0.1\"])",
        "segment(vni: 100), promiscuous: false",
        "port vm1: `role` changes from vif to segment",
        REOPEN,
    ),
    // A vif.
    ("vif(vni: 100", "vif(vni: 200", "port vm1: `vni` changes from 100 to 200", REOPEN),
    (
        "52:54:00:00:00:01",
        "52:54:00:00:00:02",
        "port vm1: `mac` changes from 52:54:00:00:00:01 to 52:54:00:00:00:02",
        REOPEN,
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\", \"fd00::1\"]",
        "port vm1: `addresses` changes from 192.168.0.1 to 192.168.0.1, fd00::1",
        "",
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\"], shared_addresses: [\"192.168.0.100\"]",
        "port vm1: `shared_addresses` changes from none to 192.168.0.100",
        "",
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\"], guard: false",
        "port vm1: `guard` changes from true to false",
        "",
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\"], allowed: [(ip: \"10.0.0.0/8\")]",
        "port vm1: `allowed` changes from none to 10.0.0.0/8 with 52:54:00:00:00:01",
        "",
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\"], router: true",
        "port vm1: `router` changes from false to true",
        "",
    ),
    (
        "addresses: [\"192.168.0.1\"]",
        "addresses: [\"192.168.0.1\"], dhcp_server: true",
        "port vm1: `dhcp_server` changes from false to true",
        "",
    ),
    // A segment.
    ("vlans: {10", "vni: 7, vlans: {10", "port br0: `vni` changes from none to 7", REOPEN),
    (
        "20: 120",
        "20: 120, 30: 130",
        "port br0: `vlans` changes from 10: 110, 20: 120 to 10: 110, 20: 120, 30: 130",
        REOPEN,
    ),
    ("segment(", "segment(ageing_s: 10, ", "port br0: `ageing_s` changes from 300 to 10", ""),
    ("segment(", "segment(max_stations: 10, ", "port br0: `max_stations` changes from 16384 to 10", ""),
    (
        "segment(",
        "segment(new_stations_per_s: 10, ",
        "port br0: `new_stations_per_s` changes from 2000 to 10",
        "",
    ),
    (
        "vni: 110)",
        "vni: 110, addresses: [\"10.1.0.1\", \"10.1.0.2\"], shared_addresses: [\"10.1.0.3\"])",
        "port br0: `stations` changes from 02:00:00:00:00:07 in network 110 to 02:00:00:00:00:07 in network 110 with 10.1.0.1 10.1.0.2 sharing 10.1.0.3",
        "",
    ),
    // An underlay.
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/23\"]",
        "port ul0: `addresses` changes from 10.0.0.1/24 to 10.0.0.1/23",
        "",
    ),
    ("[\"10.0.0.1/24\"]", "[\"10.0.0.1/24\"], vlan: 5", "port ul0: `vlan` changes from untagged to 5", ""),
    (", gateways: [\"10.0.0.254\"]", "", "port ul0: `gateways` changes from 10.0.0.254 to none", ""),
    (
        "[\"10.0.0.254\"]",
        "[\"10.0.0.254\"], routes: [(to: \"10.8.0.0/16\", via: \"10.0.0.3\")]",
        "port ul0: `routes` changes from none to 10.8.0.0/16 via 10.0.0.3",
        "",
    ),
    (
        "[\"10.0.0.254\"]",
        "[\"10.0.0.254\"], neighbours: [(ip: \"10.0.0.3\", mac: \"02:00:00:00:00:03\")]",
        "port ul0: `neighbours` changes from none to 10.0.0.3 at 02:00:00:00:00:03",
        "",
    ),
    (
        "[\"10.0.0.254\"]",
        "[\"10.0.0.254\"], udp_port: 8472",
        "port ul0: `udp_port` changes from 4789 to 8472",
        "",
    ),
    ("[\"10.0.0.254\"]", "[\"10.0.0.254\"], ttl: 9", "port ul0: `ttl` changes from 64 to 9", ""),
    (
        "[\"10.0.0.254\"]",
        "[\"10.0.0.254\"], dscp: fixed(46)",
        "port ul0: `dscp` changes from fixed(0) to fixed(46)",
        "",
    ),
    (
        "[\"10.0.0.254\"]",
        "[\"10.0.0.254\"], udp6_zero_checksum: true",
        "port ul0: `udp6_zero_checksum` changes from false to true",
        "",
    ),
];

const ROWS: &[Case] = &[
    (
        "vteps: [\"10.0.0.9\"]",
        "vteps: [\"10.0.0.9\", \"10.0.0.8\"], udp_port: 8472",
        "host far (VTEP 10.0.0.9 at UDP port 4789) becomes VTEP 10.0.0.9, 10.0.0.8 at UDP port 8472",
        "",
    ),
    (
        "name: \"shop\", mtu: 1450",
        "flood: \"drop\"",
        "network 100 (named shop, flood flood, MTU 1450) becomes without a name, flood drop, no MTU",
        "",
    ),
    (
        "ips: [\"192.168.0.9\"]",
        "",
        "node 02:00:00:00:00:09 of network 100 (at host far, addresses 192.168.0.9) becomes at host far, addresses none",
        "",
    ),
    (
        "(vni: 7, host: \"far\")",
        "(vni: 7, host: \"far\", segment: true)",
        "member far of network 7 (without a segment) becomes with a segment",
        "",
    ),
    (
        "(vni: 7, host: \"far\")",
        "",
        "member far of network 7 (without a segment) is not declared any more",
        "",
    ),
];

#[test]
fn every_key_is_noticed_and_has_its_words() {
    let good = parse(GOOD);
    for (from, to, line, needs) in SETTINGS.iter().chain(PORTS).chain(ROWS) {
        assert_eq!(GOOD.matches(from).count(), 1, "`{from}` stands once in the good configuration");
        let changed = parse(&GOOD.replace(from, to));
        assert_eq!(lines(&diff(&good, &changed)), [format!("{line}{needs}")], "`{from}` replaced by `{to}`");
        assert_eq!(
            ordered(good.with(&diff(&good, &changed))),
            ordered(changed),
            "`{from}` replaced by `{to}`"
        );
    }
}

/// Keys that change others with them.
#[test]
fn several_lines() {
    let good = parse(GOOD);
    let after = |changes: &[(&str, &str)]| {
        let text = changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        });
        lines(&diff(&good, &parse(&text)))
    };
    assert_eq!(
        after(&[
            ("device: \"net_tap0\"", "device: \"net_tap0\", rxq: 2, mtu: 1600"),
            ("\"br0:0\"", "\"br0:0\", \"br0:1\"")
        ]),
        [
            "port br0: `rxq` changes from 1 to 2 (the port is closed and opened again)",
            "port br0: `mtu` changes from the device's to 1600 (the port is closed and opened again)",
            "`lcores` changes from lcore 1: ul0:0 vm1:0, lcore 2: br0:0 to lcore 1: ul0:0 vm1:0, lcore 2: br0:0 br0:1",
        ]
    );
    let declared = &GOOD[GOOD.find("declared:").unwrap()..GOOD.find("    ports:").unwrap()];
    assert_eq!(
        after(&[(declared, "board: [\"unix:/run/bbs.sock\"],")]),
        ["`board` changes from none (declared) to unix:/run/bbs.sock (needs a restart)"]
    );
}

/// They need a board, which [`GOOD`] has not.
#[test]
fn tunnels() {
    let with = |tunnels: &str| {
        let (start, rest) = GOOD.split_once("    declared:").unwrap();
        let (_, end) = rest.split_once("    ),\n").unwrap();
        parse(&format!("{start}board: [\"unix:/run/bbs.sock\"], tunnels: {tunnels},{end}"))
    };
    let none = with("None");
    for (tunnels, words) in [
        ("()", "()"),
        ("(window: 2048, peers: 16384, rekey_s: 120, engine: auto, cipher: aes128, mode: off)", "()"),
        (
            "(mode: required, networks: {100: off, 7: required})",
            "(mode: required, networks: {7: required, 100: off})",
        ),
        (
            "(hosts: {\"b\": required}, cipher: aes256, window: 4096, engine: ipsec_mb)",
            "(hosts: {b: required}, cipher: aes256, window: 4096, engine: ipsec_mb)",
        ),
        (
            "(engine: aws_lc, peers: 9, rekey_s: 60, export_keys: \"/run/esp_sa\")",
            "(engine: aws_lc, peers: 9, rekey_s: 60, export_keys: /run/esp_sa)",
        ),
    ] {
        let with = with(tunnels);
        let expected = format!("`tunnels` changes from none to {words} (needs a restart)");
        assert_eq!(lines(&diff(&none, &with)), [expected], "{tunnels}");
        assert_eq!(none.with(&diff(&none, &with)), with);
        let back = format!("`tunnels` changes from {words} to none (needs a restart)");
        assert_eq!(lines(&diff(&with, &none)), [back]);
    }
}

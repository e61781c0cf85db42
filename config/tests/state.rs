//! The state file: what is written is read again, what the configuration overrules is left out, and a wrong file has a
//! message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use stopover_config::appliance::{self, Appliance, Merged, PortText, QueueRef, State};

const FILE: &str = r#"(
    name: "gw",
    eal: ["-l", "0-2", "--no-pci"],
    vdevs: ["net_tap0", "net_tap9"],
    declared: (
        hosts: [(name: "far", vteps: ["10.0.0.9"])],
        nodes: [(vni: 7, mac: "02:00:00:00:00:09", host: "far", ips: ["10.7.0.9"])],
    ),
    ports: [
        (name: "ul0", device: "net_null0,size=64", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_null1,size=64", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1"])),
    ],
    lcores: {1: ["ul0:0"], 2: ["vm1:0"]},
)"#;

const VM2: &str = r#"(name: "vm2", device: "net_null2,size=64", role: vif(vni: 7, mac: "02:00:00:00:00:02", addresses: ["10.7.0.2"]))"#;

fn file(from: &str, to: &str) -> Appliance {
    assert_eq!(FILE.matches(from).count(), 1, "{from}");
    appliance::parse(&FILE.replace(from, to), Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"))
}

fn port(text: &str) -> PortText {
    PortText::parse(text, Path::new("port")).unwrap_or_else(|e| panic!("{e}"))
}

fn state(ports: &[&str]) -> State {
    State { ports: ports.iter().map(|text| port(text)).collect() }
}

fn merge(ports: &[&str]) -> Merged {
    state(ports).merge(&file("gw", "gw"), Path::new("gw.state.ron"))
}

fn names(a: &Appliance) -> Vec<&str> {
    a.ports.iter().map(|port| port.name.as_str()).collect()
}

#[test]
fn a_port_is_written_as_the_operator_writes_it() {
    for text in [
        VM2,
        r#"(name: "br0", device: "net_tap0", rxq: 2, txq: 1, mtu: 1600, promiscuous: false, role: segment(vni: 5, vlans: {10: 110, 20: 120}, ageing_s: 60, max_stations: 10, new_stations_per_s: 20, stations: [(mac: "02:00:00:00:00:05", vni: 110, addresses: ["10.1.0.1"])]))"#,
        r#"(name: "ul1", device: "0000:03:00.0", role: underlay(addresses: ["10.1.0.1/24"], vlan: 5, gateways: ["10.1.0.254"], routes: [(to: "10.8.0.0/16", via: "10.1.0.3")], neighbours: [(ip: "10.1.0.3", mac: "02:00:00:00:00:03")], udp_port: 4789, ttl: 9, dscp: fixed(46), udp6_zero_checksum: true))"#,
        r#"(name: "vm3", device: "net_tap0", role: vif(vni: 7, mac: "02:00:00:00:00:03", shared_addresses: ["10.7.0.100"], allowed: [(ip: "10.9.0.0/16", mac: "02:00:00:00:00:04"), (ip: "10.8.0.1")], router: true, dhcp_server: true))"#,
    ] {
        assert_eq!(port(text).text(), text);
    }
    // Quotes, backslashes and non-ASCII letters in a text are escaped.
    let odd = port(&VM2.replace("size=64", r#"iface=/run/é \"a\" \\ b"#));
    assert_eq!(port(&odd.text()), odd);
}

#[test]
fn what_is_stored_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = State::path(&dir.path().join("hv-a.ron"));
    assert_eq!(path.file_name().unwrap(), "hv-a.state.ron");
    assert_eq!(State::load(&path).unwrap(), State::default(), "no file, no ports");
    for ports in [&[VM2][..], &[VM2, r#"(name: "x", device: "net_tap0", role: segment(vni: 8))"#], &[]] {
        let written = state(ports);
        written.store(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), written);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["hv-a.state.ron"], "nothing else remains");
    let e = state(&[VM2]).store(Path::new("/absent/hv-a.state.ron")).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn the_file_is_for_people_too() {
    assert_eq!(
        state(&[VM2]).text(),
        format!(
            "// Ports that were added while the appliance ran. It writes this file; `stopover port` changes it.\n\
             (\n    version: 1,\n    ports: [\n        {VM2},\n    ],\n)\n"
        )
    );
}

#[test]
fn ports_are_added_behind_those_of_the_file() {
    let merged = merge(&[VM2, r#"(name: "br9", device: "net_tap9", rxq: 2, role: segment(vni: 8))"#]);
    assert_eq!(names(&merged.appliance), ["ul0", "vm1", "vm2", "br9"]);
    assert_eq!(
        merged.appliance.vdevs,
        ["net_tap0", "net_tap9", "net_null0,size=64", "net_null1,size=64", "net_null2,size=64"]
    );
    assert_eq!((merged.active.len(), merged.aside.len(), merged.replaced.len()), (2, 0, 0));
    // The file's queues stay where it has them; the others go to the lcores with the fewest.
    let queue = |port, queue| QueueRef { port, queue };
    let queues = merged.appliance.queues_by_lcore(&[1, 2], |_, _| true);
    assert_eq!(queues[&1], [queue(0, 0), queue(2, 0), queue(3, 1)]);
    assert_eq!(queues[&2], [queue(1, 0), queue(3, 0)]);
}

#[test]
fn a_port_that_was_added_is_taken_away_again() {
    let (file, tap) = (file("gw", "gw"), r#"(name: "br9", device: "net_tap9", role: segment(vni: 8))"#);
    let both = state(&[VM2, tap]).merge(&file, Path::new("x")).appliance;
    let without = both.without(&port(VM2)).without(&port(tap));
    assert_eq!(without, file, "a device of the file stays");
    assert_eq!(both.without(&port(tap)), state(&[VM2]).merge(&file, Path::new("x")).appliance);
    // Also where ports of the file came later.
    let later = parse_later();
    let mut running = both.with(&appliance::diff::diff(&file, &later));
    assert_eq!(names(&running), ["ul0", "vm1", "vm2", "br9", "vm8"]);
    running = running.without(&port(VM2)).without(&port(tap));
    assert_eq!(running, later, "its queues are those of the same ports");
}

/// The file with another port, which has a queue of its own.
fn parse_later() -> Appliance {
    let vm8 = VM2.replace("vm2", "vm8").replace("null2", "null8");
    let text = FILE.replace("    ],\n    lcores", &format!("        {vm8},\n    ],\n    lcores"));
    let text = text.replace("\"vm1:0\"]", "\"vm1:0\", \"vm8:0\"]");
    appliance::parse(&text.replace("10.7.0.2", "10.7.0.8").replace("00:02", "00:08"), Path::new("gw.ron"))
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_configuration_overrules_what_cannot_be_beside_it() {
    let cases = [
        (
            VM2.replace("00:02\"", "00:01\"").replace("10.7.0.2", "10.7.0.3"),
            "gw.state.ron: ports[0].role.addresses: found 10.7.0.3 of MAC 02:00:00:00:00:01 on port `vm2`, but 10.7.0.1 on port `vm1`; expected the same addresses on every port of a VM; hint: correct one of the two, or give one of the VMs another MAC or vni",
        ),
        (
            VM2.replace("10.7.0.2", "10.7.0.1"),
            "gw.state.ron: ports[0].role.addresses[0]: found address 10.7.0.1 of port `vm2`, which port `vm1` has already in network 7; expected each address once in a network; hint: give one of them another address, or another vni",
        ),
        (
            VM2.replace("net_null2,size=64", "net_null1,size=64"),
            "gw.state.ron: ports[0].device: found virtual device `net_null1` of port `vm2`, which exists already; expected another name for a device that the port creates; hint: give it another number, or write only the name to use the device that exists",
        ),
        (
            VM2.replace("net_null2,size=64", "net_null1"),
            "gw.state.ron: ports[0].device: found device `net_null1` of port `vm2`, which port `vm1` has already; expected a device for each port; hint: create another device in `vdevs`, or remove one of the ports",
        ),
        (
            VM2.replace("net_null2,size=64", "net_null7"),
            "gw.state.ron: ports[0].device: found device `net_null7` of port `vm2`; expected a PCI address, or a device that `vdevs` creates: net_null0, net_null1, net_tap0, net_tap9; hint: add \"net_null7,…\" to `vdevs`, or correct the name",
        ),
        (
            VM2.replace("net_null2,size=64", "0000:03:00.0"),
            "gw.state.ron: ports[0].device: found PCI device 0000:03:00.0 of port `vm2`, with --no-pci in `eal`; expected EAL to look at PCI devices; hint: remove --no-pci from `eal`",
        ),
        (
            VM2.replace("00:02\"", "00:09\""),
            "gw.state.ron: ports[0].role: found MAC 02:00:00:00:00:09 in network 7, which `declared` has at host `far`; expected what no row of `declared` has; hint: correct the port or the row",
        ),
        (
            VM2.replace("10.7.0.2", "10.7.0.9"),
            "gw.state.ron: ports[0].role: found address 10.7.0.9 in network 7, which `declared` has at host `far`; expected what no row of `declared` has; hint: correct the port or the row",
        ),
        (
            r#"(name: "ul1", device: "net_tap0", role: underlay(addresses: ["10.0.0.9/24"]))"#.to_owned(),
            "gw.state.ron: ports[0].role: found VTEP 10.0.0.9, which `declared` has at host `far`; expected what no row of `declared` has; hint: correct the port or the row",
        ),
        (
            r#"(name: "ul1", device: "net_tap0", role: underlay(addresses: ["10.0.1.9/24"], udp_port: 8472))"#.to_owned(),
            "gw.state.ron: ports[0].role.udp_port: found UDP port 8472 on `ul1` but 4789 on `ul0`; expected the same on every underlay port, because a host has one; hint: correct one of the two",
        ),
    ];
    for (bad, message) in cases {
        // A port that comes later is not concerned, also if it uses the device that the first one would have created.
        let other = VM2.replace("vm2", "vm4").replace("00:02\"", "00:04\"").replace("10.7.0.2", "10.7.0.4");
        let merged = merge(&[&bad, &other]);
        assert_eq!(names(&merged.appliance), ["ul0", "vm1", "vm4"], "{bad}");
        let alone = state(&[&other]).merge(&file("gw", "gw"), Path::new("x"));
        assert_eq!(merged.appliance, alone.appliance, "nothing of it remains");
        assert_eq!(merged.aside.iter().map(|a| a.error.to_string()).collect::<Vec<_>>(), [message]);
        assert_eq!((&merged.active, &merged.aside[0].port), (&vec![port(&other)], &port(&bad)));
    }
}

/// The limit of librte_vhost holds for the ports of both files together.
#[test]
fn vhost_user_ports_have_a_limit() {
    let vm = |n: usize| {
        let mac = format!("02:00:00:01:{:02x}:{:02x}", n / 256, n % 256);
        port(&format!(
            r#"(name: "v{n}", device: "net_vhost{n},iface=/run/v{n}.sock", role: vif(vni: 8, mac: "{mac}"))"#
        ))
    };
    let state = State { ports: (0..482).map(vm).collect() };
    let merged = state.merge(&file("gw", "gw"), Path::new("x"));
    assert_eq!((merged.active.len(), merged.aside.len()), (480, 2));
    let why = merged.aside[0].error.to_string();
    assert!(
        why.contains("found 481 vhost-user ports that listen") && why.contains("at most 480 that listen"),
        "{why}"
    );
}

#[test]
fn a_port_of_the_same_name_is_replaced() {
    let same = r#"(name: "vm1", device: "net_null1,size=64", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1"], guard: true))"#;
    for (text, is_same) in
        [(same, true), (&same.replace("vni: 7", "vni: 8"), false), (&same.replace("=64", "=65"), false)]
    {
        let merged = merge(&[VM2, text]);
        assert_eq!(names(&merged.appliance), ["ul0", "vm1", "vm2"]);
        assert_eq!(
            merged.replaced.iter().map(|r| (r.port.name(), r.same)).collect::<Vec<_>>(),
            [("vm1", is_same)]
        );
        assert_eq!((merged.active, merged.aside), (vec![port(VM2)], vec![]));
    }
}

#[test]
fn wrong_files() {
    let good = state(&[VM2]).text();
    let cases = [
        (
            "version: 1",
            "version: 2",
            "s.ron:3:14: version: found 2; expected 1, the format of this version of Stopover; hint: start the version that wrote the file, or remove the file and add its ports again",
        ),
        (
            "    version: 1,\n",
            "",
            "s.ron:6:1: found no key `version` in `state`; expected it to be given; hint: add `version: …`",
        ),
        (
            "ports:",
            "port:",
            "s.ron:4:5: found unknown key `port` in `state`; expected one of `version`, `ports`; hint: did you mean `ports`?",
        ),
        (
            "02:00:00:00:00:02",
            "02:00:00:00:02",
            "s.ron:5:75: ports[0].role.mac: found in port `vm2` MAC `02:00:00:00:02`; expected a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56; hint: write all six bytes, two digits each, separated by colons",
        ),
        (
            "mac:",
            "mca:",
            "s.ron:5:70: found unknown key `mca` in `vif`; expected one of `vni`, `mac`, `addresses`, `shared_addresses`, `guard`, `allowed`, `router`, `dhcp_server`; hint: did you mean `mac`?",
        ),
        (
            "),\n    ],",
            "),\n        (name: \"vm2\", device: \"net_tap0\", role: segment(vni: 8)),\n    ],",
            "s.ron:6:16: ports[1].name: found port `vm2` again; expected each name once; hint: remove one of the two",
        ),
        (
            "net_null2,size=64",
            ",size=64",
            "s.ron:5:31: ports[0].device: found `,size=64`; expected a device name first; hint: for example \"net_vhost0,iface=/run/vm.sock\"",
        ),
    ];
    for (from, to, message) in cases {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        let e = State::parse(&good.replace(from, to), Path::new("s.ron")).unwrap_err();
        assert_eq!(e.to_string(), message);
    }
    let e = PortText::parse(&VM2.replace("vni: 7", "vni: 0"), Path::new("vm2.ron")).unwrap_err();
    assert_eq!(
        e.to_string(),
        "vm2.ron:1:59: role.vni: found in port `vm2` VNI `0`; expected a VNI from 1 to 16777215 (24 bits, RFC 7348); hint: choose a network identifier within the range"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gw.state.ron");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(State::load(&path).unwrap_err().to_string().contains("save the file as UTF-8 text"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(State::load(&path).unwrap_err().to_string().contains("hint: "));
}

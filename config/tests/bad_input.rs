//! Every mistake the documentation names ends with one message: where, what was found, what was expected,
//! how to mend it. Each case changes one thing in a good configuration and states the whole message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use stopover_config::appliance;

const GOOD: &str = r#"(
    name: "gw-a",
    eal: ["-l", "0-2", "--no-pci"],
    vdevs: ["net_af_packet0,iface=ul0", "net_vhost0,iface=/run/vm1.sock", "net_vhost1,iface=/run/vm2.sock", "net_tap0"],
    board: ["http://10.9.0.1:7480"],
    ports: [
        (name: "ul0", device: "net_af_packet0", rxq: 2, role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_vhost0", role: vif(vni: 100, mac: "52:54:00:00:00:01", addresses: ["192.168.0.1"])),
        (name: "vm2", device: "net_vhost1", role: vif(vni: 100, mac: "52:54:00:00:00:02", addresses: ["192.168.0.2"])),
        (name: "br0", device: "net_tap0", role: segment(vlans: {10: 110, 20: 120})),
    ],
    lcores: {1: ["ul0:0", "vm1:0"], 2: ["ul0:1", "vm2:0", "br0:0"]},
)
"#;

/// The message for [`GOOD`] with `from` replaced by `to`.
fn message(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "`{from}` stands once in the good configuration");
    match appliance::parse(&GOOD.replace(from, to), Path::new("gw.ron")) {
        Ok(_) => panic!("accepted: {to}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn the_good_one_is_good() {
    let a = appliance::parse(GOOD, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((a.ports.len(), a.lcores.map(|l| l.len())), (4, Some(2)));
}

const CASES: &[(&str, &str, &str)] = &[
    // The text itself.
    (
        "mac: \"52:54:00:00:00:01\"",
        "mca: \"52:54:00:00:00:01\"",
        "gw.ron:8:65: found unknown key `mca` in `vif`; expected one of `vni`, `mac`, `addresses`, `shared_addresses`, `guard`, `allowed`, `router`, `dhcp_server`; hint: did you mean `mac`?",
    ),
    (
        "rxq: 2",
        "rxqs: 2",
        "gw.ron:7:49: found unknown key `rxqs` in `port`; expected one of `name`, `device`, `rxq`, `txq`, `mtu`, `promiscuous`, `role`; hint: did you mean `rxq`?",
    ),
    (
        "    board:",
        "    bord:",
        "gw.ron:5:5: found unknown key `bord` in `appliance`; expected one of `name`, `eal`, `vdevs`, `burst`, `rxd`, `txd`, `mbcache`, `mbufs`, `mbuf_size`, `idle`, `board`, `declared`, `ctl`, `metrics`, `max_network_stations`, `stale_ms`, `migration`, `ports`, `lcores`; hint: did you mean `board`?",
    ),
    (
        "role: underlay(",
        "role: underlie(",
        "gw.ron:7:63: found `underlie` in `role`; expected one of `underlay`, `vif`, `segment`; hint: did you mean `underlay`?",
    ),
    (
        "name: \"gw-a\",",
        "",
        "gw.ron:13:1: found no key `name` in `appliance`; expected it to be given; hint: add `name: …`",
    ),
    (
        "vni: 100, mac: \"52:54:00:00:00:01\"",
        "mac: \"52:54:00:00:00:01\"",
        "gw.ron:8:107: found no key `vni` in `vif`; expected it to be given; hint: add `vni: …`",
    ),
    (
        "rxq: 2",
        "rxq: 2, rxq: 2",
        "gw.ron:7:57: found key `rxq` twice in `port`; expected it once; hint: remove one of the two",
    ),
    (
        "rxq: 2",
        "rxq: two",
        "gw.ron:7:54: found `two`; expected a whole number; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "rxq: 2",
        "rxq: \"2\"",
        "gw.ron:7:54: found `\"`; expected a whole number; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "rxq: 2",
        "rxq: 99999999999999999999",
        "gw.ron:7:54: found a number too large for any key; expected a number within the key's range; hint: see docs/configuration.md for the range",
    ),
    (
        "name: \"gw-a\",",
        "name: \"gw-a\"",
        "gw.ron:3:5: found `eal:`; expected a comma or the closing bracket; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "\"br0:0\"]},\n)",
        "\"br0:0\"]},\n",
        "gw.ron:14:1: found the end of the file; expected the document to go on; hint: close what is open: ( [ { \"",
    ),
    (
        "\"br0:0\"]},\n)",
        "\"br0:0\"]},\n))",
        "gw.ron:13:2: found `)` after the end of the document; expected nothing; hint: remove it, or see whether a bracket closes too early",
    ),
    // Names and addresses.
    (
        "\"gw-a\"",
        "\"gw a\"",
        "gw.ron:2:11: name: found `gw a`; expected a host name of 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit; hint: rename the host; the name appears in certificates, file names and metrics",
    ),
    (
        "name: \"vm1\"",
        "name: \"vm:1\"",
        "gw.ron:8:16: ports[1].name: found `vm:1`; expected a port name of 1 to 32 of A-Z a-z 0-9 . _ -, other than `all`; hint: rename the port",
    ),
    (
        "name: \"vm1\"",
        "name: \"all\"",
        "gw.ron:8:16: ports[1].name: found `all`; expected a port name of 1 to 32 of A-Z a-z 0-9 . _ -, other than `all`; hint: rename the port",
    ),
    (
        "name: \"vm2\"",
        "name: \"vm1\"",
        "gw.ron:9:16: ports[2].name: found port `vm1` again; expected each name once; hint: rename one of the two",
    ),
    (
        "\"52:54:00:00:00:01\"",
        "\"52:54:00:00:01\"",
        "gw.ron:8:70: ports[1].role.mac: found in port `vm1` MAC `52:54:00:00:01`; expected a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56; hint: write all six bytes, two digits each, separated by colons",
    ),
    (
        "\"52:54:00:00:00:01\"",
        "\"01:00:5e:00:00:01\"",
        "gw.ron:8:70: ports[1].role.mac: found in port `vm1` MAC `01:00:5e:00:00:01`; expected a unicast, non-zero MAC address; hint: use the station's own address; its first byte is even",
    ),
    (
        "vni: 100, mac: \"52:54:00:00:00:01\"",
        "vni: 16777216, mac: \"52:54:00:00:00:01\"",
        "gw.ron:8:60: ports[1].role.vni: found in port `vm1` VNI `16777216`; expected a VNI from 1 to 16777215 (24 bits, RFC 7348); hint: choose a network identifier within the range",
    ),
    (
        "vni: 100, mac: \"52:54:00:00:00:01\"",
        "vni: 0, mac: \"52:54:00:00:00:01\"",
        "gw.ron:8:60: ports[1].role.vni: found in port `vm1` VNI `0`; expected a VNI from 1 to 16777215 (24 bits, RFC 7348); hint: choose a network identifier within the range",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1/24\"]",
        "gw.ron:8:103: ports[1].role.addresses[0]: found in port `vm1` address `192.168.0.1/24`; expected an IPv4 or IPv6 address without prefix length; hint: write it as 192.0.2.1 or 2001:db8::1",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\", \"192.168.0.1\"]",
        "gw.ron:8:118: ports[1].role.addresses[1]: found in port `vm1` address 192.168.0.1 again; expected each address once; hint: remove the repetition",
    ),
    // What the guard allows.
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\"], allowed: [(ip: \"10.1.2.3/16\")]",
        "gw.ron:8:134: ports[1].role.allowed[0].ip: found in port `vm1` `10.1.2.3/16`; expected a prefix without host bits; hint: write 10.1.0.0/16, or 10.1.2.3/32 for the one address",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\"], allowed: [(ip: \"vip\")]",
        "gw.ron:8:134: ports[1].role.allowed[0].ip: found in port `vm1` `vip`; expected an address with prefix length, up to 32 for IPv4 and 128 for IPv6; hint: write it as 10.0.0.1/24 or fd00::1/64",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\"], allowed: [(ip: \"10.1.2.3\", mac: \"01:00:5e:00:00:12\")]",
        "gw.ron:8:151: ports[1].role.allowed[0].mac: found in port `vm1` MAC `01:00:5e:00:00:12`; expected a unicast, non-zero MAC address; hint: use the station's own address; its first byte is even",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\"], allowed: [(ip: \"10.1.2.3\"), (ip: \"10.1.2.3/32\")]",
        "gw.ron:8:147: ports[1].role.allowed[1]: found in port `vm1` 10.1.2.3/32 with MAC 52:54:00:00:00:01 again; expected each pair once; hint: remove the repetition",
    ),
    (
        "[\"192.168.0.1\"]",
        "[\"192.168.0.1\"], guard: false, router: true",
        "gw.ron:8:141: ports[1].role.router: found in port `vm1` `router` beside guard: false; expected it with the guard on, which is what it makes exceptions from; hint: remove it, because without the guard the port may send anything; or remove guard: false",
    ),
    // Two ports may be the two ends of one VM's migration, but then it is one VM.
    (
        "52:54:00:00:00:02",
        "52:54:00:00:00:01",
        "gw.ron:9:102: ports[2].role.addresses: found 192.168.0.2 of MAC 52:54:00:00:00:01 on port `vm2`, but 192.168.0.1 on port `vm1`; expected the same addresses on every port of a VM; hint: correct one of the two, or give one of the VMs another MAC or vni",
    ),
    (
        "mac: \"52:54:00:00:00:02\", addresses: [\"192.168.0.2\"]",
        "mac: \"52:54:00:00:00:01\"",
        "gw.ron:9:51: ports[2].role.addresses: found no address of MAC 52:54:00:00:00:01 on port `vm2`, but 192.168.0.1 on port `vm1`; expected the same addresses on every port of a VM; hint: correct one of the two, or give one of the VMs another MAC or vni",
    ),
    (
        "vlans: {10: 110, 20: 120}",
        "vlans: {10: 100}, stations: [(mac: \"52:54:00:00:00:01\")]",
        "gw.ron:10:92: ports[3].role.stations[0].mac: found MAC 52:54:00:00:00:01 of a station of port `br0`, which port `vm1` has already in network 100; expected each MAC once in a network; hint: give one of them another MAC, or another vni",
    ),
    (
        "segment(vlans: {10: 110, 20: 120})",
        "segment(vni: 100, stations: [(mac: \"52:54:00:00:00:09\"), (mac: \"52:54:00:00:00:09\")])",
        "gw.ron:10:112: ports[3].role.stations[1].mac: found MAC 52:54:00:00:00:09 of a station of port `br0`, which a station of port `br0` has already in network 100; expected each MAC once in a network; hint: give one of them another MAC, or another vni",
    ),
    (
        "role: vif(vni: 100, mac: \"52:54:00:00:00:01\", addresses: [\"192.168.0.1\"])",
        "role: segment(vni: 100, stations: [(mac: \"52:54:00:00:00:02\")])",
        "gw.ron:9:70: ports[2].role.mac: found MAC 52:54:00:00:00:02 of port `vm2`, which a station of port `vm1` has already in network 100; expected each MAC once in a network; hint: give one of them another MAC, or another vni",
    ),
    (
        "[\"192.168.0.2\"]",
        "[\"192.168.0.1\"]",
        "gw.ron:9:103: ports[2].role.addresses[0]: found address 192.168.0.1 of port `vm2`, which port `vm1` has already in network 100; expected each address once in a network; hint: give one of them another address, or another vni",
    ),
    // Devices.
    (
        "device: \"net_vhost1\"",
        "device: \"net_vhost0\"",
        "gw.ron:9:31: ports[2].device: found device `net_vhost0` of port `vm2`, which port `vm1` has already; expected a device for each port; hint: create another device in `vdevs`, or remove one of the ports",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \"net_vhost2\"",
        "gw.ron:9:31: ports[2].device: found device `net_vhost2` of port `vm2`; expected a PCI address, or a device that `vdevs` creates: net_af_packet0, net_tap0, net_vhost0, net_vhost1; hint: add \"net_vhost2,…\" to `vdevs`, or correct the name",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \"0000:03:00.0\"",
        "gw.ron:9:31: ports[2].device: found PCI device 0000:03:00.0 of port `vm2`, with --no-pci in `eal`; expected EAL to look at PCI devices; hint: remove --no-pci from `eal`",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \"0000:03:00\"",
        "gw.ron:9:31: ports[2].device: found device `0000:03:00` of port `vm2`; expected a PCI address such as 0000:03:00.0; hint: see `dpdk-devbind.py --status` for the addresses",
    ),
    (
        "\"net_tap0\"]",
        "\"net_vhost0,iface=/x\"]",
        "gw.ron:4:109: vdevs[3]: found virtual device `net_vhost0` again; expected each device once; hint: number the second, for example net_vhost1",
    ),
    (
        "\"net_tap0\"]",
        "\"--vdev=net_tap0\"]",
        "gw.ron:4:109: vdevs[3]: found `--vdev=net_tap0`; expected only what follows --vdev; hint: write \"net_tap0\"",
    ),
    (
        "rxq: 2",
        "rxq: 65",
        "gw.ron:7:54: ports[0].rxq: found 65; expected 1 to 64 queues; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "rxq: 2",
        "rxq: 2, mtu: 67",
        "gw.ron:7:62: ports[0].mtu: found 67; expected 68 to 65535 bytes; hint: choose a value within the range, or leave the key out for the default",
    ),
    // Lcores and queues.
    (
        "2: [\"ul0:1\"",
        "2: [\"ul0:0\"",
        "gw.ron:12:41: lcores[1][0]: found queue ul0:0 on lcore 2 and on lcore 1; expected each queue on exactly one lcore; hint: remove it from one of them; raise the port's rxq to have a queue for each",
    ),
    (
        "2: [\"ul0:1\", ",
        "2: [",
        "gw.ron:12:13: lcores: found queue ul0:1 on no lcore; expected every receive queue of every port on one lcore; hint: add \"ul0:1\" to an lcore, or remove `lcores` to have the queues spread",
    ),
    (
        "2: [\"ul0:1\"",
        "3: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 3; expected one of the worker lcores 1,2 that the EAL arguments give; hint: add it to -l or --lcores in `eal`, or move its queues to another lcore",
    ),
    (
        "2: [\"ul0:1\"",
        "0: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 0, the main one, which runs the control thread; expected a worker lcore; hint: move its queues to a worker lcore, or choose another --main-lcore",
    ),
    (
        "2: [\"ul0:1\"",
        "1: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 1 twice; expected each lcore once; hint: write all its queues into one list",
    ),
    (
        "\"ul0:1\"",
        "\"ul0:2\"",
        "gw.ron:12:41: lcores[1][0]: found queue 2 of port `ul0`; expected a queue from 0 to 1; hint: raise the port's rxq, or correct the number",
    ),
    (
        "\"br0:0\"",
        "\"br1:0\"",
        "gw.ron:12:59: lcores[1][2]: found a queue of port `br1`; expected one of the ports ul0, vm1, vm2, br0; hint: correct the name",
    ),
    (
        "\"br0:0\"",
        "\"br0\"",
        "gw.ron:12:59: lcores[1][2]: found `br0`; expected \"port:queue\"; hint: for example \"vm1:0\" for the first receive queue of port vm1",
    ),
    (
        "\"br0:0\"]",
        "\"br0:0\"], 3: []",
        "gw.ron:12:69: lcores[2]: found lcore 3; expected one of the worker lcores 1,2 that the EAL arguments give; hint: add it to -l or --lcores in `eal`, or move its queues to another lcore",
    ),
    (
        "\"0-2\"",
        "\"0\"",
        "gw.ron:12:14: lcores[0]: found lcore 1; expected a worker lcore, of which the EAL arguments give none; hint: give EAL another lcore, for example [\"-l\", \"0-1\"], or two on one CPU with [\"--lcores\", \"0@0,1@0\"]",
    ),
    (
        "\"0-2\"",
        "\"0-x\"",
        "gw.ron:3:11: eal[0]: found `0-x` for -l; expected a list such as 0-3,8; hint: write it as DPDK's EAL takes it, for example [\"-l\", \"0-1\"] or [\"--lcores\", \"0@0,1@0\"]",
    ),
    (
        "\"0-2\", \"--no-pci\"",
        "\"0-2\", \"--main-lcore\", \"5\"",
        "gw.ron:3:24: eal[2]: found main lcore 5; expected one of the EAL's lcores 0,1,2; hint: add it to -l, or choose another",
    ),
    // Segments.
    (
        "20: 120",
        "20: 110",
        "gw.ron:10:78: ports[3].role.vlans[1]: found in port `br0` VNI 110 for VLAN 20 and for VLAN 10; expected each network once on a port; hint: give one of the two another VNI; bridging two VLANs would make a loop",
    ),
    (
        "20: 120",
        "10: 120",
        "gw.ron:10:74: ports[3].role.vlans[1]: found in port `br0` VLAN 10 twice; expected each VLAN once; hint: remove one of the two",
    ),
    (
        "20: 120",
        "4095: 120",
        "gw.ron:10:74: ports[3].role.vlans[1]: found in port `br0` VLAN `4095`; expected a VLAN from 1 to 4094; hint: correct it; untagged frames belong to `vni`",
    ),
    (
        "segment(vlans: {10: 110, 20: 120})",
        "segment()",
        "gw.ron:10:49: ports[3].role: found segment port `br0` without a network; expected a `vni` for untagged frames, `vlans` for tagged ones, or both; hint: add vni: 100 or vlans: {10: 100}",
    ),
    (
        "20: 120}",
        "20: 120}, stations: [(mac: \"52:54:00:00:00:09\")]",
        "gw.ron:10:95: ports[3].role.stations[0]: found in port `br0` a station without `vni`; expected its network, because the port has several; hint: add vni: to the station",
    ),
    (
        "20: 120}",
        "20: 120}, stations: [(mac: \"52:54:00:00:00:09\", vni: 100)]",
        "gw.ron:10:127: ports[3].role.stations[0].vni: found in port `br0` a station in network 100; expected one of the port's networks: 110, 120; hint: correct the station's vni, or add the network to the port",
    ),
    (
        "20: 120}",
        "20: 120}, ageing_s: 0",
        "gw.ron:10:94: ports[3].role.ageing_s: found 0; expected 1 to 1000000 seconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "20: 120}",
        "20: 120}, max_stations: 0",
        "gw.ron:10:98: ports[3].role.max_stations: found 0; expected 1 to 1048576 stations; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "20: 120}",
        "20: 120}, new_stations_per_s: 1000001",
        "gw.ron:10:104: ports[3].role.new_stations_per_s: found 1000001; expected 1 to 1000000 stations; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    max_network_stations: 0, board:",
        "gw.ron:5:27: max_network_stations: found 0; expected 1 to 1048576 stations; hint: choose a value within the range, or leave the key out for the default",
    ),
    // Underlays.
    (
        "[\"10.0.0.1/24\"]",
        "[]",
        "gw.ron:7:83: ports[0].role.addresses: found underlay port `ul0` without an address; expected at least one VTEP address with prefix length; hint: add for example \"10.0.0.1/24\"",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1\"]",
        "gw.ron:7:84: ports[0].role.addresses[0]: found in port `ul0` `10.0.0.1`; expected an address with prefix length, up to 32 for IPv4 and 128 for IPv6; hint: write it as 10.0.0.1/24 or fd00::1/64",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.0/24\"]",
        "gw.ron:7:84: ports[0].role.addresses[0]: found in port `ul0` `10.0.0.0/24`; expected a unicast address of the subnet; hint: use the address the appliance itself has there, not the subnet's first or last",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], gateways: [\"10.0.1.254\"]",
        "gw.ron:7:111: ports[0].role.gateways[0]: found in port `ul0` gateway 10.0.1.254; expected an address on link, within 10.0.0.0/24; hint: correct it, or add the port's address in that subnet",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], gateways: [\"fe80::1\"]",
        "gw.ron:7:111: ports[0].role.gateways[0]: found in port `ul0` gateway fe80::1; expected an address on link, within 10.0.0.0/24; hint: correct it, or add the port's address in that subnet",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], gateways: [\"10.0.0.1\"]",
        "gw.ron:7:111: ports[0].role.gateways[0]: found in port `ul0` gateway 10.0.0.1, the port's own address; expected another machine's address; hint: correct it",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], gateways: [\"10.0.0.2\", \"10.0.0.3\"]",
        "gw.ron:7:123: ports[0].role.gateways[1]: found in port `ul0` gateway 10.0.0.3 besides another of its family; expected one gateway per family; hint: remove one, or make it a route: routes: [(to: \"…\", via: \"…\")]",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], routes: [(to: \"10.1.2.3/16\", via: \"10.0.0.9\")]",
        "gw.ron:7:114: ports[0].role.routes[0].to: found in port `ul0` route to `10.1.2.3/16`; expected a prefix without host bits; hint: write 10.1.0.0/16, or 10.1.2.3/32 for the one address",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], routes: [(to: \"fd00::/16\", via: \"10.0.0.9\")]",
        "gw.ron:7:132: ports[0].role.routes[0].via: found in port `ul0` next hop 10.0.0.9 for fd00::/16; expected a next hop of the destination's family; hint: correct one of the two",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], neighbours: [(ip: \"10.0.0.2\", mac: \"02:00\")]",
        "gw.ron:7:135: ports[0].role.neighbours[0].mac: found in port `ul0` MAC `02:00`; expected a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56; hint: write all six bytes, two digits each, separated by colons",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], dscp: fixed(64)",
        "gw.ron:7:106: ports[0].role.dscp: found 64; expected 0 to 63; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], udp_port: 0",
        "gw.ron:7:110: ports[0].role.udp_port: found in port `ul0` UDP port `0`; expected a UDP port from 1 to 65535; hint: use 4789 unless the far end differs",
    ),
    (
        "[\"10.0.0.1/24\"]",
        "[\"10.0.0.1/24\"], vlan: 0",
        "gw.ron:7:106: ports[0].role.vlan: found in port `ul0` VLAN `0`; expected a VLAN from 1 to 4094; hint: correct it; untagged frames belong to `vni`",
    ),
    (
        "rxq: 2, role: underlay(addresses: [\"10.0.0.1/24\"])",
        "rxq: 2, mtu: 1000, role: underlay(addresses: [\"fd00::1/64\"])",
        "gw.ron:7:62: ports[0].mtu: found MTU 1000 on port `ul0`, which has an IPv6 address; expected at least 1280 bytes (RFC 8200); hint: raise the MTU, or remove the IPv6 address",
    ),
    (
        "\"net_tap0\", role: segment(vlans: {10: 110, 20: 120})",
        "\"net_tap0\", role: underlay(addresses: [\"10.0.0.1/24\"])",
        "gw.ron:10:70: ports[3].role.addresses[0]: found in port `br0` VTEP address 10.0.0.1 again; expected each address once; hint: remove the repetition",
    ),
    (
        "\"net_tap0\", role: segment(vlans: {10: 110, 20: 120})",
        "\"net_tap0\", role: underlay(addresses: [\"10.2.0.1/24\"], udp_port: 8472)",
        "gw.ron:10:96: ports[3].role.udp_port: found UDP port 8472 on `br0` but 4789 on `ul0`; expected the same on every underlay port, because a host has one; hint: correct one of the two",
    ),
    // A driver that does not pass every frame of a guest.
    (
        "rxq: 2, role: underlay(addresses: [\"10.0.0.1/24\"])",
        "rxq: 2, role: segment(vni: 100)",
        "gw.ron:7:31: ports[0].device: found segment port `ul0` on `net_af_packet0`, whose driver does not pass IPv4 fragments and unfinished checksums; expected a segment on a driver that passes every frame, such as net_vhost, net_tap, net_memif, net_virtio_user, or a NIC; hint: instead of a packet socket on an interface of the kernel use \"net_tap0,iface=tap0\", and bridge tap0 with it; see Devices in docs/configuration.md",
    ),
    (
        "rxq: 2, role: underlay(addresses: [\"10.0.0.1/24\"])",
        "rxq: 2, role: vif(vni: 100, mac: \"52:54:00:00:00:03\")",
        "gw.ron:7:31: ports[0].device: found vif port `ul0` on `net_af_packet0`, whose driver does not pass IPv4 fragments and unfinished checksums; expected a vif on a driver that passes every frame, such as net_vhost, net_tap, net_memif, net_virtio_user, or a NIC; hint: instead of a packet socket on an interface of the kernel use \"net_tap0,iface=tap0\", and bridge tap0 with it; see Devices in docs/configuration.md",
    ),
    // The process as a whole.
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "",
        "gw.ron:1:1: found neither `board` nor `declared`; expected one of the two; hint: add board: [\"http://host:7480\"], or declared: () to work without a board",
    ),
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "board: [\"http://10.9.0.1:7480\"], declared: (),",
        "gw.ron:5:48: declared: found both `board` and `declared`; expected one of the two; hint: remove one; what an operator declares beside a board she declares at the board",
    ),
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "board: [],",
        "gw.ron:5:12: board: found no endpoint; expected at least one; hint: add for example \"http://10.9.0.1:7480\", or use declared: () to work without a board",
    ),
    (
        "\"http://10.9.0.1:7480\"",
        "\"10.9.0.1:7480\"",
        "gw.ron:5:13: board[0]: found `10.9.0.1:7480`, which begins neither with `http://` nor with `unix:`; expected `http://host:port` (IPv6 in brackets) or `unix:/absolute/path`; hint: for example http://10.9.0.1:7480 or unix:/run/stopover/bbs.sock",
    ),
    (
        "\"http://10.9.0.1:7480\"",
        "\"http://10.9.0.1:7480\", \"http://10.9.0.1:7480/\"",
        "gw.ron:5:37: board[1]: found http://10.9.0.1:7480 again; expected each endpoint once; hint: remove the repetition",
    ),
    (
        "    board:",
        "    burst: 65, board:",
        "gw.ron:5:12: burst: found 65; expected 1 to 64 frames; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    mbuf_size: 1000, board:",
        "gw.ron:5:16: mbuf_size: found 1000; expected 1536 to 65535 bytes; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    mbufs: 600, mbcache: 512, board:",
        "gw.ron:5:26: mbcache: found 512 with a pool of 600 mbufs; expected one and a half times mbcache to fit the pool; hint: lower mbcache or raise mbufs",
    ),
    (
        "    board:",
        "    idle: adaptive(cap_us: 0), board:",
        "gw.ron:5:28: idle.cap_us: found 0; expected 1 to 100000 microseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    idle: adaptive(poll_us: 10001), board:",
        "gw.ron:5:29: idle.poll_us: found 10001; expected 1 to 10000 microseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    idle: sleepy, board:",
        "gw.ron:5:11: found `sleepy` in `idle`; expected one of `poll`, `adaptive`; hint: remove it, or see docs/configuration.md for the choices",
    ),
    (
        "    board:",
        "    ctl: \"gw.sock\", board:",
        "gw.ron:5:10: ctl: found `gw.sock`; expected an absolute path; hint: begin it with /",
    ),
    (
        "    board:",
        "    metrics: \"9481\", board:",
        "gw.ron:5:14: metrics: found `9481`; expected an address and port; hint: write it as 127.0.0.1:9481 or [::1]:9481",
    ),
    // Migration.
    (
        "    board:",
        "    migration: (hold: 64), board:",
        "gw.ron:5:17: found unknown key `hold` in `migration`; expected one of `hold_mib`, `hold_node_mib`, `hold_ms`, `window_ms`, `marker_wait_ms`; hint: did you mean `hold_ms`?",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 0), board:",
        "gw.ron:5:27: migration.hold_mib: found 0; expected 1 to 65536 MiB; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 65537), board:",
        "gw.ron:5:27: migration.hold_mib: found 65537; expected 1 to 65536 MiB; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 16, hold_node_mib: 17), board:",
        "gw.ron:5:46: migration.hold_node_mib: found 17; expected 1 to 16 MiB, the most `hold_mib` allows; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_node_mib: 0), board:",
        "gw.ron:5:32: migration.hold_node_mib: found 0; expected 1 to 64 MiB, the most `hold_mib` allows; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_ms: 99), board:",
        "gw.ron:5:26: migration.hold_ms: found 99; expected 100 to 600000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_ms: 600001), board:",
        "gw.ron:5:26: migration.hold_ms: found 600001; expected 100 to 600000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (window_ms: 9), board:",
        "gw.ron:5:28: migration.window_ms: found 9; expected 10 to 60000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (window_ms: -1), board:",
        "gw.ron:5:28: migration.window_ms: found -1; expected 10 to 60000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (marker_wait_ms: 10001), board:",
        "gw.ron:5:33: migration.marker_wait_ms: found 10001; expected 1 to 10000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (marker_wait_ms: 0), board:",
        "gw.ron:5:33: migration.marker_wait_ms: found 0; expected 1 to 10000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
];

#[test]
fn each_mistake_has_its_message() {
    for (from, to, expected) in CASES {
        assert_eq!(&message(from, to), expected, "`{from}` replaced by `{to}`");
    }
}

/// Which drivers a VM's port may have, under both names DPDK knows them by.
#[test]
fn drivers_that_lose_frames_of_guests_are_refused() {
    let on = |vdev: &str, role: &str| {
        let device = vdev.split(',').next().unwrap();
        let text = GOOD.replace("\"net_tap0\"]", &format!("\"{vdev}\"]")).replace(
            "device: \"net_tap0\", role: segment(vlans: {10: 110, 20: 120})",
            &format!("device: \"{device}\", role: {role}"),
        );
        appliance::parse(&text, Path::new("gw.ron")).is_ok()
    };
    let (segment, underlay) = ("segment(vni: 7)", "underlay(addresses: [\"10.1.0.1/24\"])");
    for vdev in [
        "net_af_packet1,iface=eth1",
        "eth_af_packet1,iface=eth1",
        "net_pcap0,iface=eth1",
        "net_pcap0,rx_iface=eth1",
    ] {
        assert!(!on(vdev, segment), "{vdev}");
        assert!(on(vdev, underlay), "{vdev}");
    }
    for vdev in [
        "net_tap0,iface=eth1",
        "net_pcap0,rx_pcap=in.pcap",
        "net_memif0",
        "net_virtio_user0,path=/run/x",
        "net_af_xdp0,iface=eth1",
    ] {
        assert!(on(vdev, segment), "{vdev}");
    }
}

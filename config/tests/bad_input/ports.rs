//! Mistakes in one port, and between two: names, addresses, devices and the three roles.

use super::Case;

pub const CASES: &[Case] = &[
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
    // Devices that a port creates.
    (
        "device: \"net_vhost1\"",
        "device: \"net_vhost1,iface=/run/vm3.sock\"",
        "gw.ron:9:31: ports[2].device: found virtual device `net_vhost1` of port `vm2`, which exists already; expected another name for a device that the port creates; hint: give it another number, or write only the name to use the device that exists",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \" ,iface=/run/vm3.sock\"",
        "gw.ron:9:31: ports[2].device: found ` ,iface=/run/vm3.sock`; expected a device name first; hint: for example \"net_vhost0,iface=/run/vm.sock\"",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \"--vdev=net_vhost2,iface=/x\"",
        "gw.ron:9:31: ports[2].device: found `--vdev=net_vhost2,iface=/x`; expected only what follows --vdev; hint: write \"net_vhost2,iface=/x\"",
    ),
    (
        "device: \"net_vhost1\"",
        "device: \"net_pcap2,iface=eth1\"",
        "gw.ron:9:31: ports[2].device: found vif port `vm2` on `net_pcap2`, whose driver does not pass IPv4 fragments and unfinished checksums; expected a vif on a driver that passes every frame, such as net_vhost, net_tap, net_memif, net_virtio_user, or a NIC; hint: instead of a packet socket on an interface of the kernel use \"net_tap0,iface=tap0\", and bridge tap0 with it; see Devices in docs/configuration.md",
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
];

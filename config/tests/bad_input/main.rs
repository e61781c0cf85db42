//! Every mistake the documentation names ends with one message: where, what was found, what was expected,
//! and a hint. Each case changes one thing in a good configuration and states the whole message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod ports;
mod process;
mod tunnels;

use std::path::Path;
use stopover_config::appliance;

const GOOD: &str = r#"(
    name: "gw-a",
    eal: ["-l", "0-2", "--no-pci"],
    vdevs: ["net_af_packet0,iface=ul0", "net_vhost0,iface=/run/vm1.sock", "net_vhost1,iface=/run/vm2.sock", "net_tap0"],
    board: ["http://10.9.0.1:7480"], insecure: true,
    ports: [
        (name: "ul0", device: "net_af_packet0", rxq: 2, role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_vhost0", role: vif(vni: 100, mac: "52:54:00:00:00:01", addresses: ["192.168.0.1"])),
        (name: "vm2", device: "net_vhost1", role: vif(vni: 100, mac: "52:54:00:00:00:02", addresses: ["192.168.0.2"])),
        (name: "br0", device: "net_tap0", role: segment(vlans: {10: 110, 20: 120})),
    ],
    lcores: {1: ["ul0:0", "vm1:0"], 2: ["ul0:1", "vm2:0", "br0:0"]},
)
"#;

/// A text in [`GOOD`], the text that replaces it, and the message.
type Case = (&'static str, &'static str, &'static str);

/// The message for [`GOOD`] with `from` replaced by `to`.
fn message(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "`{from}` stands once in the good configuration");
    match appliance::parse(&GOOD.replace(from, to), Path::new("gw.ron")) {
        Ok(_) => panic!("accepted: {to}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn the_good_configuration_is_accepted() {
    let a = appliance::parse(GOOD, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((a.ports.len(), a.lcores.map(|l| l.len())), (4, Some(2)));
}

#[test]
fn a_port_can_create_its_device() {
    let vdevs = |text: &str| {
        let a = appliance::parse(text, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"));
        (a.vdevs, a.ports[1].device.clone())
    };
    // Both ways of writing it mean the same, but for the order of devices.
    let own = GOOD
        .replace("\"net_vhost0,iface=/run/vm1.sock\", ", "")
        .replace("device: \"net_vhost0\"", "device: \"net_vhost0,iface=/run/vm1.sock\"");
    let ((mut apart, device), (mut together, same)) = (vdevs(GOOD), vdevs(&own));
    assert_eq!(together.last().map(String::as_str), Some("net_vhost0,iface=/run/vm1.sock"));
    apart.sort();
    together.sort();
    assert_eq!((apart, device), (together, same));
}

#[test]
fn each_mistake_has_its_message() {
    for (from, to, expected) in ports::CASES.iter().chain(process::CASES).chain(tunnels::CASES) {
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

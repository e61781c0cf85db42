//! The values of the `migration` key, and which ports may name the same VM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use stopover_config::appliance::{self, Appliance, Migration, Role};

const MIB: usize = 1 << 20;

/// A configuration with these keys and these ports beside an underlay.
fn parse(keys: &str, ports: &str) -> Appliance {
    let text = format!(
        r#"(
            name: "hv",
            vdevs: ["net_null0", "net_null1", "net_null2", "net_null3"],
            declared: (),
            {keys}
            ports: [
                (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])),
                {ports}
            ],
        )"#
    );
    appliance::parse(&text, Path::new("hv.ron")).unwrap_or_else(|e| panic!("{e}"))
}

fn migration(keys: &str) -> Migration {
    parse(keys, "").migration
}

#[test]
fn all_keys_have_defaults() {
    let defaults = Migration {
        hold_bytes: 64 * MIB,
        hold_node_bytes: 32 * MIB,
        hold_ms: 10_000,
        window_ms: 1000,
        marker_wait_ms: 500,
    };
    assert_eq!(migration(""), defaults);
    assert_eq!(migration("migration: (),"), defaults);
    assert_eq!(
        migration(
            "migration: (hold_mib: 64, hold_node_mib: 32, hold_ms: 10000, window_ms: 1000, marker_wait_ms: 500),"
        ),
        defaults,
        "the documented defaults, spelled out"
    );
    assert_eq!(migration("migration: (window_ms: 20),"), Migration { window_ms: 20, ..defaults });
}

#[test]
fn ends_of_the_ranges() {
    assert_eq!(
        migration(
            "migration: (hold_mib: 1, hold_node_mib: 1, hold_ms: 100, window_ms: 10, marker_wait_ms: 1),"
        ),
        Migration { hold_bytes: MIB, hold_node_bytes: MIB, hold_ms: 100, window_ms: 10, marker_wait_ms: 1 }
    );
    assert_eq!(
        migration(
            "migration: (hold_mib: 65536, hold_node_mib: 65536, hold_ms: 600000, window_ms: 60000, marker_wait_ms: 10000),"
        ),
        Migration {
            hold_bytes: 65_536 * MIB,
            hold_node_bytes: 65_536 * MIB,
            hold_ms: 600_000,
            window_ms: 60_000,
            marker_wait_ms: 10_000,
        }
    );
}

#[test]
fn a_nodes_share_follows_a_small_budget() {
    for (keys, total, node) in [
        ("migration: (hold_mib: 8),", 8, 8),
        ("migration: (hold_mib: 32),", 32, 32),
        ("migration: (hold_mib: 33),", 33, 32),
        ("migration: (hold_mib: 256),", 256, 32),
        ("migration: (hold_mib: 8, hold_node_mib: 3),", 8, 3),
        ("migration: (hold_node_mib: 64),", 64, 64),
    ] {
        let m = migration(keys);
        assert_eq!((m.hold_bytes / MIB, m.hold_node_bytes / MIB), (total, node), "{keys}");
    }
}

#[test]
fn one_vm_may_have_several_ports() {
    // In another order the addresses are still the same.
    let ports = r#"
        (name: "a", device: "net_null1", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1", "fd07::1"])),
        (name: "b", device: "net_null2", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["fd07::1", "10.7.0.1"])),
        (name: "c", device: "net_null3", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1", "fd07::1"], guard: false)),
    "#;
    let macs: Vec<_> = parse("", ports)
        .ports
        .iter()
        .filter_map(|p| match &p.role {
            Role::Vif(v) => Some((p.name.clone(), v.vni.get(), v.mac.to_string(), v.addresses.len())),
            Role::Underlay(_) | Role::Segment(_) => None,
        })
        .collect();
    assert_eq!(
        macs,
        ["a", "b", "c"].map(|name| (name.to_owned(), 7, "02:00:00:00:00:01".to_owned(), 2)).to_vec()
    );
    let without = ports
        .replace(r#", addresses: ["10.7.0.1", "fd07::1"]"#, "")
        .replace(r#", addresses: ["fd07::1", "10.7.0.1"]"#, "");
    assert_eq!(parse("", &without).ports.len(), 4, "nor need it have any");
}

#[test]
fn addresses_of_two_ports_are_refused_elsewhere() {
    let message = |third: &str| {
        let text = format!(
            r#"(name: "hv", vdevs: ["net_null0", "net_null1", "net_null2"], declared: (hosts: [(name: "far", vteps: ["10.0.0.9"])], nodes: [{}]), ports: [
                (name: "a", device: "net_null0", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1"])),
                (name: "b", device: "net_null1", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1"])),
                {}])"#,
            if third.starts_with("(name:") { "" } else { third },
            if third.starts_with("(name:") { third } else { "" },
        );
        match appliance::parse(&text, Path::new("hv.ron")) {
            Ok(_) => panic!("accepted: {third}"),
            Err(e) => e.to_string(),
        }
    };
    for (third, found) in [
        (
            r#"(name: "c", device: "net_null2", role: vif(vni: 7, mac: "02:00:00:00:00:02", addresses: ["10.7.0.1"]))"#,
            "address 10.7.0.1 of port `c`, which port `a` has already in network 7",
        ),
        (
            r#"(name: "c", device: "net_null2", role: segment(vni: 7, stations: [(mac: "02:00:00:00:00:01")]))"#,
            "MAC 02:00:00:00:00:01 of a station of port `c`, which port `a` has already in network 7",
        ),
        (
            r#"(name: "c", device: "net_null2", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1", "10.7.0.2"]))"#,
            "10.7.0.1, 10.7.0.2 of MAC 02:00:00:00:00:01 on port `c`, but 10.7.0.1 on port `a`",
        ),
        (
            r#"(vni: 7, mac: "02:00:00:00:00:01", host: "far")"#,
            "MAC 02:00:00:00:00:01 in network 7 on host `far`, which port `a` has here",
        ),
    ] {
        let message = message(third);
        assert!(message.contains(&format!("found {found}; expected")), "{message}");
    }
}

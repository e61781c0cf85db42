//! Which lcore polls which receive queue.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use stopover_config::appliance::{self, Appliance, QueueRef};

/// Two vifs and a NIC with three queues; `more` is appended.
fn config(more: &str) -> Appliance {
    let text = format!(
        r#"(
    name: "gw",
    eal: ["-l", "1-5", "--no-pci"],
    vdevs: ["net_tap0", "net_null1", "net_null2"],
    declared: (hosts: [(name: "far", vteps: ["10.0.0.9"])]),
    ports: [
        (name: "vm1", device: "net_null1", role: vif(vni: 7, mac: "02:00:00:00:00:01")),
        (name: "vm2", device: "net_null2", role: vif(vni: 7, mac: "02:00:00:00:00:02")),
        (name: "ul0", device: "net_tap0", rxq: 3, role: underlay(addresses: ["10.0.0.1/24"])),
    ],{more}
)"#
    );
    appliance::parse(&text, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"))
}

/// By port index and number.
fn queues(of: &[(usize, u16)]) -> Vec<QueueRef> {
    of.iter().map(|(port, queue)| QueueRef { port: *port, queue: *queue }).collect()
}

const WORKERS: [u32; 4] = [2, 3, 4, 5];

#[test]
fn on_one_socket_they_go_round() {
    let all = config("").queues_by_lcore(&WORKERS, |_, _| true);
    assert_eq!(all[&2], queues(&[(0, 0), (2, 2)]));
    assert_eq!(all[&3], queues(&[(1, 0)]));
    assert_eq!(all[&4], queues(&[(2, 0)]));
    assert_eq!(all[&5], queues(&[(2, 1)]));
    assert_eq!(config("").queues_by_lcore(&WORKERS, |_, _| false), all, "no lcore is near to any");
    assert!(config("").queues_by_lcore(&[], |_, _| true).is_empty());
}

#[test]
fn they_go_to_lcores_near_to_their_port() {
    // The NIC is on the socket of 4 and 5, the others are on none.
    let near = |port, lcore| port != 2 || lcore > 3;
    let found = config("").queues_by_lcore(&WORKERS, near);
    assert_eq!(found[&2], queues(&[(0, 0)]), "the NIC has chosen first");
    assert_eq!(found[&3], queues(&[(1, 0)]));
    assert_eq!(found[&4], queues(&[(2, 0), (2, 2)]));
    assert_eq!(found[&5], queues(&[(2, 1)]));
    // No worker is near to the NIC.
    let found = config("").queues_by_lcore(&[2, 3], near);
    assert_eq!(found[&2], queues(&[(0, 0), (2, 0), (2, 2)]));
    assert_eq!(found[&3], queues(&[(1, 0), (2, 1)]));
}

#[test]
fn what_the_file_says_stays() {
    let named = config(r#" lcores: {2: ["vm1:0", "ul0:0", "ul0:1", "ul0:2"], 4: ["vm2:0"]},"#);
    let found = named.queues_by_lcore(&WORKERS, |port, lcore| port != 2 || lcore > 3);
    assert_eq!(Some(found), named.lcores);
}

//! The real program, and devices that are reset, removed and repaired while frames flow: by several lcores, through several
//! queues, and during changes of the operator. No root, no hugepages and no NIC is needed: the devices are DPDK's null and
//! pcap devices, and `inject.c`, which the program preloads, reports in the place of their drivers.
//!
//! vm1 sends one frame after another to vm2, vm3 and a node at another host, as fast as it can, from a pcap device that
//! repeats three frames. So each gets a third of them, and every frame that one of them misses is counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod program;

use program::Program;
use serde_json::json;
use stopover_ctl::DeviceState;

const HEALTHY: &str = "is in service again";

#[test]
fn a_reset_disturbs_no_other_port() {
    let program = Program::start();
    for (n, device, port) in [(1, "net_null1", "vm2"), (2, "net_null1", "vm2"), (3, "net_null0", "ul0")] {
        let mac = program.port(port).mac;
        // No lcore must poll meanwhile; DPDK logs it if one does.
        program.inject("slow_resets 100");
        program.inject(&format!("reset {device}"));
        program.wait_log(&format!("port {port}: device {device} {HEALTHY}"), if n == 2 { 2 } else { 1 });
        assert_eq!(program.inject("resets"), n.to_string());
        let after = program.port(port);
        assert_eq!((after.device_state, after.mac), (DeviceState::InService, mac));
        program.wait_until("its link is up", || program.port(port).link_up);
        let sent = program.fwd(port).tx_packets;
        program.wait_until("frames flow to it again", || program.fwd(port).tx_packets > sent + 1000);
    }
    // The underlay is opened again with its address: other hosts know no other.
    let mac = program.port("ul0").mac;
    program.inject("removed net_null0");
    program.wait_log(&format!("port ul0: device net_null0 {HEALTHY}"), 2);
    assert_eq!(program.port("ul0").mac, mac);
    program.wait_until("its link is up", || program.port("ul0").link_up);
    let sent = program.fwd("ul0").tx_packets;
    program.wait_until("frames flow to it again", || program.fwd("ul0").tx_packets > sent + 1000);
    program.assert_nothing_lost_elsewhere(&["vm2", "ul0"]);
}

#[test]
fn events_in_quick_succession_end_in_service() {
    let program = Program::start();
    // One reset is for both, if none has begun.
    program.inject("slow_resets 300");
    program.inject("reset net_null1");
    program.inject("reset net_null1");
    program.wait_until("a reset is under way", || program.inject("resets") == "1");
    // While it is under way: another, which outweighs nothing, and a removal, which does.
    program.inject("reset net_null1");
    program.inject("removed net_null1");
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 1);
    program.wait_log("port vm2: device net_null1 is removed", 1);
    // It is there, so it is found at once.
    program.wait_until("its link is up", || program.port("vm2").link_up);
    assert!(program.inject("resets").parse::<u32>().unwrap() <= 2);
    program.assert_nothing_lost_elsewhere(&["vm2"]);
}

#[test]
fn resets_that_fail_are_tried_again_and_end_in_another_opening() {
    let program = Program::start();
    program.inject("fail_resets 2");
    program.inject("reset net_null1");
    program.wait_log("port vm2: device net_null1 cannot be reset: ", 1);
    program.wait_log("(errno 5)", 1);
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 1);
    assert_eq!(program.inject("resets"), "3");

    program.inject("fail_resets 1000");
    program.inject("reset net_null1");
    // The device has just come back, so the first try is not at once, but for an operator.
    program.wait_until("it is out", || program.port("vm2").device_state == DeviceState::Resetting);
    program.reload(true).unwrap();
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 2);
    assert_eq!(program.inject("resets"), "6", "then it is closed and opened");
    program.wait_until("its link is up", || program.port("vm2").link_up);
    program.assert_nothing_lost_elsewhere(&["vm2"]);
}

#[test]
fn a_removed_device_comes_back() {
    let program = Program::start();
    let before = program.port("vm2");
    program.inject("missing 1");
    program.inject("removed net_null1");
    program.wait_until("it is out", || program.port("vm2").device_state == DeviceState::Removed);
    assert!(!program.port("vm2").link_up);
    program.wait_until("no lcore polls it", || !program.queues().concat().contains("vm2"));
    program.wait_until("frames to it are dropped", || program.dropped("unknown_unicast") > 1000);
    assert_eq!(program.fwd("vm2").tx_dropped, program.dropped("port_down"));

    // It is there again: the operator does not wait for the next try.
    program.inject("missing 0");
    program.reload(true).unwrap();
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 1);
    let after = program.port("vm2");
    assert_eq!((after.mac, after.txq, &after.rxq_lcores), (before.mac, before.txq, &before.rxq_lcores));
    assert!(program.queues().contains(&"vm2:1".to_owned()));
    program.wait_until("its link is up", || program.port("vm2").link_up);
    let sent = program.fwd("vm2").tx_packets;
    program.wait_until("frames flow to it again", || program.fwd("vm2").tx_packets > sent + 1000);
    assert_eq!(program.log().matches("port vm2: device net_null1 is removed").count(), 1);
    program.assert_nothing_lost_elsewhere(&["vm2"]);
}

#[test]
fn a_driver_that_repairs_its_device_is_left_alone() {
    let program = Program::start();
    program.inject("recovering net_null1");
    program.wait_until("it is down", || !program.port("vm2").link_up);
    assert_eq!(program.port("vm2").device_state, DeviceState::Recovering);
    // What it can be asked now has an answer: this asks all ports.
    assert_eq!(program.names(), ["ul0", "vm1", "vm2", "vm3"]);
    program.inject("reset net_null1");
    program.wait_until("it waits", || program.port("vm2").device_state == DeviceState::Resetting);
    program.inject("recovered net_null1");
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 1);
    assert_eq!(program.inject("resets"), "1");

    program.inject("recovering net_null1");
    program.inject("failed net_null1");
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 2);
    program.wait_log("port vm2: the driver of device net_null1 could not repair it", 1);
    assert_eq!(program.inject("resets"), "1", "it is closed and opened");
    program.wait_until("its link is up", || program.port("vm2").link_up);
    program.assert_nothing_lost_elsewhere(&["vm2"]);
}

#[test]
fn the_operator_changes_a_port_without_a_device() {
    let program = Program::start();
    program.inject("missing 1");
    program.inject("removed net_null1");
    program.wait_until("it is out", || program.port("vm2").device_state == DeviceState::Removed);

    // Its queues are for other lcores, once there is a device.
    program.write(
        &program::ports("vm2"),
        r#"lcores: {1: ["ul0:0", "vm2:1"], 2: ["vm1:0"], 3: ["vm2:0", "vm3:0"]},"#,
    );
    program.reload(false).unwrap();
    program.inject("missing 0");
    program.reload(true).unwrap();
    program.wait_log(&format!("port vm2: device net_null1 {HEALTHY}"), 1);
    let mut queues = program.lcore_queues();
    queues.iter_mut().for_each(|of_lcore| of_lcore.sort_unstable());
    assert_eq!(queues, [vec!["ul0:0", "vm2:1"], vec!["vm1:0"], vec!["vm2:0", "vm3:0"]]);

    // It can be deleted, also in the middle of events.
    program.inject("slow_resets 100");
    program.inject("reset net_null1");
    program.inject("removed net_null1");
    program.write(&program::ports(""), r#"lcores: {1: ["ul0:0"], 2: ["vm1:0"], 3: ["vm3:0"]},"#);
    program.reload(false).unwrap();
    assert_eq!(program.names(), ["ul0", "vm1", "vm3"]);
    // The device of `vdevs` is there for another port.
    assert_eq!(program.inject("reset net_null1"), "ok");
    program.assert_nothing_lost_elsewhere(&[]);
}

/// Other ports come and go, and are refused, while a device is out of service.
#[test]
fn other_ports_come_and_go_during_events() {
    let program = Program::start();
    program.inject("slow_resets 30");
    for n in 1..=10_u8 {
        program.inject(if n % 3 == 0 { "removed net_null1" } else { "reset net_null1" });
        let socket = program.path(&format!("x{n}.sock"));
        let port = json!({
            "name": format!("x{n}"),
            "device": format!("net_vhost{n},iface={},queues=2", socket.display()),
            "role": {"vif": {"vni": 200, "mac": format!("52:54:00:00:01:{n:02x}")}}
        });
        program.add(&port).unwrap();
        program.delete(&format!("x{n}")).unwrap();
    }
    program.inject("slow_resets 0");
    program.reload(true).unwrap();
    program.wait_until("its link is up", || program.port("vm2").link_up);
    assert_eq!(program.names(), ["ul0", "vm1", "vm2", "vm3"]);
    program.assert_nothing_lost_elsewhere(&["vm2"]);
}

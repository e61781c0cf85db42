//! The real program, and ports that are added, changed and removed while it runs. What is asked for is made or refused as
//! a whole, and what was added is there after a restart. No root, no hugepages and no device is needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod devices;
mod program;
mod underlays;

use program::{Program, refusal, write};
use serde_json::json;
use stopover_ctl::ChangeQuery;

#[test]
fn ports_are_added_listed_and_removed() {
    let program = Program::start("");
    let added = program.add(&program.vif("vm1", 1)).unwrap();
    assert!(added.made && added.changes.len() == 1, "{added:?}");
    program.add(&program.vif("vm2", 2)).unwrap();
    assert_eq!(program.names(), ["ul0", "vm1", "vm2"]);
    assert!(program.socket("vm1").exists() && program.socket("vm2").exists());
    // Each queue goes to the lcore that has the fewest.
    let queues = program.queues();
    assert_eq!(queues.iter().flatten().count(), 5, "{queues:?}");
    assert!(queues.iter().all(|of_lcore| of_lcore.len() >= 2), "{queues:?}");

    let why = refusal(program.add(&program.vif("vm1", 3)));
    assert!(why.contains("port vm1 exists already"), "{why}");
    let why = refusal(program.add(&program.vif("vm3", 1)));
    assert!(why.contains("net_vhost1"), "{why}");

    program.delete("vm1").unwrap();
    assert_eq!(program.names(), ["ul0", "vm2"]);
    assert!(!program.socket("vm1").exists());
    let why = refusal(program.delete("vm1"));
    assert!(why.contains("vm1"), "{why}");
    let why = refusal(program.delete("ul0"));
    assert!(why.contains("ul0"), "{why}");
    assert_eq!(program.names(), ["ul0", "vm2"]);
}

#[test]
fn a_port_that_cannot_be_opened_leaves_nothing() {
    let program = Program::start("");
    // Somebody else listens there.
    let _listener = std::os::unix::net::UnixListener::bind(program.socket("vm1")).unwrap();
    let why = refusal(program.add(&program.vif("vm1", 1)));
    assert!(why.contains("another process listens at") && why.contains("hint: "), "{why}");
    assert_eq!(program.names(), ["ul0"]);
    let program = program.restart();
    assert_eq!(program.names(), ["ul0"], "it is not in the state file either");
    program.add(&program.vif("vm2", 1)).unwrap();
    assert_eq!(program.names(), ["ul0", "vm2"]);
}

#[test]
fn an_added_port_survives_a_restart() {
    let program = Program::start("");
    for n in 1..=5 {
        program.add(&program.vif(&format!("vm{n}"), n)).unwrap();
    }
    program.delete("vm2").unwrap();
    program.set("vm3", &json!({"role": {"vif": {"addresses": ["192.168.0.3"]}}}), false).unwrap();
    let program = program.restart();
    assert_eq!(program.names(), ["ul0", "vm1", "vm3", "vm4", "vm5"]);
    let ports = program.rt.block_on(program.client().ports()).unwrap();
    assert!(format!("{:?}", ports[2].role).contains("192.168.0.3"), "{:?}", ports[2].role);
}

#[test]
fn settings_change_in_place_and_other_keys_by_reopening() {
    let program = Program::start("");
    program.add(&program.vif("vm1", 1)).unwrap();
    let changed = program.set("vm1", &json!({"role": {"vif": {"guard": false}}}), false).unwrap();
    assert_eq!(changed.changes.len(), 1, "{changed:?}");
    let why = refusal(program.set("vm1", &json!({"mtu": 1400}), false));
    assert!(why.contains("reopen"), "{why}");
    program.set("vm1", &json!({"mtu": 1400}), true).unwrap();
    let ports = program.rt.block_on(program.client().ports()).unwrap();
    assert_eq!((ports[1].name.as_str(), ports[1].mtu), ("vm1", 1400));
}

#[test]
fn the_file_is_reloaded_as_a_whole_or_not() {
    let vif = |n: u8| {
        format!(
            r#"(name: "vm{n}", device: "net_vhost{n},iface=DIR/vm{n}.sock", role: vif(vni: {}, mac: "52:54:00:00:00:0{n}")),"#,
            100 + u32::from(n)
        )
    };
    let program = Program::start(&(vif(1) + &vif(2)));
    write(program.dir.path(), &(vif(2) + &vif(3) + &vif(4)), "");
    let report = program.reload().unwrap();
    assert_eq!(report.changes.len(), 3, "{report:?}");
    let mut names = program.names();
    names.sort_unstable();
    assert_eq!(names, ["ul0", "vm2", "vm3", "vm4"]);

    // The socket of the second is not free: the first is not there either, and what was removed is there again.
    let _listener = std::os::unix::net::UnixListener::bind(program.socket("vm6")).unwrap();
    write(program.dir.path(), &(vif(3) + &vif(5) + &vif(6)), "");
    let why = refusal(program.reload());
    assert!(why.contains("another process listens at"), "{why}");
    let mut names = program.names();
    names.sort_unstable();
    assert_eq!(names, ["ul0", "vm2", "vm3", "vm4"]);
    assert!(program.socket("vm2").exists() && !program.socket("vm5").exists());
}

#[test]
fn nothing_is_left_of_ports_that_are_gone() {
    let program = Program::start("");
    program.add(&program.vif("vm1", 1)).unwrap();
    program.delete("vm1").unwrap();
    let files = program.files();
    for round in 0..30 {
        program.add(&program.vif("vm1", round)).unwrap();
        program.delete("vm1").unwrap();
    }
    program.wait_files(files);
    assert_eq!(program.queues().concat(), ["ul0:0"]);
}

#[test]
fn queues_move_between_lcores_that_run() {
    let vif = r#"(name: "vm1", device: "net_vhost1,iface=DIR/vm1.sock,queues=2",
        role: vif(vni: 100, mac: "52:54:00:00:00:01")),"#;
    let program = Program::start(vif);
    assert_eq!(program.queues(), [vec!["ul0:0", "vm1:1"], vec!["vm1:0"]]);
    write(program.dir.path(), vif, r#"lcores: {1: ["vm1:0"], 2: ["ul0:0", "vm1:1"]},"#);
    program.reload().unwrap();
    let mut queues = program.queues();
    queues.iter_mut().for_each(|of_lcore| of_lcore.sort_unstable());
    assert_eq!(queues, [vec!["vm1:0"], vec!["ul0:0", "vm1:1"]]);
    program.wait_log("port ul0: queue 0 moves to lcore 2", 1);
}

/// What is declared of a network applies from its first port on.
#[test]
fn a_network_comes_with_what_is_declared_of_it() {
    let program = Program::start("");
    let nodes = || program.rt.block_on(program.client().nodes(None)).unwrap().len();
    assert_eq!(nodes(), 0);
    let mut port = program.vif("vm1", 1);
    port["role"]["vif"]["vni"] = json!(300);
    for _ in 0..2 {
        program.add(&port).unwrap();
        assert_eq!(nodes(), 1);
        program.delete("vm1").unwrap();
    }
}

/// Two ports swap their MACs and networks.
#[test]
fn what_one_port_gives_up_another_gets() {
    let vif = |n: u8, vni: u32, mac: u8| {
        let mac = format!("52:54:00:00:00:0{mac}");
        format!(
            r#"(name: "vm{n}", device: "net_vhost{n},iface=DIR/vm{n}.sock", role: vif(vni: {vni}, mac: "{mac}")),"#
        )
    };
    let program = Program::start(&(vif(1, 100, 1) + &vif(2, 200, 2)));
    write(program.dir.path(), &(vif(1, 200, 2) + &vif(2, 100, 1)), "");
    let query = ChangeQuery { reopen: true, ..ChangeQuery::default() };
    program.rt.block_on(program.client().reload(query)).unwrap();
    let ports = program.rt.block_on(program.client().ports()).unwrap();
    let of = |name: &str| format!("{:?}", ports.iter().find(|port| port.name == name).unwrap().role);
    assert!(of("vm1").contains("00:02") && of("vm2").contains("00:01"), "{} {}", of("vm1"), of("vm2"));
}

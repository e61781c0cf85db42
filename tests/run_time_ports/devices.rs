//! Ports on devices of DPDK drivers: they are probed for a port, and DPDK has none of them afterwards.

use crate::program::{Program, refusal, write};
use serde_json::{Value, json};
use stopover_ctl::ChangeQuery;

/// Little endian, microseconds, Ethernet.
const PCAP_HEAD: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];

fn vif(name: &str, device: &str, last: u8) -> Value {
    let mac = format!("52:54:00:00:00:{last:02x}");
    json!({"name": name, "device": device, "role": {"vif": {"vni": 100, "mac": mac}}})
}

fn in_file(port: &Value) -> String {
    let (name, device) = (port["name"].as_str().unwrap(), port["device"].as_str().unwrap());
    let mac = port["role"]["vif"]["mac"].as_str().unwrap();
    format!(r#"(name: "{name}", device: "{device}", role: vif(vni: 100, mac: "{mac}")),"#)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

fn devices(program: &Program) -> Vec<String> {
    sorted(program.ports().into_iter().map(|port| port.device).collect())
}

#[test]
fn ports_on_devices_of_drivers_come_and_go() {
    let program = Program::start("");
    let pcap = format!("net_pcap1,tx_pcap={}", program.dir.path().join("1.pcap").display());
    let segment =
        json!({"name": "br0", "device": "net_null3,no-rx=1", "role": {"segment": {"vlans": {"7": 107}}}});
    let ports = [vif("vm1", &pcap, 1), vif("vm2", "net_ring2,", 2), segment];
    let names = ["vm1", "vm2", "br0"];
    for port in &ports {
        program.add(port).unwrap();
    }
    let files = program.files();
    for _ in 0..10 {
        for (port, name) in ports.iter().zip(names) {
            program.delete(name).unwrap();
            program.add(port).unwrap();
        }
    }
    program.wait_files(files);
    assert_eq!(sorted(program.names()), ["br0", "ul0", "vm1", "vm2"]);
    assert_eq!(sorted(program.queues().concat()), ["br0:0", "ul0:0", "vm1:0", "vm2:0"]);

    let program = program.restart();
    assert_eq!(devices(&program), ["net_null0", "net_null3", "net_pcap1", "net_ring2"]);
    // The same device with other arguments.
    let other = json!({"device": "net_null3,no-rx=1,size=256"});
    assert!(refusal(program.set("br0", &other, false)).contains("--reopen"));
    program.set("br0", &other, true).unwrap();
    for name in names {
        program.delete(name).unwrap();
    }
    assert_eq!(program.names(), ["ul0"]);
    assert_eq!(program.queues().concat(), ["ul0:0"]);
}

#[test]
fn what_frames_a_device_had_are_accounted_for() {
    let program = Program::start("");
    // It makes frames up as fast as it is asked.
    let source = vif("vm1", "net_null1,size=64", 1);
    for round in 0..5 {
        program.add(&source).unwrap();
        program.add(&vif("vm2", "net_null2,no-rx=1", 2)).unwrap();
        program.wait_until("frames flow", || {
            program.fwd().ports.iter().any(|port| port.name == "vm1" && port.rx_packets > 1000)
        });
        program.delete(if round % 2 == 0 { "vm1" } else { "vm2" }).unwrap();
        program.delete(if round % 2 == 0 { "vm2" } else { "vm1" }).unwrap();
        let accounting = program.fwd().accounting;
        assert_eq!((accounting.unaccounted, accounting.held), (0, 0), "{accounting:?}");
    }
}

/// Also those that are received before the port is in the tables, and at a number that another port had.
#[test]
fn every_frame_of_a_port_is_counted_from_its_first_on() {
    const FRAMES: usize = 500;
    let program = Program::start("");
    let path = program.dir.path().join("in.pcap");
    let mut bytes = PCAP_HEAD.map(u32::to_le_bytes).concat();
    for _ in 0..FRAMES {
        bytes.extend([0, 0, 60, 60].map(u32::to_le_bytes).concat());
        bytes.extend([0x02; 60]);
    }
    std::fs::write(&path, bytes).unwrap();
    program.add(&vif("vm1", "net_null1,size=64", 1)).unwrap();
    program.delete("vm1").unwrap();
    // Its number may be given again.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for _ in 0..3 {
        program.add(&vif("vm2", &format!("net_pcap2,rx_pcap={}", path.display()), 2)).unwrap();
        program.wait_until("all frames are counted", || {
            program.fwd().ports.iter().any(|port| port.name == "vm2" && port.rx_packets == FRAMES as u64)
        });
        program.delete("vm2").unwrap();
    }
}

#[test]
fn a_device_that_cannot_be_used_leaves_nothing() {
    let program = Program::start("");
    let refused = |port: &Value| refusal(program.add(port));
    let why = refused(&vif("vm1", "net_nothing1", 1));
    assert!(why.contains("net_nothing1") && why.contains("hint: "), "{why}");
    let why = refused(&vif("vm1", "net_nothing1,size=64", 1));
    assert!(why.contains("DPDK cannot use device net_nothing1"), "{why}");
    let why = refused(&vif("vm1", "net_pcap1,rx_pcap=/nonexistent.pcap", 1));
    assert!(why.contains("net_pcap1"), "{why}");
    let mut many = vif("vm1", "net_null1,no-rx=1", 1);
    many["rxq"] = json!(64);
    let why = refused(&many);
    assert!(why.contains("mbufs: found 4300; expected at least 4544"), "{why}");
    let mut more = vif("vm1", "net_ring1,", 1);
    more["rxq"] = json!(64);
    let why = refused(&more);
    assert!(why.contains("found 64 receive queues; net_ring1 has at most 16"), "{why}");
    let why = refused(&vif("vm1", "0000:03:00.0", 1));
    assert!(why.contains("--no-pci"), "{why}");
    // The names are free: nothing of the devices is there.
    for (name, device) in [("vm1", "net_null1,no-rx=1"), ("vm2", "net_ring1,"), ("vm3", "net_pcap1")] {
        let device = match name {
            "vm3" => format!("{device},tx_pcap={}", program.dir.path().join("3.pcap").display()),
            _ => device.to_owned(),
        };
        program.add(&vif(name, &device, name.as_bytes()[2])).unwrap();
    }
    let program = program.restart();
    assert_eq!(sorted(program.names()), ["ul0", "vm1", "vm2", "vm3"]);
}

/// What a start would refuse is refused at run time.
#[test]
fn there_are_no_more_devices_than_dpdk_has_room_for() {
    let program = Program::start("");
    let device = |n: u8| format!("net_null{n},no-rx=1");
    let mut text = String::new();
    for n in 1..32 {
        let mut port = in_file(&vif(&format!("vm{n}"), &device(n), n));
        port = port.replace(", role", ", txq: 1, role");
        text += &port;
    }
    write(program.dir.path(), &text, "");
    let query = ChangeQuery::default();
    // 31 and the underlay.
    let report = program.rt.block_on(program.client().reload(query)).unwrap();
    assert_eq!(report.changes.len(), 31);
    let why = refusal(program.add(&vif("vm40", &device(40), 40)));
    assert!(why.contains("found 33 beside vhost-user ports; expected at most 32"), "{why}");
    program.add(&program.vif("vm41", 41)).unwrap();
    assert_eq!(program.names().len(), 33);
}

/// A change that cannot be made, nor taken back: a port that was closed does not open again.
#[test]
fn a_port_that_does_not_open_again_is_missing_until_it_does() {
    let program = Program::start("");
    let path = program.dir.path().join("in.pcap");
    let head = PCAP_HEAD.map(u32::to_le_bytes).concat();
    let pcap = |there: bool| if there { std::fs::write(&path, &head) } else { std::fs::remove_file(&path) };
    pcap(true).unwrap();
    let device = |n: u8| format!("net_pcap{n},rx_pcap={}", path.display());
    let [of_file, added] = [1, 2].map(|n| vif(&format!("vm{n}"), &device(n), n));
    let reload = |ports: &str| {
        write(program.dir.path(), ports, "");
        program.reload()
    };
    reload(&in_file(&of_file)).unwrap();
    program.add(&added).unwrap();
    program.add(&vif("vm3", "net_null3,no-rx=1", 3)).unwrap();

    pcap(false).unwrap();
    let missing = || program.config().missing.into_iter().map(|port| port.name).collect::<Vec<_>>();
    let why = refusal(program.set("vm2", &json!({"device": "net_pcap2,rx_pcap=/nonexistent.pcap"}), true));
    assert!(why.contains("/nonexistent.pcap") && why.contains("could not be changed back: vm2: "), "{why}");
    let why = refusal(reload(&in_file(&vif("vm9", "net_nothing9,", 9))));
    assert!(why.contains("net_nothing9") && why.contains("could not be changed back: vm1: "), "{why}");
    assert_eq!(
        (program.names(), missing()),
        (vec!["ul0".into(), "vm3".into()], vec!["vm2".into(), "vm1".into()])
    );
    program.wait_log("nor be taken back as a whole", 2);

    // Others come and go, and what is missing is tried with each reload.
    program.delete("vm3").unwrap();
    assert!(refusal(reload(&in_file(&of_file))).contains("in.pcap"));
    assert_eq!(missing(), ["vm2", "vm1"]);
    pcap(true).unwrap();
    let report = program.reload().unwrap();
    let lines: Vec<&str> = report.changes.iter().map(|line| line.what.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["port vm1 is added", "port vm2 is added"]);
    assert_eq!(
        (sorted(program.names()), missing()),
        (vec!["ul0".into(), "vm1".into(), "vm2".into()], vec![])
    );

    // It can be deleted meanwhile, too.
    pcap(false).unwrap();
    refusal(program.set("vm2", &json!({"device": "net_pcap2,rx_pcap=/nonexistent.pcap"}), true));
    assert_eq!(missing(), ["vm2"]);
    program.delete("vm2").unwrap();
    assert_eq!((program.names(), missing().len()), (vec!["ul0".into(), "vm1".into()], 0));
    assert_eq!(program.reload().unwrap().changes, []);
}

/// Ports of the file, too, and devices that are members of a bond.
#[test]
fn devices_of_the_file_are_opened_again_and_replaced() {
    let one = in_file(&vif("vm1", "net_null1,no-rx=1", 1));
    let program = Program::start(&(one.clone() + &in_file(&vif("vm2", "net_null2,no-rx=1", 2))));
    let reload = |reopen| {
        let query = ChangeQuery { reopen, ..ChangeQuery::default() };
        program.rt.block_on(program.client().reload(query))
    };
    let put = |ports: &str, vdevs: &str| {
        write(program.dir.path(), ports, "");
        let path = program.dir.path().join("gw.ron");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace(r#"["net_null0,no-rx=1"]"#, &format!(r#"["net_null0,no-rx=1"{vdevs}]"#)),
        )
        .unwrap();
    };
    // vm2 becomes a bond with two members; one of them is vm2's device of before.
    let members = r#", "net_null2,no-rx=1", "net_null3,no-rx=1""#;
    let bond = in_file(&vif("vm2", "net_bonding0,mode=1,slave=net_null2,slave=net_null3", 2));
    put(&(one.clone() + &bond), members);
    assert!(refusal(reload(false)).contains("--reopen"));
    reload(true).unwrap();
    assert_eq!(devices(&program), ["net_bonding0", "net_null0", "net_null1"]);
    // A member is not removed under its bond: nothing is changed.
    put(&bond, r#", "net_null3,no-rx=1""#);
    let why = refusal(reload(true));
    assert!(why.contains("device net_null2 is a member of a bond"), "{why}");
    assert_eq!(devices(&program), ["net_bonding0", "net_null0", "net_null1"]);
    // With it it is.
    put(&in_file(&vif("vm2", "net_null2,no-rx=1,size=256", 2)), "");
    reload(true).unwrap();
    assert_eq!(devices(&program), ["net_null0", "net_null2"]);
    // A port on a device of `vdevs`, which is there again when the port is gone.
    put("", r#", "net_null7,no-rx=1""#);
    reload(true).unwrap();
    for _ in 0..2 {
        program.add(&vif("vm7", "net_null7", 7)).unwrap();
        program.delete("vm7").unwrap();
    }
    // Not made, so it is as before.
    let failing = in_file(&vif("vm8", "net_pcap8,rx_pcap=/nonexistent.pcap", 8));
    put(&(in_file(&vif("vm7", "net_null7", 7)) + &failing), r#", "net_null7,no-rx=1""#);
    assert!(refusal(reload(true)).contains("net_pcap8"));
    program.add(&vif("vm7", "net_null7", 7)).unwrap();
    assert_eq!(devices(&program), ["net_null0", "net_null7"]);
}

//! Ports that are added, changed and removed at run time, and a file that is read again: what would run then, what is
//! stored, and what is refused.

use crate::control::source::{Proposal, Source};
use serde_json::{Value, json};
use stopover_config::appliance::{self, Appliance, State, diff::Change};
use stopover_ctl::ApiError;
use tempfile::TempDir;

const FILE: &str = r#"(
    name: "gw",
    vdevs: ["net_tap0"],
    declared: (),
    ports: [
        (name: "ul0", device: "net_null0,size=64", role: underlay(addresses: ["10.0.0.1/24"])),
        (name: "vm1", device: "net_null1,size=64", role: vif(vni: 7, mac: "02:00:00:00:00:01", addresses: ["10.7.0.1"])),
    ],
)"#;

fn vm(n: u8) -> Value {
    json!({
        "name": format!("vm{n}"),
        "device": format!("net_null{n},size=64"),
        "role": {"vif": {"vni": 7, "mac": format!("02:00:00:00:00:0{n}"), "addresses": [format!("10.7.0.{n}")]}},
    })
}

/// An appliance without lcores: what it runs, and where that is from.
struct Gw {
    dir: TempDir,
    source: Source,
    running: Appliance,
}

impl Gw {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("gw.ron"), FILE).unwrap();
        let (source, running) = Source::load(&dir.path().join("gw.ron")).unwrap();
        Self { dir, source, running }
    }

    /// Makes what was proposed, and stores it.
    fn make(&mut self, proposal: Proposal) -> Vec<String> {
        proposal.source.state().store(&proposal.source.state_path().unwrap()).unwrap();
        self.running = self.running.with(&proposal.changes);
        self.source = proposal.source;
        lines(&proposal.changes)
    }

    fn add(&mut self, port: Value) -> Result<Vec<String>, ApiError> {
        let proposal = self.source.add(&self.running, port)?;
        Ok(self.make(proposal))
    }

    fn set(&mut self, name: &str, patch: Value) -> Result<Vec<String>, ApiError> {
        let proposal = self.source.set(&self.running, name, &patch)?;
        Ok(self.make(proposal))
    }

    fn delete(&mut self, name: &str) -> Result<Vec<String>, ApiError> {
        let proposal = self.source.delete(&self.running, name)?;
        Ok(self.make(proposal))
    }

    fn reload(&mut self, from: &str, to: &str) -> (Vec<String>, Vec<String>) {
        assert_eq!(FILE.matches(from).count(), 1, "{from}");
        let path = self.dir.path().join("gw.ron");
        std::fs::write(&path, FILE.replace(from, to)).unwrap();
        let proposal = self.source.reload(&self.running, &appliance::load(&path).unwrap());
        let notes = proposal.notes.clone();
        (self.make(proposal), notes)
    }

    fn names(&self) -> Vec<&str> {
        self.running.ports.iter().map(|port| port.name.as_str()).collect()
    }

    /// What a restart runs is what runs now.
    fn survives(&self) {
        let (source, config) = Source::load(&self.dir.path().join("gw.ron")).unwrap();
        assert_eq!(lines(&appliance::diff::diff(&self.running, &config)), Vec::<String>::new());
        assert_eq!((source.state(), source.show()), (self.source.state(), self.source.show()));
    }
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().flat_map(Change::lines).map(|line| line.text).collect()
}

fn error<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_port_comes_changes_and_goes() {
    let mut gw = Gw::new();
    assert_eq!(
        gw.add(vm(2)).unwrap(),
        ["port vm2 is added: vif of 02:00:00:00:00:02 in network 7 on net_null2,size=64"]
    );
    gw.add(json!({"name": "br0", "device": "net_tap0", "role": {"segment": {"vlans": {"10": 110}}}}))
        .unwrap();
    gw.survives();
    assert_eq!(
        gw.set("vm2", json!({"role": {"vif": {"guard": false, "addresses": ["10.7.0.2", "10.7.0.9"]}}}))
            .unwrap(),
        [
            "port vm2: `addresses` changes from 10.7.0.2 to 10.7.0.2, 10.7.0.9",
            "port vm2: `guard` changes from true to false"
        ]
    );
    assert_eq!(
        gw.set("br0", json!({"mtu": 1600})).unwrap(),
        ["port br0: `mtu` changes from the device's to 1600"]
    );
    assert_eq!(
        gw.set("br0", json!({"mtu": null})).unwrap(),
        ["port br0: `mtu` changes from 1600 to the device's"]
    );
    assert_eq!(gw.set("br0", json!({})).unwrap(), Vec::<String>::new());
    let role = json!({"role": {"vif": {"vni": 8, "mac": "02:00:00:00:00:08"}}});
    assert_eq!(gw.set("br0", role).unwrap()[1..], ["port br0: `role` changes from segment to vif"]);
    gw.survives();
    assert_eq!(gw.names(), ["ul0", "vm1", "vm2", "br0"]);
    // The device of the file stays, and can be used again.
    assert_eq!(
        gw.delete("br0").unwrap(),
        [
            "virtual devices without a port change from none to net_tap0",
            "port br0 is removed: vif of 02:00:00:00:00:08 in network 8 on net_tap0"
        ]
    );
    gw.add(json!({"name": "br1", "device": "net_tap0", "role": {"segment": {"vni": 9}}})).unwrap();
    gw.delete("vm2").unwrap();
    gw.add(vm(2)).unwrap();
    gw.survives();
    gw.delete("vm2").unwrap();
    gw.delete("br1").unwrap();
    assert_eq!(gw.names(), ["ul0", "vm1"]);
    gw.survives();
    let state = State::load(&gw.source.state_path().unwrap()).unwrap();
    assert_eq!(state, State::default());
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let mut gw = Gw::new();
    gw.add(vm(2)).unwrap();
    let mut mac = vm(3);
    mac["role"]["vif"]["mac"] = json!("02:00:00:00:00");
    assert_eq!(
        error(gw.add(mac)),
        "role.mac: found in port `vm3` MAC `02:00:00:00:00`; expected a MAC address of six hexadecimal bytes such as 52:54:00:12:34:56; hint: write all six bytes, two digits each, separated by colons"
    );
    let mut ip = vm(3);
    ip["role"]["vif"]["addresses"] = json!(["10.7.0.3", "10.7.0.2"]);
    assert_eq!(
        error(gw.add(ip)),
        "role.addresses[1]: found address 10.7.0.2 of port `vm3`, which port `vm2` has already in network 7; expected each address once in a network; hint: give one of them another address, or another vni"
    );
    assert_eq!(
        error(gw.add(vm(2))),
        "port vm2 exists already; expected a new name; hint: choose another, change the port with `stopover port set`, or delete it first"
    );
    let mut key = vm(3);
    key["rxqs"] = json!(1);
    assert!(error(gw.add(key)).starts_with("port: unknown field `rxqs`, expected one of `name`, `device`"));
    assert!(error(gw.add(json!([]))).starts_with("port: "));
    assert!(error(gw.set("vm2", json!(7))).starts_with("port: "));
    assert_eq!(
        error(gw.set("vm2", json!({"name": "vm9"}))),
        "the name vm9 for port vm2; expected the name it has; hint: delete the port, and add it with the new name"
    );
    assert!(error(gw.set("vm2", json!({"role": {"vif": {"vni": 0}}}))).starts_with("role.vni: found "));
    assert!(
        error(gw.set("vm2", json!({"role": {"vif": {"mac": "02:00:00:00:00:01"}}}))).contains("port `vm1`")
    );
    let file = gw.dir.path().join("gw.ron").display().to_string();
    for refused in [gw.set("vm1", json!({})), gw.delete("vm1")] {
        assert_eq!(
            error(refused),
            format!(
                "port vm1 is a port of {file}; expected a port that was added at run time; hint: change {file}, then run `stopover reload`"
            )
        );
    }
    assert_eq!(
        error(gw.delete("vm9")),
        "no port vm9; expected a port that was added at run time: vm2; hint: see `stopover port list`"
    );
    gw.delete("vm2").unwrap();
    assert!(error(gw.delete("vm2")).contains("of which there is none"));
    assert_eq!(gw.names(), ["ul0", "vm1"], "nothing of all that has changed anything");
    gw.survives();
}

#[test]
fn a_file_read_again_keeps_ports_that_were_added() {
    let mut gw = Gw::new();
    gw.add(vm(2)).unwrap();
    assert_eq!(gw.reload("\"gw\"", "\"gw\""), (vec![], vec![]));
    assert_eq!(gw.reload("[\"10.7.0.1\"]", "[]").0, ["port vm1: `addresses` changes from 10.7.0.1 to none"]);
    gw.survives();
    assert_eq!(gw.names(), ["ul0", "vm1", "vm2"]);
}

#[test]
fn the_file_overrules_ports_that_were_added() {
    let mut gw = Gw::new();
    gw.add(vm(2)).unwrap();
    gw.add(vm(3)).unwrap();
    // The MAC of vm2 is in the file now, and so is a port of the name vm3.
    let (changes, notes) = gw.reload(
        "    ],",
        r#"(name: "vm3", device: "net_null3,size=64", role: vif(vni: 8, mac: "02:00:00:00:00:02")),
           (name: "vm4", device: "net_null4,size=64", role: vif(vni: 7, mac: "02:00:00:00:00:02"))],"#,
    );
    assert_eq!(
        changes,
        [
            "port vm2 is removed: vif of 02:00:00:00:00:02 in network 7 on net_null2,size=64",
            "port vm3: `vni` changes from 7 to 8",
            "port vm3: `mac` changes from 02:00:00:00:00:03 to 02:00:00:00:00:02",
            "port vm3: `addresses` changes from 10.7.0.3 to none",
            "port vm4 is added: vif of 02:00:00:00:00:02 in network 7 on net_null4,size=64",
        ]
    );
    assert_eq!(notes.len(), 2);
    assert!(
        notes[0].starts_with("port vm2 is left out, because the configuration file overrules it: "),
        "{}",
        notes[0]
    );
    assert!(
        notes[0].contains("gw.state.ron: ports[0].role.addresses: found 10.7.0.2 of MAC 02:00:00:00:00:02"),
        "{}",
        notes[0]
    );
    assert!(notes[1].starts_with("port vm3 is the configuration file's now"), "{}", notes[1]);
    assert!(notes[1].contains("it was (name: \"vm3\", device: \"net_null3,size=64\""), "{}", notes[1]);
    gw.survives();
    let shown = gw.source.show();
    assert_eq!((shown.ports.len(), shown.ports[0].name.as_str()), (1, "vm2"));
    assert!(shown.ports[0].overruled.as_ref().unwrap().contains("port `vm4`"), "{shown:?}");
    assert!(error(gw.set("vm2", json!({}))).starts_with("no port vm2"), "it does not run");
    // When the file has it no more, vm2 runs again, and vm3 does not.
    let (changes, notes) = gw.reload("\"gw\"", "\"gw\"");
    assert_eq!((changes.len(), notes.len()), (3, 0), "{changes:?}");
    assert_eq!(gw.names(), ["ul0", "vm1", "vm2"]);
    gw.survives();
}

#[test]
fn a_port_that_was_left_out_can_be_deleted() {
    let mut gw = Gw::new();
    gw.add(vm(2)).unwrap();
    gw.reload("02:00:00:00:00:01", "02:00:00:00:00:02");
    assert_eq!(gw.names(), ["ul0", "vm1"]);
    let proposal = gw.source.delete(&gw.running, "vm2").unwrap();
    assert_eq!(proposal.notes, ["port vm2 was left out; it is not in the state file any more"]);
    assert_eq!(gw.make(proposal), Vec::<String>::new());
    gw.survives();
    assert_eq!(gw.source.show().ports, []);
}

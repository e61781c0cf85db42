//! Underlay ports that come and go while other hosts are sent to.

use crate::program::{Program, refusal};
use serde_json::{Value, json};

/// By it the host `far` of the configuration is reached: its route is the longest.
fn ul1() -> Value {
    json!({
        "name": "ul1",
        "device": "net_null5,no-rx=1",
        "role": {"underlay": {
            "addresses": ["10.1.0.1/24"],
            "routes": [{"to": "10.0.0.9/32", "via": "10.1.0.254"}],
            "neighbours": [{"ip": "10.1.0.254", "mac": "52:54:00:00:01:fe"}]
        }}
    })
}

/// The underlay port by which `far` is reached.
fn port_to_far(program: &Program) -> Option<String> {
    let hosts = program.rt.block_on(program.client().hosts()).unwrap();
    hosts.into_iter().find(|host| host.name == "far").and_then(|host| host.path?.port)
}

fn edit(program: &Program, from: &str, to: &str) {
    let path = program.dir.path().join("gw.ron");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

const UL0: &str = r#"role: underlay(addresses: ["10.0.0.1/24"])"#;
const UL0_WITH_FAR: &str =
    r#"role: underlay(addresses: ["10.0.0.1/24"], neighbours: [(ip: "10.0.0.9", mac: "52:54:00:00:00:f0")])"#;

#[test]
fn an_underlay_port_comes_and_goes_if_hosts_do_not_need_it() {
    let program = Program::start("");
    program.add(&vif()).unwrap();
    program.add(&ul1()).unwrap();
    program.wait_until("far is reached by ul1", || port_to_far(&program).as_deref() == Some("ul1"));
    // Nobody answers by the other one: it stays as it is.
    let why = refusal(program.delete("ul1"));
    assert!(why.contains("underlay port ul1, by which hosts are still reached"), "{why}");
    assert_eq!(port_to_far(&program).as_deref(), Some("ul1"));
    edit(&program, UL0, UL0_WITH_FAR);
    program.reload().unwrap();
    for _ in 0..2 {
        program.delete("ul1").unwrap();
        assert_eq!(port_to_far(&program).as_deref(), Some("ul0"));
        program.add(&ul1()).unwrap();
        program.wait_until("far is reached by ul1", || port_to_far(&program).as_deref() == Some("ul1"));
    }
    // It survives a restart.
    let program = program.restart();
    assert_eq!(program.names(), ["ul0", "vm1", "ul1"]);
    program.wait_until("far is reached by ul1", || port_to_far(&program).as_deref() == Some("ul1"));
}

#[test]
fn what_an_underlay_port_cannot_do_is_refused_by_name() {
    let program = Program::start("");
    // One that replaces the last comes before that goes.
    edit(
        &program,
        r#"(name: "ul0", device: "net_null0", "#,
        r#"(name: "ul2", device: "net_null2,no-rx=1", "#,
    );
    edit(&program, "10.0.0.1/24", "10.2.0.1/24");
    program.reload().unwrap();
    assert_eq!(program.names(), ["ul2"]);
    edit(&program, "10.2.0.1/24", "10.2.0.2/24");
    let why = refusal(program.reload());
    assert!(
        why.contains("port ul2: `addresses` changes") && why.contains("add another underlay port"),
        "{why}"
    );
    let last = r#"(name: "ul2", device: "net_null2,no-rx=1", role: underlay(addresses: ["10.2.0.2/24"])),"#;
    let vif = r#"(name: "vm1", device: "net_null1,no-rx=1", role: vif(vni: 100, mac: "52:54:00:00:00:01")),"#;
    edit(&program, last, vif);
    let why = refusal(program.reload());
    assert!(why.contains("port ul2 is removed") && why.contains("it is the last underlay port"), "{why}");
    assert_eq!(program.names(), ["ul2"], "and nothing is added");
}

fn vif() -> Value {
    json!({"name": "vm1", "device": "net_null1,no-rx=1", "role": {"vif": {"vni": 300, "mac": "52:54:00:00:00:01"}}})
}

//! The differences of two configurations: every key is noticed and has its words, and the changes lead from one
//! configuration to the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod made;
mod words;

use made::Made;
use proptest::prelude::*;
use std::path::Path;
use stopover_config::appliance::{
    self, Appliance, Truth,
    diff::{Change, Needs, diff},
};

fn parse(text: &str) -> Appliance {
    appliance::parse(text, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Without what means nothing: the order of ports, devices and rows.
fn ordered(mut a: Appliance) -> Appliance {
    let queues = a.queues_by_name();
    a.ports.sort_by(|a, b| a.name.cmp(&b.name));
    let index = |name: &str| a.ports.iter().position(|port| port.name == name).unwrap();
    let by_index = |queues: Vec<(String, u16)>| {
        let queue = |(name, queue): (String, u16)| appliance::QueueRef { port: index(&name), queue };
        queues.into_iter().map(queue).collect()
    };
    a.lcores = queues.map(|lcores| lcores.into_iter().map(|(lcore, q)| (lcore, by_index(q))).collect());
    a.vdevs.sort();
    if let Truth::Declared(declared) = &a.truth {
        let mut declared = (**declared).clone();
        declared.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        declared.networks.sort_by_key(|row| row.vni);
        declared.nodes.sort_by_key(|row| (row.vni, row.mac));
        declared.members.sort_by(|a, b| (a.vni, &a.host).cmp(&(b.vni, &b.host)));
        a.truth = Truth::Declared(declared.into());
    }
    a
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().flat_map(Change::lines).map(|line| line.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_from_one_to_the_other(from in Made::any(), edits in Made::edits()) {
        let (a, b) = (parse(&from.text()), parse(&from.edited(&edits).text()));
        let changes = diff(&a, &b);
        prop_assert_eq!(ordered(a.with(&changes)), ordered(b.clone()), "{:?}", lines(&changes));
        prop_assert_eq!(diff(&a.with(&changes), &b), vec![]);
        prop_assert_eq!(changes.is_empty(), ordered(a) == ordered(b));
    }

    #[test]
    fn every_change_is_described(from in Made::any(), to in Made::any()) {
        for change in diff(&parse(&from.text()), &parse(&to.text())) {
            let lines = change.lines();
            prop_assert!(!lines.is_empty());
            prop_assert_eq!(lines.iter().map(|line| line.needs).max(), Some(change.needs()));
            prop_assert!(lines.iter().all(|line| !line.text.is_empty() && !line.text.contains('\n')));
        }
    }

    #[test]
    fn nothing_differs_from_itself(made in Made::any(), seed: u8) {
        let a = parse(&made.text());
        prop_assert_eq!(diff(&a, &a), vec![]);
        prop_assert_eq!(diff(&a, &parse(&made.in_another_order(seed).text())), vec![]);
    }
}

/// What is given up comes before what is new, so that an address or a device may go from one to the other.
#[test]
fn what_is_gone_comes_first() {
    let text = |ports: &str, nodes: &str| {
        parse(&format!(
            r#"(name: "gw", vdevs: ["net_null0", "net_null1,size=64"],
            declared: (hosts: [(name: "far", vteps: ["10.0.0.9"])], nodes: [{nodes}]),
            ports: [(name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"])), {ports}])"#
        ))
    };
    let was = text(
        r#"(name: "vm1", device: "net_null1", role: vif(vni: 7, mac: "02:00:00:00:00:01"))"#,
        r#"(vni: 7, mac: "02:00:00:00:00:02", host: "far")"#,
    );
    let is = text(
        r#"(name: "vm2", device: "net_null1", role: vif(vni: 7, mac: "02:00:00:00:00:02"))"#,
        r#"(vni: 7, mac: "02:00:00:00:00:01", host: "far")"#,
    );
    let changes = diff(&was, &is);
    assert_eq!(
        lines(&changes),
        [
            "node 02:00:00:00:00:02 of network 7 (at host far, addresses none) is not declared any more",
            "port vm1 is removed: vif of 02:00:00:00:00:01 in network 7 on net_null1,size=64",
            "port vm2 is added: vif of 02:00:00:00:00:02 in network 7 on net_null1,size=64",
            "node 02:00:00:00:00:01 of network 7 (at host far, addresses none) is declared",
        ]
    );
    assert!(changes.iter().all(|change| change.needs() == Needs::Nothing));
    assert_eq!(changes.iter().filter_map(Change::port).collect::<Vec<_>>(), ["vm1", "vm2"]);
}

/// A device that stays though its port is gone is no reason for a restart; one that EAL never created is.
#[test]
fn spare_devices() {
    let text = |vdevs: &str, port: &str| {
        parse(&format!(
            r#"(name: "gw", vdevs: [{vdevs}], declared: (),
            ports: [(name: "ul0", device: "net_null0,size=64", role: underlay(addresses: ["10.0.0.1/24"])), {port}])"#
        ))
    };
    let port = r#"(name: "br0", device: "net_null1", role: segment(vni: 7))"#;
    let (used, spare, none) = (text("\"net_null1\"", port), text("\"net_null1\"", ""), text("", ""));
    let needs = |was, is| diff(was, is).iter().map(Change::needs).collect::<Vec<_>>();
    assert_eq!(needs(&used, &spare), [Needs::Nothing; 2]);
    assert_eq!(needs(&spare, &used), [Needs::Nothing; 2]);
    assert_eq!(needs(&spare, &none), [Needs::Nothing]);
    assert_eq!(needs(&none, &spare), [Needs::Nothing]);
    assert_eq!(needs(&none, &used), [Needs::Nothing], "the port brings its device");
    assert_eq!(lines(&diff(&none, &spare)), ["virtual devices without a port change from none to net_null1"]);
}

//! The plan from a checked configuration.

use super::*;
use crate::control::declared::{HostIds, changes};
use crate::control::plan::{Facts, Plan, host_details, interest};
use crate::pipeline::ports::{Network as PortNetwork, Role};
use std::path::Path;
use stopover_bbs::client::PublicKey;
use stopover_config::appliance::{self as config, Appliance};

const CONFIG: &str = r#"(
    name: "gw-a",
    eal: ["-l", "0-1", "--no-pci", "--in-memory", "-m", "64"],
    vdevs: ["net_null0", "net_null1", "net_null2"],
    declared: (
        hosts: [(name: "gw-b", vteps: ["10.0.0.2"], udp_port: 8472), (name: "gw-c", vteps: ["10.0.0.3"])],
        networks: [(vni: 100, flood: "drop", mtu: 1400)],
        nodes: [(vni: 100, mac: "52:54:00:00:00:09", host: "gw-b", ips: ["192.168.0.9"]),
                (vni: 200, mac: "52:54:00:00:00:08", host: "gw-c", ips: [])],
        members: [(vni: 100, host: "gw-b", segment: true)],
    ),
    ports: [
        (name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"], vlan: 30)),
        (name: "vm1", device: "net_null1",
         role: vif(vni: 100, mac: "52:54:00:00:00:01", addresses: ["192.168.0.1", "fd00::1"], guard: true)),
        (name: "br0", device: "net_null2",
         role: segment(vni: 100, vlans: {10: 200}, ageing_s: 60,
                       stations: [(mac: "52:54:00:00:00:02", vni: 200, addresses: ["192.168.0.2"])])),
    ],
)"#;

pub(super) fn appliance() -> Appliance {
    config::parse(CONFIG, Path::new("gw.ron")).unwrap_or_else(|e| panic!("{e}"))
}

fn plan(tables: &mut Tables) -> Plan {
    let facts =
        |n| Facts { mac: mac(n), mtu: 1500, fills_checksums: n == 2, segments_tcp: false, exact: false };
    Plan::new(&appliance(), &[facts(1), facts(2), facts(3)], tables).unwrap()
}

#[test]
fn underlay_ports_are_the_nics_that_peers_know() {
    let key = PublicKey::new([7; 32]);
    let details = host_details(appliance().ports.iter().zip([1600, 1500, 1500]), key);
    let [nic] = &details.nics[..] else { panic!("{details:?}") };
    assert_eq!((nic.name.as_str(), nic.address, nic.mtu), ("ul0", ip("10.0.0.1"), 1600));
    assert_eq!(
        details.capabilities.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["vxlan", "end-markers"]
    );
    assert_eq!(details.public_key, key);
    let details = host_details(appliance().ports.iter().zip([67, 1500, 1500]), None);
    assert!(details.nics.is_empty(), "not an MTU");
}

#[test]
fn every_port_has_its_role_and_every_network_its_members() {
    let (mut tables, _views) = Tables::new(1).unwrap();
    let plan = plan(&mut tables);
    let [first, second] = [100, 200].map(|n| PortNetwork { bd: tables.bd(vni(n)).unwrap(), vni: vni(n) });
    let Role::Vif(vif) = &plan.ports[1].role else { panic!("a vif") };
    assert_eq!((vif.network, vif.mac, vif.guard), (first, mac(1), true));
    assert_eq!(vif.ipv4.as_slice(), ["192.168.0.1".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert_eq!(vif.ipv6.as_slice(), ["fd00::1".parse().unwrap(), mac(1).link_local()]);
    assert!(plan.ports[1].fills_checksums && !plan.ports[2].fills_checksums);
    let Role::Segment(segment) = &plan.ports[2].role else { panic!("a segment") };
    assert_eq!([0, 10, 11].map(|vid| segment.network(vid)), [Some(first), Some(second), None]);
    let Role::Underlay(underlay) = &plan.ports[0].role else { panic!("the underlay") };
    assert_eq!((underlay.mac, underlay.udp_port), (mac(1), 4789));
    assert_eq!(underlay.vlan.map(|vlan| vlan.get()), Some(30));

    let member = |port, vlan, segment| Member { port, vlan, segment };
    assert_eq!(plan.networks[&vni(100)], (first.bd, vec![member(1, 0, false), member(2, 0, true)]));
    assert_eq!(plan.networks[&vni(200)], (second.bd, vec![member(2, 10, true)]));
    assert_eq!(plan.segment_vnis().into_iter().collect::<Vec<_>>(), [vni(100), vni(200)]);
    assert_eq!(interest(&appliance()).into_iter().collect::<Vec<_>>(), [vni(100), vni(200)]);
    assert_eq!(plan.ageing_ms.into_iter().collect::<Vec<_>>(), [(2, 60_000)]);
}

#[test]
fn declared_stations_have_their_port_and_vlan() {
    let (mut tables, _views) = Tables::new(1).unwrap();
    let plan = plan(&mut tables);
    let second = tables.bd(vni(200)).unwrap();
    let [vif, fixed] = plan.declared.as_slice() else { panic!("two stations") };
    assert_eq!((vif.mac, vif.port, vif.vlan, vif.kind), (mac(1), 1, 0, Kind::Vif));
    assert_eq!(vif.ips, [ip("192.168.0.1"), ip("fd00::1"), mac(1).link_local().into()]);
    assert_eq!((fixed.bd, fixed.mac, fixed.port, fixed.vlan), (second, mac(2), 2, 10));
    assert_eq!((fixed.kind, fixed.ips.as_slice()), (Kind::Static, &[ip("192.168.0.2")][..]));
}

#[test]
fn declarations_become_changes_as_of_a_board() {
    let appliance = appliance();
    let config::Truth::Declared(declared) = &appliance.truth else { panic!("declared") };
    let mut lab = Lab::new(&[]);
    for change in changes(&config::Declared::default(), declared, &mut HostIds::default()) {
        lab.apply(change);
    }
    lab.publish().unwrap();
    assert_eq!((lab.location(mac(9)), lab.owner("192.168.0.9")), (Where::Host(1), Some(mac(9))));
    assert_eq!(lab.network(0).flood, FloodPolicy::Drop);
    assert_eq!(lab.flooded(0), [vec![1], vec![1]]);
    // A host with a node in a network is a member of it, declared or not.
    assert_eq!(lab.flooded(1), [vec![2], vec![]]);
    assert_eq!(lab.replica.host(1).unwrap().host.udp_port, 8472);
}

fn declaration(rows: &str) -> std::sync::Arc<config::Declared> {
    let text = format!(
        r#"(name: "host-1", declared: ({rows}), ports: [
            (name: "ul0", device: "net_null0,size=64", role: underlay(addresses: ["10.0.0.1/24"]))])"#
    );
    let parsed = config::parse(&text, Path::new("x")).unwrap_or_else(|e| panic!("{e}"));
    let config::Truth::Declared(declared) = parsed.truth else { panic!("declared") };
    declared
}

/// Declarations that lead to these changes, one after another. What is applied at once is applied step by step.
#[test]
fn another_declaration_is_applied_as_changes() {
    let steps = [
        r#"hosts: [(name: "a", vteps: ["10.0.0.2"]), (name: "b", vteps: ["10.0.0.3"])], networks: [(vni: 100, flood: "drop")],
           nodes: [(vni: 100, mac: "52:54:00:00:00:07", host: "a", ips: ["192.168.0.7", "192.168.0.8"])],
           members: [(vni: 100, host: "b", segment: true)]"#,
        // An address goes to another node, a node to another host.
        r#"hosts: [(name: "b", vteps: ["10.0.0.3"]), (name: "a", vteps: ["10.0.0.9"])], networks: [(vni: 100)],
           nodes: [(vni: 100, mac: "52:54:00:00:00:06", host: "a", ips: ["192.168.0.8"]),
                   (vni: 100, mac: "52:54:00:00:00:07", host: "b", ips: ["192.168.0.7"])]"#,
        // A host is gone, and one of its name comes back.
        r#"hosts: [(name: "b", vteps: ["10.0.0.3"])], nodes: [(vni: 100, mac: "52:54:00:00:00:07", host: "b")]"#,
        r#"hosts: [(name: "b", vteps: ["10.0.0.3"]), (name: "a", vteps: ["10.0.0.2"])], members: [(vni: 100, host: "a")]"#,
    ];
    let (mut lab, mut ids) = (Lab::new(&[]), HostIds::default());
    let mut was = declaration("");
    for (step, text) in steps.iter().enumerate() {
        let is = declaration(text);
        for change in changes(&was, &is, &mut ids) {
            lab.apply(change);
        }
        lab.publish().unwrap();
        assert_eq!(changes(&is, &is, &mut ids), []);
        match step {
            0 => {
                assert_eq!((lab.location(mac(7)), lab.owner("192.168.0.8")), (Where::Host(1), Some(mac(7))));
                assert_eq!(
                    (lab.flooded(0), lab.network(0).flood),
                    ([vec![1, 2], vec![2]], FloodPolicy::Drop)
                );
            }
            1 => {
                assert_eq!((lab.location(mac(6)), lab.location(mac(7))), (Where::Host(1), Where::Host(2)));
                assert_eq!(
                    (lab.owner("192.168.0.7"), lab.owner("192.168.0.8")),
                    (Some(mac(7)), Some(mac(6)))
                );
                assert_eq!((lab.vtep("10.0.0.9"), lab.vtep("10.0.0.2")), (Some(1), None));
                assert_eq!(
                    (lab.flooded(0), lab.network(0).flood),
                    ([vec![1, 2], vec![]], FloodPolicy::Flood)
                );
            }
            2 => {
                assert_eq!((lab.location(mac(6)), lab.owner("192.168.0.8")), (Where::Nowhere, None));
                assert_eq!((lab.owner("192.168.0.7"), lab.vtep("10.0.0.9")), (None, None));
                assert_eq!(lab.flooded(0), [vec![2], vec![]]);
            }
            _ => {
                assert_eq!((lab.location(mac(7)), lab.flooded(0)), (Where::Nowhere, [vec![3], vec![]]));
                assert_eq!(lab.vtep("10.0.0.2"), Some(3), "another host, though of the same name");
            }
        }
        was = is;
    }
}

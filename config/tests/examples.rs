//! Every example in `examples/` is a configuration that loads, with the values that its comments state.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use stopover_config::{
    Endpoint,
    appliance::{self, Appliance, Device, Dscp, Idle, QueueRef, Role, Truth, TunnelMode},
    bbs,
};
use stopover_net::{FloodPolicy, HostName, VlanId, Vni};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn load(name: &str) -> Appliance {
    appliance::load(&example(name)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn two_hypervisors() {
    let a = load("two-hypervisors/a.ron");
    assert_eq!(a.name.as_str(), "hv-a");
    assert_eq!(a.ctl, Path::new("/run/stopover/hv-a.sock"));
    assert_eq!(a.ports[0].device, Device::Pci("0000:03:00.0".into()));
    assert_eq!(a.ports[0].mtu, Some(1600));
    assert_eq!(
        a.vteps(),
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "fd00:0:0:1::1".parse().unwrap()]
    );
    let lcores = a.lcores.as_ref().unwrap();
    assert_eq!(lcores[&2], vec![QueueRef { port: 0, queue: 1 }, QueueRef { port: 2, queue: 0 }]);
    assert_eq!(a.eal_lcores().unwrap().workers(), vec![1, 2]);

    let b = load("two-hypervisors/b.ron");
    assert_eq!(b.lcores, None);
    assert_eq!(
        b.queues_by_lcore(&[1], |_, _| true)[&1],
        (0..3).map(|port| QueueRef { port, queue: 0 }).collect::<Vec<_>>()
    );
    let Role::Vif(vm4) = &b.ports[2].role else { panic!("vm4 is a vif") };
    let allowed: Vec<_> = vm4.allowed.iter().map(|pair| (pair.mac, pair.prefix)).collect();
    assert_eq!(allowed, ["10.20.0.0/16", "fd00:20::/32"].map(|prefix| (vm4.mac, prefix.parse().unwrap())));
    assert!(vm4.guard && vm4.router && vm4.dhcp_server);

    let board = bbs::load(&example("two-hypervisors/bbs.ron")).unwrap();
    let Truth::Board(endpoints) = &a.truth else { panic!("a has a board") };
    assert_eq!(endpoints, &board.listen[..1], "the appliances go where the board listens");
}

#[test]
fn certificates() {
    let board = bbs::load(&example("certificates/bbs.ron")).unwrap();
    let enrol = board.enrol.unwrap();
    assert_eq!(enrol.listen.to_string(), "https://192.0.2.10:7481");
    assert_eq!((enrol.ca.as_path(), enrol.days), (Path::new("/etc/stopover/ca"), 365));
    assert_eq!(board.tls.as_deref(), Some(Path::new("/etc/stopover/tls")));
}

#[test]
fn vlan_gateway() {
    let gw = load("vlan-gateway/gw.ron");
    assert_eq!(
        gw.truth,
        Truth::Board(
            ["http://192.0.2.10:7480", "http://[2001:db8::10]:7480"]
                .map(|s| s.parse::<Endpoint>().unwrap())
                .to_vec()
        )
    );
    let Role::Underlay(ul) = &gw.ports[0].role else { panic!("ul0 is the underlay") };
    assert_eq!((ul.vlan, ul.dscp, ul.ttl), (Some(VlanId::new(30).unwrap()), Dscp::Fixed(18), 64));
    assert!(gw.ports[1].promiscuous && !gw.ports[0].promiscuous);
    let Role::Segment(trunk) = &gw.ports[1].role else { panic!("trunk is a segment") };
    assert_eq!(trunk.vlans.get(&VlanId::new(20).unwrap()), Some(&Vni::new(1020).unwrap()));
    assert_eq!((trunk.vlans.len(), trunk.stations.len(), trunk.ageing_s), (3, 1, 300));
}

#[test]
fn live_migration() {
    let [a, b] = ["a", "b"].map(|host| load(&format!("live-migration/{host}.ron")));
    assert_eq!((a.migration.hold_bytes >> 20, a.migration.hold_node_bytes >> 20), (128, 96));
    assert!(a.migration.hold_node_bytes > 100_000 / 2 * (1500 + 24), "as in its comment");
    assert_eq!(a.migration, b.migration, "either end may be the one that holds");
    assert_eq!(a.ports[1], b.ports[1], "one VM");
    assert_ne!((&a.name, a.vteps()), (&b.name, b.vteps()));
}

#[test]
fn tunnels() {
    let a = load("tunnels/hv-a.ron");
    let tunnels = a.tunnels.unwrap();
    let mode = |vni, host: &str| tunnels.mode_of(Vni::new(vni).unwrap(), &HostName::new(host).unwrap());
    assert_eq!(
        [mode(7, "hv-b"), mode(7, "gw-old"), mode(100, "gw-old")],
        [TunnelMode::Required, TunnelMode::Off, TunnelMode::Required]
    );
    assert!(a.ports[0].mtu >= Some(1500 + 92 + 3), "as in its comment");
    assert!(a.tls.is_some() && !a.insecure);
}

#[test]
fn container_node() {
    let node = load("container-node/node.ron");
    assert_eq!(node.idle, Idle::Adaptive { cap_us: 50, poll_us: 10 });
    assert_eq!(node.ports[1].device, Device::Vdev("net_vhost0".into()));
    assert_eq!(node.truth, Truth::Board(vec![Endpoint::Unix("/run/stopover/bbs.sock".into())]));
}

#[test]
fn declared() {
    let bench = load("declared.ron");
    assert_eq!((bench.idle, bench.burst, bench.mbufs, bench.mbuf_size), (Idle::Poll, 32, 16_384, 2176));
    let Truth::Declared(d) = &bench.truth else { panic!("no board here") };
    assert_eq!((d.hosts.len(), d.networks.len(), d.nodes.len(), d.members.len()), (2, 1, 2, 2));
    assert_eq!(d.networks[0].flood, FloodPolicy::ToSegments);
    assert_eq!((d.hosts[0].udp_port, d.members[1].segment), (4789, true));
}

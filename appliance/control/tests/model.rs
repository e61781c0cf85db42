//! Random histories of a board, with local stations that are added and removed among them, against the plainest model
//! of what the tables must hold; and a snapshot in the middle, whole or interrupted, against a replica that never
//! knew anything else.

use super::*;
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

const HOSTS: std::ops::RangeInclusive<u32> = 1..=4;
const VTEPS: [&str; 5] = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::2", "fd00::3"];
const ALL_VNIS: [u32; 3] = [100, 200, 300];
/// Local stations that are added and removed, in network 100, on ports of their own.
const OURS: [(u8, u16); 3] = [(1, 1), (2, 2), (3, 3)];

#[derive(Debug, Clone)]
enum Step {
    /// The sixth bit of `vteps`: it is not flooded to.
    Host {
        id: u32,
        vteps: u8,
        port: u16,
    },
    HostGone(u32),
    Network {
        vni: u32,
        flood: FloodPolicy,
        mtu: u16,
    },
    NetworkGone(u32),
    Member {
        vni: u32,
        id: u32,
        segment: bool,
    },
    MemberGone {
        vni: u32,
        id: u32,
    },
    Node {
        vni: u32,
        mac: u8,
        id: u32,
        ips: u8,
    },
    NodeGone {
        vni: u32,
        mac: u8,
    },
    Link {
        which: usize,
        up: bool,
    },
    Snapshot {
        broken_off_after: Option<usize>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let vni = || prop::sample::select(ALL_VNIS.to_vec());
    let flood = prop::sample::select(vec![FloodPolicy::Flood, FloodPolicy::Drop, FloodPolicy::ToSegments]);
    prop_oneof![
        4 => (HOSTS, 1u8..32, prop::bool::weighted(0.2), prop::sample::select(vec![4789, 8472]))
            .prop_map(|(id, vteps, away, port)| Step::Host { id, vteps: vteps | u8::from(away) << 5, port }),
        1 => HOSTS.prop_map(Step::HostGone),
        2 => (vni(), flood, prop_oneof![Just(0), 576u16..9000]).prop_map(|(vni, flood, mtu)| Step::Network { vni, flood, mtu }),
        1 => vni().prop_map(Step::NetworkGone),
        4 => (vni(), HOSTS, any::<bool>()).prop_map(|(vni, id, segment)| Step::Member { vni, id, segment }),
        2 => (vni(), HOSTS).prop_map(|(vni, id)| Step::MemberGone { vni, id }),
        8 => (vni(), 1u8..7, HOSTS, 0u8..8).prop_map(|(vni, mac, id, ips)| Step::Node { vni, mac, id, ips }),
        3 => (vni(), 1u8..7).prop_map(|(vni, mac)| Step::NodeGone { vni, mac }),
        4 => (0..OURS.len(), any::<bool>()).prop_map(|(which, up)| Step::Link { which, up }),
        1 => prop::option::of(0usize..20).prop_map(|broken_off_after| Step::Snapshot { broken_off_after }),
    ]
}

/// Addresses that only this MAC ever uses.
fn addresses(mac: u8, mask: u8) -> Vec<IpAddr> {
    let all = [
        IpAddr::from([192, 168, mac, 1]),
        IpAddr::from([192, 168, mac, 2]),
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, u16::from(mac), 1]),
    ];
    all.into_iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, ip)| ip).collect()
}

/// What a station of ours is declared with.
fn declared_addresses(mac: u8) -> Vec<IpAddr> {
    addresses(mac, 0b011)
}

/// The state at the board, and which local stations are up.
#[derive(Debug, Default)]
struct Truth {
    hosts: BTreeMap<u32, Host>,
    networks: BTreeMap<u32, Network>,
    members: BTreeMap<(u32, u32), bool>,
    nodes: BTreeMap<(u32, u8), Node>,
    local: BTreeSet<usize>,
}

impl Truth {
    /// Applies a step as the board would, and returns the board's changes.
    fn change(&mut self, step: &Step) -> Vec<Change> {
        match *step {
            Step::Host { id, vteps, port } => self.put_host(id, vteps, port),
            Step::HostGone(id) => self.remove_host(id),
            Step::Network { vni: n, flood, mtu } => {
                let network = Network { vni: vni(n), name: format!("n{n}"), flood, mtu };
                self.networks.insert(n, network.clone());
                vec![Change::NetworkPut(network)]
            }
            Step::NetworkGone(n) => {
                self.networks.remove(&n).map(|_| Change::NetworkGone { vni: vni(n) }).into_iter().collect()
            }
            Step::Member { vni: n, id, segment } if self.hosts.contains_key(&id) => {
                self.members.insert((n, id), segment);
                vec![Change::MemberPut { vni: vni(n), host_id: id, segment }]
            }
            Step::MemberGone { vni: n, id } => {
                let removed = self.members.remove(&(n, id));
                removed.map(|_| Change::MemberGone { vni: vni(n), host_id: id }).into_iter().collect()
            }
            Step::Node { vni: n, mac: m, id, ips } if self.hosts.contains_key(&id) => {
                let ips = addresses(m, ips);
                let facts = NodeFacts::default();
                let node = Node { vni: vni(n), mac: mac(m), ips, host_id: id, generation: 1, facts };
                let old = self.nodes.insert((n, m), node.clone());
                let mut gone_ips = old.map(|old| old.ips).unwrap_or_default();
                gone_ips.retain(|ip| !node.ips.contains(ip));
                vec![Change::NodePut { node, gone_ips }]
            }
            Step::NodeGone { vni: n, mac: m } => self.remove_node(n, m),
            Step::Member { .. } | Step::Node { .. } | Step::Link { .. } | Step::Snapshot { .. } => Vec::new(),
        }
    }

    fn put_host(&mut self, id: u32, mask: u8, udp_port: u16) -> Vec<Change> {
        let vteps: Vec<IpAddr> = VTEPS
            .iter()
            .enumerate()
            .filter(|(i, _)| mask >> i & 1 == 1)
            .map(|(_, text)| ip(text))
            .take(4)
            .collect();
        // The board gives an address and port to one host only.
        let taken =
            |h: &Host| h.id != id && h.udp_port == udp_port && h.vteps.iter().any(|v| vteps.contains(v));
        if self.hosts.values().any(taken) {
            return Vec::new();
        }
        let (declared_by, down_unix_ms, no_flood) = (DeclaredBy::Operator, 0, mask >> 5 & 1 == 1);
        let name = name(id);
        let details = stopover_bbs::client::HostDetails::default();
        let host = Host { id, name, vteps, udp_port, declared_by, up: true, no_flood, down_unix_ms, details };
        self.hosts.insert(id, host.clone());
        vec![Change::HostPut(host)]
    }

    fn remove_host(&mut self, id: u32) -> Vec<Change> {
        if self.hosts.remove(&id).is_none() {
            return Vec::new();
        }
        let nodes: Vec<_> = self.nodes.iter().filter(|(_, n)| n.host_id == id).map(|(key, _)| *key).collect();
        let mut changes: Vec<_> = nodes.into_iter().flat_map(|(n, m)| self.remove_node(n, m)).collect();
        let members: Vec<_> = self.members.keys().filter(|(_, host)| *host == id).copied().collect();
        for (n, host_id) in members {
            self.members.remove(&(n, host_id));
            changes.push(Change::MemberGone { vni: vni(n), host_id });
        }
        changes.push(Change::HostGone { id });
        changes
    }

    fn remove_node(&mut self, n: u32, m: u8) -> Vec<Change> {
        let removed = self.nodes.remove(&(n, m));
        removed
            .map(|node| Change::NodeGone { vni: node.vni, mac: node.mac, ips: node.ips })
            .into_iter()
            .collect()
    }

    /// All of it, as in a snapshot.
    fn snapshot(&self) -> Vec<Change> {
        let hosts = self.hosts.values().cloned().map(Change::HostPut);
        let networks = self.networks.values().cloned().map(Change::NetworkPut);
        let members = self.members.iter().map(|((n, id), segment)| Change::MemberPut {
            vni: vni(*n),
            host_id: *id,
            segment: *segment,
        });
        let nodes = self.nodes.values().cloned().map(|node| Change::NodePut { node, gone_ips: Vec::new() });
        hosts.chain(networks).chain(members).chain(nodes).collect()
    }

    fn station(&self, n: u32, m: u8) -> Option<u16> {
        let at = |which: &usize| OURS[*which].0 == m && n == 100;
        self.local.iter().find(|which| at(which)).map(|which| OURS[*which].1)
    }

    fn remote_host(&self, n: u32, m: u8) -> Option<u32> {
        self.nodes.get(&(n, m)).map(|node| node.host_id).filter(|id| *id != OWN)
    }
}

/// A network's policy, hosts with members, those with segments, and ports.
type Receivers = (FloodPolicy, Vec<u32>, Vec<u32>, Vec<u16>);

/// What a reader of the tables sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    places: BTreeMap<(u32, u8), Where>,
    owners: BTreeMap<(u32, IpAddr), Mac>,
    vteps: BTreeMap<IpAddr, bool>,
    networks: BTreeMap<u32, Receivers>,
}

fn seen(lab: &Lab) -> Seen {
    lab.tables.check_counts();
    let number = |bd: Bd| VNIS[usize::from(bd == lab.bds[1])];
    Seen {
        places: lab
            .tables
            .nodes()
            .map(|(bd, mac, place)| ((number(bd), mac.octets()[5]), lab.place(Some(place))))
            .collect(),
        owners: lab.tables.owners().map(|(bd, ip, mac)| ((number(bd), ip), mac)).collect(),
        vteps: VTEPS.iter().map(|text| (ip(text), lab.view.vtep(ip(text)).is_some())).collect(),
        networks: VNIS
            .iter()
            .enumerate()
            .map(|(i, n)| {
                let entry = lab.network(i);
                let mut ports: Vec<u16> = entry.ports.iter().map(|m| m.port).collect();
                ports.sort_unstable();
                let [hosts, segment_hosts] = lab.flooded(i);
                (*n, (entry.flood, hosts, segment_hosts, ports))
            })
            .collect(),
    }
}

/// What a reader must see. Owners: those that must be there.
fn expected(truth: &Truth) -> Seen {
    let mut places = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for n in VNIS {
        for m in 1..7 {
            let (port, elsewhere) = (truth.station(n, m), truth.remote_host(n, m));
            if let Some(place) = port.map(Where::Port).or(elsewhere.map(Where::Host)) {
                places.insert((n, m), place);
            }
            let here = port.map(|_| declared_addresses(m)).unwrap_or_default();
            let there = elsewhere.map(|_| truth.nodes[&(n, m)].ips.clone()).unwrap_or_default();
            owners.extend(here.into_iter().chain(there).map(|ip| ((n, ip), mac(m))));
        }
    }
    let others = || truth.hosts.values().filter(|h| h.id != OWN);
    let members = |n: u32, segments_only: bool| {
        let counts = |(key, segment): (&(u32, u32), &bool)| {
            (key.0 == n && key.1 != OWN && !truth.hosts[&key.1].no_flood && (*segment || !segments_only))
                .then_some(key.1)
        };
        truth.members.iter().filter_map(counts).collect::<Vec<_>>()
    };
    Seen {
        places,
        owners,
        vteps: VTEPS.iter().map(|t| (ip(t), others().any(|h| h.vteps.contains(&ip(t))))).collect(),
        networks: VNIS
            .iter()
            .map(|n| {
                let flood = truth.networks.get(n).map(|w| w.flood).unwrap_or_default();
                let ours = truth.local.iter().filter(|_| *n == 100).map(|which| OURS[*which].1);
                (*n, (flood, members(*n, false), members(*n, true), ours.collect()))
            })
            .collect(),
    }
}

/// What must be resolved: the first IPv4 address of every other host.
fn tracked_targets(truth: &Truth) -> BTreeSet<(IpAddr, u16)> {
    let target = |h: &Host| h.vteps.iter().find(|v| v.is_ipv4()).map(|v| (*v, h.udp_port));
    truth.hosts.values().filter(|h| h.id != OWN).filter_map(target).collect()
}

fn new_lab() -> Lab {
    let ips = OURS.map(|(m, _)| declared_addresses(m));
    let declared: Vec<_> = OURS
        .iter()
        .zip(&ips)
        .map(|((m, port), ips)| (0, mac(*m), *port, ips.as_slice(), Kind::Vif))
        .collect();
    Lab::new(&declared)
}

fn record_effects(effects: Vec<Effect>, tracked: &mut BTreeSet<(IpAddr, u16)>) {
    for effect in effects {
        match effect {
            Effect::Track(ip, port) => tracked.insert((ip, port)),
            Effect::Untrack(ip, port) => tracked.remove(&(ip, port)),
            _ => false,
        };
    }
}

fn take_snapshot(
    lab: &mut Lab,
    truth: &Truth,
    broken_off_after: Option<usize>,
    tracked: &mut BTreeSet<(IpAddr, u16)>,
) {
    for whole in [false, true] {
        if !whole && broken_off_after.is_none() {
            continue;
        }
        lab.replica.begin_snapshot(&mut lab.tables, false);
        let changes = truth.snapshot();
        let len = if whole { changes.len() } else { broken_off_after.unwrap_or(0).min(changes.len()) };
        for change in changes.into_iter().take(len) {
            record_effects(lab.apply(change), tracked);
        }
    }
    record_effects(lab.end_snapshot(), tracked);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_match_the_board(steps in vec(step(), 1..60)) {
        let mut lab = new_lab();
        let mut truth = Truth::default();
        let mut tracked = BTreeSet::new();
        for step in &steps {
            for change in truth.change(step) {
                record_effects(lab.apply(change), &mut tracked);
            }
            match *step {
                Step::Link { which, up } if up != truth.local.contains(&which) => {
                    lab.link(OURS[which].1, up);
                    if up { truth.local.insert(which) } else { truth.local.remove(&which) };
                }
                Step::Snapshot { broken_off_after } => {
                    take_snapshot(&mut lab, &truth, broken_off_after, &mut tracked);
                }
                _ => {}
            }
            lab.publish().unwrap();
            let (mut seen, expected) = (seen(&lab), expected(&truth));
            // An address may outlive its station where the board has the node elsewhere; it then leads to no other
            // MAC than its own. Everything else is exact.
            for (key, owner) in &seen.owners {
                prop_assert!(addresses(owner.octets()[5], 0xff).contains(&key.1));
            }
            seen.owners.retain(|key, _| expected.owners.contains_key(key));
            prop_assert_eq!(&seen, &expected, "after {:?}", step);
            prop_assert_eq!(&tracked, &tracked_targets(&truth), "after {:?}", step);
        }

        // A snapshot leaves the same as in a replica that never knew anything else.
        take_snapshot(&mut lab, &truth, None, &mut tracked);
        lab.publish().unwrap();
        let mut fresh = new_lab();
        for which in &truth.local {
            fresh.link(OURS[*which].1, true);
        }
        take_snapshot(&mut fresh, &truth, None, &mut BTreeSet::new());
        fresh.publish().unwrap();
        let (mut one, mut two) = (seen(&lab), seen(&fresh));
        // Addresses of local stations remain until the stations are removed.
        let elsewhere = |n: u32, owner: &Mac| truth.station(n, owner.octets()[5]).is_none();
        one.owners.retain(|(n, _), owner| elsewhere(*n, owner));
        two.owners.retain(|(n, _), owner| elsewhere(*n, owner));
        prop_assert_eq!(one, two);

        // And so does a checkpoint, in which local stations have no part.
        let checkpoint = checkpoint::walk(&lab);
        let mut fresh = new_lab();
        checkpoint::restore(&mut fresh, checkpoint);
        truth.local.clear();
        let (mut seen, expected) = (seen(&fresh), expected(&truth));
        for (key, owner) in &seen.owners {
            prop_assert!(addresses(owner.octets()[5], 0xff).contains(&key.1));
        }
        seen.owners.retain(|key, _| expected.owners.contains_key(key));
        prop_assert_eq!(seen, expected);
    }
}

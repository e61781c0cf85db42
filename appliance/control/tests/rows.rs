//! Long lists made in turns: each is bounded, and together they have each row once that exists throughout.

use super::*;
use crate::control::rows::{Cursor, MAX_TURN_ROWS, Part, Rows, Turn};
use crate::underlay::Underlay;
use std::collections::{BTreeMap, BTreeSet};
use stopover_ctl as ctl;

/// Nodes that exist throughout: far more than a turn may examine.
const STAY: u32 = 120_000;
const HOSTS: u32 = 3_000;

fn far(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac::new([2, 1, a, b, c, d])
}

fn address(n: u32) -> IpAddr {
    // Every third has IPv6.
    match n % 3 {
        0 => IpAddr::from(((0xfd00_u128 << 112) + u128::from(n)).to_be_bytes()),
        _ => IpAddr::from((0x0b00_0000 + n).to_be_bytes()),
    }
}

fn put(lab: &mut Lab, n: u32) {
    let node = Node {
        vni: vni(100),
        mac: far(n),
        ips: vec![address(n)],
        host_id: 2 + n % HOSTS,
        generation: 1,
        facts: NodeFacts::default(),
    };
    lab.apply(Change::NodePut { node, gone_ips: Vec::new() });
}

fn remove(lab: &mut Lab, n: u32) {
    lab.apply(Change::NodeGone { vni: vni(100), mac: far(n), ips: vec![address(n)] });
}

fn large() -> Lab {
    let mut lab = Lab::new(&[(0, mac(1), 1, &[], Kind::Vif)]);
    for id in 2..2 + HOSTS {
        lab.apply(host(id, &[&format!("10.1.{}.{}", id / 250, id % 250)], 4789));
        lab.apply(Change::MemberPut { vni: vni(100), host_id: id, segment: id % 2 == 0 });
    }
    for n in 0..STAY {
        put(&mut lab, n);
    }
    lab
}

fn rows<R>(lab: &Lab, f: impl FnOnce(&Rows) -> R) -> R {
    f(&Rows {
        own: &name(OWN),
        remote_origin: ctl::NodeOrigin::Board,
        port: &|port| format!("port-{port}"),
        tables: &lab.tables,
        replica: &lab.replica,
        stations: &lab.stations,
        underlay: &Underlay::new(Vec::new()),
    })
}

fn part(from: Cursor, only: Option<u32>) -> Part {
    Part { vni: only.map(vni), from, at_most: usize::MAX }
}

/// A whole list; `meanwhile` changes the tables after each turn. No turn may have more rows than its limit.
fn whole<T>(
    lab: &mut Lab,
    only: Option<u32>,
    turn: impl Fn(&Rows, &Part) -> Turn<T>,
    mut meanwhile: impl FnMut(&mut Lab),
) -> Vec<T> {
    let (mut all, mut from) = (Vec::new(), Some(Cursor::default()));
    while let Some(cursor) = from {
        let turn = rows(lab, |rows| turn(rows, &part(cursor, only)));
        assert!(turn.rows.len() <= MAX_TURN_ROWS + 1, "{} rows in one turn", turn.rows.len());
        assert_ne!(turn.next, from, "the list does not advance");
        from = turn.next;
        all.extend(turn.rows);
        meanwhile(lab);
    }
    all
}

#[test]
fn rows_that_remain_are_listed_once_despite_changes() {
    let mut lab = large();
    // The table grows by more than twice and shrinks again while it is listed: its segments split and merge.
    let (mut next, mut last) = (STAY, STAY);
    let mut churn = |lab: &mut Lab| {
        if next < 3 * STAY {
            (next..next + 3_000).for_each(|n| put(lab, n));
            next += 3_000;
        } else if last < next {
            (last..last + 6_000).for_each(|n| remove(lab, n));
            last += 6_000;
        }
        lab.view.quiescent();
        lab.tables.publish();
    };
    let nodes = whole(&mut lab, None, |rows, part| rows.nodes(part), &mut churn);
    let mut times: BTreeMap<Mac, u32> = BTreeMap::new();
    nodes.iter().for_each(|row| *times.entry(row.mac).or_default() += 1);
    assert!((0..STAY).all(|n| times.get(&far(n)) == Some(&1)), "each node that remains, once");
    assert!(times.values().all(|n| *n == 1), "and no other twice");
    assert_eq!(nodes[0].origin, ctl::NodeOrigin::Board);

    let addresses = whole(&mut lab, None, |rows, part| rows.addresses(part), &mut churn);
    let mut times: BTreeMap<IpAddr, u32> = BTreeMap::new();
    addresses.iter().for_each(|row| *times.entry(row.ip).or_default() += 1);
    assert!((0..STAY).all(|n| times.get(&address(n)) == Some(&1)), "each address that remains, once");
    lab.tables.check_counts();
}

#[test]
fn turn_examines_a_bounded_part_of_the_tables() {
    let lab = large();
    let nothing = lab.bds[1];
    let (mut from, mut turns, mut scanned) = (Some(0), 0, 0);
    // Even when nothing that it examines matches.
    while let Some(at) = from {
        let piece = lab.tables.nodes_from(at, MAX_TURN_ROWS, Some(nothing));
        assert!(piece.rows.is_empty() && piece.scanned < 1 << 16, "{} slots in one turn", piece.scanned);
        (from, turns, scanned) = (piece.next, turns + 1, scanned + piece.scanned);
    }
    assert!(turns > 2 && scanned >= STAY as usize, "{scanned} slots in {turns} turns");
    for from in [0, u64::MAX / 3, u64::MAX] {
        let pieces = [lab.tables.owners4_from(from, 10, None), lab.tables.owners6_from(from, 10, None)];
        assert!(pieces.iter().all(|p| p.rows.len() <= 11 && p.scanned < 1 << 16));
    }
}

#[test]
fn network_is_listed_alone() {
    let mut lab = large();
    let other = Node {
        vni: vni(200),
        mac: far(7),
        ips: vec![address(7)],
        host_id: 2,
        generation: 1,
        facts: NodeFacts::default(),
    };
    lab.apply(Change::NodePut { node: other, gone_ips: Vec::new() });
    let nodes = whole(&mut lab, Some(200), |rows, part| rows.nodes(part), |_| {});
    assert_eq!(nodes.iter().map(|row| (row.vni, row.mac)).collect::<Vec<_>>(), [(vni(200), far(7))]);
    let addresses = whole(&mut lab, Some(200), |rows, part| rows.addresses(part), |_| {});
    assert_eq!(addresses.len(), 1);
    assert_eq!(
        whole(&mut lab, Some(999), |rows, part| rows.nodes(part), |_| {}),
        [],
        "one that is not known here"
    );
    let networks = whole(&mut lab, Some(200), |rows, part| rows.networks(part), |_| {});
    assert_eq!(
        networks.iter().map(|row| (row.vni, row.nodes, row.ips)).collect::<Vec<_>>(),
        [(vni(200), 1, 1)]
    );
}

#[test]
fn hosts_are_listed_in_turns_with_their_counts() {
    let mut lab = large();
    lab.apply(host(OWN, &["10.0.0.1"], 4789));
    lab.link(1, true);
    let mut next = 2 + HOSTS;
    let hosts = whole(
        &mut lab,
        None,
        |rows, part| rows.hosts(part),
        |lab| {
            lab.apply(Change::HostGone { id: next - 1 });
            lab.apply(host(next + 10, &["10.9.0.1"], 4789));
            next -= 1;
        },
    );
    let ids: BTreeSet<u32> = hosts.iter().map(|row| row.id).collect();
    assert!((1..2 + HOSTS - 100).all(|id| ids.contains(&id)));
    assert_eq!(ids.len(), hosts.len(), "none twice");
    assert_eq!((hosts[0].own, hosts[0].nodes, &hosts[0].path), (true, 1, &None));
    assert_eq!((hosts[1].own, hosts[1].nodes), (false, u64::from(STAY / HOSTS)));
    assert_eq!(hosts[1].path.as_ref().map(|path| path.state), Some(ctl::NextHopState::NoRoute));
}

#[test]
fn network_with_many_members_has_several_rows() {
    let mut lab = large();
    let networks = whole(&mut lab, None, |rows, part| rows.networks(part), |_| {});
    assert!(networks.len() == 3 && networks.iter().all(|row| row.members.len() <= MAX_TURN_ROWS));
    assert_eq!(networks[0].nodes, u64::from(STAY));
    let whole = ctl::whole_networks(networks);
    assert_eq!(whole.iter().map(|row| row.vni).collect::<Vec<_>>(), VNIS.map(vni));
    assert_eq!(whole[0].members.len() as u32, HOSTS);
    let names: BTreeSet<_> = whole[0].members.iter().map(|member| &member.host).collect();
    assert_eq!(names.len() as u32, HOSTS);
}

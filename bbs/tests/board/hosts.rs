//! Sessions: which processes may register a host, and what happens to a host that is silent.

use super::*;
use std::net::IpAddr;
use stopover_bbs::{
    board::{Absence, Board, Now, Settings, record::HostRecord},
    model::{Change, HostDetails, Nic, PublicKey, ShortName},
    table::Limits,
};

#[test]
fn a_conflict_names_the_holder_and_is_one_event() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    let b = register(&mut rig, 1);
    rig.apply(None, Command::Claim { session: a, claims: vec![claim(100, 1, &["192.168.0.1"])] });
    let same_mac = Command::Claim { session: b.clone(), claims: vec![claim(100, 1, &[])] };
    let first = rig.apply(None, same_mac.clone());
    assert_eq!(first.events.len(), 1);
    assert_eq!(first.events[0].kind, EventKind::Conflict);
    assert!(first.events[0].text.contains("claim of host gw-1 refused"), "{}", first.events[0].text);
    let why = refusals(first.result).remove(0);
    assert!(why.contains("MAC 52:54:00:00:00:01 in VNI 100 is held by host gw-0"), "{why}");
    let again = rig.apply(None, same_mac);
    assert!(again.events.is_empty(), "a standing conflict is one event");

    // An address that another holds does not cost a node its place, nor its other addresses.
    let same_ip = || vec![claim(100, 2, &["192.168.0.1", "192.168.0.2"])];
    let first = rig.apply(None, Command::Claim { session: b.clone(), claims: same_ip() });
    assert_eq!(first.events.len(), 1, "reported as a conflict");
    let Ok(Outcome::Claimed { refused, partial, .. }) = first.result else { panic!() };
    assert_eq!((refused.len(), partial.len()), (0, 1));
    let (0, Accepted { ips, refused }) = &partial[0] else { panic!("{partial:?}") };
    assert_eq!((&ips[..], refused.len()), (&[ip("192.168.0.2")][..], 1));
    let why = &refused[0];
    assert!(
        why.contains("IP 192.168.0.1 in VNI 100 is held by node 52:54:00:00:00:01 on host gw-0"),
        "{why}"
    );
    assert_eq!(rig.state().nodes[&(vni(100), mac(2))].ips, [ip("192.168.0.2")]);
    let again = rig.apply(None, Command::Claim { session: b.clone(), claims: same_ip() });
    assert!(again.events.is_empty(), "once");
    let elsewhere = Command::Claim { session: b, claims: vec![claim(101, 1, &["192.168.0.1"])] };
    assert!(refusals(rig.apply(None, elsewhere).result).is_empty(), "another network is independent");
}

#[test]
fn a_silent_host_goes_down_and_keeps_its_nodes_until_takeover() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &["192.168.0.1"])] });
    let generation = rig.state().nodes[&(vni(1), mac(1))].generation;
    rig.step(&Step::Pass(LEASE / 2));
    let b = register(&mut rig, 1);
    let events = rig.step(&Step::Pass(LEASE / 2)).unwrap().events;
    assert_eq!(events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::HostDown]);
    assert!(events[0].text.contains("gw-0 has been silent for 1000 ms"), "{}", events[0].text);
    assert!(!rig.state().hosts[&1].up && rig.state().hosts[&2].up);
    assert_eq!(rig.state().nodes.len(), 1, "fail static");

    let taken = rig.apply(None, Command::Claim { session: b, claims: vec![claim(1, 1, &["192.168.0.1"])] });
    assert_eq!(taken.events[0].kind, EventKind::TakenOver);
    let node = &rig.state().nodes[&(vni(1), mac(1))];
    assert_eq!(node.host_id, 2);
    assert!(node.generation > generation, "a move fences what was before");

    // The first host is up again, and its claim is refused.
    let back = rig.apply(None, Command::Claim { session: a, claims: vec![claim(1, 1, &["192.168.0.1"])] });
    assert!(rig.state().hosts[&1].up);
    assert!(refusals(back.result)[0].contains("held by host gw-1"));
}

#[test]
fn sessions_are_fenced() {
    let mut rig = Rig::new(1000);
    let old = register(&mut rig, 0);
    let new = register(&mut rig, 0);
    let refused = |rig: &mut Rig, s: &Session| {
        let applied = rig.apply(None, Command::Claim { session: s.clone(), claims: vec![claim(1, 1, &[])] });
        applied.result.err().map(|r| r.word())
    };
    assert_eq!(refused(&mut rig, &old), Some("fenced"));
    assert_eq!(refused(&mut rig, &new), None);
    let future = Session { number: new.number + 1, ..new.clone() };
    assert_eq!(refused(&mut rig, &future), Some("unregistered"));
    rig.restart();
    assert_eq!(refused(&mut rig, &new), Some("unregistered"), "a session ends with the board");
    let unknown = Session { host: name("unknown"), number: new.number };
    assert_eq!(refused(&mut rig, &unknown), Some("unregistered"));
}

#[test]
fn a_second_machine_of_the_same_name_is_refused() {
    let mut rig = Rig::new(1000);
    let a = register(&mut rig, 0);
    rig.step(&Step::WatchOpened(0));
    rig.apply(None, Command::Claim { session: a.clone(), claims: vec![claim(1, 1, &["192.168.0.1"])] });
    let before = rig.state().clone();
    for other_vtep in [true, false] {
        let refused = rig.apply(None, Command::Register(rival(0, other_vtep)));
        let why = refused.result.unwrap_err();
        assert_eq!(why.word(), "conflict");
        for part in
            ["host gw-0 is held", "alive", &Uuid::nil().simple().to_string(), "10.0.0.1", "from 10.0.0.0:7"]
        {
            assert!(why.to_string().contains(part), "{why}");
        }
        assert_eq!(refused.events.len(), usize::from(other_vtep), "repeated refusals are one event");
        // The session of the first continues; the registration of the second has no effect.
        assert!(rig.step(&Step::Heartbeat(0)).unwrap().result.is_ok());
        assert_eq!(*rig.state(), before);
    }
    // The second may register after the first has been silent for a lease.
    rig.step(&Step::Pass(LEASE));
    assert!(rig.apply(None, Command::Register(rival(0, true))).result.is_ok());
    let late = rig.apply(None, Command::Claim { session: a, claims: vec![claim(1, 2, &[])] });
    assert_eq!(late.result.unwrap_err().word(), "fenced");
}

#[test]
fn a_restarted_process_registers_after_the_old_watch_has_closed() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let again = |rig: &mut Rig, other_vtep| rig.apply(None, Command::Register(rival(0, other_vtep)));
    assert!(again(&mut rig, false).result.is_err(), "it may be about to open its watch");
    rig.step(&Step::WatchOpened(0));
    assert!(register(&mut rig, 0).number > 1, "the same process, over another connection");
    rig.step(&Step::WatchOpened(0));
    rig.step(&Step::WatchOpened(0));
    rig.step(&Step::WatchClosed(0));
    assert!(again(&mut rig, false).result.is_err(), "one of two is open");
    rig.step(&Step::WatchClosed(0));
    assert!(again(&mut rig, true).result.is_err(), "killed, perhaps, but that is another machine");
    let replaced = again(&mut rig, false);
    assert!(replaced.result.is_ok());
    assert_eq!(replaced.events[0].kind, EventKind::HostReplaced);

    // After a restart of the board: the machine that was there is let in at once, another not before the lease is over.
    rig.restart();
    assert!(again(&mut rig, true).result.is_err());
    rig.step(&Step::Pass(LEASE / 2));
    assert!(again(&mut rig, false).result.is_ok());
    // After a deregistration another machine may register, too.
    rig.sessions.insert(0, u64::from(rig.run) << 32 | 1);
    rig.step(&Step::Deregister(0, false)).unwrap().result.unwrap();
    assert!(again(&mut rig, true).result.is_ok());
}

#[test]
fn a_declared_host_registers_only_with_its_own_vteps() {
    let mut rig = Rig::new(1000);
    rig.apply(None, Command::Declare(host_row("gw-0", "10.0.0.1"))).result.unwrap();
    let refused = rig.apply(None, Command::Register(rival(0, true)));
    let why = refused.result.unwrap_err().to_string();
    assert!(
        why.contains("declared by the operator with VTEP 10.0.0.1") && why.contains("10.0.0.77"),
        "{why}"
    );
    assert_eq!(refused.events[0].kind, EventKind::Conflict);
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Operator);
    let taken = rig.apply(None, Command::Register(rival(0, false)));
    assert!(taken.result.is_ok());
    assert_eq!(taken.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::TakenOver]);
    assert_eq!(rig.state().hosts[&1].declared_by, DeclaredBy::Appliance);
}

#[test]
fn vteps_belong_to_one_host() {
    let mut rig = Rig::new(1000);
    register(&mut rig, 0);
    let other = Registration {
        host: name("other"),
        vteps: vec![ip("10.0.0.7"), ip("10.0.0.1")],
        udp_port: 4789,
        instance: Uuid::from_bytes([7; 16]),
        details: Default::default(),
        holds: None,
    };
    let refused = rig.apply(None, Command::Register(other.clone()));
    let why = refused.result.unwrap_err();
    assert_eq!(why.word(), "conflict");
    assert!(why.to_string().contains("VTEP 10.0.0.1 port 4789 is held by host gw-0 (up)"), "{why}");
    assert!(rig.apply(None, Command::Register(Registration { udp_port: 4790, ..other })).result.is_ok());
    assert_eq!(
        rig.state().hosts.keys().copied().collect::<Vec<_>>(),
        [1, 2],
        "no id was lost to the refusal"
    );
}

/// Time passes while these hosts live. The events of it.
fn pass(rig: &mut Rig, ms: u64, living: &[u8]) -> Vec<String> {
    let until = rig.now.lease_ms + ms;
    let mut events = Vec::new();
    while rig.now.lease_ms < until {
        living.iter().for_each(|h| drop(rig.step(&Step::Heartbeat(*h)).unwrap().result.unwrap()));
        let step = (until - rig.now.lease_ms).min(LEASE / 2);
        rig.now.unix_ms += step;
        let applied = rig.step(&Step::Pass(step)).unwrap();
        assert!(applied.events.iter().all(|e| e.actor == "board"), "{:?}", applied.events);
        events.extend(applied.events.into_iter().map(|e| e.text));
    }
    events
}

#[test]
fn an_absent_host_is_no_longer_flooded_and_then_removed() {
    let Absence { flood_grace_ms, forget_after_ms } = ABSENCE;
    let mut rig = Rig::new(1000);
    rig.now.unix_ms = 1_000_000;
    let a = register(&mut rig, 0);
    register(&mut rig, 1);
    rig.step(&Step::Pass(0));
    claims(&mut rig, &a, claim(1, 1, &["192.168.0.1"]));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    let host = |rig: &Rig| rig.state().hosts.get(&1).cloned();
    assert_eq!(host(&rig).map(|h| (h.up, h.no_flood, h.down_unix_ms)), Some((false, false, 1_000_000)));
    assert!(pass(&mut rig, flood_grace_ms - 100, &[1]).is_empty());
    let events = pass(&mut rig, 100, &[1]);
    assert_eq!(
        events,
        ["host gw-0 has been down for 2 s: flooded frames are no longer sent to it; its 1 nodes remain"]
    );
    assert!(host(&rig).unwrap().no_flood);
    assert_eq!(rig.state().nodes.len(), 1, "fail static");

    // Back, and everything is as before.
    let a = register(&mut rig, 0);
    assert_eq!(host(&rig).map(|h| (h.up, h.no_flood, h.down_unix_ms)), Some((true, false, 0)));
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    pass(&mut rig, forget_after_ms - 100, &[1]);
    assert_eq!(rig.state().nodes.len(), 1);
    let events = pass(&mut rig, 100, &[1]);
    assert_eq!(events, ["host gw-0 has been down for 9 s and is removed with its 1 nodes"]);
    assert!(host(&rig).is_none() && rig.state().nodes.is_empty());

    // A declared node is not removed.
    let a = register(&mut rig, 0);
    rig.apply(None, Command::Declare(node_row(1, 2, "gw-0", &[]))).result.unwrap();
    rig.apply(None, Command::Deregister { session: a, withdraw_all: false });
    pass(&mut rig, 2 * forget_after_ms, &[1]);
    assert_eq!(rig.state().nodes.len(), 1);
    let target = Target::Host { name: host_name(0), cascade: true };
    rig.apply(None, Command::Delete(target)).result.unwrap();
    assert_eq!(rig.state().hosts.len(), 1);
}

#[test]
fn absence_counts_only_while_other_hosts_are_up() {
    let Absence { flood_grace_ms, forget_after_ms } = ABSENCE;
    let mut rig = Rig::new(1000);
    rig.now.unix_ms = 1_000_000;
    for h in [0, 1] {
        register(&mut rig, h);
    }
    pass(&mut rig, 10 * flood_grace_ms, &[]);
    assert!(
        rig.state().hosts.values().all(|h| !h.up && !h.no_flood),
        "without any host up the grace does not run"
    );
    register(&mut rig, 1);
    assert!(
        pass(&mut rig, flood_grace_ms - LEASE / 2, &[1]).is_empty(),
        "the first one back begins the grace anew"
    );
    assert_eq!(pass(&mut rig, LEASE, &[1]).len(), 1);

    // Down for long when the board itself was stopped for a month: it listens first.
    rig.restart();
    rig.now.unix_ms = 1_000_000 + 30 * 86_400_000;
    register(&mut rig, 1);
    pass(&mut rig, forget_after_ms - LEASE, &[1]);
    assert_eq!(rig.state().hosts.len(), 2);
    pass(&mut rig, 2 * LEASE, &[1]);
    assert_eq!(rig.state().hosts.len(), 1);
}

/// A thousand hosts are silent at once, on a store with the least limits.
#[test]
fn what_the_board_does_by_itself_fits_into_a_transaction() {
    const HOSTS: u32 = 1000;
    let limits = Limits::LEAST;
    let settings = Settings { run: 1, lease_ms: LEASE, keep_changes: 100, absence: ABSENCE, limits };
    let mut board = Board::new(settings);
    board.finish_restore(0, 1, 0, Now::default());
    let register = |board: &mut Board, now, n: u32| {
        let [_, _, a, b] = n.to_be_bytes();
        let registration = Registration {
            host: name(&format!("gw-{n}")),
            vteps: vec![IpAddr::from([10, 1, a, b])],
            udp_port: 4789,
            instance: Uuid::from_u128(n.into()),
            holds: None,
            details: Default::default(),
        };
        board.apply(now, None, Command::Register(registration)).result.unwrap()
    };
    (0..HOSTS).for_each(|n| drop(register(&mut board, Now::default(), n)));
    let mut now = Now { unix_ms: 1, lease_ms: LEASE };
    let mut ticks = 0;
    while board.counts().hosts_up > 0 {
        let applied = board.apply(now, None, Command::Tick);
        assert_eq!(limits.check(&applied.writes), Ok(()));
        assert!(!applied.events.is_empty(), "tick {ticks} goes on");
        ticks += 1;
    }
    assert!(ticks > 10, "{ticks}");
    // One host is up. In time the others are not flooded, and then removed.
    register(&mut board, now, 0);
    while board.counts().hosts > 1 {
        now.lease_ms += LEASE / 2;
        now.unix_ms += LEASE / 2;
        assert!(now.lease_ms < 100 * ABSENCE.forget_after_ms, "{:?}", board.counts());
        register(&mut board, now, 0);
        let applied = board.apply(now, None, Command::Tick);
        assert_eq!(limits.check(&applied.writes), Ok(()));
    }
}

/// Another key under the name of a host, or none any more, is an event, also after a restart of the board.
#[test]
fn another_key_of_a_host_is_an_event() {
    let mut rig = Rig::new(1000);
    let register = |rig: &mut Rig, key: Option<u8>| {
        let public_key = key.and_then(|byte| PublicKey::new([byte; 32]));
        let details = HostDetails { public_key, ..HostDetails::default() };
        let registration = Registration { details: details.into(), ..support::rival(0, false) };
        let applied = rig.apply(None, Command::Register(registration));
        assert!(applied.result.is_ok());
        let about_keys = applied.events.into_iter().filter(|event| event.text.contains("public key"));
        about_keys.map(|event| (event.kind, event.text)).collect::<Vec<_>>()
    };
    for key in [None, Some(7), Some(7)] {
        assert_eq!(register(&mut rig, key), [], "{key:?}");
    }
    rig.restart();
    let (old, new) = ("07".repeat(32), "08".repeat(32));
    for (key, expected) in [
        (Some(8), format!(" has the public key {new} now, and had {old} before")),
        (None, format!(" has no public key now, and had {new} before")),
    ] {
        let [(kind, text)] = &register(&mut rig, key)[..] else { panic!("one event") };
        assert_eq!(*kind, EventKind::HostReplaced);
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(register(&mut rig, key), [], "once");
    }
}

/// The record has the details of the last registration, also after a restart of the board.
#[test]
fn a_host_has_the_details_of_its_last_registration() {
    let mut rig = Rig::new(1000);
    let details = |mtu| HostDetails {
        nics: vec![Nic { name: ShortName::new("ul0").unwrap(), address: ip("10.0.0.1"), mtu }],
        capabilities: vec![ShortName::new("vxlan").unwrap()],
        public_key: PublicKey::new([7; 32]),
    };
    let mut register = |mtu| {
        let registration = Registration { details: details(mtu).into(), ..support::rival(0, false) };
        let applied = rig.apply(None, Command::Register(registration));
        assert!(applied.result.is_ok());
        applied.commits.into_iter().flat_map(|commit| commit.changes).collect::<Vec<_>>()
    };
    for mtu in [1500, 1600] {
        let changes = register(mtu);
        let [Change::HostPut(host)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(host.details, details(mtu));
    }
    assert_eq!(register(1600), [], "nothing has changed");
    rig.restart();
    let id = host_id(&rig, 0).unwrap();
    let stored: HostRecord = rig.store.view().unwrap().record(id).unwrap().unwrap();
    assert_eq!(stored.details, details(1600));
}

//! Migrations in the model world: random steps, and some fixed sequences that must succeed.

use super::board::HOSTS;
use super::world::{Kind, Op, PLACES, Vm, World};
use proptest::prelude::*;

fn ops() -> impl Strategy<Value = Op> {
    let (host, place) = (0..HOSTS, 0..PLACES.len());
    prop_oneof![
        1 => place.clone().prop_map(Op::On),
        1 => Just(Op::Off),
        4 => place.prop_map(Op::Begin),
        4 => any::<bool>().prop_map(Op::Stop),
        4 => Just(Op::Start),
        2 => Just(Op::Cancel),
        1 => proptest::option::of(host.clone()).prop_map(Op::OperatorBegin),
        1 => Just(Op::OperatorComplete),
        1 => Just(Op::OperatorAbort),
        2 => Just(Op::SendFromVm),
        2 => host.clone().prop_map(Op::RestartMachine),
        12 => host.clone().prop_map(Op::Ports),
        8 => host.clone().prop_map(Op::Claims),
        8 => host.clone().prop_map(Op::Calls),
        12 => host.clone().prop_map(Op::Watch),
        8 => (0..4usize).prop_map(Op::Deliver),
        2 => (0..4usize).prop_map(Op::Lose),
        4 => host.clone().prop_map(Op::Drained),
        4 => host.clone().prop_map(Op::Settled),
        6 => prop_oneof![1..100u64, 100..3_000u64].prop_map(Op::Pass),
        1 => host.clone().prop_map(Op::Kill),
        2 => host.clone().prop_map(Op::Restart),
        2 => (host, any::<bool>()).prop_map(|(host, on)| Op::Link(host, on)),
        1 => any::<bool>().prop_map(Op::Links),
    ]
}

/// Longest time to settle: a lease of a lock, the hold of its source, and another claim.
const WELL_MS: u64 = 40_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_steps_the_node_is_where_its_vm_runs(
        kind in prop::sample::select(vec![Kind::Exact, Kind::Windowed, Kind::Station]),
        first in 0..PLACES.len(),
        ops in proptest::collection::vec(ops(), 0..120),
    ) {
        let mut world = World::new(kind);
        world.step(Op::Links(true));
        world.step(Op::On(first));
        world.run(20);
        world.is_settled().unwrap();
        ops.into_iter().for_each(|op| world.step(op));
        world.heal();
        world.assert_settles_within(WELL_MS);
    }

    /// No host is killed and the board is unreachable: frames still reach the VM by the host that the board last had.
    #[test]
    fn without_the_board_the_old_host_still_redirects(
        route in proptest::collection::vec((0..PLACES.len(), any::<bool>(), any::<bool>()), 1..8),
    ) {
        let mut world = World::new(Kind::Exact);
        world.step(Op::Links(true));
        world.step(Op::On(0));
        world.run(20);
        world.step(Op::Links(false));
        for (to, cancelled, late) in route {
            world.step(Op::Begin(to));
            world.run(3);
            world.step(Op::Stop(false));
            if !late {
                world.run(3);
            }
            world.step(if cancelled { Op::Cancel } else { Op::Start });
            world.run(10);
            prop_assert!(world.vm_is_reachable(), "{}", world.show());
        }
        world.heal();
        world.assert_settles_within(WELL_MS);
    }
}

/// A migration as by QEMU, with all hosts running.
fn migrate(world: &mut World, to: usize) {
    world.step(Op::Begin(to));
    world.run(5);
    world.step(Op::Stop(false));
    world.run(2);
    world.step(Op::Start);
}

#[test]
fn fifty_moves_in_a_row_each_settle_at_once() {
    for kind in [Kind::Exact, Kind::Windowed] {
        let mut world = World::new(kind);
        world.step(Op::Links(true));
        world.step(Op::On(0));
        world.run(20);
        for to in (1..PLACES.len()).cycle().take(50) {
            migrate(&mut world, to);
            world.assert_settles_within(1_000);
            assert_eq!(world.vm, Vm::Runs(to, None));
        }
    }
}

#[test]
fn there_and_back_at_once() {
    let mut world = World::new(Kind::Exact);
    world.step(Op::Links(true));
    world.step(Op::On(0));
    world.run(20);
    for late in 0..6 {
        for to in [2, 0] {
            world.step(Op::Begin(to));
            world.step(Op::Stop(false));
            world.step(Op::Start);
            world.run(late);
        }
        world.assert_settles_within(4_000);
        assert_eq!(world.vm, Vm::Runs(0, None));
    }
}

/// The board gives the node back to a host that still forwards for it, and its VM starts at the host that frames were
/// forwarded to.
#[test]
fn a_forwarding_host_gives_up_the_node_to_the_host_that_runs_it() {
    let mut world = World::new(Kind::Exact);
    world.step(Op::Links(true));
    world.step(Op::On(0));
    world.run(20);
    let (first, second) = (PLACES[0].0, PLACES[2].0);
    migrate(&mut world, 2);
    world.run_undrained(20);
    assert!(world.is_at(second), "{}", world.show());
    world.step(Op::Begin(0));
    world.run_undrained(3);
    world.step(Op::OperatorBegin(Some(first)));
    world.step(Op::OperatorComplete);
    world.run_undrained(3);
    assert!(world.is_at(first), "{}", world.show());
    world.step(Op::Cancel);
    world.run_undrained(100);
    assert!(world.is_at(second), "{}", world.show());
    world.assert_settles_within(1_000);
}

/// A station that has settled at its first port, followed by these steps.
fn station(ops: &[Op]) -> World {
    let mut world = World::new(Kind::Station);
    world.step(Op::Links(true));
    world.step(Op::On(0));
    world.run(20);
    world.is_settled().unwrap();
    for op in ops {
        world.step(*op);
        world.run(3);
    }
    world
}

#[test]
fn a_station_that_ages_out_at_its_target_may_send_at_its_old_port() {
    let there = [Op::OperatorBegin(Some(1)), Op::Begin(2), Op::Stop(false), Op::Start];
    let mut world = station(&there);
    world.assert_settles_within(1_000);
    world.step(Op::Off);
    world.assert_settles_within(5_000);
    // It returns without an announcement; it is locked for another migration that does not happen.
    world.step(Op::On(0));
    world.assert_settles_within(5_000);
    world.step(Op::OperatorBegin(Some(1)));
    world.run(50);
    assert!(world.is_at(0) && world.is_locked(), "nobody completes what has not come: {}", world.show());
    world.step(Op::OperatorAbort);
    world.assert_settles_within(1_000);
}

#[test]
fn the_order_of_an_orchestrators_calls_never_loses_the_station() {
    let (go, come) = ([Op::Begin(2), Op::Stop(false)], [Op::Start]);
    let (begin, complete, abort) =
        ([Op::OperatorBegin(Some(1))], [Op::OperatorComplete], [Op::OperatorAbort]);
    for calls in [
        [&begin[..], &go, &complete, &come].concat(),
        [&begin[..], &complete, &go, &come].concat(),
        [&begin[..], &go, &come, &abort].concat(),
        [&begin[..], &abort, &go, &come].concat(),
        [&begin[..], &complete].concat(),
        [&begin[..], &go, &come, &[Op::OperatorBegin(Some(0))], &complete].concat(),
        [&go[..], &come, &begin, &complete].concat(),
    ] {
        station(&calls).assert_settles_within(WELL_MS);
    }
}

//! Commands in small numbers, so that steps often concern the same hosts, nodes and addresses, and their generators.

use proptest::prelude::*;

/// A command in small numbers, so that steps meet often.
#[derive(Debug, Clone)]
pub enum Step {
    Restart,
    Pass(u64),
    Register(u8, bool),
    Heartbeat(u8),
    Deregister(u8, bool),
    Claim(u8, Vec<(u32, u8, Vec<u8>)>),
    Withdraw(u8, u32, u8),
    Join(u8, u32, bool),
    Leave(u8, u32),
    Sync(u8),
    Declare(RowStep),
    Load(Vec<RowStep>),
    DeleteHost(u8, bool),
    DeleteNetwork(u32),
    DeleteNode(u32, u8),
    DeleteMember(u32, u8),
    /// By the source itself or the operator, a node by its place, with others of its host, to, lease.
    Depart(bool, u8, bool, Option<u8>, u64),
    /// A host claims a locked node by its place.
    Arrive(u8, u8, Vec<u8>),
    Begin(Option<u8>, Vec<(u32, u8)>, u8, Option<u8>, u64),
    /// The migration, counted from the last; odd ones name an older generation.
    Complete(Option<u8>, u8, Option<u8>),
    Abort(Option<u8>, u8),
    Report(u8, u8),
    Acked(u8),
    WatchOpened(u8),
    WatchClosed(u8),
    /// Another process of this name registers, perhaps with another VTEP.
    Rival(u8, bool),
}

#[derive(Debug, Clone)]
pub enum RowStep {
    Host(u8, bool),
    Network(u32, u16),
    Node(u32, u8, u8, Vec<u8>),
    Member(u32, u8, bool),
}

fn row_step() -> impl Strategy<Value = RowStep> {
    let (h, v, m) = (0..4u8, 1..4u32, 0..5u8);
    prop_oneof![
        2 => (h.clone(), prop::bool::weighted(0.1)).prop_map(|(h, o)| RowStep::Host(h, o)),
        1 => (v.clone(), 576..580u16).prop_map(|(v, mtu)| RowStep::Network(v, mtu)),
        4 => (v.clone(), m, h.clone(), ips()).prop_map(|(v, m, h, i)| RowStep::Node(v, m, h, i)),
        1 => (v, h, any::<bool>()).prop_map(|(v, h, s)| RowStep::Member(v, h, s)),
    ]
}

fn ips() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..6u8, 0..3)
}

pub fn step() -> impl Strategy<Value = Step> {
    let (h, v, m) = (0..4u8, 1..4u32, 0..5u8);
    prop_oneof![
        1 => Just(Step::Restart),
        2 => (1..700u64).prop_map(Step::Pass),
        9 => (h.clone(), prop::bool::weighted(0.1)).prop_map(|(h, o)| Step::Register(h, o)),
        2 => h.clone().prop_map(Step::Heartbeat),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, w)| Step::Deregister(h, w)),
        12 => (h.clone(), prop::collection::vec((v.clone(), m.clone(), ips()), 1..4))
            .prop_map(|(h, c)| Step::Claim(h, c)),
        4 => (h.clone(), v.clone(), m.clone()).prop_map(|(h, v, m)| Step::Withdraw(h, v, m)),
        3 => (h.clone(), v.clone(), any::<bool>()).prop_map(|(h, v, s)| Step::Join(h, v, s)),
        2 => (h.clone(), v.clone()).prop_map(|(h, v)| Step::Leave(h, v)),
        2 => h.clone().prop_map(Step::Sync),
        5 => row_step().prop_map(Step::Declare),
        2 => prop::collection::vec(row_step(), 1..6).prop_map(Step::Load),
        1 => (h.clone(), any::<bool>()).prop_map(|(h, c)| Step::DeleteHost(h, c)),
        1 => v.clone().prop_map(Step::DeleteNetwork),
        2 => (v.clone(), m).prop_map(|(v, m)| Step::DeleteNode(v, m)),
        1 => (v.clone(), h.clone()).prop_map(|(v, h)| Step::DeleteMember(v, h)),
        10 => (any::<bool>(), 0..15u8, any::<bool>(), prop::option::of(h.clone()), prop_oneof![
            100..700u64,
            Just(5000)
        ])
            .prop_map(|(by, i, group, target, lease)| Step::Depart(by, i, group, target, lease)),
        8 => (h.clone(), 0..8u8, ips()).prop_map(|(h, i, ips)| Step::Arrive(h, i, ips)),
        3 => (
            prop::option::of(h.clone()),
            prop::collection::vec((v, 0..5u8), 1..3),
            h.clone(),
            prop::option::of(h.clone()),
            prop_oneof![100..700u64, Just(5000)],
        )
            .prop_map(|(by, nodes, source, target, lease)| Step::Begin(by, nodes, source, target, lease)),
        4 => (prop::option::of(h.clone()), 0..6u8, prop::option::of(h.clone()))
            .prop_map(|(by, m, at)| Step::Complete(by, m, at)),
        2 => (prop::option::of(h.clone()), 0..6u8).prop_map(|(by, m)| Step::Abort(by, m)),
        1 => (h.clone(), 0..6u8).prop_map(|(h, m)| Step::Report(h, m)),
        1 => h.clone().prop_map(Step::Acked),
        4 => h.clone().prop_map(Step::WatchOpened),
        1 => h.clone().prop_map(Step::WatchClosed),
        3 => (h, prop::bool::weighted(0.3)).prop_map(|(h, o)| Step::Rival(h, o)),
    ]
}

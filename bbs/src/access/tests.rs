//! Every call of the `.proto` for every principal, against a table of its own.

use super::*;

/// By service and call, who may: `h` the host itself, `o` operator, `b` observer, `p` program, `m` member. Of another
/// host's calls nobody of them. Who is unproven may do all.
const MAY: &[(&str, &str, &str)] = &[
    ("HostService", "Register", "h"),
    ("HostService", "Heartbeat", "h"),
    ("HostService", "Deregister", "h"),
    ("HostService", "Claim", "h"),
    ("HostService", "Withdraw", "h"),
    ("HostService", "Join", "h"),
    ("HostService", "Leave", "h"),
    ("HostService", "SyncClaims", "h"),
    ("HostService", "BeginMigration", "h"),
    ("HostService", "CompleteMigration", "h"),
    ("HostService", "AbortMigration", "h"),
    ("HostService", "ReportMigration", "h"),
    ("HostService", "Watch", "h"),
    ("OperatorService", "Declare", "o"),
    ("OperatorService", "Delete", "o"),
    ("OperatorService", "Load", "o"),
    ("OperatorService", "Backup", "o"),
    ("OperatorService", "BeginMigration", "op"),
    ("OperatorService", "CompleteMigration", "op"),
    ("OperatorService", "AbortMigration", "op"),
    ("ObserverService", "Info", "hobpm"),
    ("ObserverService", "ListHosts", "obp"),
    ("ObserverService", "ListNetworks", "obp"),
    ("ObserverService", "ListMembers", "obp"),
    ("ObserverService", "ListNodes", "obp"),
    ("ObserverService", "ListMigrations", "obp"),
    ("ObserverService", "ListWatchers", "hobp"),
    ("ObserverService", "Events", "obp"),
    ("ObserverService", "Watch", "obp"),
];

fn name(s: &str) -> HostName {
    HostName::new(s).unwrap()
}

fn actions(host: &HostName) -> Vec<(&'static str, &'static str, Action<'_>)> {
    let of_host = HostCall::ALL.iter().map(|c| ("HostService", c.name(), Action::Host(*c, host)));
    let operator = OperatorCall::ALL.iter().map(|c| ("OperatorService", c.name(), Action::Operator(*c)));
    let observer = ObserverCall::ALL.iter().map(|c| ("ObserverService", c.name(), Action::Observer(*c)));
    of_host.chain(operator).chain(observer).collect()
}

#[test]
fn every_call_has_a_decision_for_every_principal() {
    let host = name("hv-a");
    let who = |s: &str| Name::from(name(s));
    let principals = [
        (Some('h'), Principal::Host(host.clone())),
        (Some('o'), Principal::Operator(who("alice"))),
        (Some('b'), Principal::Observer(who("bob"))),
        (Some('p'), Principal::Program(who("libvirt"))),
        (Some('m'), Principal::Member(who("laptop-1"))),
        (None, Principal::Unproven),
    ];
    let all = actions(&host);
    assert_eq!(all.len(), MAY.len());
    for (service, call, action) in all {
        let (_, _, may) = MAY.iter().find(|(s, c, _)| (*s, *c) == (service, call)).unwrap();
        for (letter, principal) in &principals {
            let expected = letter.is_none_or(|letter| may.contains(letter));
            assert_eq!(decide(principal, &action).is_ok(), expected, "{principal}: {action}");
        }
        // Another host may what a host may, except what is of `hv-a`.
        let other = Principal::Host(name("hv-b"));
        let expected = may.contains('h') && service != "HostService";
        assert_eq!(decide(&other, &action).is_ok(), expected, "{other}: {action}");
    }
}

#[test]
fn the_table_has_every_call_of_the_proto() {
    let proto = include_str!("../../proto/stopover/v1/board.proto");
    let mut found = Vec::new();
    let mut service = "";
    for line in proto.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("service ") {
            service = rest.split_whitespace().next().unwrap();
        }
        if let Some(rest) = line.strip_prefix("rpc ") {
            found.push((service, rest.split('(').next().unwrap()));
        }
    }
    found.sort_unstable();
    let mut table: Vec<_> = MAY.iter().map(|(service, call, _)| (*service, *call)).collect();
    table.sort_unstable();
    assert_eq!(found, table);
    // What the service of before has is in one of them.
    let before = include_str!("../../proto/stopover/v1/before.proto");
    let calls = before.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    for call in calls {
        assert!(table.iter().any(|(_, name)| *name == call), "{call}");
    }
}

#[test]
fn a_denial_names_who_asked_for_what_and_who_may() {
    let (a, b) = (name("hv-a"), name("hv-b"));
    let refusal = |who: &Principal, action: Action<'_>| decide(who, &action).unwrap_err().to_string();
    assert_eq!(
        refusal(&Principal::Host(b.clone()), Action::Host(HostCall::Claim, &a)),
        "host hv-b may not call HostService.Claim for host hv-a; expected host hv-a"
    );
    assert_eq!(
        refusal(&Principal::Host(b), Action::Operator(OperatorCall::BeginMigration)),
        "host hv-b may not call OperatorService.BeginMigration; expected an operator, a program"
    );
}

#[test]
fn an_originator_is_named_by_role_and_name() {
    assert_eq!(Principal::Operator(Name::of_user(0)).actor(), "operator root");
    assert_eq!(Principal::Operator(Name::of_user(1000)).actor(), "operator uid 1000");
    assert_eq!(Principal::Program(name("libvirt").into()).actor(), "program libvirt");
    assert_eq!(Principal::Unproven.actor(), "operator", "nothing is known of it");
}

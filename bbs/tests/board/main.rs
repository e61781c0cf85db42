//! The state machine without threads or sockets: against a model of its rules, against watchers that rebuild its state,
//! and the sentences it refuses with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod barriers;
mod contest;
mod hosts;
mod migrations;
mod model;
mod operator;
mod quota;
mod support;
mod watch;

use stopover_bbs::{
    board::{Applied, Command, Outcome, Principal, Refusal, Session, Ticket},
    model::{
        Accepted, Claim, DeclaredBy, EventKind, Migration, MigrationState, Registration, Row, Target, Uuid,
    },
    records::Records,
    store::Store,
};
use stopover_config::bulk::{HostRow, NodeRow};
use support::*;

fn host_id(rig: &Rig, h: u8) -> Option<u32> {
    rig.state().hosts.values().find(|host| host.name == host_name(h)).map(|host| host.id)
}

fn register(rig: &mut Rig, h: u8) -> Session {
    rig.step(&Step::Register(h, false)).unwrap().result.unwrap();
    Session { host: host_name(h), number: rig.sessions[&h] }
}

fn refusals(outcome: Result<Outcome, Refusal>) -> Vec<String> {
    match outcome.unwrap() {
        Outcome::Claimed { refused, .. } => refused.into_iter().map(|(_, why)| why).collect(),
        other => panic!("{other:?}"),
    }
}

fn host_row(n: &str, vtep: &str) -> Row {
    Row::Host(HostRow { name: name(n), vteps: vec![ip(vtep)], udp_port: 4789 })
}
fn node_row(n: u32, last: u8, host: &str, ips: &[&str]) -> Row {
    Row::Node(NodeRow {
        vni: vni(n),
        mac: mac(last),
        host: name(host),
        ips: ips.iter().map(|s| ip(s)).collect(),
        shared_ips: vec![],
    })
}

fn begin(rig: &mut Rig, from: &str, to: Option<&str>, macs: &[u8]) -> Result<Ticket, Refusal> {
    let nodes = macs.iter().map(|m| (vni(1), mac(*m))).collect();
    let command = Command::BeginMigration {
        by: Principal::Operator,
        nodes,
        source: name(from),
        target: to.map(name),
        cause: "test".into(),
        lease_ms: 5000,
        renew: None,
    };
    match rig.apply(None, command).result? {
        Outcome::Migration { id, generation, .. } => Ok(Ticket { migration: id, generation }),
        other => panic!("{other:?}"),
    }
}

fn complete(rig: &mut Rig, by: Principal, ticket: Ticket, at: Option<&str>) -> Result<Outcome, Refusal> {
    let command = Command::CompleteMigration { by, ticket, at: at.map(name), cause: "test".into() };
    rig.apply(None, command).result
}

fn abort(rig: &mut Rig, ticket: Ticket) -> Result<Outcome, Refusal> {
    let command = Command::AbortMigration { by: Principal::Operator, ticket, cause: "test".into() };
    rig.apply(None, command).result
}

fn claims(rig: &mut Rig, by: &Session, claim: Claim) -> Outcome {
    rig.apply(None, Command::Claim { session: by.clone(), claims: vec![claim] }).result.unwrap()
}

fn migration(rig: &Rig, ticket: Ticket) -> Migration {
    rig.store.view().unwrap().record(ticket.migration).unwrap().unwrap()
}

fn at(rig: &Rig, last: u8) -> u32 {
    rig.state().nodes[&(vni(1), mac(last))].host_id
}

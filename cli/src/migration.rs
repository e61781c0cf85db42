//! `stopover migration …`: locks nodes, ends migrations and shows them, for people and for orchestrators' hooks.

use crate::{
    args::{Migration as Command, Which},
    output::{Failure, Output},
    render,
};
use stopover_bbs::client::{
    BeginMigration, BoardAddress, Migration, MigrationState, MigrationTicket, Operator,
};

fn ticket(ticket: MigrationTicket, out: Output) -> Result<(), Failure> {
    out.print(&ticket, render::migration_ticket)
}

/// Runs one of them.
pub async fn migration(address: &BoardAddress, command: Command, out: Output) -> Result<(), Failure> {
    let mut board = Operator::connect(address).await?;
    match command {
        Command::Begin { nodes, from, to, cause, lease } => {
            let lease_ms = u64::from(lease) * 1000;
            let begin = BeginMigration { nodes, source: from, target: to, cause, lease_ms };
            ticket(board.begin_migration(&begin).await?, out)
        }
        Command::Complete { which, at, cause } => {
            let m = find(&mut board, &which).await?;
            let generation = which.generation.unwrap_or(m.generation);
            ticket(board.complete_migration(m.id, generation, at.as_ref(), &cause).await?, out)
        }
        Command::Abort { which, cause } => {
            let m = find(&mut board, &which).await?;
            let generation = which.generation.unwrap_or(m.generation);
            ticket(board.abort_migration(m.id, generation, &cause).await?, out)
        }
        Command::Show { id } => {
            let found = board.migrations(Some(id), false).await?.pop();
            let m = found.ok_or_else(|| missing(&format!("migration {id}")))?;
            out.print(&m, render::migration)
        }
        Command::List { active } => {
            out.print(&board.migrations(None, active).await?, |all| render::migrations(all))
        }
    }
}

fn missing(what: &str) -> Failure {
    Failure::Message(format!(
        "found no {what}; expected one that is remembered; hint: `stopover migration list`"
    ))
}

/// By number; or the last one of these nodes, preferring an active one.
async fn find(board: &mut Operator, which: &Which) -> Result<Migration, Failure> {
    if let Some(id) = which.id {
        let found = board.migrations(Some(id), false).await?.pop();
        return found.ok_or_else(|| missing(&format!("migration {id}")));
    }
    let mut all = board.migrations(None, false).await?;
    all.retain(|m| which.nodes.iter().any(|key| m.nodes.iter().any(|n| (n.vni, n.mac) == *key)));
    all.sort_by_key(|m| (m.state == MigrationState::Locked, m.id));
    all.pop().ok_or_else(|| missing("migration of these nodes"))
}

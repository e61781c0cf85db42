//! `stopover`, the operator's command: a client of the appliance's control socket and of the board. It runs
//! where no DPDK is installed. This file parses, runs and reports; exit status 0 is success, 1 a failure with
//! one message on standard error, 2 a wrong command line.

mod appliance;
mod args;
mod board;
mod changes;
mod enrol;
mod frames;
mod load;
mod migration;
mod output;
mod pki;
mod ports;
mod render;
mod table;
mod target;

use args::{Cli, Command, FollowBoard, Show};
use clap::Parser;
use output::{Failure, Output};
use std::process::ExitCode;
use target::{Environment, Side};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("stopover: cannot start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let environment = Environment::from_process().with_options(cli.tls.as_deref(), cli.insecure);
    let result = runtime.block_on(run(cli, &environment));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader closed the pipe (`stopover show nodes | head`).
        Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            eprintln!("stopover: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli, env: &Environment) -> Result<(), Failure> {
    let out = Output { json: cli.json };
    match cli.command {
        Command::Show(show) => {
            let both = matches!(
                show,
                Show::Nodes(_) | Show::Hosts | Show::Networks(_) | Show::Migrations | Show::Board
            );
            match target::choose_side(cli.ctl.as_deref(), cli.board.as_ref(), env, both)? {
                Side::Appliance(client) => appliance::show(&client, &show, out).await,
                Side::Board(address) => board::show(&address, &show, out).await,
            }
        }
        Command::FollowBoard(FollowBoard::Accept { id }) => {
            appliance::accept_board(&target::appliance(cli.ctl.as_deref(), env)?, id, out).await
        }
        Command::Port(c) => ports::port(&target::appliance(cli.ctl.as_deref(), env)?, c, out).await,
        Command::Reload(c) => changes::reload(&target::appliance(cli.ctl.as_deref(), env)?, c, out).await,
        Command::Clear(clear) => appliance::clear(&target::appliance(cli.ctl.as_deref(), env)?, &clear).await,
        Command::Trace(trace) => {
            appliance::trace(&target::appliance(cli.ctl.as_deref(), env)?, trace, out).await
        }
        Command::Tunnel(c) => appliance::tunnel(&target::appliance(cli.ctl.as_deref(), env)?, c, out).await,
        Command::Host(c) => board::host(&target::board(cli.board.as_ref(), env)?, c, out).await,
        Command::Network(c) => board::network(&target::board(cli.board.as_ref(), env)?, c, out).await,
        Command::Node(c) => board::node(&target::board(cli.board.as_ref(), env)?, c, out).await,
        Command::Member(c) => board::member(&target::board(cli.board.as_ref(), env)?, c, out).await,
        Command::Migration(c) => migration::migration(&target::board(cli.board.as_ref(), env)?, c, out).await,
        Command::Pki(c) => pki::pki(c, out),
        Command::Enrol(c) => enrol::enrol(cli.board.as_ref(), c, out).await,
        Command::Events { follow, after } => {
            board::events(&target::board(cli.board.as_ref(), env)?, after, follow, out).await
        }
    }
}

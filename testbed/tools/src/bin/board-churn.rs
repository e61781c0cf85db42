//! Load for a board: a session of a host that has no packet path, and an operator.
//!
//! The session claims some nodes for good and others by turns. The operator declares and deletes nodes of another host.
//! Both continue while boards stop and start.
//!
//!     board-churn --board unix:/run/bbs.sock --host churn --vtep 10.9.0.1 --vni 200 --steady 40 --turns 20 \
//!                 --every-ms 20 --declare-vni 100 --declare-host lx-0
//!
//! The second byte of a MAC names its kind: c0 claimed for good, c1 claimed by turns, c2 declared. The last bytes
//! number the nodes. Lines on standard input:
//!
//! - `pause` stops all changes (the steady claims remain) and answers `paused` once no call is active
//! - `go` continues
//! - `accept` follows the board that answers in place of the one followed so far; answers `accepted` or `none`

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a tool of the testbed, which prints")]

use clap::Parser;
use std::{
    io::BufRead,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use stopover_bbs::client::{Claim, Operator, Row, Session, SessionConfig, Target, start};
use stopover_config::{Endpoint, bulk::NodeRow};
use stopover_net::{HostName, Mac, Vni};
use tokio::sync::Mutex;

#[derive(Parser)]
struct Args {
    /// The board's endpoint.
    #[arg(long)]
    board: Endpoint,
    /// The name of the host that registers.
    #[arg(long)]
    host: HostName,
    /// The VTEP of that host.
    #[arg(long)]
    vtep: IpAddr,
    /// The network of the claims.
    #[arg(long)]
    vni: Vni,
    /// How many nodes are always claimed.
    #[arg(long, default_value_t = 40)]
    steady: u32,
    /// How many nodes are claimed and withdrawn by turns.
    #[arg(long, default_value_t = 20)]
    turns: u32,
    /// Time between two claims, and between two declarations.
    #[arg(long, default_value_t = 20)]
    every_ms: u64,
    /// The network of the declarations.
    #[arg(long)]
    declare_vni: Vni,
    /// The host of the declared nodes; an operator has declared it.
    #[arg(long)]
    declare_host: HostName,
}

fn mac(kind: u8, number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac::new([0x02, kind, a, b, c, d])
}

fn claim(vni: Vni, kind: u8, number: u32) -> Claim {
    let [.., a, b] = number.to_be_bytes();
    Claim::declared(vni, mac(kind, number), vec![IpAddr::from([10, kind, a, b])])
}

struct Churn {
    args: Args,
    session: std::sync::Mutex<Session>,
    paused: AtomicBool,
    /// Locked during a call.
    call: Mutex<()>,
}

impl Churn {
    fn session(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().expect("no holder panics")
    }

    async fn pace(&self) {
        tokio::time::sleep(Duration::from_millis(self.args.every_ms)).await;
    }

    async fn claims(self: Arc<Self>) {
        for turn in 0u32.. {
            self.pace().await;
            let _call = self.call.lock().await;
            let (number, off) = (turn % self.args.turns.max(1), turn / self.args.turns.max(1) % 2 == 1);
            match (self.paused.load(SeqCst) || self.args.turns == 0, off) {
                (true, _) => {}
                (false, true) => self.session().withdraw(self.args.vni, mac(0xc1, number)),
                (false, false) => self.session().claim(claim(self.args.vni, 0xc1, number)),
            }
        }
    }

    async fn declarations(self: Arc<Self>) {
        let (mut board, mut number) = (None, 0u32);
        loop {
            self.pace().await;
            let _call = self.call.lock().await;
            if self.paused.load(SeqCst) {
                continue;
            }
            let operator = match board.take() {
                Some(operator) => Ok(operator),
                None => Operator::connect(&self.args.board).await,
            };
            // Tried again when the board is away or does not know the host.
            let Ok(mut operator) = operator else { continue };
            number += 1;
            let done = match number % 2 {
                0 => operator.delete(&self.node((number / 2) % 500)).await,
                _ => operator.declare(&self.row((number / 2 + 250) % 500)).await,
            };
            board = done.is_ok().then_some(operator);
        }
    }

    fn node(&self, number: u32) -> Target {
        Target::Node { vni: self.args.declare_vni, mac: mac(0xc2, number) }
    }

    fn row(&self, number: u32) -> Row {
        let (vni, host) = (self.args.declare_vni, self.args.declare_host.clone());
        Row::Node(NodeRow { vni, mac: mac(0xc2, number), host, ips: Vec::new(), shared_ips: vec![] })
    }

    async fn execute(&self, line: &str) {
        match line.trim() {
            "pause" => {
                self.paused.store(true, SeqCst);
                drop(self.call.lock().await);
                println!("paused");
            }
            "go" => self.paused.store(false, SeqCst),
            "accept" => {
                let session = self.session();
                let other = session.state().other_board;
                other.inspect(|board| session.accept_board(*board));
                println!("{}", if other.is_some() { "accepted" } else { "none" });
            }
            other => println!("`{other}` is unknown; expected pause, go or accept"),
        }
    }
}

#[tokio::main]
async fn main() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_millis()
        .init();
    let args = Args::parse();
    let mut cfg = SessionConfig::new(vec![args.board.clone()], args.host.clone(), vec![args.vtep], 4789);
    cfg.settle = Duration::from_millis(500);
    let (session, updates) = start(&tokio::runtime::Handle::current(), cfg);
    for number in 0..args.steady {
        session.claim(claim(args.vni, 0xc0, number));
    }
    // The channel must be emptied, or the session would wait.
    std::thread::spawn(move || updates.iter().for_each(drop));
    let (paused, call) = (AtomicBool::new(false), Mutex::new(()));
    let session = std::sync::Mutex::new(session);
    let churn = Arc::new(Churn { args, session, paused, call });
    tokio::spawn(churn.clone().claims());
    tokio::spawn(churn.clone().declarations());
    let (lines, mut commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            // An error means that the program ends.
            let _ = lines.send(line);
        }
    });
    while let Some(line) = commands.recv().await {
        churn.execute(&line).await;
    }
}

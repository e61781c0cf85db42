//! Power cuts, thousands of them: whatever part of what was not durable survives, the board starts again without help and
//! knows everything that it has acknowledged, and nothing half.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use fastrand::Rng;
use redb::backends::InMemoryBackend;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use stopover_bbs::{
    board::{Absence, Board, Command, Key, Now, Outcome, Settings, record::NodeRecord},
    model::{Row, Target, Uuid},
    records::Records,
    server::{Writer, restore},
    store::{Redb, Store},
};
use stopover_board_faults::disk::{Disk, Survives};
use stopover_config::bulk::{HostRow, NodeRow};
use stopover_net::{HostName, Mac, Vni};

/// Power cuts of one disk: then the next begins with an empty board.
const CUTS: u64 = 60;
const NODES: u64 = 200;

type Nodes = BTreeMap<Mac, IpAddr>;

fn mac(n: u64) -> Mac {
    let [.., a, b] = n.to_be_bytes();
    Mac::new([2, 0, 0, 0, a, b])
}

fn host() -> HostName {
    HostName::new("lx").unwrap()
}

fn node(n: u64, number: u32) -> Row {
    let ips = vec![IpAddr::from(number.to_be_bytes())];
    NodeRow { vni: Vni::new(1).unwrap(), mac: mac(n), host: host(), ips, shared_ips: vec![] }.into()
}

/// A request, with the nodes after it.
fn request(nodes: &Nodes, number: u32, random: &mut Rng) -> (Command, Nodes) {
    let mut after = nodes.clone();
    let ip = |i: u32| IpAddr::from((number * 1000 + i).to_be_bytes());
    let command = match random.u8(0..10) {
        0 => {
            let first = random.u64(0..NODES - 100);
            let rows = (0..100).map(|i| {
                after.insert(mac(first + i), ip(i as u32));
                (i, node(first + i, number * 1000 + i as u32))
            });
            Command::Load(rows.collect())
        }
        1..4 if !nodes.is_empty() => {
            let gone = *nodes.keys().nth(random.usize(0..nodes.len())).unwrap();
            after.remove(&gone);
            Command::Delete(Target::Node { vni: Vni::new(1).unwrap(), mac: gone })
        }
        _ => {
            let n = random.u64(0..NODES);
            after.insert(mac(n), ip(0));
            Command::Declare(node(n, number * 1000))
        }
    };
    (command, after)
}

/// A board and what has been acknowledged.
struct Rig {
    disk: Disk,
    random: Rng,
    /// What was acknowledged.
    nodes: Nodes,
    revision: u64,
    /// The last request and its answer.
    answered: Option<(Key, Command, u64)>,
    /// The request whose answer the power cut prevented, with the nodes after it.
    unanswered: Option<(Key, Command, Nodes)>,
    requests: u32,
}

fn settings(writer: &Writer) -> Settings {
    let (run, limits) = (writer.run().unwrap(), writer.limits());
    Settings { run, lease_ms: 5000, keep_changes: 1000, absence: Absence::default(), limits }
}

impl Rig {
    /// A new board, which knows one host.
    fn new(seed: u64) -> Self {
        let disk = Disk::new(InMemoryBackend::new()).unwrap();
        drop(Redb::create_on(disk.clone()).unwrap());
        let random = Rng::with_seed(seed);
        let (answered, unanswered) = (None, None);
        let mut rig =
            Self { disk, random, nodes: Nodes::new(), revision: 0, answered, unanswered, requests: 0 };
        let (mut writer, mut board) = rig.start();
        let row = HostRow { name: host(), vteps: vec![IpAddr::from([10, 0, 0, 1])], udp_port: 4789 };
        let applied = board.apply(Now::default(), None, Command::Declare(row.into()));
        writer.commit(board.revision(), applied.writes, &mut |_| {}).unwrap();
        rig.revision = board.revision();
        rig
    }

    /// Opens the store and reads it, as a start of the board does.
    fn open(&self) -> Option<(Writer, Board)> {
        let store = Arc::new(Redb::open_on(self.disk.clone()).ok()?);
        let writer = Writer::begin(store.clone()).ok()?;
        let (board, unreadable) = restore(&*store.view().ok()?, settings(&writer)).ok()?;
        assert_eq!(unreadable, []);
        Some((writer, board))
    }

    fn start(&self) -> (Writer, Board) {
        self.open().expect("it starts without help")
    }

    /// Executes requests until the power fails, during the start or later; then cuts it.
    fn until_cut(&mut self) {
        let steps = if self.random.bool() { 60 } else { 1500 };
        self.disk.fail_after(self.random.u64(1..steps));
        if let Some((mut writer, mut board)) = self.open() {
            while self.execute(&mut writer, &mut board) {}
        }
        assert!(self.disk.has_failed(), "nothing but the power cut may stop it");
        let survives =
            [Survives::Nothing, Survives::First, Survives::Any, Survives::Any, Survives::Everything];
        let survives = survives[self.random.usize(0..survives.len())];
        self.disk.cut(survives, &mut self.random).unwrap();
    }

    /// One request; false if it has no answer.
    fn execute(&mut self, writer: &mut Writer, board: &mut Board) -> bool {
        self.requests += 1;
        let (command, after) = request(&self.nodes, self.requests, &mut self.random);
        let key = Key { id: Uuid::from_u128(self.requests.into()), fingerprint: 1 };
        let applied = board.apply(Now::default(), Some(key), command.clone());
        let Ok(Outcome::Done { revision }) = applied.result else { panic!("{:?}", applied.result) };
        if writer.commit(revision, applied.writes, &mut |_| {}).is_err() {
            self.unanswered = Some((key, command, after));
            return false;
        }
        (self.nodes, self.revision) = (after, revision);
        self.answered = Some((key, command, revision));
        true
    }

    /// The store has what was acknowledged, with the unanswered request as a whole or without it.
    fn check(&mut self) {
        let store = Redb::open_on(self.disk.clone()).unwrap();
        let view = store.view().unwrap();
        let records = view.all::<NodeRecord>().unwrap();
        let found: Nodes =
            records.into_iter().map(|((_, mac), record)| (mac, record.ips.iter().next().unwrap())).collect();
        drop((view, store));
        let (mut writer, mut board) = self.start();
        let unanswered = self.unanswered.take();
        let was_written = board.revision() > self.revision;
        match (&unanswered, was_written) {
            (Some((_, _, after)), true) => assert!(found == *after, "the whole request, or nothing of it"),
            (_, false) => assert!(found == self.nodes, "what was acknowledged"),
            (None, true) => panic!("revision {} after {}", board.revision(), self.revision),
        }
        // The same requests again have the answers of before.
        if let Some((key, command, revision)) = self.answered.clone() {
            let applied = board.apply(Now::default(), Some(key), command);
            assert!(matches!(applied.result, Ok(Outcome::Done { revision: r }) if r == revision));
            assert!(applied.writes.is_empty(), "executed twice");
        }
        if let Some((key, command, after)) = unanswered {
            let applied = board.apply(Now::default(), Some(key), command);
            assert_eq!(applied.writes.is_empty(), was_written, "executed once");
            writer.commit(board.revision(), applied.writes, &mut |_| {}).unwrap();
            self.nodes = after;
        }
        self.revision = board.revision();
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_thousands_of_power_cuts() {
    let threads: Vec<_> = (0..2u64)
        .map(|thread| {
            std::thread::spawn(move || {
                for disk in 0..25 {
                    let seed = thread * 1000 + disk;
                    let mut rig = Rig::new(seed);
                    for cut in 0..CUTS {
                        let seen = std::panic::AssertUnwindSafe(|| {
                            rig.until_cut();
                            rig.check();
                        });
                        let failed = std::panic::catch_unwind(seen).is_err();
                        assert!(!failed, "with seed {seed}, at cut {cut}");
                    }
                    assert!(rig.requests as u64 > CUTS, "with seed {seed}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

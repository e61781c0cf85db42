//! How long a move takes at the board, on this machine's disk. Not run by `cargo test`; figures are printed, nothing
//! is asserted but that every move arrives:
//!
//!     cargo test --release -p stopover-bbs --test server latency -- --ignored --nocapture
//!
//! `BBS_LATENCY_DIR` chooses the disk (default: the temporary directory's).

use super::{migration::begin, *};
use std::{io::Write, os::unix::fs::FileExt};
use stopover_bbs::client::MigrationUpdate;

const MOVES: usize = 200;

/// Median, 99th percentile and the largest, in milliseconds.
fn figures(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<44} median {:7.3}  p99 {:7.3}  max {:7.3} ms", at(50), at(99), at(100));
}

fn directory() -> tempfile::TempDir {
    match std::env::var_os("BBS_LATENCY_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    }
}

/// Blocks on the channel, so that no polling interval is in the figure.
fn next<T>(from: &crossbeam::channel::Receiver<T>, wanted: impl Fn(&T) -> bool) {
    loop {
        if wanted(&from.recv_timeout(PATIENCE).unwrap()) {
            return;
        }
    }
}

fn at_host(update: &Update, host: u32) -> bool {
    matches!(update, Update::Apply { changes, .. } if changes.iter().any(
        |c| matches!(c, Change::NodePut { node, .. } if node.host_id == host)))
}

fn measure_disk(dir: &Path) {
    let mut file = std::fs::File::create(dir.join("probe")).unwrap();
    file.write_all(&vec![0; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let times = (0..MOVES as u64)
        .map(|i| {
            let began = Instant::now();
            file.write_all_at(&[i as u8; 4096], (i % 200) * 4096).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    figures("write of 4 KiB and fdatasync", times);
}

/// Moves a node back and forth between two hosts; measured at a third one.
async fn measure_moves(what: &str, store: Arc<dyn Store>, dir: &Path, withdrawn: bool) {
    let at = socket(dir);
    let server = board(&at, store, LONG).await;
    let mut hosts = [
        Host::start(config(&at, "gw-a", "10.0.0.1")),
        Host::start(config(&at, "gw-b", "10.0.0.2")),
        Host::start(config(&at, "gw-c", "10.0.0.3")),
    ];
    for host in &mut hosts {
        host.session().join(vni(1), false);
        host.wait_for("Connected", |u| matches!(u, Update::Connected { .. })).await;
    }
    let names = ["gw-a", "gw-b"];
    let ids = [0, 1].map(|i: usize| hosts[i].session().state().host_id.unwrap());
    let (watcher, updates): (Vec<_>, Vec<_>) =
        hosts.iter().map(|h| (h.session().migrations(), h.updates.clone())).unzip();
    hosts[0].session().claim(claim(1, 1, &["192.168.0.1"]));
    next(&updates[2], |u| at_host(u, ids[0]));
    let mut times = Vec::new();
    for round in 0..MOVES {
        let (from, to) = (round % 2, (round + 1) % 2);
        hosts[from].session().begin_migration(begin(names[from], None, 60_000));
        let mut ticket = None;
        while ticket.is_none() {
            if let MigrationUpdate::Begun { ticket: t, .. } = watcher[from].recv_timeout(PATIENCE).unwrap() {
                ticket = Some(t);
            }
        }
        let ticket = ticket.unwrap();
        let began;
        if withdrawn {
            // Like a port with exact events: the source withdraws, and the target's claim ends the migration.
            hosts[from].session().withdraw(vni(1), mac(1));
            tokio::time::sleep(Duration::from_millis(30)).await;
            began = Instant::now();
            hosts[to].session().claim(claim(1, 1, &["192.168.0.1"]));
        } else {
            hosts[to].session().claim(claim(1, 1, &["192.168.0.1"]));
            next(&watcher[to], |u| matches!(u, MigrationUpdate::Deferred { .. }));
            tokio::time::sleep(Duration::from_millis(30)).await;
            began = Instant::now();
            hosts[to].session().complete_migration(ticket.migration, ticket.generation, None, "up");
        }
        next(&updates[2], |u| at_host(u, ids[to]));
        times.push(began.elapsed());
        if !withdrawn {
            hosts[from].session().withdraw(vni(1), mac(1));
        }
        // What the next round begins with is quiet.
        tokio::time::sleep(Duration::from_millis(20)).await;
        for (moves, updates) in watcher.iter().zip(&updates) {
            while moves.try_recv().is_ok() || updates.try_recv().is_ok() {}
        }
    }
    figures(what, times);
    drop(hosts);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn latency() {
    let dir = directory();
    measure_disk(dir.path());
    let file = |name: &str| -> Arc<dyn Store> { store_file(&dir.path().join(name)) };
    measure_moves("complete to NodePut elsewhere, disk", file("a.redb"), dir.path(), false).await;
    measure_moves("claim of what was let go to NodePut, disk", file("b.redb"), dir.path(), true).await;
    measure_moves("complete to NodePut elsewhere, memory", memory(), dir.path(), false).await;
}

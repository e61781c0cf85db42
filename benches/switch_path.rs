//! How long until every reader uses another path to a host, with 1, 1e3 and 1e6 nodes behind its slot. A reader looks
//! up bursts of nodes and their paths all the time, as an lcore does; the writer puts another path in force, and waits
//! until every reader has passed that epoch. Reported: median, p99 and maximum over all turns. The bench fails if the
//! p99 is not below a millisecond.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{BURST, put_peer, tables::station};
use std::{
    hint::{black_box, spin_loop},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use stopover::tables::{
    Tables, View,
    packed::{Bd, PackedFdbEntry, node_key},
    peer::{IsolationClass, PathClass, Peer},
};
use stopover_net::Vni;

/// Changes of the path that are timed, after one tenth as many that are not.
const TURNS: usize = 10_000;
/// Between two changes. Shorter than any real one: next hops change in milliseconds.
const PAUSE: Duration = Duration::from_micros(100);
/// The most that a change may take, at the 99th percentile.
const LIMIT: Duration = Duration::from_millis(1);

/// Looks up bursts and their paths until stopped. Returns how many.
fn read(mut view: View, bd: Bd, nodes: u32, stop: &AtomicBool) -> u64 {
    let (mut n, mut bursts) = (0u32, 0);
    while !stop.load(Relaxed) {
        let mut keys = [0; BURST];
        for key in &mut keys {
            n = (n + 7919) % nodes;
            *key = node_key(bd, station(n));
        }
        let mut words = [0; BURST];
        view.lookup_nodes(&keys, &mut words);
        let slots = view.slots();
        for word in words {
            let slot = PackedFdbEntry(word).slot_at_rest().unwrap();
            black_box(slots.get(slot.get()).and_then(|entry| entry.path.as_ref()).unwrap().port);
        }
        bursts += 1;
        view.quiescent();
    }
    bursts
}

/// Switches the path of the slot behind which this many nodes are. Returns the times, sorted.
fn switch(nodes: u32) -> Vec<Duration> {
    let readers = thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1));
    let (mut tables, views) = Tables::new(readers).unwrap();
    let bd = tables.bd(Vni::new(100).unwrap()).unwrap();
    let peer = Peer::new(1);
    let slot = put_peer(&mut tables, peer, false, 1430);
    for n in 0..nodes {
        tables.set_remote(bd, station(n), slot, IsolationClass::default()).unwrap();
    }
    tables.publish();
    let views: Vec<View> = views.into_iter().map(|view| view.online()).collect();
    let path = views.first().and_then(|view| view.path_to(peer)).unwrap().clone();
    let stop = Arc::new(AtomicBool::new(false));
    let start = |view| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || read(view, bd, nodes, &stop))
    };
    let threads: Vec<_> = views.into_iter().map(start).collect();
    let mut times = Vec::with_capacity(TURNS);
    for turn in 0..TURNS + TURNS / 10 {
        let mut path = path.clone();
        path.port = (turn % 2) as u16;
        let began = Instant::now();
        tables.set_path(peer, PathClass::Plain, Some(path)).unwrap();
        let epoch = tables.publish();
        while !tables.passed(epoch) {
            spin_loop();
        }
        times.push(began.elapsed());
        while began.elapsed() < PAUSE {
            spin_loop();
        }
    }
    stop.store(true, Relaxed);
    assert!(threads.into_iter().all(|thread| thread.join().unwrap() > 0), "every reader has read");
    let mut times = times.split_off(TURNS / 10);
    times.sort_unstable();
    times
}

fn main() {
    for nodes in [1, 1_000, 1_000_000] {
        let times = switch(nodes);
        let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
        let (median, p99, most) = (at(500), at(990), at(1000));
        println!("switch_path/{nodes}_nodes: median {median:?}, p99 {p99:?}, maximum {most:?}");
        assert!(p99 < LIMIT, "{nodes} nodes: p99 {p99:?} is not below {LIMIT:?}");
    }
}

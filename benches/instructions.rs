//! Instructions per frame, counted by valgrind, by function and by source file: the cost of the stages apart from
//! memory. Whole bursts of 32 as in `burst.rs`, without drivers and buffers.
//!
//! This program runs itself under valgrind. `callgrind_annotate` shows its output line by line.

#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

mod common;

use common::{
    A, Arena, B, BURST, Buffer, Burst, C, D, NODES, SEGMENT, TRUNK, UNDERLAY, VM, World,
    frames::{around, from, inward, retag, shortest, tagged, two_vifs},
    remote,
};
use std::{
    collections::HashMap,
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A case to count, and its port.
const CASES: [(&str, u16); 13] = [
    ("encap", VM),
    ("decap", UNDERLAY),
    ("decap_to_two_vifs", UNDERLAY),
    ("vif_to_vif", VM),
    ("encap_of_ipv6", VM),
    ("encap_and_checksum", VM),
    ("encap_of_64_bytes", VM),
    ("encap_of_64_bytes_and_checksum", VM),
    ("encap_over_ipv6", VM),
    ("decap_over_ipv6", UNDERLAY),
    ("decap_of_ipv6", UNDERLAY),
    ("encap_from_segment", SEGMENT),
    ("encap_from_trunk", TRUNK),
];
const BURSTS: u64 = 200;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().position(|arg| arg == "--bursts-of").and_then(|at| args.get(at + 1)) {
        Some(case) => run(case),
        None if args.iter().any(|arg| arg == "--bench") => count_all(&args),
        None => {}
    }
}

/// A name or a part of it selects cases, as in criterion.
fn count_all(args: &[String]) {
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let cases = CASES.iter().map(|(case, _)| (*case, format!("instructions/{case}")));
    let chosen: Vec<_> = cases.filter(|(_, name)| filter.is_none_or(|f| name.contains(f.as_str()))).collect();
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !chosen.is_empty() && !there.is_ok_and(|status| status.success()) {
        println!("instructions are not counted: apt-get install valgrind");
        return;
    }
    for (case, name) in chosen {
        count(case, &name);
    }
}

/// Counts and prints.
fn count(case: &str, name: &str) {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{case}.callgrind"));
    let _ = fs::remove_file(&out);
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted*", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .args(["--bursts-of", case])
        .status()
        .unwrap();
    assert!(status.success(), "{case}: {status}");
    let frames = (BURSTS * BURST as u64) as f64;
    let profile = fs::read_to_string(&out).unwrap();
    let [functions, files] = read(&profile);
    let all: u64 = files.values().sum();
    println!(
        "{name}: {:.1} instructions per frame; by line: callgrind_annotate {}",
        all as f64 / frames,
        out.display()
    );
    print(frames, "functions", functions);
    print(frames, "source files", files);
}

/// Those with at least one instruction per frame.
fn print(frames: f64, what: &str, counts: HashMap<&str, u64>) {
    let mut counts: Vec<_> = counts.into_iter().map(|(name, count)| (name, count as f64 / frames)).collect();
    counts.retain(|(_, count)| *count >= 1.0);
    counts.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("  by {what}:");
    for (name, count) in counts {
        println!("{count:10.1}  {name}");
    }
}

/// Instructions by function and by source file: inlined ones count for the function that they are in, and for the
/// file that they were written in (valgrind manual, "Callgrind Format Specification").
fn read(profile: &str) -> [HashMap<&str, u64>; 2] {
    let (mut functions, mut files) = (HashMap::new(), HashMap::new());
    let (mut function, mut file) = ("", "");
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        match line.split_once('=') {
            Some(("fn", name)) => function = name,
            Some(("fl" | "fi" | "fe", name)) => file = shorten(name),
            // The next line counts the callee, which is counted at its own lines.
            Some(("calls", _)) => drop(lines.next()),
            Some(_) => {}
            None => {
                let at_a_line = line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c));
                let count =
                    line.split_once(' ').filter(|_| at_a_line).and_then(|(_, count)| count.parse().ok());
                let count: u64 = count.unwrap_or(0);
                *functions.entry(function).or_default() += count;
                *files.entry(file).or_default() += count;
            }
        }
    }
    [functions, files]
}

/// The part of a path that identifies the file.
fn shorten(path: &str) -> &str {
    let from = ["/appliance/", "/config/", "/benches/", "/library/", "/registry/src/"];
    let at = from.iter().find_map(|folder| Some(path.rfind(folder)? + 1));
    path.get(at.unwrap_or(0)..).unwrap_or(path)
}

/// The part that valgrind runs: some bursts uncounted, to fill caches and state, and then [`BURSTS`].
fn run(case: &str) {
    let (_, port) = *CASES.iter().find(|(name, _)| *name == case).unwrap();
    let everywhere = |n| remote(n % NODES);
    let mut world = World::new(case.ends_with("over_ipv6"));
    let mut arena = Arena::of(1 << 20, |n| match case {
        "encap" => from("tcp4", A, everywhere)(n),
        "decap" => inward("vxlan4", 50, |_| A)(n),
        "decap_to_two_vifs" => inward("vxlan4", 50, two_vifs)(n),
        "decap_over_ipv6" => inward("vxlan6", 70, |_| A)(n),
        "decap_of_ipv6" => around(&from("tcp6", remote(n % NODES), |_| A)(n)),
        "vif_to_vif" => from("tcp4", A, |_| B)(n),
        "encap_of_ipv6" => from("tcp6", A, everywhere)(n),
        "encap_of_64_bytes" | "encap_of_64_bytes_and_checksum" => shortest(&from("udp4", A, everywhere)(n)),
        "encap_from_segment" => from("tcp4", C, everywhere)(n),
        "encap_from_trunk" => tagged(&from("tcp4", D, everywhere)(n)),
        _ => from("tcp4", A, everywhere)(n),
    });
    let change = |buffer: &mut Buffer| match case {
        _ if case.ends_with("and_checksum") => buffer.unfilled = true,
        "encap_from_trunk" => retag(buffer),
        _ => {}
    };
    for _ in 0..20 {
        world.burst(port, &mut arena, change);
    }
    for _ in 0..BURSTS {
        let mut burst = arena.burst(change);
        counted(&mut world, port, &mut burst);
        assert_eq!(world.sink.recycle(&mut arena), BURST);
        world.view.quiescent();
    }
}

/// Callgrind counts between its beginning and end.
#[inline(never)]
fn counted(world: &mut World, port: u16, burst: &mut Burst) {
    world.take(port, burst);
}

//! How the kernel treats the memory of keys: not written to swap space or core dumps, no copy in a forked child; and
//! what happens where it may not be locked. One test, because it changes the limits of its process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use dpdk::{Gcm, KeyMemory};
use std::sync::Mutex;

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        WARNINGS.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Bytes of this process's mappings that have all of these flags (`VmFlags` in proc_pid_smaps(5)).
fn mapped_with(flags: &[&str]) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut size, mut sum) = (0, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Size:") => size = words.next().unwrap().parse::<usize>().unwrap() * 1024,
            Some("VmFlags:") => {
                let found: Vec<&str> = words.collect();
                sum += if flags.iter().all(|flag| found.contains(flag)) { size } else { 0 };
            }
            _ => {}
        }
    }
    sum
}

/// From now this thread may lock no memory.
fn forbid_locking() {
    const CAP_IPC_LOCK: u32 = 14;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // Version 3 of the structs, of this thread: two sets of effective, permitted and inheritable capabilities.
    let (mut header, mut sets) = ([0x2008_0522_u32, 0], [[0_u32; 3]; 2]);
    // SAFETY: the structs are as the kernel has them, and live during the calls.
    let results = unsafe {
        let got = libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr());
        sets[0][0] &= !(1 << CAP_IPC_LOCK);
        let set = libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_mut_ptr());
        (got, set, libc::setrlimit(libc::RLIMIT_MEMLOCK, &none))
    };
    assert_eq!(results, (0, 0, 0));
}

#[test]
fn the_kernel_keeps_keys_in_memory() {
    log::set_logger(&Warnings).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    const MEBIBYTE: usize = 1 << 20;
    let protected = ["dd", "wf"];
    assert_eq!(mapped_with(&protected), 0);

    let memory = KeyMemory::new();
    let gcm = Gcm::new(&memory).unwrap();
    let stats = memory.stats();
    assert_eq!((stats.mapped, stats.dumped), (2 * MEBIBYTE, 0));
    assert_eq!(mapped_with(&protected), stats.mapped);
    // An account whose limit is lower has them unlocked, and works.
    assert_eq!(mapped_with(&["dd", "wf", "lo"]), stats.mapped - stats.unlocked);
    let warned = WARNINGS.lock().unwrap().len();
    assert_eq!(warned > 0, stats.unlocked > 0);
    drop((gcm, memory));
    assert_eq!(mapped_with(&protected), 0, "unmapped");

    forbid_locking();
    let memory = KeyMemory::new();
    let gcm = Gcm::new(&memory).unwrap();
    let keys: Vec<_> = (0..5000).map(|_| gcm.expand(&[1; 16]).unwrap()).collect();
    let stats = memory.stats();
    assert_eq!((stats.mapped, stats.unlocked, stats.dumped), (6 * MEBIBYTE, 6 * MEBIBYTE, 0));
    assert_eq!(mapped_with(&protected), 6 * MEBIBYTE);
    assert_eq!(mapped_with(&["dd", "wf", "lo"]), 0);
    let warnings = WARNINGS.lock().unwrap();
    assert_eq!(warnings.len() - warned, 1, "three chunks, one line: {warnings:?}");
    assert!(warnings.last().unwrap().contains("LimitMEMLOCK=infinity"), "{warnings:?}");
    drop(keys);
    assert_eq!(memory.stats().taken, 1024, "the context of the engine");
}

//! Which lcores the EAL arguments choose, and whether the configured queues fit them.
//!
//! Only the options that choose lcores are read (`-l`, `-c`, `--lcores`, `-s`, `-S`, `--main-lcore`); all
//! others are left to EAL.

use super::{Port, QueueRef};
use crate::{
    appliance::raw::Entries,
    fault::{Checked, fault},
};
use std::collections::{BTreeMap, BTreeSet};

/// The lcores that the EAL arguments choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalLcores {
    /// All of them but service lcores.
    pub all: BTreeSet<u32>,
    /// The one that runs `main`: the control thread.
    pub main: u32,
}

impl EalLcores {
    /// All but the main lcore, ascending.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        self.all.iter().copied().filter(|&l| l != self.main).collect()
    }
}

/// Above any `RTE_MAX_LCORE`; bounds the sets built from ranges.
const MAX_LCORE: u32 = 1023;

/// Reads the options; `None` when no option chooses lcores.
pub(super) fn parse_eal(eal: &[String]) -> Checked<Option<EalLcores>> {
    let mut chosen: Option<(usize, BTreeSet<u32>)> = None;
    let mut service = BTreeSet::new();
    let mut main = None;
    let mut i = 0;
    while i < eal.len() {
        let at = format!("eal[{i}]");
        let Some((option, value, used)) = option(eal, i) else {
            i += 1;
            continue;
        };
        let Some(value) = value else {
            return Err(fault(
                at,
                format!("`{option}` at the end"),
                "its value after it",
                "add the value as the next string",
            ));
        };
        let bad = |what: &str| {
            fault(
                at.clone(),
                format!("`{}` for {option}", value.escape_debug()),
                what,
                "write it as DPDK's EAL takes it, for example [\"-l\", \"0-1\"] or [\"--lcores\", \"0@0,1@0\"]",
            )
        };
        match option {
            "-l" | "-c" | "--lcores" => {
                let set = match option {
                    "-c" => mask(value).ok_or_else(|| bad("a hexadecimal mask such as 0x3"))?,
                    "-l" => list(value).ok_or_else(|| bad("a list such as 0-3,8"))?,
                    _ => map(value).ok_or_else(|| bad("a map such as 0@0,(1-3)@(1-3)"))?,
                };
                if chosen.replace((i, set)).is_some() {
                    return Err(fault(
                        at,
                        format!("{option} besides another choice of lcores"),
                        "only one of -l, -c and --lcores",
                        "remove all but one",
                    ));
                }
            }
            "-s" => service = mask(value).ok_or_else(|| bad("a hexadecimal mask such as 0x4"))?,
            "-S" => service = list(value).ok_or_else(|| bad("a list such as 2,3"))?,
            _ => main = Some((i, value.parse().map_err(|_| bad("a number"))?)),
        }
        i += used;
    }
    let Some((at, all)) = chosen else { return Ok(None) };
    without_service(at, &all, &service, main).map(Some)
}

/// The lcores that are left without those for service. `at`: the argument that chose them; `main`: the main lcore, with
/// its argument.
fn without_service(
    at: usize,
    all: &BTreeSet<u32>,
    service: &BTreeSet<u32>,
    main: Option<(usize, u32)>,
) -> Checked<EalLcores> {
    let all: BTreeSet<u32> = all.difference(service).copied().collect();
    let Some(&first) = all.first() else {
        return Err(fault(
            format!("eal[{at}]"),
            "no lcore",
            "two at least: one for the control thread and one to forward",
            "for example [\"-l\", \"0-1\"]",
        ));
    };
    if let Some((i, m)) = main
        && !all.contains(&m)
    {
        return Err(fault(
            format!("eal[{i}]"),
            format!("main lcore {m}"),
            format!("one of the EAL's lcores {}", join_numbers(&all)),
            "add it to -l, or choose another",
        ));
    }
    Ok(EalLcores { all, main: main.map_or(first, |(_, m)| m) })
}

/// The lcore option at `eal[i]`: its canonical name, its value and how many arguments both take.
fn option(eal: &[String], i: usize) -> Option<(&'static str, Option<&str>, usize)> {
    let arg = eal.get(i)?.as_str();
    for name in ["--lcores", "--main-lcore"] {
        if arg == name {
            return Some((name, eal.get(i + 1).map(String::as_str), 2));
        }
        if let Some(value) = arg.strip_prefix(name).and_then(|r| r.strip_prefix('=')) {
            return Some((name, Some(value), 1));
        }
    }
    for name in ["-l", "-c", "-s", "-S"] {
        if arg == name {
            return Some((name, eal.get(i + 1).map(String::as_str), 2));
        }
        if let Some(value) = arg.strip_prefix(name) {
            return Some((name, Some(value), 1));
        }
    }
    None
}

fn mask(s: &str) -> Option<BTreeSet<u32>> {
    let s = s.trim();
    let digits = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")).unwrap_or(s);
    if digits.is_empty() || digits.len() > 256 {
        return None;
    }
    let mut set = BTreeSet::new();
    for (i, c) in digits.chars().rev().enumerate() {
        let nibble = c.to_digit(16)?;
        let base = u32::try_from(i * 4).ok()?;
        set.extend((0..4).filter(|bit| nibble >> bit & 1 == 1).map(|bit| base + bit));
    }
    Some(set)
}

/// `0-3,8`: numbers and ranges, as EAL takes them in either direction.
fn list(s: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    for part in s.split(',') {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b) = (a.trim().parse::<u32>().ok()?, b.trim().parse::<u32>().ok()?);
        let (a, b) = (a.min(b), a.max(b));
        if b > MAX_LCORE {
            return None;
        }
        set.extend(a..=b);
    }
    Some(set)
}

/// `lcores[@cpus],…` where each side is a number, a range or a parenthesised list.
fn map(s: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    let mut rest = s.trim();
    loop {
        let (lcores, after) = group(rest)?;
        set.extend(lcores);
        rest = after;
        if let Some(cpus) = rest.strip_prefix('@') {
            rest = group(cpus)?.1;
        }
        if rest.is_empty() {
            return Some(set);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// One side of a mapping, and what follows it.
fn group(s: &str) -> Option<(BTreeSet<u32>, &str)> {
    if let Some(inner) = s.strip_prefix('(') {
        let (inner, rest) = inner.split_once(')')?;
        return Some((list(inner)?, rest));
    }
    let end = s.find(['@', ',']).unwrap_or(s.len());
    Some((list(&s[..end])?, &s[end..]))
}

fn join_numbers(set: &BTreeSet<u32>) -> String {
    set.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// How to get two lcores on a machine with one CPU to spare.
const TWO_ON_ONE: &str = "give EAL another lcore, for example [\"-l\", \"0-1\"], or two on one CPU with \
                          [\"--lcores\", \"0@0,1@0\"]";

/// Without a `lcores` key: there must be a worker to spread over.
pub(super) fn require_worker(eal: Option<&EalLcores>) -> Checked<()> {
    match eal {
        Some(e) if e.workers().is_empty() => Err(fault(
            "eal",
            format!("only lcore {}, the main one, which runs the control thread", e.main),
            "at least one worker lcore besides it",
            TWO_ON_ONE,
        )),
        _ => Ok(()),
    }
}

/// The `lcores` key: lcores that exist and may work, every queue on exactly one of them.
pub(super) fn check(
    raw: Entries<i64, Vec<String>>,
    eal: Option<&EalLcores>,
    ports: &[Port],
) -> Checked<BTreeMap<u32, Vec<QueueRef>>> {
    let mut owner: BTreeMap<QueueRef, u32> = BTreeMap::new();
    let mut lcores = BTreeMap::new();
    for (i, (lcore, words)) in raw.0.into_iter().enumerate() {
        let key = format!("lcores{{{i}}}");
        let lcore = worker(&key, lcore, eal)?;
        if words.is_empty() {
            return Err(fault(
                key,
                format!("lcore {lcore} without a queue"),
                "at least one \"port:queue\"",
                "give it a queue, or remove it",
            ));
        }
        let mut queues = Vec::with_capacity(words.len());
        for (j, word) in words.iter().enumerate() {
            let at = format!("lcores[{i}][{j}]");
            let queue = queue(&at, word, ports)?;
            if let Some(other) = owner.insert(queue, lcore) {
                return Err(fault(
                    at,
                    format!("queue {word} on lcore {lcore} and on lcore {other}"),
                    "each queue on exactly one lcore",
                    "remove it from one of them; raise the port's rxq to have a queue for each",
                ));
            }
            queues.push(queue);
        }
        if lcores.insert(lcore, queues).is_some() {
            return Err(fault(
                key,
                format!("lcore {lcore} twice"),
                "each lcore once",
                "write all its queues into one list",
            ));
        }
    }
    for (port, p) in ports.iter().enumerate() {
        for queue in 0..p.rxq {
            if !owner.contains_key(&QueueRef { port, queue }) {
                return Err(fault(
                    "lcores",
                    format!("queue {}:{queue} on no lcore", p.name),
                    "every receive queue of every port on one lcore",
                    format!(
                        "add \"{}:{queue}\" to an lcore, or remove `lcores` to have the queues spread",
                        p.name
                    ),
                ));
            }
        }
    }
    Ok(lcores)
}

fn worker(key: &str, lcore: i64, eal: Option<&EalLcores>) -> Checked<u32> {
    let Some(n) = u32::try_from(lcore).ok().filter(|&n| n <= MAX_LCORE) else {
        return Err(fault(
            key,
            format!("lcore {lcore}"),
            format!("an lcore number from 0 to {MAX_LCORE}"),
            "name an lcore of the EAL arguments",
        ));
    };
    let Some(eal) = eal else { return Ok(n) };
    if !eal.all.contains(&n) {
        let workers = eal.workers();
        let (expected, hint) = if workers.is_empty() {
            ("a worker lcore, of which the EAL arguments give none".to_owned(), TWO_ON_ONE)
        } else {
            (
                format!(
                    "one of the worker lcores {} that the EAL arguments give",
                    join_numbers(&workers.into_iter().collect())
                ),
                "add it to -l or --lcores in `eal`, or move its queues to another lcore",
            )
        };
        return Err(fault(key, format!("lcore {n}"), expected, hint));
    }
    if n == eal.main {
        let hint = if eal.all.len() == 1 {
            TWO_ON_ONE
        } else {
            "move its queues to a worker lcore, or choose another --main-lcore"
        };
        return Err(fault(
            key,
            format!("lcore {n}, the main one, which runs the control thread"),
            "a worker lcore",
            hint,
        ));
    }
    Ok(n)
}

/// `port:queue`.
fn queue(at: &str, word: &str, ports: &[Port]) -> Checked<QueueRef> {
    let parsed = word.rsplit_once(':').and_then(|(name, q)| Some((name, q.parse::<u16>().ok()?)));
    let Some((name, queue)) = parsed else {
        return Err(fault(
            at,
            format!("`{}`", word.escape_debug()),
            "\"port:queue\"",
            "for example \"vm1:0\" for the first receive queue of port vm1",
        ));
    };
    let Some(port) = ports.iter().position(|p| p.name == name) else {
        let names = ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(fault(
            at,
            format!("a queue of port `{name}`"),
            format!("one of the ports {names}"),
            "correct the name",
        ));
    };
    let rxq = ports[port].rxq;
    if queue >= rxq {
        return Err(fault(
            at,
            format!("queue {queue} of port `{name}`"),
            format!("a queue from 0 to {}", rxq - 1),
            "raise the port's rxq, or correct the number",
        ));
    }
    Ok(QueueRef { port, queue })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(s: &str) -> EalLcores {
        let args: Vec<String> = s.split(' ').map(str::to_owned).collect();
        parse_eal(&args).unwrap_or_else(|f| panic!("{f:?}")).unwrap()
    }

    fn refused(s: &str) -> bool {
        let args: Vec<String> = s.split(' ').map(str::to_owned).collect();
        parse_eal(&args).is_err()
    }

    #[test]
    fn the_spellings_of_eal() {
        assert_eq!(set("-l 0-2,5").all, BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(set("-l3-1").all, BTreeSet::from([1, 2, 3]));
        assert_eq!(set("-c 0x15").all, BTreeSet::from([0, 2, 4]));
        assert_eq!(set("-cf0").all, BTreeSet::from([4, 5, 6, 7]));
        assert_eq!(set("--lcores=0@0,1@0").all, BTreeSet::from([0, 1]));
        assert_eq!(set("--lcores (0,2-3)@(0-1),7,9-10@4").all, BTreeSet::from([0, 2, 3, 7, 9, 10]));
    }

    #[test]
    fn main_defaults_to_the_first_and_service_lcores_are_excluded() {
        let e = set("-l 2-4 --no-pci --main-lcore 3");
        assert_eq!((e.main, e.workers()), (3, vec![2, 4]));
        let e = set("-l 0-3 -s 0x1");
        assert_eq!((e.main, e.workers()), (1, vec![2, 3]));
        let e = set("-l 0-3 -S 3 --main-lcore=2");
        assert_eq!((e.main, e.workers()), (2, vec![0, 1]));
    }

    #[test]
    fn without_an_lcore_option_there_is_no_set() {
        assert_eq!(parse_eal(&["--no-pci".to_owned()]).ok().flatten(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for s in [
            "-l",
            "-l a",
            "-l 0-2000",
            "-c xyz",
            "-c 0x0",
            "--lcores (0",
            "--lcores 0@",
            "-l 0 -c 1",
            "-l 0-1 --main-lcore 5",
        ] {
            assert!(refused(s), "{s}");
        }
    }
}

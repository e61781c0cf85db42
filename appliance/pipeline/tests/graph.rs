//! The list of stages is what frames do, and what docs/path-of-a-frame.md says. [`Walk`] compares each frame of every
//! test with the list. Here are the reverse, nothing in the list is idle, and the comparison with the docs.

use super::{
    golden::{Frames, is_migrating},
    walk::{SEEN_FILE, Seen, Walk, line},
    *,
};
use crate::pipeline::{
    graph::{DIRECTIONS, IN_LCORE, Stage},
    tracer::Tracer,
};
use std::{collections::BTreeSet, process::Command};

/// Everything that the list allows in a direction.
fn listed(direction: &'static Direction) -> BTreeSet<String> {
    let first = direction.first.iter().map(|stage| Seen::First(*stage));
    let rows = direction.rows.iter().flat_map(|row| {
        let drops = row.drops.iter().map(|reason| Seen::Drop(row.stage, reason.name()));
        drops.chain(row.next.iter().map(|next| Seen::Next(row.stage, *next)))
    });
    first.chain(rows).map(|seen| line(&(direction.name, seen))).collect()
}

/// What the list allows and these tests cannot show.
const NOT_HERE: [&str; 11] = [
    // Their buffers have one segment.
    "From a VM or a segment: Drop(Parse, \"headers_split\")",
    "From the underlay: Drop(Outer, \"headers_split\")",
    "From the underlay: Drop(Parse, \"headers_split\")",
    "From a VM or a segment: Drop(Seal, \"pool_empty\")",
    "From the underlay: Drop(Seal, \"pool_empty\")",
    "From the underlay: Drop(Open, \"pool_empty\")",
    "For a migrating node: Drop(Seal, \"pool_empty\")",
    // Their buffers always have room for an answer or a marker.
    "From a VM or a segment: Drop(Resolve, \"pool_empty\")",
    "For a migrating node: Drop(Migration, \"no_headroom\")",
    // The migration ends between the lookup and the use of its record.
    "From a VM or a segment: Drop(Migration, \"not_here\")",
    // The parser has checked the lengths before.
    "From the underlay: Drop(Decap, \"outer_malformed\")",
];

/// The frames of the golden captures, one by one: then the order of the stages is compared exactly.
#[test]
fn each_frame_follows_the_list() {
    for migrating in [false, true] {
        let mut lab = Lab::new();
        if migrating {
            is_migrating(&mut lab);
        }
        let mut frames = Frames::new();
        for number in 0..40_000 {
            let (port, packet) = frames.one(&lab);
            lab.exits.pool.left = if number % 16 == 0 { 0 } else { 100 };
            lab.exits.control_full = number % 8 == 0;
            lab.exits.hold_full = number % 4 == 0;
            lab.exits.all_repeated = number % 8 == 1;
            lab.burst(port, vec![packet]);
        }
    }
}

/// Runs the tests of the pipeline in another process, with a file for what their tracers see.
#[test]
fn every_step_and_reason_of_the_list_occurs_in_a_test() {
    if std::env::var_os(SEEN_FILE).is_some() {
        return;
    }
    let file = std::env::temp_dir().join(format!("stopover-seen-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["pipeline::tests::", "--quiet"])
        .env(SEEN_FILE, &file)
        .output()
        .unwrap();
    let seen = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    let seen: BTreeSet<_> = seen.lines().map(str::to_owned).collect();
    let listed: BTreeSet<_> = DIRECTIONS.into_iter().flat_map(listed).collect();
    let idle: BTreeSet<_> = listed.difference(&seen).map(String::as_str).collect();
    assert_eq!(idle, BTreeSet::from(NOT_HERE));
}

/// A tracer at which one frame from a tenant has arrived.
fn tracer_of_one() -> Walk {
    let mut tracer = Walk::default();
    tracer.begin(&FROM_TENANT, 1);
    tracer.enter(Stage::Parse);
    tracer
}

#[test]
#[should_panic(expected = "Guard does not follow [Parse]")]
fn the_tracer_finds_a_stage_that_is_left_out() {
    tracer_of_one().enter(Stage::Guard);
}

#[test]
#[should_panic(expected = "UnknownVlan is no reason of [Parse]")]
fn the_tracer_finds_a_reason_of_another_stage() {
    tracer_of_one().dropped(DropReason::UnknownVlan);
}

#[test]
#[should_panic(expected = "is not the first")]
fn the_tracer_finds_a_wrong_beginning() {
    let mut tracer = Walk::default();
    tracer.begin(&FROM_UNDERLAY, 1);
    tracer.enter(Stage::Decap);
}

/// Every stage of any direction.
fn stages() -> BTreeSet<Stage> {
    DIRECTIONS.iter().flat_map(|direction| direction.rows).map(|row| row.stage).collect()
}

#[test]
fn each_row_comes_before_those_that_may_follow_it() {
    for direction in DIRECTIONS {
        let at =
            |stage| direction.rows.iter().position(|row| row.stage == stage).expect("a row of this stage");
        assert!(direction.first.iter().all(|stage| direction.row(*stage).is_some()));
        for row in direction.rows {
            for next in row.next {
                // What is finished, answered or read again returns to a stage before.
                let returns = matches!(
                    (row.stage, *next),
                    (Stage::Offload, _) | (Stage::TooBig, _) | (Stage::Decap, Stage::Outer)
                );
                assert!(returns || at(row.stage) < at(*next), "{}: {row:?}", direction.name);
            }
        }
    }
}

#[test]
fn every_drop_reason_belongs_to_a_stage_or_to_a_module_of_lcore() {
    let rows = DIRECTIONS.iter().flat_map(|direction| direction.rows).flat_map(|row| row.drops);
    let all: Vec<_> = rows.chain(IN_LCORE.iter().flat_map(|(_, drops)| *drops)).collect();
    for reason in DropReason::ALL {
        assert!(all.contains(&reason), "{reason:?} is in no list");
    }
    // The names of the reasons in the code are those in the list. `migration::stage` is a stage.
    let of =
        |folder| std::fs::read_dir(format!("{}/appliance/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let files =
        ["lcore", "migration"].into_iter().flat_map(|folder| of(folder).map(move |file| (folder, file)));
    for (folder, file) in files {
        let path = file.unwrap().path();
        let name = format!("{folder}::{}", path.file_stem().unwrap().to_str().unwrap());
        // The second answers stages.
        if ["migration::stage", "lcore::tunnel_egress"].contains(&name.as_str()) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let code = text.split("#[cfg(test)]").next().unwrap();
        let named = |reason: &&DropReason| {
            let name = format!("DropReason::{reason:?}");
            code.match_indices(&name)
                .any(|(at, _)| !code[at + name.len()..].starts_with(char::is_alphanumeric))
        };
        let found: BTreeSet<_> = DropReason::ALL.iter().filter(named).map(|reason| reason.name()).collect();
        let listed = IN_LCORE.iter().filter(|(module, _)| *module == name).flat_map(|(_, drops)| *drops);
        assert_eq!(found, listed.map(|reason| reason.name()).collect(), "{name}");
    }
}

/// What docs/path-of-a-frame.md has about a stage under a heading.
struct Described {
    heading: &'static str,
    stage: Stage,
    text: String,
}

/// An item that begins with the name of a stage in bold, or a section `(stage ...)`.
fn described() -> Vec<Described> {
    let doc = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/path-of-a-frame.md"));
    let stages = stages();
    let named = |start: &str, end: char| {
        let name = start.split(end).next().unwrap_or_default();
        stages.iter().find(|stage| stage.name() == name).copied()
    };
    let (mut all, mut heading, mut open) = (Vec::<Described>::new(), "", false);
    for line in doc.lines() {
        let item =
            line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(['.', '-']);
        let stage = if line.starts_with('#') {
            heading = line;
            open = false;
            line.split_once("(stage `").and_then(|(_, name)| named(name, '`'))
        } else {
            item.strip_prefix(" **").filter(|_| item != line).and_then(|name| named(name, '*'))
        };
        if let Some(stage) = stage {
            open = true;
            all.push(Described { heading, stage, text: String::new() });
        }
        if let Some(last) = all.last_mut().filter(|_| open) {
            last.text += line;
            last.text += "\n";
        }
    }
    all
}

#[test]
fn the_docs_have_the_stages_in_the_order_of_the_list() {
    let described = described();
    for direction in [&FROM_TENANT, &FROM_UNDERLAY] {
        let here = described.iter().filter(|at| at.heading.starts_with(&format!("## {} (", direction.name)));
        let order: Vec<_> = here.map(|at| at.stage).collect();
        // Two stages have sections of their own.
        let own = [Stage::Offload, Stage::TooBig];
        let rows = direction.rows.iter().map(|row| row.stage).filter(|stage| !own.contains(stage));
        assert_eq!(order, rows.collect::<Vec<_>>(), "{}", direction.name);
    }
    for stage in stages() {
        assert!(described.iter().any(|at| at.stage == stage), "{stage:?}");
    }
}

#[test]
fn the_docs_name_each_drop_reason_at_its_stage() {
    let described = described();
    for stage in stages() {
        let text: String =
            described.iter().filter(|at| at.stage == stage).map(|at| at.text.as_str()).collect();
        let named: BTreeSet<_> = DropReason::ALL
            .iter()
            .map(|r| r.name())
            .filter(|name| text.contains(&format!("`{name}`")))
            .collect();
        let rows = DIRECTIONS.iter().filter_map(|direction| direction.row(stage));
        let listed: BTreeSet<_> = rows.flat_map(|row| row.drops).map(|reason| reason.name()).collect();
        let missing: Vec<_> = listed.difference(&named).collect();
        assert!(missing.is_empty(), "{stage:?} may also drop for {missing:?}");
        // What the lcore does with a frame that waits is described with the migration.
        let in_lcore: BTreeSet<_> = IN_LCORE.iter().flat_map(|(_, drops)| *drops).map(|r| r.name()).collect();
        let wrong: Vec<_> = named.difference(&listed).filter(|name| !in_lcore.contains(*name)).collect();
        assert!(wrong.is_empty(), "{stage:?} never drops for {wrong:?}");
    }
    let doc = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/path-of-a-frame.md"));
    for reason in DropReason::ALL {
        assert!(doc.contains(&format!("`{}`", reason.name())), "{reason:?} is not described");
    }
}

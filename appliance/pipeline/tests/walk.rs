//! A tracer that compares the way of each frame with the list of stages ([`graph`]): each stage follows one that names
//! it, and each drop reason is one of its stage. All tests of the pipeline run with it.

use super::*;
use crate::pipeline::{
    graph::{Direction, FROM_HOLD, Stage},
    tracer::{TraceLog, Tracer},
};
use std::{collections::BTreeSet, fs::OpenOptions, io::Write};

/// What was seen, for a test that nothing in the list is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// The first stage of a direction.
    First(Stage),
    /// The second followed the first.
    Next(Stage, Stage),
    /// A stage dropped a frame.
    Drop(Stage, &'static str),
}

/// Names a file to which each tracer appends what it saw.
pub(super) const SEEN_FILE: &str = "STOPOVER_TEST_SEEN";

/// The checking tracer.
pub(super) struct Walk {
    pub log: TraceLog,
    direction: &'static Direction,
    /// Whether one frame enters: then the order is compared exactly. The stages of several frames mix.
    single: bool,
    /// Of a single frame: the stages that led to the present one.
    way: Vec<Stage>,
    /// All stages since the beginning, and the last.
    entered: Vec<Stage>,
    /// Frames that took the slow path.
    pub slow: usize,
    /// By the name of the direction, of single frames.
    seen: BTreeSet<(&'static str, Seen)>,
}

/// What was seen, as a line.
pub(super) fn line((direction, seen): &(&'static str, Seen)) -> String {
    format!("{direction}: {seen:?}")
}

impl std::ops::Drop for Walk {
    fn drop(&mut self) {
        if let Some(file) = std::env::var_os(SEEN_FILE) {
            let lines: String = self.seen.iter().map(|seen| line(seen) + "\n").collect();
            let file = OpenOptions::new().append(true).create(true).open(file);
            file.and_then(|mut file| file.write_all(lines.as_bytes())).unwrap();
        }
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            log: TraceLog::default(),
            direction: &FROM_HOLD,
            single: false,
            way: Vec::new(),
            entered: Vec::new(),
            slow: 0,
            seen: BTreeSet::new(),
        }
    }
}

impl Walk {
    /// Begins with new frames.
    pub(super) fn begin(&mut self, direction: &'static Direction, frames: u64) {
        (self.direction, self.single, self.slow) = (direction, frames == 1, 0);
        self.way.clear();
        self.entered.clear();
        self.log = TraceLog::default();
    }

    fn next(&self, stage: Stage) -> &'static [Stage] {
        self.direction.row(stage).map_or(&[], |row| row.next)
    }

    /// Goes back to the last stage that may have another frame for this one.
    fn go_back(&mut self, stage: Stage) {
        let way = self.way.clone();
        while let Some(last) = self.way.last().copied() {
            if last.makes_frames() && (last == stage || self.next(last).contains(&stage)) {
                return;
            }
            self.way.pop();
        }
        panic!("{}: {stage:?} does not follow {way:?}", self.direction.name);
    }

    fn enter_single(&mut self, stage: Stage) {
        let Some(last) = self.way.last().copied() else {
            let first = self.entered.is_empty() && self.direction.first.contains(&stage);
            assert!(first, "{}: {stage:?} is not the first", self.direction.name);
            self.seen.insert((self.direction.name, Seen::First(stage)));
            return self.way.push(stage);
        };
        if last == stage {
            return;
        }
        if !self.next(last).contains(&stage) {
            self.go_back(stage);
        }
        match self.way.last().copied() {
            Some(last) if last != stage => {
                self.seen.insert((self.direction.name, Seen::Next(last, stage)));
                self.way.push(stage);
            }
            _ => {}
        }
    }
}

impl Tracer for Walk {
    const RECORDS: bool = true;

    fn slow_path(&mut self) {
        self.slow += 1;
    }

    fn enter(&mut self, stage: Stage) {
        self.log.enter(stage);
        let name = self.direction.name;
        assert!(self.direction.row(stage).is_some(), "{name}: {stage:?} is not in the list");
        if self.single {
            self.enter_single(stage);
        } else {
            let follows = self.direction.first.contains(&stage)
                || self.entered.iter().any(|last| *last == stage || self.next(*last).contains(&stage));
            assert!(follows, "{name}: {stage:?} does not follow any of {:?}", self.entered);
        }
        self.entered.push(stage);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        assert!(!self.entered.is_empty(), "{}: a note before the first stage", self.direction.name);
        self.log.note(text);
    }

    fn dropped(&mut self, reason: DropReason) {
        let drops =
            |stage: &&Stage| self.direction.row(**stage).is_some_and(|row| row.drops.contains(&reason));
        // Of several frames, an earlier one may be dropped after the last has passed another stage.
        let stage = match self.single {
            true => self.entered.last().filter(drops),
            false => self.entered.iter().rev().find(drops),
        };
        let Some(stage) = stage.copied() else {
            panic!("{}: {reason:?} is no reason of {:?}", self.direction.name, self.entered);
        };
        if self.single {
            self.seen.insert((self.direction.name, Seen::Drop(stage, reason.name())));
        }
        self.log.dropped(reason);
    }
}

//! Which module of a crate uses which, and which words a pure module must not know. Read from the paths in the source
//! that begin with `crate` or go up by `super`; what is compiled for tests only does not count.

use crate::source::{Token, tokens, without_tests};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// A file of a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the crate's source folder.
    pub path: PathBuf,
    /// What is in it.
    pub source: String,
}

/// What a module may use of those that have rules.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The module's path, such as `tables` or `control::ports`. It stands for what is below it, unless that has a rule
    /// of its own.
    pub module: &'static str,
    /// The paths of what it may use, each with everything below it.
    pub uses: &'static [&'static str],
}

/// All Rust files below `folder`, in order.
pub fn files(folder: &Path) -> io::Result<Vec<File>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path)?;
                found.push(File { path: path.strip_prefix(folder).unwrap_or(&path).to_path_buf(), source });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Every use of a module that no rule allows, every module that has no rule although one beside it has, and every rule
/// without a module. Files of the root (`lib.rs`, `main.rs`), and a module's own file if only modules below it have
/// rules, may use all.
#[must_use]
pub fn violations(files: &[File], rules: &[Rule]) -> Vec<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut unseen: BTreeSet<&str> = rules.iter().map(|rule| rule.module).collect();
    for_each_production(files, |file, path, tokens| {
        let module = path.join("::");
        unseen.retain(|rule| !is_within(&module, rule));
        let Some(rule) = rule_of(&module, rules) else {
            found.extend(without_rule(path, rules));
            return;
        };
        for used in used_modules(path, tokens) {
            let whole = rules.iter().find(|rule| is_within(rule.module, &used.path)).map(|_| &*used.path);
            let known = rule_of(&used.path, rules).map(|rule| rule.module).or(whole);
            let allowed =
                known == Some(rule.module) || rule.uses.iter().any(|module| is_within(&used.path, module));
            if let Some(known) = known.filter(|_| !allowed) {
                let place = file.path.display();
                found.insert(format!("{place}:{}: {} must not use {known}", used.line, rule.module));
            }
        }
    });
    found
        .extend(unseen.iter().map(|rule| format!("there is a rule for module {rule}, which does not exist")));
    found.into_iter().collect()
}

/// Whether `path` is `module` or below it.
fn is_within(path: &str, module: &str) -> bool {
    module.is_empty()
        || path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The rule that stands for a path: of all that it is within, the one with the longest path.
fn rule_of<'r>(path: &str, rules: &'r [Rule]) -> Option<&'r Rule> {
    rules.iter().filter(|rule| is_within(path, rule.module)).max_by_key(|rule| rule.module.len())
}

/// The complaint about a module without a rule, if one beside it has a rule.
fn without_rule(path: &[String], rules: &[Rule]) -> Option<String> {
    let module = (1..=path.len())
        .map(|len| path[..len].join("::"))
        .find(|module| !rules.iter().any(|rule| is_within(rule.module, module)))?;
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let beside =
        rules.iter().any(|rule| rule.module.rsplit_once("::").map_or("", |(parent, _)| parent) == parent);
    beside.then(|| format!("module {module} has no rule: list what it may use"))
}

/// Every circle of modules below one parent: sets of modules of which each uses, directly or not, all others of the
/// set. What is below a module counts as the module, unless it is one of `split`, whose parts are at several levels. That a
/// module and those below it use each other is no circle.
#[must_use]
pub fn circles(files: &[File], split: &[&str]) -> Vec<BTreeSet<String>> {
    let mut modules: BTreeSet<String> = BTreeSet::new();
    for_each_production(files, |_, path, _| {
        modules.extend((1..=path.len()).map(|len| path[..len].join("::")));
    });
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for_each_production(files, |_, path, tokens| {
        for used in used_modules(path, tokens) {
            let to: Vec<&str> = used.path.split("::").collect();
            let shared = path.iter().zip(&to).take_while(|(a, b)| a == *b).count();
            if shared < path.len() && shared < to.len() {
                let (from, to) = (whole_or_part(path, shared, split), whole_or_part(&to, shared, split));
                if modules.contains(&to) {
                    uses.entry(from).or_default().insert(to);
                }
            }
        }
    });
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        uses.keys().map(|from| (from, reachable(from, &uses))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (from, reached) in &reach {
        let circle: BTreeSet<String> = reached
            .iter()
            .filter(|to| reach.get(*to).is_some_and(|back| back.contains(from)))
            .map(|to| (*to).clone())
            .collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

/// The module at this depth of a path; if it is split, its part.
fn whole_or_part<S: AsRef<str>>(path: &[S], depth: usize, split: &[&str]) -> String {
    let join = |parts: &[S]| parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("::");
    let module = join(&path[..=depth]);
    match path.get(..depth + 2) {
        Some(part) if split.contains(&&*module) => join(part),
        _ => module,
    }
}

/// All that `from` uses, and what those use.
fn reachable<'u>(from: &str, uses: &'u BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'u String> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for used in uses.get(module).into_iter().flatten() {
            if found.insert(used) {
                next.push(used);
            }
        }
    }
    found
}

/// Every place where one of `words` occurs in the code of the modules that `modules` names, by their paths such as
/// `migration::machine`; the empty path is the whole crate.
#[must_use]
pub fn impurities(files: &[File], modules: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut unseen: BTreeSet<&str> = modules.iter().copied().collect();
    for_each_production(files, |file, path, tokens| {
        let path = path.join("::");
        let Some(module) = modules.iter().find(|module| is_within(&path, module)) else { return };
        unseen.remove(module);
        for token in tokens.iter().filter(|token| words.contains(&token.text)) {
            found.push(format!(
                "{}:{}: {module} must not know {}",
                file.path.display(),
                token.line,
                token.text
            ));
        }
    });
    found.extend(unseen.iter().map(|module| format!("there is no module {module}")));
    found
}

/// Every file that is taken in by path: each belongs to one module of one crate.
#[must_use]
pub fn path_attributes(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let tokens = tokens(&file.source);
        for window in tokens.windows(4).filter(|w| w.iter().map(|t| t.text).eq(["#", "[", "path", "="])) {
            found.push(format!("{}:{}: a file is included by path", file.path.display(), window[0].line));
        }
    }
    found
}

/// Calls `each` with every file that is not for tests only, its module path, and its tokens.
fn for_each_production(files: &[File], mut each: impl FnMut(&File, &[String], &[Token<'_>])) {
    let scanned: Vec<_> =
        files.iter().map(|file| (file, module_path(&file.path), tokens(&file.source))).collect();
    let mut for_tests: Vec<Vec<String>> = Vec::new();
    for (_, path, tokens) in &scanned {
        let (_, modules) = without_tests(tokens);
        for_tests.extend(modules.iter().map(|module| [&path[..], &[(*module).to_owned()]].concat()));
    }
    for (file, path, tokens) in &scanned {
        if !for_tests.iter().any(|test| path.starts_with(test)) {
            each(file, path, &without_tests(tokens).0);
        }
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a`, `b`; the files of the root are nothing.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    if path.len() == 1 && (path[0] == "lib" || path[0] == "main") {
        path.clear();
    }
    path
}

/// A path that a file names: a module of the crate, or what is in one.
struct Used {
    path: String,
    line: usize,
}

/// The paths behind `crate::`, and behind `super::` where that leads out of the file.
fn used_modules(path: &[String], tokens: &[Token<'_>]) -> Vec<Used> {
    let mut found = Vec::new();
    let mut inline = Inline::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        inline.see(tokens, at);
        let mut up = 0;
        while tokens.get(at).is_some_and(|t| t.text == "super") && is_path_mark(tokens, at + 1) {
            up += 1;
            at += 3;
        }
        if token.text == "crate" && is_path_mark(tokens, at + 1) {
            at += 3;
            paths_at(tokens, at, &[], &mut found);
        } else if let Some(base) =
            (up > 0).then(|| path.len() + inline.depth()).and_then(|n| n.checked_sub(up))
        {
            if let Some(base) = path.get(..base).filter(|base| base.len() < path.len()) {
                paths_at(tokens, at, base, &mut found);
            }
        } else if up == 0 {
            at += 1;
        }
    }
    found
}

fn is_path_mark(tokens: &[Token<'_>], at: usize) -> bool {
    tokens.get(at..at + 2).is_some_and(|marks| marks.iter().all(|mark| mark.text == ":"))
}

/// The paths that begin with `base` and go on with the words at `at`.
fn paths_at(tokens: &[Token<'_>], at: usize, base: &[String], found: &mut Vec<Used>) {
    let mut places = Vec::new();
    first_words(tokens, at, &mut places);
    for place in places {
        let Token { text, line } = tokens[place];
        let mut longer = base.to_vec();
        if !matches!(text, "self" | "*") {
            longer.push(text.to_owned());
        }
        if longer.len() > base.len() && is_path_mark(tokens, place + 1) {
            paths_at(tokens, place + 3, &longer, found);
        } else {
            found.push(Used { path: longer.join("::"), line });
        }
    }
}

/// The place of the word at `at`, or of those that begin the parts of the group there.
fn first_words(tokens: &[Token<'_>], at: usize, found: &mut Vec<usize>) {
    if tokens.get(at).is_none_or(|token| token.text != "{") {
        found.extend((at < tokens.len()).then_some(at));
        return;
    }
    let (mut depth, mut begins) = (0, false);
    for (place, token) in (at..).zip(&tokens[at..]) {
        match token.text {
            "{" => (depth, begins) = (depth + 1, depth == 0),
            "}" => depth -= 1,
            "," => begins = depth == 1,
            _ => {
                if begins {
                    found.push(place);
                }
                begins = false;
            }
        }
        if depth == 0 {
            return;
        }
    }
}

/// The modules within a file around a place in it.
#[derive(Default)]
struct Inline {
    braces: usize,
    /// How many braces were open before each module's.
    modules: Vec<usize>,
}

impl Inline {
    fn see(&mut self, tokens: &[Token<'_>], at: usize) {
        match tokens[at].text {
            "{" => {
                if at.checked_sub(2).is_some_and(|at| tokens[at].text == "mod") {
                    self.modules.push(self.braces);
                }
                self.braces += 1;
            }
            "}" => {
                self.braces = self.braces.saturating_sub(1);
                if self.modules.last() == Some(&self.braces) {
                    self.modules.pop();
                }
            }
            _ => {}
        }
    }

    fn depth(&self) -> usize {
        self.modules.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 3] = [
        Rule { module: "control", uses: &["pipeline", "tables"] },
        Rule { module: "pipeline", uses: &["tables"] },
        Rule { module: "tables", uses: &[] },
    ];

    fn file(path: &str, source: &str) -> File {
        File { path: path.into(), source: source.to_owned() }
    }

    /// The violations of a crate with one more file.
    fn found(path: &str, source: &str) -> Vec<String> {
        let files = [
            file("lib.rs", "mod control; mod pipeline; mod tables; use crate::control::start;"),
            file("control.rs", "use crate::{pipeline::{encap, tables}, tables::Tables};"),
            file("pipeline/mod.rs", "mod encap; #[cfg(test)] mod tests; use super::tables;"),
            file(
                "pipeline/encap.rs",
                "use super::Flow; use crate::tables::Fdb; mod field { use super::super::Flow; }",
            ),
            file("pipeline/tests/mod.rs", "use crate::control;"),
            file("tables.rs", "fn control() {} #[cfg(test)] mod tests { use crate::pipeline; }"),
            file(path, source),
        ];
        violations(&files, &RULES)
    }

    #[test]
    fn allowed_dependencies_pass() {
        assert_eq!(
            found("tables/fdb.rs", "use super::Tables; use crate::tables::Bd; // crate::control"),
            [""; 0]
        );
    }

    #[test]
    fn a_backward_dependency_is_found_in_every_spelling() {
        let expected = |place: &str| vec![format!("tables/fdb.rs:{place}: tables must not use pipeline")];
        for (place, source) in [
            ("1", "use crate::pipeline::encap;"),
            ("1", "use crate::{tables::Bd, pipeline};"),
            ("3", "use crate::{\n    tables::{Bd, Vni},\n    pipeline::{self, encap},\n};"),
            ("2", "fn f() {\n    assert!(crate::pipeline::encap::f());\n}"),
            ("1", "pub use super::super::pipeline::Packet;"),
            ("1", "mod field { fn f() -> super::super::super::pipeline::Packet {} }"),
            ("1", "impl From<crate::pipeline::Packet> for Bd {}"),
        ] {
            assert_eq!(found("tables/fdb.rs", source), expected(place), "{source}");
        }
    }

    #[test]
    fn a_rule_for_a_module_below_another_stands_for_it() {
        let rules = [
            Rule { module: "control", uses: &["control::loops", "migration::record"] },
            Rule { module: "control::loops", uses: &["control::effects"] },
            Rule { module: "control::effects", uses: &[] },
            Rule { module: "migration::record", uses: &[] },
            Rule { module: "migration::driver", uses: &["control"] },
        ];
        let found = |path, source| {
            let files = [
                file("control/mod.rs", "use loops::Loops; use crate::migration::record::A;"),
                file("control/loops.rs", "use super::effects::Effect;"),
                file("control/effects.rs", "use crate::{tables::B, underlay::control::loops};"),
                file("migration/mod.rs", "use crate::control;"),
                file("migration/record.rs", ""),
                file("migration/driver/mod.rs", "use crate::control::effects;"),
                file(path, source),
            ];
            violations(&files, &rules)
        };
        assert_eq!(found("control/effects/b.rs", "use super::A; use super::super::effects::B;"), [""; 0]);
        for source in [
            "use super::super::loops::A;",
            "use crate::control::loops;",
            "use crate::{b, control::{effects::c, loops::A}};",
        ] {
            let expected = "control/effects/b.rs:1: control::effects must not use control::loops";
            assert_eq!(found("control/effects/b.rs", source), [expected], "{source}");
        }
        for (source, used) in [
            ("use crate::migration::{self, record::A};", "migration"),
            ("use crate::migration::*;", "migration"),
            ("use crate::migration::{record::A, driver};", "migration::driver"),
            ("use super::{loops::A, effects};", "control::effects"),
        ] {
            let expected = format!("control/show.rs:1: control must not use {used}");
            assert_eq!(found("control/show.rs", source), [expected], "{source}");
        }
        assert_eq!(
            found("migration/hold.rs", ""),
            ["module migration::hold has no rule: list what it may use"]
        );
        // Nothing beside it has a rule.
        assert_eq!(
            violations(&[file("a/b.rs", ""), file("c.rs", "")], &[Rule { module: "a::b", uses: &[] }]),
            [""; 0]
        );
    }

    #[test]
    fn modules_and_rules_must_match() {
        assert_eq!(found("news.rs", ""), ["module news has no rule: list what it may use"]);
        let alone = [file("control.rs", ""), file("pipeline.rs", "")];
        assert_eq!(violations(&alone, &RULES), ["there is a rule for module tables, which does not exist"]);
    }

    #[test]
    fn a_circle_of_neighbours_is_found_at_any_depth() {
        let files = [
            file("lib.rs", "mod a; mod b; mod c;"),
            file("a/mod.rs", "mod x; mod y; mod z; use crate::b::B; use x::X;"),
            file("a/x.rs", "use super::{Parent, y};"),
            file("a/y.rs", "use crate::a::z::{Z, other};"),
            file("a/z.rs", "fn f() { super::x::f() } #[cfg(test)] mod tests { use crate::c; }"),
            file("b.rs", "use crate::c;"),
            file("c.rs", "#[cfg(test)] mod tests { use crate::a; }"),
        ];
        let expected: BTreeSet<String> = ["a::x", "a::y", "a::z"].map(str::to_owned).into();
        assert_eq!(circles(&files, &[]), [expected]);
        let mut wider = files.to_vec();
        wider.push(file("b/d.rs", "use super::super::a::w;"));
        assert_eq!(circles(&wider, &[]).len(), 2);
        wider.push(file("a/w.rs", ""));
        let levels = |split: &[&str]| circles(&wider, split).into_iter().filter(|c| c.contains("b")).count();
        assert_eq!((levels(&[]), levels(&["a"])), (1, 0), "w is below b, and the rest of a above it");
    }

    #[test]
    fn an_impure_word_is_found_in_code_only() {
        let files = [
            file("migration/machine/mod.rs", "#[cfg(test)] mod tests; // Instant\nfn f(now: Instant) {}"),
            file("migration/machine/tests.rs", "use std::time::Instant;"),
            file("migration/hold.rs", "use std::time::Instant;"),
        ];
        assert_eq!(
            impurities(&files, &["migration::machine", "tables"], &["Instant"]),
            [
                "migration/machine/mod.rs:2: migration::machine must not know Instant",
                "there is no module tables"
            ]
        );
    }

    #[test]
    fn a_file_included_by_path_is_found() {
        let files = [file("lib.rs", "// #[path = \"x\"]\n#[path = \"../../net/src/lib.rs\"]\nmod net;")];
        assert_eq!(path_attributes(&files), ["lib.rs:2: a file is included by path"]);
    }
}

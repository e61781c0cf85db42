//! Retired words do not come back: every source file is compared with `retired.txt`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::{
    fs,
    path::{Path, PathBuf},
};

struct Retired<'a> {
    in_code_only: bool,
    word: &'a str,
    instead: &'a str,
}

/// Kind, word and replacement, at least two spaces apart.
fn list(text: &str) -> Vec<Retired<'_>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<_> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
            let [kind @ ("code" | "text"), word, instead] = columns[..] else { panic!("malformed: {line}") };
            Retired { in_code_only: kind == "code", word, instead }
        })
        .collect()
}

/// Rust source with comments and the content of strings blanked out, line by line as before.
fn code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string_len(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
            continue;
        };
        let (skipped, after) = rest.split_at(len);
        out.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

/// The length of the string that `text` begins with, with its quotes.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Whether `text` has the word as a word of its own. An escape such as `\n` in a string ends a word as white space does.
fn has_word(text: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).filter(|s| !s.ends_with(r"\n")).and_then(|s| s.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|s| s.chars().next());
        !(before.is_some_and(in_word) || word.ends_with(in_word) && after.is_some_and(in_word))
    })
}

fn offences(path: &Path, source: &str, retired: &[Retired<'_>]) -> Vec<String> {
    let is_rust = path.extension().is_some_and(|e| e == "rs");
    let code = if is_rust { code(source) } else { String::new() };
    let lines = source.lines().zip(code.lines().chain(std::iter::repeat(""))).zip(1..);
    lines
        .flat_map(|((line, code), number)| {
            retired
                .iter()
                .filter(move |r| has_word(if r.in_code_only { code } else { line }, r.word))
                .map(move |r| format!("{}:{number}: `{}`: say {}", path.display(), r.word, r.instead))
        })
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "corpus" {
                sources(&path, found);
            }
        } else if ["rs", "py", "md", "proto"].iter().any(|e| path.extension().is_some_and(|x| x == *e)) {
            found.push(path);
        }
    }
}

#[test]
fn no_retired_word_comes_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = fs::read_to_string(root.join("tests/retired.txt")).unwrap();
    let retired = list(&words);
    let mut files = Vec::new();
    sources(root, &mut files);
    assert!(retired.len() > 30 && files.len() > 300, "{} words, {} files", retired.len(), files.len());
    let own = root.join("tests/retired.rs");
    let found: Vec<_> = files
        .iter()
        .filter(|path| **path != own)
        .flat_map(|path| offences(path, &fs::read_to_string(path).unwrap(), &retired))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_retired_word_is_found_where_it_counts() {
    let retired = list("# none\ncode  Outlet  TxPort\ntext  mend:  hint:\n");
    let found = |name: &str, source: &str| offences(Path::new(name), source, &retired);
    assert_eq!(found("a.rs", "let a = 1;\nstruct Outlet;"), ["a.rs:2: `Outlet`: say TxPort"]);
    assert_eq!(found("a.py", "say('; mend: x')"), ["a.py:1: `mend:`: say hint:"]);
    assert_eq!(found("a.rs", "f(\"; mend: x\")").len(), 1);
    assert_eq!(found("a.rs", r#"f("x\nmend: y")"#).len(), 1, "an escape is no part of a word");
    // Comments and strings are English, and parts of other words are other words.
    for source in
        ["// Outlet", "f(\"an Outlet\\\" Outlet\")", "struct OutletPipe;", "r#\"Outlet\"#", "amend: x"]
    {
        assert_eq!(found("a.rs", source), Vec::<String>::new(), "{source}");
    }
    assert_eq!(found("a.rs", "'\"'; Outlet").len(), 1);
}

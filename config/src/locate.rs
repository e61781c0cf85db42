//! Finds the position of a field in a RON text, so that an error found in parsed values has its
//! line and column. It walks the text's brackets only; the text has been accepted by the RON parser before,
//! and for syntax that this walk does not know the result is the nearest enclosing field.
//!
//! Paths: `a.b` field, `a[3]` list element or value of the fourth map entry, `a{3}` key of that entry.

use crate::Position;
use std::collections::HashMap;

/// Position of `path`, or of the longest leading part of it that the text has; of the start at worst.
pub(crate) fn find(text: &str, path: &str) -> Position {
    let mut walk = Walk { text: text.as_bytes(), at: 0, found: HashMap::new() };
    walk.value("", 0);
    let mut path = path;
    loop {
        if let Some(&offset) = walk.found.get(path) {
            return position(text, offset);
        }
        match path.rfind(['.', '[', '{']) {
            Some(cut) => path = &path[..cut],
            None if path.is_empty() => return position(text, 0),
            None => path = "",
        }
    }
}

/// Line and column of a byte offset.
fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or("");
    let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    Position { line: line as u64, column: Some(column as u64) }
}

/// Deeper than any configuration, shallower than the stack.
const MAX_DEPTH: usize = 64;

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    found: HashMap<String, usize>,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn starts_with_at(&self, s: &[u8]) -> bool {
        self.text.get(self.at..).is_some_and(|r| r.starts_with(s))
    }

    /// Moves past white space, comments and a leading `#![enable(…)]`.
    fn skip_space(&mut self) {
        loop {
            match self.peek() {
                Some(b) if b.is_ascii_whitespace() => self.at += 1,
                Some(b'/') if self.starts_with_at(b"//") => self.skip_until(b"\n"),
                Some(b'/') if self.starts_with_at(b"/*") => self.skip_block_comment(),
                Some(b'#') if self.starts_with_at(b"#!") => self.skip_until(b"]"),
                _ => return,
            }
        }
    }

    fn skip_until(&mut self, end: &[u8]) {
        while self.at < self.text.len() && !self.starts_with_at(end) {
            self.at += 1;
        }
        self.at = (self.at + end.len()).min(self.text.len());
    }

    /// RON nests block comments.
    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            if self.starts_with_at(b"/*") {
                depth += 1;
                self.at += 2;
            } else if self.starts_with_at(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    /// One value; `path` is recorded where it begins.
    fn value(&mut self, path: &str, depth: usize) {
        self.skip_space();
        self.found.insert(path.to_owned(), self.at);
        if depth > MAX_DEPTH {
            self.at = self.text.len();
            return;
        }
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'[') => self.list(path, depth),
            Some(b'{') => self.map(path, depth),
            Some(b'(') => self.body(path, depth),
            Some(b'r') if self.starts_with_at(b"r\"") || self.starts_with_at(b"r#") => self.raw_string(),
            Some(b'\'') => self.character(),
            Some(_) => {
                self.word();
                self.skip_space();
                if self.peek() == Some(b'(') {
                    self.body(path, depth);
                }
            }
            None => {}
        }
    }

    /// An identifier or number.
    fn word(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"_.+-#".contains(&b) || b >= 0x80) {
            self.at += 1;
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(b) = self.peek() {
            self.at += if b == b'\\' { 2 } else { 1 };
            if b == b'"' {
                return;
            }
        }
    }

    fn character(&mut self) {
        self.at += 1;
        while let Some(b) = self.peek() {
            self.at += if b == b'\\' { 2 } else { 1 };
            if b == b'\'' {
                return;
            }
        }
    }

    fn raw_string(&mut self) {
        self.at += 1;
        let hashes = self.text.get(self.at..).map_or(0, |r| r.iter().take_while(|&&b| b == b'#').count());
        self.at += hashes;
        if self.peek() != Some(b'"') {
            self.word(); // r#identifier
            return;
        }
        self.at += 1;
        let mut end = vec![b'"'];
        end.resize(hashes + 1, b'#');
        self.skip_until(&end);
    }

    /// Between entries: true when another entry follows, false when `close` or the end was reached.
    fn more(&mut self, close: u8) -> bool {
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
        }
        match self.peek() {
            Some(b) if b == close => {
                self.at += 1;
                false
            }
            Some(_) => true,
            None => false,
        }
    }

    fn list(&mut self, path: &str, depth: usize) {
        self.at += 1;
        let mut i = 0;
        while self.more(b']') {
            let before = self.at;
            self.value(&format!("{path}[{i}]"), depth + 1);
            i += 1;
            if self.at == before {
                return;
            }
        }
    }

    fn map(&mut self, path: &str, depth: usize) {
        self.at += 1;
        let mut i = 0;
        while self.more(b'}') {
            let before = self.at;
            self.value(&format!("{path}{{{i}}}"), depth + 1);
            self.skip_colon();
            self.value(&format!("{path}[{i}]"), depth + 1);
            i += 1;
            if self.at == before {
                return;
            }
        }
    }

    fn skip_colon(&mut self) -> bool {
        self.skip_space();
        let yes = self.peek() == Some(b':');
        self.at += usize::from(yes);
        yes
    }

    /// `( … )`: named fields, or positional values, of which the first carries the path itself, because
    /// that is what `Some(x)` and `fixed(46)` mean.
    fn body(&mut self, path: &str, depth: usize) {
        self.at += 1;
        let mut i = 0;
        while self.more(b')') {
            let start = self.at;
            self.word();
            let name = self.text.get(start..self.at).map(String::from_utf8_lossy).unwrap_or_default();
            let field = if path.is_empty() { name.clone().into_owned() } else { format!("{path}.{name}") };
            if self.at > start && self.skip_colon() {
                self.value(&field, depth + 1);
            } else {
                self.at = start;
                let inner = if i == 0 { path.to_owned() } else { format!("{path}({i})") };
                let outer = self.found.get(path).copied();
                self.value(&inner, depth + 1);
                if let (0, Some(outer)) = (i, outer) {
                    self.found.insert(path.to_owned(), outer);
                }
            }
            i += 1;
            if self.at == start {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "#![enable(implicit_some)]
(
    name: \"a)b\", // not this: (
    /* nor /* this */ ( */
    ports: [
        (name: \"é\", role: vif(mac: \"x\", dscp: fixed(46))),
        (vlans: {10: 200, 20: 300}, raw: r#\"\"(\"#, last: Some(5)),
    ],
)";

    fn at(path: &str) -> (u64, u64) {
        let p = find(TEXT, path);
        (p.line, p.column.unwrap())
    }

    #[test]
    fn fields_elements_keys_and_values() {
        assert_eq!(at("name"), (3, 11));
        assert_eq!(at("ports"), (5, 12));
        assert_eq!(at("ports[0].name"), (6, 16));
        assert_eq!(at("ports[0].role.mac"), (6, 36));
        assert_eq!(at("ports[0].role.dscp"), (6, 47));
        assert_eq!(at("ports[1].vlans{1}"), (7, 27));
        assert_eq!(at("ports[1].vlans[1]"), (7, 31));
        assert_eq!(at("ports[1].last"), (7, 57));
    }

    #[test]
    fn absent_fields_fall_back_to_the_enclosing_field() {
        assert_eq!(at("ports[1].role.mtu"), at("ports[1]"));
        assert_eq!(at("board[0]"), (2, 1));
    }

    proptest! {
        #[test]
        fn never_panics_or_hangs(text in "[(){}\\[\\]a-c:,\"'\\\\/*#r \n]{0,80}", path in "[a-c.\\[\\]{}0]{0,12}") {
            find(&text, &path);
        }
    }
}

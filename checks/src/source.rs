//! Rust source as tokens, as far as the checks need it: words and marks with their lines, without comments, strings and
//! what is compiled for tests only.

/// A word (identifier, keyword or number) or a single mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'s> {
    pub text: &'s str,
    pub line: usize,
}

/// The tokens of a file.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let len = skipped(rest).unwrap_or_else(|| {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let len = if word > 0 { word } else { rest.chars().next().map_or(1, char::len_utf8) };
            if !rest.starts_with(char::is_whitespace) {
                found.push(Token { text: &rest[..len], line });
            }
            len
        });
        line += rest[..len].matches('\n').count();
        at += len;
    }
    found
}

/// The length of the comment or literal that `rest` begins with. A prefix such as `b` or `r` may have been taken for
/// a word.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let hashes = rest.bytes().take_while(|b| *b == b'#').count();
    if rest[hashes..].starts_with('"') {
        return Some(if hashes == 0 { quoted(rest, '"') } else { raw(rest, hashes) });
    }
    if rest.starts_with("r\"")
        || rest.starts_with("r#")
        || rest.starts_with("br\"")
        || rest.starts_with("br#")
    {
        let prefix = rest.find('r')? + 1;
        let hashes = rest[prefix..].bytes().take_while(|b| *b == b'#').count();
        // `r#name` is a word.
        return rest[prefix + hashes..].starts_with('"').then(|| prefix + raw(&rest[prefix..], hashes));
    }
    is_char(rest).then(|| quoted(rest, '\''))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(left) = rest.get(at..).filter(|left| !left.is_empty()) {
        match &left.as_bytes()[..left.len().min(2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += left.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A literal between two `quote`s, in which a backslash escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// A raw string that begins with so many hashes and a quote.
fn raw(rest: &str, hashes: usize) -> usize {
    let end = format!("\"{}", "#".repeat(hashes));
    rest[hashes + 1..].find(&end).map_or(rest.len(), |at| hashes + 1 + at + end.len())
}

/// A character literal, and no lifetime.
fn is_char(rest: &str) -> bool {
    rest.starts_with("'\\") || rest.starts_with('\'') && rest.chars().nth(2) == Some('\'')
}

/// The tokens without the items under `#[cfg(test)]`, and the names of the modules among these that have files of
/// their own.
pub(crate) fn without_tests<'s>(tokens: &[Token<'s>]) -> (Vec<Token<'s>>, Vec<&'s str>) {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let ahead = tokens[at..].iter().map(|t| t.text);
        if !ahead.take(CFG_TEST.len()).eq(CFG_TEST) {
            kept.push(*token);
            at += 1;
            continue;
        }
        let end = item_end(tokens, at + CFG_TEST.len());
        if let Some([.., module, name, mark]) = tokens.get(at..end)
            && module.text == "mod"
            && mark.text == ";"
        {
            modules.push(name.text);
        }
        at = end;
    }
    (kept, modules)
}

/// Where the item that begins at `at` ends: behind its semicolon, or behind its block.
fn item_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                // A `use` with braces ends with its semicolon.
                if depth == 0 && tokens.get(i + 1).is_none_or(|next| next.text != ";") {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_literals_are_left_out() {
        assert_eq!(texts("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(texts(r#"a("b \" c", 'd', '\'', '"') e"#), ["a", "(", ",", ",", ",", ")", "e"]);
        assert_eq!(texts("r#\"a \" b\"# c br\"d\" b\"e\" r#type"), ["c", "b", "r", "#", "type"]);
        assert_eq!(texts("&'a str, 'ä'"), ["&", "'", "a", "str", ","]);
    }

    #[test]
    fn lines_are_counted_through_skipped_text() {
        let found = tokens("a\n\"b\nc\"\n/*\n*/ d");
        assert_eq!(found.iter().map(|t| (t.text, t.line)).collect::<Vec<_>>(), [("a", 1), ("d", 5)]);
    }

    #[test]
    fn code_for_tests_is_left_out() {
        let source = "use a; #[cfg(test)] use b::{c, d}; #[cfg(test)] mod e { fn f() {} } #[cfg(test)] mod g;
            #[cfg(test)] pub fn h([a]: [u8; 1]) { i() } #[cfg(not(test))] j";
        let all = tokens(source);
        let (kept, modules) = without_tests(&all);
        let kept: Vec<_> = kept.iter().map(|t| t.text).collect();
        assert_eq!(kept, ["use", "a", ";", "#", "[", "cfg", "(", "not", "(", "test", ")", ")", "]", "j"]);
        assert_eq!(modules, ["g"]);
    }
}

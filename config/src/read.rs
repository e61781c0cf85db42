//! Common parts of all RON documents: reading the file, turning the parser's errors into [`ConfigError`], and
//! the checks of single values that the documents share. Private to this crate.

use crate::{
    ConfigError, Endpoint, Position, endpoint,
    fault::{Checked, fault},
};
use ron::{
    Options,
    error::{Error, SpannedError},
    extensions::Extensions,
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// Far more than a configuration needs; a wrong path given by mistake must not fill the memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Text of the file at `path`.
pub(crate) fn file(path: &Path) -> Result<String, ConfigError> {
    const EXPECTED: &str = "a readable RON file";
    let refuse = |e| ConfigError::io(path, EXPECTED, &e);
    let meta = std::fs::metadata(path).map_err(refuse)?;
    if meta.len() > MAX_FILE_BYTES {
        return Err(ConfigError::new(
            path,
            format!("a file of {} bytes", meta.len()),
            format!("at most {MAX_FILE_BYTES}"),
            "keep large tables in CSV files and name those",
        ));
    }
    std::fs::read_to_string(path).map_err(refuse)
}

/// The raw shape of a document. `Some(…)` may be left out around optional values.
pub(crate) fn ron<T: DeserializeOwned>(text: &str, origin: &Path) -> Result<T, ConfigError> {
    Options::default()
        .with_default_extension(Extensions::IMPLICIT_SOME)
        .from_str(text)
        .map_err(|e| translate(&e, text, origin))
}

/// The parser's error as an error of this crate.
fn translate(e: &SpannedError, text: &str, origin: &Path) -> ConfigError {
    let list = |names: &[&str]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let inside = |outer: &Option<String>| outer.as_ref().map(|o| format!(" in `{o}`")).unwrap_or_default();
    // For a key, choice or number the parser's cursor is past the word, and the span begins where the word
    // does. For anything else the end is the place where it stopped.
    let mut place = &e.span.end;
    let (found, expected, hint) = match &e.code {
        Error::NoSuchStructField { expected, found, outer } => {
            place = &e.span.start;
            let found_key = format!("unknown key `{found}`{}", inside(outer));
            (found_key, format!("one of {}", list(expected)), spelling_hint(found, expected, "keys"))
        }
        Error::NoSuchEnumVariant { expected, found, outer } => {
            place = &e.span.start;
            let found_word = format!("`{found}`{}", inside(outer));
            (found_word, format!("one of {}", list(expected)), spelling_hint(found, expected, "choices"))
        }
        Error::MissingStructField { field, outer } => (
            format!("no key `{field}`{}", inside(outer)),
            "it to be given".into(),
            format!("add `{field}: …`"),
        ),
        Error::DuplicateStructField { field, outer } => {
            place = &e.span.start;
            let found = format!("key `{field}` twice{}", inside(outer));
            (found, "it once".into(), "remove one of the two".into())
        }
        Error::InvalidValueForType { expected, found } => {
            place = &e.span.start;
            (found.clone(), expected.clone(), "write a value of that type".into())
        }
        Error::IntegerOutOfBounds => {
            place = &e.span.start;
            (
                "a number too large for any key".into(),
                "a number within the key's range".into(),
                "see docs/configuration.md for the range".into(),
            )
        }
        Error::Eof => (
            "the end of the file".into(),
            "the document to go on".into(),
            "close what is open: ( [ { \"".into(),
        ),
        Error::TrailingCharacters => (
            format!("{} after the end of the document", word_at(text, place.line, place.col)),
            "nothing".into(),
            "remove it, or see whether a bracket closes too early".into(),
        ),
        other => (
            word_at(text, place.line, place.col),
            expected_syntax(other),
            "texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between".into(),
        ),
    };
    ConfigError::new(origin, found, expected, hint)
        .at(Position { line: place.line as u64, column: Some(place.col as u64) })
}

/// What the parser expected instead of a word or sign.
fn expected_syntax(e: &Error) -> String {
    match e {
        Error::ExpectedInteger => "a whole number".into(),
        Error::ExpectedBoolean => "true or false".into(),
        Error::ExpectedString => "a text in quotes".into(),
        Error::ExpectedComma => "a comma or the closing bracket".into(),
        other => {
            let words = other.to_string();
            words.strip_prefix("Expected ").map_or_else(|| format!("RON syntax ({words})"), str::to_owned)
        }
    }
}

/// The word or sign at a position, quoted, for "found".
fn word_at(text: &str, line: usize, column: usize) -> String {
    let rest = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let rest: String = rest.chars().skip(column.saturating_sub(1)).take(32).collect();
    let word = |c: char| c.is_alphanumeric() || "_.:-".contains(c);
    let len = match rest.find(|c| !word(c)) {
        Some(0) => rest.chars().next().map_or(0, char::len_utf8),
        Some(n) => n,
        None => rest.len(),
    };
    match rest.get(..len) {
        None | Some("") => "the end of the line".into(),
        Some(word) => format!("`{}`", word.replace(char::is_control, "?")),
    }
}

/// The hint for an unknown word: the known one with a similar spelling. With as many edits as
/// letters it is no misspelling: `off` must not be proposed for `on`.
fn spelling_hint(found: &str, names: &[&str], what: &str) -> String {
    let near = names
        .iter()
        .map(|n| (strsim::levenshtein(found, n), n))
        .min()
        .filter(|(d, n)| *d <= 1 + n.len() / 3 && *d < found.len());
    near.map_or_else(
        || format!("remove it, or see docs/configuration.md for the {what}"),
        |(_, n)| format!("did you mean `{n}`?"),
    )
}

/// A number within `range`, or `default` when the key is absent. `unit` is for the message.
pub(crate) fn number<T: TryFrom<i64> + PartialOrd + Display>(
    at: &str,
    given: Option<i64>,
    default: T,
    range: RangeInclusive<T>,
    unit: &str,
) -> Checked<T> {
    let Some(n) = given else { return Ok(default) };
    T::try_from(n).ok().filter(|n| range.contains(n)).ok_or_else(|| {
        fault(
            at,
            n.to_string(),
            format!("{} to {} {unit}", range.start(), range.end()).trim_end().to_owned(),
            "choose a value within the range, or leave the key out for the default",
        )
    })
}

pub(crate) fn endpoint(at: &str, s: &str) -> Checked<Endpoint> {
    s.parse().map_err(|why: String| {
        fault(at, why, endpoint::EXPECTED, "for example https://10.9.0.1:7480 or unix:/run/stopover/bbs.sock")
    })
}

/// An endpoint with TLS needs the folder of `tls`.
pub(crate) fn needs_credentials(at: &str, endpoints: &[Endpoint], tls: Option<&PathBuf>) -> Checked<()> {
    let secure = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Tls { .. });
    match (endpoints.iter().position(secure), tls) {
        (Some(i), None) => Err(fault(
            format!("{at}[{i}]"),
            endpoints.get(i).map_or_else(String::new, |endpoint| format!("{endpoint} without `tls`")),
            "a folder of credentials",
            "add for example tls: \"/etc/stopover/credentials\"",
        )),
        _ => Ok(()),
    }
}

/// A plain endpoint needs `insecure: true`.
pub(crate) fn needs_insecure(at: &str, endpoints: &[Endpoint], insecure: bool) -> Checked<()> {
    match endpoints.iter().enumerate().find(|(_, endpoint)| endpoint.is_plain()) {
        Some((i, endpoint)) if !insecure => Err(fault(
            format!("{at}[{i}]"),
            format!("{endpoint}, which is plain TCP"),
            endpoint::EXPECTED_SECURE,
            "`insecure: true` permits it, in a network that nobody else reaches",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn socket_addr(at: &str, s: &str) -> Checked<SocketAddr> {
    s.parse::<SocketAddr>().ok().filter(|a| a.port() != 0).ok_or_else(|| {
        fault(at, format!("`{s}`"), "an address and port", "write it as 127.0.0.1:9481 or [::1]:9481")
    })
}

pub(crate) fn absolute(at: &str, s: &str) -> Checked<PathBuf> {
    if s.starts_with('/') && !s.contains('\0') {
        Ok(PathBuf::from(s))
    } else {
        Err(fault(at, format!("`{}`", s.escape_debug()), "an absolute path", "begin it with /"))
    }
}

/// The path of a Unix socket to listen on.
pub(crate) fn socket_path(at: &str, s: &str) -> Checked<PathBuf> {
    if s.len() > endpoint::MAX_SOCKET_PATH {
        return Err(fault(
            at,
            format!("a path of {} bytes", s.len()),
            format!("at most {} bytes, the room in a Unix socket address", endpoint::MAX_SOCKET_PATH),
            "use a shorter path",
        ));
    }
    absolute(at, s)
}

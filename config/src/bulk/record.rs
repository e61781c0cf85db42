//! CSV records (RFC 4180) of one line each. A quoted field may hold commas and doubled quotes but no line
//! break, so that a record's line number is exact whatever comments and empty lines stand before it.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line accepted; far above any real table, and a limit for a binary file given by mistake.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Reads records and counts lines.
#[derive(Debug)]
pub(super) struct Records<R> {
    reader: BufReader<R>,
    line: u64,
    bytes: u64,
    text: Vec<u8>,
    /// The present record's fields, unquoted, one after the other.
    fields: Vec<u8>,
    /// Where each of them ends in `fields`.
    ends: Vec<usize>,
}

/// Why a record cannot be read: what was found, what was expected.
pub(super) type Broken = (String, &'static str);

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            line: 0,
            bytes: 0,
            text: Vec::new(),
            fields: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Line of the present record, from one.
    pub(super) fn line(&self) -> u64 {
        self.line.max(1)
    }

    /// Bytes consumed so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of fields of the present record.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field of the present record; empty when it has no such field.
    pub(super) fn field(&self, i: usize) -> &[u8] {
        let start = i.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(i).and_then(|&end| self.fields.get(start..end)).unwrap_or_default()
    }

    /// Moves to the next record; false at the end of the file.
    pub(super) fn advance(&mut self) -> Result<bool, Broken> {
        loop {
            self.text.clear();
            let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.text);
            let read = read.map_err(|e: io::Error| (e.to_string(), "a readable CSV file"))?;
            if read == 0 {
                return Ok(false);
            }
            self.line += 1;
            self.bytes += read as u64;
            if self.line == 1 && self.text.starts_with(b"\xef\xbb\xbf") {
                self.text.drain(..3);
            }
            if read as u64 == MAX_LINE_BYTES && !self.text.ends_with(b"\n") {
                return Err((
                    format!("a line of more than {MAX_LINE_BYTES} bytes"),
                    "a CSV file of shorter lines",
                ));
            }
            let trimmed = self.text.trim_ascii();
            if !trimmed.is_empty() && !trimmed.starts_with(b"#") {
                return self.split().map(|()| true);
            }
        }
    }

    /// Splits `text` at its commas.
    fn split(&mut self) -> Result<(), Broken> {
        self.fields.clear();
        self.ends.clear();
        let mut rest = self.text.trim_ascii();
        loop {
            rest = rest.trim_ascii_start();
            rest = match rest.strip_prefix(b"\"") {
                Some(quoted) => take_quoted(quoted, &mut self.fields)?,
                None => {
                    let end = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
                    let (field, after) = rest.split_at(end);
                    self.fields.extend_from_slice(field.trim_ascii_end());
                    after
                }
            };
            self.ends.push(self.fields.len());
            match rest.split_first() {
                None => return Ok(()),
                Some((b',', after)) => rest = after,
                Some(_) => {
                    return Err(("text after a closing quote".into(), "a comma or the end of the line"));
                }
            }
        }
    }
}

/// Copies a quoted field up to its closing quote and returns what follows that.
fn take_quoted<'a>(mut rest: &'a [u8], fields: &mut Vec<u8>) -> Result<&'a [u8], Broken> {
    loop {
        let Some(quote) = rest.iter().position(|&b| b == b'"') else {
            return Err(("a quote that is not closed".into(), "the closing quote on the same line"));
        };
        fields.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                fields.push(b'"');
                rest = after;
            }
            None => return Ok(rest.trim_ascii_start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<(u64, Vec<String>)>, Broken> {
        let mut records = Records::new(text.as_bytes());
        let mut out = Vec::new();
        while records.advance()? {
            let fields =
                (0..records.len()).map(|i| String::from_utf8_lossy(records.field(i)).into_owned()).collect();
            out.push((records.line(), fields));
        }
        Ok(out)
    }

    #[test]
    fn fields_quotes_and_line_numbers() {
        let text = "\u{feff}a,b\r\n\n # no\n \"x, \"\"y\"\"\" , z \r\n,\nlast,\"\"";
        let fields = |f: [&str; 2]| f.map(str::to_owned).to_vec();
        assert_eq!(
            all(text).unwrap(),
            vec![
                (1, fields(["a", "b"])),
                (4, fields(["x, \"y\"", "z"])),
                (5, fields(["", ""])),
                (6, fields(["last", ""]))
            ]
        );
    }

    #[test]
    fn broken_lines() {
        assert!(all("a,\"b\nc\"").unwrap_err().0.contains("not closed"));
        assert!(all("\"a\"b,c").unwrap_err().0.contains("after a closing quote"));
        assert!(all(&"x".repeat(70_000)).unwrap_err().0.contains("65536"));
    }
}

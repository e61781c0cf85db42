//! Aligned tables for people: a header, rows, two spaces between columns. Numbers stand to the right.

use std::fmt;

/// How the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table being filled.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    /// The text when there is no row.
    empty: &'static str,
}

impl Table {
    /// A table with these columns; a header that begins with `>` has its column to the right.
    pub fn new(headers: &[&'static str], empty: &'static str) -> Self {
        let column = |h: &&'static str| match h.strip_prefix('>') {
            Some(name) => (name, Align::Right),
            None => (*h, Align::Left),
        };
        Self { columns: headers.iter().map(column).collect(), rows: Vec::new(), empty }
    }

    /// Adds a row; an empty cell prints as `-`.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column");
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "{}", self.empty);
        }
        let shown = |cell: &str| if cell.is_empty() { "-".to_owned() } else { cell.to_owned() };
        let header = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows = self.rows.iter().map(|r| r.iter().map(|c| shown(c)).collect::<Vec<_>>());
        let lines: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
        let width = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|i| width(i).unwrap_or(0)).collect();
        for line in &lines {
            let mut text = String::new();
            for ((cell, (_, align)), width) in line.iter().zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => text.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => text.push_str(&format!("{cell:>width$}  ")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Joins what a list cell holds.
pub fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|i| i.to_string()).collect::<Vec<_>>().join(" ")
}

/// Text of something optional; empty when absent.
pub fn opt<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// `yes` or `no`.
pub fn yes_no(b: bool) -> String {
    if b { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let mut t = Table::new(&["NAME", ">COUNT", "WHY"], "nothing");
        assert_eq!(t.to_string(), "nothing\n");
        t.row(["a".into(), "1".into(), "é".into()]);
        t.row(["long name".into(), "12345".into(), String::new()]);
        assert_eq!(t.to_string(), "NAME       COUNT  WHY\na              1  é\nlong name  12345  -\n");
    }
}

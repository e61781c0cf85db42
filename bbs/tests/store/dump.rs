//! The content of a store as text, one record a line: table, key, value. It is the same whatever reads or writes it.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use std::{fmt::Write, path::Path};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("-"), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix('-').unwrap().as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// All tables of a file, by name and key.
pub fn of(path: &Path) -> String {
    let db = Database::open(path).unwrap();
    let tx = db.begin_read().unwrap();
    let mut names: Vec<_> = tx.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let table = tx.open_table(TableDefinition::<&[u8], &[u8]>::new(&name)).unwrap();
        for entry in table.iter().unwrap() {
            let (key, value) = entry.unwrap();
            writeln!(text, "{name} {} {}", hex(key.value()), hex(value.value())).unwrap();
        }
    }
    text
}

/// A file with the records of `text`.
pub fn restore(text: &str, path: &Path) {
    let db = Database::create(path).unwrap();
    let tx = db.begin_write().unwrap();
    for line in text.lines() {
        let [table, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut table = tx.open_table(TableDefinition::<&[u8], &[u8]>::new(table)).unwrap();
        table.insert(bytes(key).as_slice(), bytes(value).as_slice()).unwrap();
    }
    tx.commit().unwrap();
}

/// Only the lines of these tables.
pub fn tables(text: &str, names: &[&str]) -> String {
    text.lines()
        .filter(|line| names.contains(&line.split(' ').next().unwrap()))
        .flat_map(|line| [line, "\n"])
        .collect()
}

//! Values in words, as the configuration file writes them.

use super::QueuesByName;
use std::fmt::Display;

/// A list, or `none`.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    joined(items.iter().map(T::to_string))
}

/// The same of texts that are already made.
pub(super) fn joined(items: impl IntoIterator<Item = String>) -> String {
    match items.into_iter().collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(", "),
    }
}

/// A value, or a word for its absence.
pub(super) fn or<T: Display>(value: Option<T>, absent: &str) -> String {
    value.map_or_else(|| absent.to_owned(), |value| value.to_string())
}

/// The key `lcores`.
pub(super) fn queues(queues: Option<&QueuesByName>) -> String {
    let Some(queues) = queues else { return "spread".to_owned() };
    let words = |queues: &[(String, u16)]| {
        queues.iter().map(|(port, queue)| format!("{port}:{queue}")).collect::<Vec<_>>().join(" ")
    };
    joined(queues.iter().map(|(lcore, queues)| format!("lcore {lcore}: {}", words(queues))))
}

//! What was tried, and what came of it. Enters: expectations and outcomes. Leaves: the figures, and a line for each that is
//! wrong.

use super::{table::Expected, wire::Outcome};
use std::fmt::Display;

/// The count.
#[derive(Debug, Default)]
pub struct Score {
    pub attempts: u64,
    /// Of these, how many were expected to pass.
    pub allowed: u64,
    pub allowed_wrongly: u64,
    pub refused_wrongly: u64,
    /// Refused, but not in the way that proves that the door did it.
    pub unclear: u64,
}

impl Score {
    /// Compares. Prints what is wrong.
    pub fn judge(&mut self, what: &dyn Display, expected: Expected, outcome: &Outcome) {
        self.attempts += 1;
        self.allowed += u64::from(expected == Expected::Pass);
        let fits = match expected {
            Expected::Pass => *outcome == Outcome::Passed,
            Expected::Deny => *outcome == Outcome::Forbidden,
            Expected::NotServed => *outcome == Outcome::NotServed,
            Expected::NoConnection => matches!(outcome, Outcome::NoConnection(_)),
            Expected::NoToken => *outcome == Outcome::NoToken,
            Expected::Held => matches!(outcome, Outcome::Held(_)),
        };
        if fits {
            return;
        }
        let (count, word) = match (expected, outcome) {
            (Expected::Pass, _) => (&mut self.refused_wrongly, "refused wrongly"),
            (_, Outcome::Passed | Outcome::Held(_) | Outcome::Behind(_)) => {
                (&mut self.allowed_wrongly, "allowed wrongly")
            }
            // Whoever has a connection has come too far.
            (Expected::NoConnection, _) => (&mut self.allowed_wrongly, "allowed wrongly"),
            (_, _) => (&mut self.unclear, "unclear"),
        };
        *count += 1;
        println!("{word}: {what}: {outcome}; expected {expected:?}");
    }

    /// A refused call that has changed the board.
    pub fn changed(&mut self, what: &dyn Display) {
        self.allowed_wrongly += 1;
        println!("allowed wrongly: {what} was refused, and the board's revision is another");
    }
}

//! Changes of the configuration.

use std::fmt::Write as _;
use stopover_ctl::{ChangeLine, ChangeNeeds, ChangeReport};

/// What has changed, or would change, a line for each.
pub fn changes(report: &ChangeReport) -> String {
    let mut s = String::new();
    for ChangeLine { what, needs, refused } in &report.changes {
        let needs = match (refused, needs) {
            (Some(why), _) => format!(" (refused: {why})"),
            (None, ChangeNeeds::Nothing) => String::new(),
            (None, ChangeNeeds::Reopen) => " (the port is closed and opened again)".to_owned(),
            (None, ChangeNeeds::Restart) => " (needs a restart)".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(s, "{what}{needs}");
    }
    for note in &report.notes {
        let _ = writeln!(s, "note: {note}");
    }
    let refused = report.changes.iter().filter(|change| change.refused.is_some()).count();
    let _ = match (report.made, report.changes.len(), refused) {
        (_, 0, _) => writeln!(s, "nothing changes"),
        (true, 1, _) => writeln!(s, "1 change made"),
        (true, n, _) => writeln!(s, "{n} changes made"),
        (false, _, 0) => writeln!(s, "dry run: nothing was changed"),
        (false, _, _) => {
            writeln!(s, "dry run: nothing would be changed, because {refused} of these cannot be made")
        }
    };
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str, needs: ChangeNeeds, refused: Option<&str>) -> ChangeLine {
        ChangeLine { what: what.into(), needs, refused: refused.map(Into::into) }
    }

    #[test]
    fn each_change_has_a_line() {
        let report = |made, changes, notes: &[&str]| ChangeReport {
            made,
            changes,
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        };
        assert_eq!(changes(&report(true, vec![], &[])), "nothing changes\n");
        let added = line("port vm2 is added: vif", ChangeNeeds::Nothing, None);
        assert_eq!(
            changes(&report(true, vec![added.clone()], &["port vm9 is left out"])),
            "port vm2 is added: vif\nnote: port vm9 is left out\n1 change made\n"
        );
        let reopened = line("port vm1: `rxq` changes from 1 to 2", ChangeNeeds::Reopen, None);
        assert_eq!(
            changes(&report(false, vec![added.clone(), reopened], &[])),
            "port vm2 is added: vif\n\
             port vm1: `rxq` changes from 1 to 2 (the port is closed and opened again)\n\
             dry run: nothing was changed\n"
        );
        let refused = line("`burst` changes from 32 to 64", ChangeNeeds::Restart, Some("it needs a restart"));
        assert_eq!(
            changes(&report(false, vec![added, refused], &[])),
            "port vm2 is added: vif\n\
             `burst` changes from 32 to 64 (refused: it needs a restart)\n\
             dry run: nothing would be changed, because 1 of these cannot be made\n"
        );
    }
}

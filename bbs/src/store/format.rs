//! The formats of the embedded store. Enters: a transaction on a store of any format. Leaves: the same, with the store in
//! this program's format; or an error, if the format is newer.
//!
//! Upgrades are the only place where the store knows which tables the board has.
//!
//! A new format is necessary if an older program would misread, or fail to maintain, what a newer one writes. A field that
//! is added to a record needs none. Each format has one step from the format before; a store is upgraded step by step,
//! in one transaction, so a crash leaves the format of before.
//!
//! | Format | New |
//! |---|---|
//! | 1 | |
//! | 2 | `runs`: an older program would not add its own |

use super::{
    StoreError,
    meta::{Def, META, failed, put_number, read_number},
};
use redb::WriteTransaction;

type Step = fn(&WriteTransaction) -> Result<(), StoreError>;

/// The step from format `1 + index` to the next.
const STEPS: &[Step] = &[add_runs];
/// The format that this program writes.
const FORMAT: u64 = 1 + STEPS.len() as u64;

/// Makes the store one of this program's format. A store without a format is new.
pub(super) fn upgrade(tx: &WriteTransaction) -> Result<(), StoreError> {
    let doing = "reading its format";
    // Closed before the steps, which may open it.
    let found = read_number(&tx.open_table(META).map_err(failed(doing))?, "format")?;
    let from = found.unwrap_or(1);
    if !(1..=FORMAT).contains(&from) {
        let why = format!(
            "found format {from}; expected {FORMAT} or older; hint: use the program that wrote it, or a newer one; \
             to go back to this one, restore a backup from before the upgrade"
        );
        return Err(StoreError::new(doing, why));
    }
    for step in STEPS.iter().skip((from - 1) as usize) {
        step(tx)?;
    }
    if found.is_some() && from != FORMAT {
        log::info!(
            "the store was upgraded from format {from} to {FORMAT}; older programs do not open it any more"
        );
    }
    put_number(&mut tx.open_table(META).map_err(failed(doing))?, "format", FORMAT)
}

fn add_runs(tx: &WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(Def::new("runs")).map(|_| ()).map_err(failed("adding the table of runs"))
}

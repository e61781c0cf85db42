//! Loading a CSV file into the board, all or nothing, with progress on standard error.

use crate::output::Failure;
use indicatif::ProgressBar;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use stopover_bbs::client::{BoardAddress, Error, LoadStep, Operator, Row};
use stopover_config::{ConfigError, bulk};

/// Loads the file; the revision with all of it.
pub async fn file<T>(address: &BoardAddress, path: &Path) -> Result<u64, Failure>
where
    T: bulk::Row + Into<Row> + Send + 'static,
{
    let mut rows = bulk::Rows::<_, T>::open(path)?;
    let mut board = Operator::connect(address).await?;
    // The file's own error is kept here, because the client only hands back its text among its own words.
    let bad_row: Arc<Mutex<Option<ConfigError>>> = Arc::default();
    let keep = Arc::clone(&bad_row);
    let numbered = std::iter::from_fn(move || {
        let row = rows.next()?;
        let row = row.inspect_err(|e| *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.clone()));
        Some(row.map(|r| (rows.line(), r.into())))
    });
    let mut progress = Progress::new();
    let result = board.load(numbered, |step| progress.step(step)).await;
    progress.end();
    if let Some(e) = bad_row.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(Failure::Message(format!("{e} (nothing was changed)")));
    }
    result.map_err(|e| match e {
        Error::Rows { errors, total } => {
            let lines = errors.iter().map(|e| format!("\n  {}:{}: {}", path.display(), e.number, e.why));
            let more = total.saturating_sub(errors.len() as u64);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            Failure::Message(format!(
                "{total} rows refused by the board, nothing was changed:{}{more}",
                lines.collect::<String>()
            ))
        }
        e => e.into(),
    })
}

/// The progress of a load: redrawn in place on a terminal, otherwise one line for each stage.
struct Progress {
    line: ProgressBar,
    stage: &'static str,
}

impl Progress {
    fn new() -> Self {
        Self { line: ProgressBar::new_spinner(), stage: "" }
    }

    fn step(&mut self, step: LoadStep) {
        let (stage, text) = words(step);
        if self.line.is_hidden() && stage != self.stage {
            eprintln!("{text}");
        }
        self.line.set_message(text);
        self.stage = stage;
    }

    fn end(&self) {
        self.line.finish_and_clear();
    }
}

fn words(step: LoadStep) -> (&'static str, String) {
    match step {
        LoadStep::Received(n) => ("received", format!("reading: {n} rows at the board")),
        LoadStep::Checking(n) => ("checking", format!("checking {n} rows")),
        LoadStep::Written(n) => ("writing", format!("writing: {n} records")),
    }
}

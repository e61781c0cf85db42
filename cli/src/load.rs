//! Loading a CSV file into the board, all or nothing, with progress on standard error.

use crate::output::Failure;
use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use stopover_bbs::client::{Error, LoadStep, Operator, Row};
use stopover_config::{ConfigError, Endpoint, bulk};

/// Loads the file; the revision with all of it.
pub async fn file<T>(endpoint: &Endpoint, path: &Path) -> Result<u64, Failure>
where
    T: bulk::Row + Into<Row> + Send + 'static,
{
    let mut rows = bulk::Rows::<_, T>::open(path)?;
    let mut board = Operator::connect(endpoint).await?;
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

/// Between two updates of the progress line.
const REDRAW: Duration = Duration::from_millis(100);

/// The progress line: redrawn in place on a terminal, otherwise one line for each stage.
struct Progress {
    terminal: bool,
    drawn: Option<Instant>,
    stage: &'static str,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), drawn: None, stage: "" }
    }

    fn step(&mut self, step: LoadStep) {
        let (stage, text) = words(step);
        let new_stage = stage != self.stage;
        let due = self.drawn.is_none_or(|at| at.elapsed() >= REDRAW);
        let mut stderr = std::io::stderr().lock();
        // Nothing is lost when the line cannot be drawn.
        if self.terminal && (new_stage || due) {
            let _ = write!(stderr, "\r\x1b[K{text}");
            let _ = stderr.flush();
            self.drawn = Some(Instant::now());
        } else if !self.terminal && new_stage {
            let _ = writeln!(stderr, "{text}");
        }
        self.stage = stage;
    }

    fn end(&self) {
        if self.terminal && self.drawn.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn words(step: LoadStep) -> (&'static str, String) {
    match step {
        LoadStep::Received(n) => ("received", format!("reading: {n} rows at the board")),
        LoadStep::Checking(n) => ("checking", format!("checking {n} rows")),
        LoadStep::Written(n) => ("writing", format!("writing: {n} records")),
    }
}

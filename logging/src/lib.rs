//! The log of the board and of the appliance: lines of text or of JSON on stderr. `RUST_LOG` decides how much. One thread
//! writes them ([`queue`]), so that nobody who logs waits for stderr.

mod queue;

use env_logger::{Builder, Env, Target, WriteStyle, fmt::Formatter};
use log::{
    LevelFilter, Log, Record,
    kv::{Error, Key, Value, VisitSource, VisitValue},
};
use queue::{Queue, Sink};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    fmt::Display,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

/// How long the end of the program, or of a thread that panics, waits for stderr to take the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The queue of this process.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object in each line.
    Json,
}

/// The options of a program about its log.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// How the lines of the log on stderr are written.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: Format,
}

/// Lines of the log that were dropped because stderr did not take them, since the start.
#[must_use]
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// The log of a process. Its end writes the lines that wait.
#[derive(Debug)]
#[must_use = "the last lines are written when it is dropped"]
pub struct Running(());

impl Drop for Running {
    fn drop(&mut self) {
        flush();
    }
}

fn flush() {
    if let Some(queue) = QUEUE.get() {
        // After that long, whoever reads stderr gets the lines that fit.
        let _ = queue.flush(FLUSH);
    }
}

/// Starts the log. Once per process, before anything is logged. Without its thread, callers write and wait.
pub fn init(format: Format) -> Running {
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    match Queue::start(io::stderr(), |_, lost| {
        log::warn!("{lost} lines of the log were dropped here: what reads stderr did not take them");
    }) {
        Ok(queue) => {
            builder.target(Target::Pipe(Box::new(Sink(Arc::clone(QUEUE.get_or_init(|| queue))))));
            let is_chosen = env::var_os("RUST_LOG_STYLE").is_some() || env::var_os("NO_COLOR").is_some();
            if !is_chosen && io::stderr().is_terminal() {
                builder.write_style(WriteStyle::Always);
            }
        }
        Err(e) => eprintln!("cannot start the thread of the log: {e}; hint: raise the limit of threads"),
    }
    match format {
        Format::Text => builder.format_timestamp_millis(),
        Format::Json => builder.format(json),
    };
    panic::set_hook(Box::new(move |panic| log_panic(format, panic)));
    builder.init();
    Running(())
}

/// Logs a panic, whatever `RUST_LOG` is. It waits a little, since the process may be about to end.
fn log_panic(format: Format, panic: &PanicHookInfo<'_>) {
    match (format, QUEUE.get()) {
        (Format::Json, _) => log::error!(target: "panic", "{panic}"),
        (Format::Text, None) => eprintln!("{}", panic_text(panic)),
        (Format::Text, Some(queue)) => queue.push((panic_text(panic) + "\n").as_bytes()),
    }
    flush();
}

fn panic_text(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let mut text = format!("thread '{}' {panic}", thread.name().unwrap_or("without a name"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text = format!("{text}\n{backtrace}");
    }
    text
}

/// Logs why `program` ends, whatever `RUST_LOG` is.
pub fn fatal(format: Format, program: &str, why: &dyn Display) {
    let target = match QUEUE.get() {
        Some(queue) => Target::Pipe(Box::new(Sink(Arc::clone(queue)))),
        None => Target::Stderr,
    };
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Error).target(target);
    match format {
        Format::Text => builder.format(|out, record| writeln!(out, "{}: {}", record.target(), record.args())),
        Format::Json => builder.format(json),
    };
    let mut record = Record::builder();
    record.level(log::Level::Error).target(program);
    builder.build().log(&record.args(format_args!("{why:#}")).build());
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    writeln!(out, "{}", line(&time, record)?)
}

/// One line of the log.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: String,
    target: &'a str,
    message: String,
    /// The record's key-values.
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Json>,
}

fn line(time: &dyn Display, record: &Record<'_>) -> io::Result<String> {
    let mut fields = Fields(Map::new());
    record.key_values().visit(&mut fields).map_err(io::Error::other)?;
    let line = Line {
        time: time.to_string(),
        level: record.level().as_str().to_ascii_lowercase(),
        target: record.target(),
        message: record.args().to_string(),
        fields: fields.0,
    };
    Ok(serde_json::to_string(&line)?)
}

struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut json = Field(Json::Null);
        value.visit(&mut json)?;
        self.0.insert(key.to_string(), json.0);
        Ok(())
    }
}

/// Numbers and booleans keep their type; all else is text.
struct Field(Json);

impl<'v> VisitValue<'v> for Field {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use log::Level;
    use serde_json::json;

    fn parsed(record: &Record<'_>) -> Json {
        let line = line(&"2026-11-26T12:00:00.000Z", record).unwrap();
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_record_is_one_object_with_its_key_values() {
        let address = std::net::Ipv4Addr::LOCALHOST;
        let fields: &[(&str, Value<'_>)] = &[
            ("vni", 100.into()),
            ("name", "vm \"1\"".into()),
            ("up", true.into()),
            ("rate", f64::NAN.into()),
            ("ip", Value::from_display(&address)),
        ];
        let mut record = Record::builder();
        record.level(Level::Warn).target("stopover::control").key_values(&fields);
        assert_eq!(
            parsed(&record.args(format_args!("port {}: link up", "vm1")).build()),
            json!({
                "time": "2026-11-26T12:00:00.000Z",
                "level": "warn",
                "target": "stopover::control",
                "message": "port vm1: link up",
                "fields": {"vni": 100, "name": "vm \"1\"", "up": true, "rate": null, "ip": "127.0.0.1"},
            })
        );
    }

    #[test]
    fn control_characters_in_a_message_are_escaped() {
        for message in ["two\nlines", "\r\n", "quote \" and \\", "\u{0}\u{1b}[31m\u{2028}", ""] {
            let line = parsed(&Record::builder().args(format_args!("{message}")).build());
            assert_eq!(line["message"], message);
            assert_eq!(line.get("fields"), None);
        }
    }
}

//! The log of the board and of the appliance: lines of text or of JSON on stderr. `RUST_LOG` decides how much.

use env_logger::{Builder, Env, fmt::Formatter};
use log::{
    LevelFilter, Log, Record,
    kv::{Error, Key, Value, VisitSource, VisitValue},
};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::{
    fmt::Display,
    io::{self, Write},
    panic,
};

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

/// Starts the log. Once per process, before anything is logged.
pub fn init(format: Format) {
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    match format {
        Format::Text => builder.format_timestamp_millis(),
        Format::Json => {
            panic::set_hook(Box::new(|panic| log::error!(target: "panic", "{panic}")));
            builder.format(json)
        }
    };
    builder.init();
}

/// Logs why `program` ends, whatever `RUST_LOG` is.
pub fn fatal(format: Format, program: &str, why: &dyn Display) {
    match format {
        Format::Text => eprintln!("{program}: {why:#}"),
        Format::Json => {
            let logger = Builder::new().filter_level(LevelFilter::Error).format(json).build();
            let mut record = Record::builder();
            record.level(log::Level::Error).target(program);
            logger.log(&record.args(format_args!("{why:#}")).build());
        }
    }
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

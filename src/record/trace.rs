//! Everything that is no access line goes through `tracing`, in the same two forms.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{Handle, Layer};

use super::{AccessLog, escape, stamp};

/// JSON or text: as configured, else text on a terminal.
pub fn is_json(configured: Option<bool>) -> bool {
    configured.unwrap_or_else(|| !std::io::stderr().is_terminal())
}

/// Sends events to the log's writer from now on, so that a stalled stderr stalls no request. A second call in one process
/// changes nothing.
pub fn install(json: bool, level: Level, log: &Arc<AccessLog>) {
    let log = Arc::clone(log);
    let (filter, handle) = Layer::new(LevelFilter::from_level(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Through(Arc::clone(&log)))
        .event_format(Lines { json });
    // Already installed: a test starts several gateways in one process.
    if tracing::subscriber::set_global_default(Registry::default().with(filter).with(lines)).is_ok() {
        let _first = FILTER.set(handle);
    }
}

/// Changes the level of the process.
pub fn set_level(level: Level) {
    if let Some(filter) = FILTER.get() {
        // It fails only where the subscriber is gone, and with it every line.
        let _gone = filter.reload(LevelFilter::from_level(level));
    }
}

static FILTER: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// One event's way to the log.
struct Through(Arc<AccessLog>);

impl std::io::Write for Through {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.event(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Lines {
    json: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N>
    for Lines
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut found = Found::default();
        event.record(&mut found);
        let mut time = Vec::new();
        let level = event.metadata().level();
        if self.json {
            stamp::rfc3339(&mut time);
            let time = String::from_utf8_lossy(&time);
            write!(
                out,
                "{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":\"{}\"",
                escape(&found.message)
            )?;
            for (name, value) in &found.fields {
                write!(out, ",\"{name}\":\"{}\"", escape(value))?;
            }
            writeln!(out, "}}")
        } else {
            stamp::plain(&mut time);
            write!(out, "{} {level} {}", String::from_utf8_lossy(&time), found.message)?;
            for (name, value) in &found.fields {
                write!(out, " {name}={}", escape(value))?;
            }
            writeln!(out)
        }
    }
}

#[derive(Default)]
struct Found {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl field::Visit for Found {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }
}

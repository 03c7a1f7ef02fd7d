//! Everything that is no access line goes through `tracing`, in the same two forms.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{AccessLog, escape, stamp};

/// JSON or text: as configured, else text on a terminal.
pub fn is_json(configured: Option<bool>) -> bool {
    configured.unwrap_or_else(|| !std::io::stderr().is_terminal())
}

/// Sends events to the log's writer from now on, so that a stalled stderr stalls no request. A second call in one process
/// changes nothing.
pub fn install(json: bool, level: Level, log: &Arc<AccessLog>) {
    let log = Arc::clone(log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(move || Through(Arc::clone(&log)))
        .event_format(Lines { json });
    // Already installed: a test starts several gateways in one process.
    let _again = tracing::subscriber::set_global_default(subscriber.finish());
}

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

//! The words of an access line, as text and as JSON.

use std::io::Write;
use std::time::Duration;

use super::{Ending, Record, escape, stamp};
use crate::types::Side;

/// Bytes of a model's name and the like.
const MOST: usize = 128;
/// Bytes of the names of dropped fields; the header of the answer has all of them.
const MOST_DROPPED: usize = 512;

/// `Proxying POST /chat → Ollama /api/chat (stream=false)`
pub(super) fn proxying(record: &Record, json: bool, out: &mut Vec<u8>) {
    head(json, "INFO", out);
    let _written = write!(
        out,
        "Proxying {} {} → Ollama {} (stream={})",
        record.method,
        record.path,
        record.upstream_path.unwrap_or("-"),
        record.stream
    );
    let mut fields = Fields::begin(record, json, out);
    if let Some(model) = &record.model {
        fields.text("model", cut(model.as_str(), MOST));
    }
    if let Some(dropped) = &record.dropped {
        fields.text("dropped", cut(dropped, MOST_DROPPED));
    }
    fields.end();
}

/// `Ollama /api/chat responded: 200 in 2.34s`, or `Refused POST /chat: 401`.
pub(super) fn ended(record: &Record, json: bool, out: &mut Vec<u8>) {
    let took = record.started.elapsed();
    let ending = record.ending.unwrap_or(Ending::ClientGone);
    let bad = matches!(record.fault, Some((Side::Upstream | Side::Gateway, _))) && ending != Ending::Refused;
    head(json, if bad { "WARN" } else { "INFO" }, out);
    let _written = match record.upstream_path {
        Some(path) => {
            // Its own refusals count as answers; nothing at all, or what we had to say in its place, does not.
            let silent = record.bytes_out == 0 && (bad || ending == Ending::ClientGone);
            let verb = if silent { "did not answer" } else { "responded" };
            write!(out, "Ollama {path} {verb}: {} in {}", record.status, Seconds(took))
        }
        None if record.status >= 400 => {
            write!(out, "Refused {} {}: {}", record.method, record.path, record.status)
        }
        None => {
            write!(out, "Answered {} {}: {}", record.method, record.path, record.status)
        }
    };
    let mut fields = Fields::begin(record, json, out);
    // A request that went upstream has it in its first line.
    if record.upstream_path.is_none()
        && let Some(model) = record.model()
    {
        fields.text("model", &model);
    }
    fields.text("ending", ending.name());
    if let Some((side, reason)) = &record.fault {
        fields.text("side", side.name());
        fields.text("reason", reason);
    }
    if record.upstream_path.is_some() {
        fields.number("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        fields.number("bytes_out", record.bytes_out);
    }
    for (name, count) in [("prompt_tokens", record.tokens.prompt), ("output_tokens", record.tokens.output)] {
        if let Some(count) = count {
            fields.number(name, count);
        }
    }
    fields.end();
}

/// The beginning of a text, so that no line grows beyond 2 KB.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn head(json: bool, level: &str, out: &mut Vec<u8>) {
    if json {
        out.extend_from_slice(b"{\"time\":\"");
        stamp::rfc3339(out);
        let _written = write!(out, "\",\"level\":\"{level}\",\"message\":\"");
    } else {
        stamp::plain(out);
        let _written = write!(out, " {level} ");
    }
}

struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        write!(f, "{}.{:02}s", ms / 1000, ms % 1000 / 10)
    }
}

/// The fields behind the message: ` name=value` or `,"name":value`.
struct Fields<'a> {
    json: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Fields<'a> {
    fn begin(record: &Record, json: bool, out: &'a mut Vec<u8>) -> Self {
        if json {
            out.push(b'"');
        }
        let mut fields = Self { json, out };
        fields.name("request_id");
        let quote = if json { "\"" } else { "" };
        let _written = write!(fields.out, "{quote}{}{quote}", record.id);
        if let Some(key) = &record.key {
            fields.text("key", cut(&key.0, MOST));
        }
        if let Some(client) = record.client {
            fields.name("client");
            let _written = write!(fields.out, "{quote}{client}{quote}");
        }
        fields
    }

    fn name(&mut self, name: &str) {
        let _written =
            if self.json { write!(self.out, ",\"{name}\":") } else { write!(self.out, " {name}=") };
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _written = write!(self.out, "{value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let plain = !self.json && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        let _written =
            if plain { write!(self.out, "{value}") } else { write!(self.out, "\"{}\"", escape(value)) };
    }

    fn end(self) {
        self.out.extend_from_slice(if self.json { b"}\n" } else { b"\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuditMode;
    use crate::record::{AccessLog, Desk, Ledger, Secrets};
    use crate::types::RequestId;
    use std::sync::Arc;

    fn record() -> Box<Record> {
        let log = AccessLog::new(false, tracing::Level::ERROR);
        let desk = Arc::new(Desk { log, ledger: Ledger::new(AuditMode::Off), secrets: Secrets::default() });
        let mut record = Record::open(&desk, RequestId(0xab), &http::Method::POST);
        record.path = "/chat";
        record.upstream_path = Some("/api/chat");
        record
    }

    fn line(make: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        make(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_reads_like_the_systems_that_it_replaces() {
        let text = line(|out| proxying(&record(), false, out));
        let expected =
            " INFO Proxying POST /chat → Ollama /api/chat (stream=false) request_id=00000000000000ab\n";
        assert_eq!(text.split_at(19).1, expected);
        let mut done = record();
        done.status = 200;
        done.end(Ending::Done);
        let text = line(|out| ended(&done, false, out));
        assert!(text.contains(" INFO Ollama /api/chat responded: 200 in 0.00s request_id="), "{text}");
        assert!(text.contains(" ending=done"), "{text}");
    }

    #[test]
    fn nobody_is_said_to_have_answered_who_did_not() {
        let mut left = record();
        left.end(Ending::ClientGone);
        let text = line(|out| ended(&left, false, out));
        assert!(text.contains("Ollama /api/chat did not answer: 499 in"), "{text}");
        let mut down = record();
        down.status = 502;
        down.fail(Side::Upstream, "cannot connect");
        down.end(Ending::Error);
        let text = line(|out| ended(&down, false, out));
        assert!(text.contains(" WARN Ollama /api/chat did not answer: 502 in"), "{text}");
    }

    #[test]
    fn json_lines_parse_whatever_they_hold() {
        let mut odd = record();
        odd.dropped = Some("/a\"\\\n\u{1b}[31m\u{2028}".repeat(100));
        odd.upstream_path = None;
        odd.status = 404;
        odd.fail(Side::Client, "a \"reason\"\nwith lines");
        odd.end(Ending::Refused);
        for make in [proxying, ended] {
            let text = line(|out| make(&odd, true, out));
            assert_eq!(text.matches('\n').count(), 1);
            assert!(text.len() < 2_048, "{}", text.len());
            assert!(!text.contains('\u{1b}'));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["request_id"], "00000000000000ab");
        }
    }
}

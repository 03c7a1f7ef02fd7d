//! What a route answers, before it is bytes on a connection.

use super::answer::Answer;
use crate::go::text::push_json;
use bytes::Bytes;
use serde_json::Value;
use std::borrow::Cow;

/// `application/json` as Ollama's router writes it.
pub(crate) const JSON: &str = "application/json; charset=utf-8";
/// As it writes errors that end a stream before it began.
pub(crate) const BARE_JSON: &str = "application/json";
/// A stream of lines.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// The router's own words.
pub(crate) const TEXT: &str = "text/plain";

/// A header field.
pub(crate) type Field = (Cow<'static, str>, Cow<'static, str>);

/// An answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All at once.
    Whole(Whole),
    /// Lines that are there already, a chunk each.
    Lines(Vec<String>),
    /// What the model says, streamed or whole; paced by the script.
    Model(Box<Answer>),
    /// Go's server gives up on the connection.
    Abrupt(Abrupt),
}

/// A reply from below the router: no date, no length, and the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abrupt {
    pub(crate) status_line: &'static str,
    pub(crate) body: &'static str,
}

impl Abrupt {
    pub(crate) const BAD_REQUEST: Self = Self { status_line: "400 Bad Request", body: "400 Bad Request" };

    pub(crate) fn bytes(self) -> Vec<u8> {
        let Self { status_line, body } = self;
        let head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close";
        format!("HTTP/1.1 {status_line}\r\n{head}\r\n\r\n{body}").into_bytes()
    }
}

/// An answer that is there.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) headers: Vec<Field>,
    pub(crate) body: Bytes,
    /// Chunked although it is short.
    pub(crate) chunked: bool,
    /// No `Content-Length` either: 204.
    pub(crate) bodiless: bool,
}

impl Whole {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn text(status: u16, content_type: &'static str, text: &'static str) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self { status, content_type: Some(content_type), body, ..Self::default() }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: Some(JSON), body: body.into(), ..Self::default() }
    }

    /// `{"error": text}`.
    pub(crate) fn error(status: u16, text: &str) -> Self {
        Self::json(status, error_object(text))
    }

    /// The error of a stream that has not begun.
    pub(crate) fn early_error(status: u16, text: &str) -> Self {
        Self { content_type: Some(BARE_JSON), chunked: true, ..Self::error(status, text) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((Cow::Borrowed(name), value.into()));
        self
    }
}

impl From<Whole> for Reply {
    fn from(whole: Whole) -> Self {
        Self::Whole(whole)
    }
}

/// A refusal: status and text. Every route's error type.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) u16, pub(crate) String);

impl Refusal {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self(status, text.into())
    }
}

impl From<Refusal> for Reply {
    fn from(Refusal(status, text): Refusal) -> Self {
        Whole::error(status, &text).into()
    }
}

/// `{"error": text}` without a line end.
pub(crate) fn error_object(text: &str) -> Vec<u8> {
    let mut out = b"{\"error\":".to_vec();
    push_json(&mut out, text);
    out.push(b'}');
    out
}

/// A value as Go writes it: `<`, `>` and `&` escaped. They can only stand in strings, so the whole text may be replaced.
pub(crate) fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

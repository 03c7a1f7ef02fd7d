//! The exchanges that were recorded from a real Ollama, embedded so that they are there in whatever folder a test runs.
//!
//! [`load`] gives a group; `recordings/README.md` says what the groups hold. A [`Recording`] can be sent again, compared
//! with ([`compare`](crate::compare)), or replayed ([`Recording::wire`], [`Recording::pieces`]).

use bytes::Bytes;
use serde_json::Value;

macro_rules! groups {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../recordings/", $name, ".jsonl")))),*]
    };
}

const GROUPS: &[(&str, &str)] = groups![
    "root",
    "paths",
    "host-origin",
    "framing",
    "models",
    "chat",
    "generate",
    "embed",
    "json",
    "openai",
    "anthropic",
    "death",
    "busy",
    "loadfail"
];

/// A chunk of a recorded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Microseconds after the request was sent.
    pub micros: u64,
    /// What it held.
    pub data: String,
}

/// What an answer consisted of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A body with a length, or up to the end of the connection.
    Whole(String),
    /// The chunks of the chunked coding.
    Chunks(Vec<Chunk>),
}

/// The recorded answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status line.
    pub status_line: String,
    /// The status.
    pub status: u16,
    /// The header fields, in order.
    pub headers: Vec<(String, String)>,
    /// Status lines of 1xx answers before this one.
    pub interim: Vec<String>,
    /// The body.
    pub body: Body,
}

/// One exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The group's name.
    pub group: String,
    /// The name within the group.
    pub name: String,
    /// What it shows.
    pub note: String,
    /// Every byte of the request.
    pub request: Bytes,
    /// The request's method.
    pub method: String,
    /// The request's target, as sent.
    pub target: String,
    /// What followed the request's head, in whatever coding.
    pub request_body: Bytes,
    /// `None` where nothing was answered.
    pub response: Option<Response>,
    /// `complete`, `closed by server`, `reset`, `timed out` or `we closed`.
    pub ending: String,
}

/// The names of all groups.
pub fn groups() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().map(|(name, _)| *name)
}

/// The exchanges of a group, none if there is no such group.
pub fn load(group: &str) -> Vec<Recording> {
    let text = GROUPS.iter().find(|(name, _)| *name == group).map_or("", |(_, text)| text);
    text.lines().filter_map(|line| Recording::read(group, line)).collect()
}

/// The exchange of that name.
pub fn find(group: &str, name: &str) -> Option<Recording> {
    load(group).into_iter().find(|recording| recording.name == name)
}

impl Recording {
    fn read(group: &str, line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let request = match value.get("request")? {
            Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
            other => Bytes::from(base64(other.get("base64")?.as_str()?)?),
        };
        let head_end = request.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let request_body = head_end.map_or_else(Bytes::new, |at| request.slice(at..));
        let first_line = request.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let first_line = String::from_utf8_lossy(first_line).into_owned();
        let mut words = first_line.split(' ').map(str::to_owned);
        let response = value.get("response")?;
        Some(Self {
            group: group.to_owned(),
            name: text("name"),
            note: text("note"),
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            request_body,
            request,
            ending: response.get("ending").and_then(Value::as_str).unwrap_or_default().to_owned(),
            response: Response::read(response),
        })
    }

    /// The recorded answer's body, whatever its coding; empty where there is none.
    pub fn response_body(&self) -> Bytes {
        match self.response.as_ref().map(|response| &response.body) {
            Some(Body::Whole(text)) => Bytes::copy_from_slice(text.as_bytes()),
            Some(Body::Chunks(chunks)) => {
                chunks.iter().map(|chunk| chunk.data.as_str()).collect::<String>().into_bytes().into()
            }
            None => Bytes::new(),
        }
    }

    /// The answer's chunks, none if it has a length.
    pub fn chunks(&self) -> &[Chunk] {
        match self.response.as_ref().map(|response| &response.body) {
            Some(Body::Chunks(chunks)) => chunks,
            _ => &[],
        }
    }

    /// The answer as it was on the wire, with its chunk borders (interim answers left out).
    pub fn wire(&self) -> Bytes {
        self.pieces().concat().into()
    }

    /// [`wire`](Self::wire), cut where Ollama flushed: the head comes with the first chunk, the end by itself.
    pub fn pieces(&self) -> Vec<Bytes> {
        let Some(response) = &self.response else { return Vec::new() };
        let mut head = format!("{}\r\n", response.status_line);
        for (name, value) in &response.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        match &response.body {
            Body::Whole(text) => vec![Bytes::from(head + text)],
            Body::Chunks(chunks) => {
                let mut pieces: Vec<_> = chunks
                    .iter()
                    .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.data.len(), chunk.data))
                    .collect();
                match pieces.first_mut() {
                    Some(first) => first.insert_str(0, &head),
                    None => pieces.push(head),
                }
                pieces.push("0\r\n\r\n".to_owned());
                pieces.into_iter().map(Bytes::from).collect()
            }
        }
    }
}

impl Response {
    fn read(value: &Value) -> Option<Self> {
        let status_line = value.get("status")?.as_str()?.to_owned();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |key: &str| value.get(key).and_then(Value::as_array).cloned();
        let chunk = |chunk: &Value| {
            let millis = chunk.get("ms").and_then(Value::as_f64).unwrap_or_default();
            let micros =
                std::time::Duration::try_from_secs_f64(millis / 1_000.0).unwrap_or_default().as_micros();
            Chunk { micros: u64::try_from(micros).unwrap_or_default(), data: text(chunk.get("data")) }
        };
        Some(Self {
            status: status_line.split(' ').nth(1)?.parse().ok()?,
            headers: list("headers")?.iter().map(|pair| (text(pair.get(0)), text(pair.get(1)))).collect(),
            interim: list("interim").unwrap_or_default().iter().map(|line| text(Some(line))).collect(),
            body: match list("chunks") {
                Some(chunks) => Body::Chunks(chunks.iter().map(chunk).collect()),
                None => Body::Whole(text(value.get("body"))),
            },
            status_line,
        })
    }
}

/// Standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let all: usize = groups().map(|group| load(group).len()).sum();
        assert_eq!(all, 469);
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
    }

    #[test]
    fn wire_has_the_borders_of_the_chunks() {
        let recording = find("chat", "stream-default").expect("recorded");
        let wire = String::from_utf8(recording.wire().to_vec()).expect("text");
        assert!(wire.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"));
        assert!(wire.ends_with("\"eval_duration\":120059000}\n\r\n0\r\n\r\n"));
        assert_eq!(recording.pieces().len(), recording.chunks().len() + 1);
    }
}

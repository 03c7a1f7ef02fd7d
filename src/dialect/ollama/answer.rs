//! What an answer of Ollama says about itself: its lines, its end, its errors, and the lines that we may add.

use serde::Deserialize;

use super::glance::glance;
use crate::dialect::Shape;
use crate::record::{Tokens, stamp};
use crate::types::ModelName;

/// What one whole line of a stream is.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A part of the answer.
    Part,
    /// The final object; nothing may follow.
    Done(Tokens),
    /// The upstream's own error line: its words stay here.
    Error(String),
    /// No JSON object.
    Broken,
}

/// Parses a line (with or without its newline) or a whole answer for its end and its error. Only the top level counts: a tool
/// call's arguments may hold both words.
pub fn judge(object: &[u8]) -> Line {
    if std::str::from_utf8(object).is_ok() { judge_text(object) } else { Line::Broken }
}

/// [`judge`], for bytes that are known to be UTF-8: many lines at once are cheaper to check than each.
pub fn judge_text(object: &[u8]) -> Line {
    let Some(found) = glance(object) else { return Line::Broken };
    match found.error {
        Some(error) if !matches!(error, b"null" | b"\"\"") => Line::Error(
            serde_json::from_slice(error).unwrap_or_else(|_| String::from_utf8_lossy(error).into_owned()),
        ),
        _ if found.done => {
            Line::Done(Tokens { prompt: found.prompt, output: found.output, worked: found.worked })
        }
        _ => Line::Part,
    }
}

/// The line that ends a broken stream: exactly this key, or the Go client prints raw JSON.
pub fn error_line(text: &str) -> Vec<u8> {
    let mut line = error_object(text);
    line.push(b'\n');
    line
}

/// `{"error":"text"}`
pub fn error_object(text: &str) -> Vec<u8> {
    let mut out = b"{\"error\":".to_vec();
    // A string into a vector cannot fail.
    let _written = serde_json::to_writer(&mut out, text);
    out.push(b'}');
    out
}

/// An empty part: keeps tunnels open and disturbs no client (a blank line breaks some).
pub fn heartbeat(shape: Shape, model: &ModelName) -> Vec<u8> {
    let mut out = b"{\"model\":".to_vec();
    let _written = serde_json::to_writer(&mut out, model.as_str());
    out.extend_from_slice(b",\"created_at\":\"");
    stamp::rfc3339(&mut out);
    out.extend_from_slice(match shape {
        Shape::Chat => {
            b"\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n".as_slice()
        }
        _ => b"\",\"response\":\"\",\"done\":false}\n",
    });
    out
}

/// A line of its own kind for a caller who asked for phases: no other line has the key `portcullis`. `position`: 0 is none.
pub fn phase_line(phase: &'static str, position: u32) -> Vec<u8> {
    let place = if position > 0 { format!(",\"position\":{position}") } else { String::new() };
    format!("{{\"portcullis\":{{\"phase\":\"{phase}\"{place}}}}}\n").into_bytes()
}

/// A refusal of the upstream in our words.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// For the caller.
    pub status: u16,
    /// For the caller.
    pub public: String,
    /// The upstream's words, scrubbed, for the log.
    pub detail: String,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

#[derive(Deserialize)]
struct Nested {
    error: NestedError,
}

#[derive(Deserialize)]
struct NestedError {
    message: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What a status and a body other than 200 mean. Known cases keep their meaning in our words (recorded texts:
/// `crates/mock-ollama/recordings`); all other texts stay here.
pub fn fault(status: u16, body: &[u8], model: &ModelName) -> Fault {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        // Not Ollama's words at all: a proxy in between, or a route that this version does not have.
        return Fault {
            status: if status == 503 { 503 } else { 502 },
            public: "the model server gave no usable answer".into(),
            detail: format!("status {status} without an Ollama error body"),
        };
    };
    // llama-server's errors come as JSON inside the string.
    let (text, kind) = match serde_json::from_str::<Nested>(&error) {
        Ok(nested) => (nested.error.message, nested.error.kind),
        Err(_) => (error, String::new()),
    };
    let detail = format!("status {status}: {}", crate::record::scrub(&text));
    let (status, public) = known(status, &text, &kind, model).unwrap_or_else(|| other(status));
    Fault { status, public, detail }
}

fn known(status: u16, text: &str, kind: &str, model: &ModelName) -> Option<(u16, String)> {
    const FEATURES: [&str; 8] =
        ["tools", "thinking", "insert", "chat", "generate", "embeddings", "vision", "completion"];
    if let Some((_, feature)) = text.rsplit_once(" does not support ")
        && let Some(feature) = FEATURES.iter().find(|known| **known == feature.trim_end_matches('.'))
    {
        return Some((400, format!("\"{model}\" does not support {feature}")));
    }
    if text.starts_with("model ") && text.contains(" not found") {
        return Some((404, format!("model '{model}' not found")));
    }
    if text.starts_with("Multimodal data provided, but model does not support") {
        return Some((400, format!("\"{model}\" does not support images")));
    }
    if text.starts_with("This server does not support embeddings") {
        return Some((400, format!("\"{model}\" does not support embeddings")));
    }
    if text.contains("JSON schema conversion failed") || text.starts_with("invalid format:") {
        return Some((400, "the JSON schema in format cannot be used".into()));
    }
    if kind == "exceed_context_size_error"
        || text.contains("exceeds the available context size")
        || text.contains("input length exceeds the context length")
    {
        return Some((400, "the input is longer than the model's context".into()));
    }
    if text.starts_with("server busy") {
        return Some((503, "the model server is busy; try again".into()));
    }
    if text.starts_with("raw mode does not support") {
        return Some((400, "raw does not go with system or context".into()));
    }
    if text.starts_with("illegal base64 data") {
        return Some((400, "an image is not valid base64".into()));
    }
    if status == 403 && text.starts_with("ollama cloud is disabled") {
        return Some((403, "this model runs in the cloud, which is switched off here".into()));
    }
    None
}

fn other(status: u16) -> (u16, String) {
    match status {
        // Its own words may name hosts and repeat prompts: the log has them, scrubbed.
        400 | 404 | 413 | 422 => (status, "the model server refused the request".into()),
        429 | 503 => (503, "the model server is busy; try again".into()),
        _ => (502, "the model server failed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelName {
        ModelName::parse("smollm2:135m").unwrap()
    }

    #[test]
    fn only_the_top_level_counts() {
        assert_eq!(judge(br#"{"response":"say \"done\":true","done":false}"#), Line::Part);
        assert_eq!(
            judge(br#"{"message":{"tool_calls":[{"function":{"arguments":{"done":true}}}]},"done":false}"#),
            Line::Part
        );
        assert_eq!(
            judge(br#"{"message":{"tool_calls":[{"function":{"arguments":{"error":"x"}}}]},"done":false}"#),
            Line::Part
        );
        let tokens = Tokens { prompt: Some(3), output: Some(0), worked: None };
        assert_eq!(judge(br#"{"done":true,"prompt_eval_count":3,"eval_count":0}"#), Line::Done(tokens));
        assert_eq!(judge(b"{\"error\":\"x\"}\r"), Line::Error("x".into()));
        assert_eq!(judge(b"{\"model\":"), Line::Broken);
        assert_eq!(judge(b"<html>"), Line::Broken);
        assert_eq!(judge(b"{\"response\":\"h\xff\xc3i\"}"), Line::Broken);
    }

    #[test]
    fn a_file_size_is_no_context() {
        let ask = |status, text: &str| fault(status, &error_object(text), &model());
        let file =
            ask(500, "tensor \"token_embd.weight\" offset+size (31868992) exceeds file size (30000000)");
        assert_eq!((file.status, file.public.as_str()), (502, "the model server failed"));
        let context = ask(
            400,
            r#"{"error":{"code":400,"message":"request (3010 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error"}}"#,
        );
        assert_eq!(
            (context.status, context.public.as_str()),
            (400, "the input is longer than the model's context")
        );
        let tools = ask(400, "registry.ollama.ai/library/smollm2:135m does not support tools");
        assert_eq!(tools.public, "\"smollm2:135m\" does not support tools");
        assert_eq!(ask(404, "model \"x\" not found, try pulling it first").status, 404);
        assert_eq!(ask(401, "unauthorized").status, 502);
        let unknown = ask(400, "something new about host box.lan");
        assert_eq!((unknown.status, unknown.public.as_str()), (400, "the model server refused the request"));
        assert_eq!(fault(404, b"404 page not found", &model()).status, 502);
    }

    #[test]
    fn phases_are_lines_of_their_own_kind() {
        assert_eq!(phase_line("queue", 3), b"{\"portcullis\":{\"phase\":\"queue\",\"position\":3}}\n");
        assert_eq!(phase_line("prompt", 0), b"{\"portcullis\":{\"phase\":\"prompt\"}}\n");
    }

    #[test]
    fn heartbeats_are_empty_parts() {
        for shape in [Shape::Chat, Shape::Generate] {
            let line = heartbeat(shape, &model());
            assert_eq!(judge(line.strip_suffix(b"\n").unwrap()), Line::Part);
        }
    }
}

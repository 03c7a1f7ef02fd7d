//! What an answer of Ollama says about itself: its lines, its end, its errors, and the lines that we may add.

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

//! The replies of the inference routes, as JSON text.
//!
//! Takes what the worker says and promises Ollama's keys in Ollama's order; figures that are zero are left out,
//! and `<`, `>`, `&` are escaped as Go does.

use serde::Serialize;

use crate::clock;
use crate::infer::job::{Logprob, Summary};

/// Which route's lines these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `message`.
    Chat,
    /// `response`.
    Generate,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Chat { message: Message<'a> },
    Generate { response: &'a str },
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(flatten)]
    said: Said<'a>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    logprobs: &'a [Logprob],
    #[serde(flatten)]
    summary: Option<&'a Summary>,
}

/// One line of a stream.
pub fn piece(dialect: Dialect, model: &str, text: &str, logprobs: &[Logprob]) -> String {
    line(dialect, model, text, logprobs, None)
}

/// The last line of a stream (`text` is empty), or a whole answer.
pub fn last(dialect: Dialect, model: &str, text: &str, logprobs: &[Logprob], summary: &Summary) -> String {
    line(dialect, model, text, logprobs, Some(summary))
}

fn line(
    dialect: Dialect,
    model: &str,
    text: &str,
    logprobs: &[Logprob],
    summary: Option<&Summary>,
) -> String {
    let said = match dialect {
        Dialect::Chat => Said::Chat { message: Message { role: "assistant", content: text } },
        Dialect::Generate => Said::Generate { response: text },
    };
    to_text(&Line {
        model,
        created_at: clock::now(),
        said,
        done: summary.is_some(),
        done_reason: summary.map(|summary| summary.reason),
        logprobs,
        summary,
    })
}

/// The answer of `/api/embed`.
pub fn embed(model: &str, embeddings: &[Vec<f32>], summary: &Summary) -> String {
    #[derive(Serialize)]
    struct Embedded<'a> {
        model: &'a str,
        embeddings: &'a [Vec<f32>],
        #[serde(flatten)]
        summary: &'a Summary,
    }
    to_text(&Embedded { model, embeddings, summary })
}

/// The answer of `/api/embeddings`: the same numbers, written as Go writes doubles.
pub fn embedding(embedding: &[f32]) -> String {
    #[derive(Serialize)]
    struct Embedded {
        embedding: Vec<f64>,
    }
    to_text(&Embedded { embedding: embedding.iter().map(|x| f64::from(*x)).collect() })
}

/// An error in Ollama's native shape.
pub fn error(text: &str) -> String {
    #[derive(Serialize)]
    struct Error<'a> {
        error: &'a str,
    }
    to_text(&Error { error: text })
}

/// JSON text with what Go escapes escaped.
pub fn to_text(value: &impl Serialize) -> String {
    // Only maps with keys that are no text cannot be written; none of ours is one.
    let plain =
        serde_json::to_string(value).unwrap_or_else(|_| r#"{"error":"unwritable answer"}"#.to_owned());
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    // Outside texts JSON has none of these characters, so they may be replaced wherever they are.
    let mut out = String::with_capacity(plain.len() + 32);
    for c in plain.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(line: &str) -> Vec<String> {
        let text = line.replace(['{', '}'], ",");
        text.split(',')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(key, _)| key.trim_matches('"').into())
            .collect()
    }

    #[test]
    fn lines_have_the_keys_of_ollama_in_its_order() {
        let line = piece(Dialect::Chat, "m", "a<b", &[]);
        assert_eq!(keys(&line), ["model", "created_at", "message", "role", "content", "done"]);
        assert!(line.contains(r#""content":"a\u003cb""#) && line.ends_with(r#""done":false}"#), "{line}");
        let summary = Summary { reason: "stop", total_duration: 5, eval_count: 2, ..Summary::default() };
        let line = last(Dialect::Generate, "m", "", &[], &summary);
        let expected =
            ["model", "created_at", "response", "done", "done_reason", "total_duration", "eval_count"];
        assert_eq!(keys(&line), expected);
    }

    #[test]
    fn embeddings_are_numbers_of_the_routes_precision() {
        let summary = Summary { prompt_eval_count: 3, ..Summary::default() };
        let text = embed("m", &[vec![0.1, -2.0]], &summary);
        assert_eq!(text, r#"{"model":"m","embeddings":[[0.1,-2.0]],"prompt_eval_count":3}"#);
        assert_eq!(embedding(&[0.1]), r#"{"embedding":[0.10000000149011612]}"#);
        assert_eq!(error("a & b"), r#"{"error":"a \u0026 b"}"#);
    }
}

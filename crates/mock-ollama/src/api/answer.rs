//! What a model says, line by line, in the shape of `/api/chat` or `/api/generate`.
//!
//! An [`Answer`] is settled before its first byte: how many tokens, which of them are thoughts, how it ends. Writing a
//! line then only appends to a buffer, so that the server is cheap as the upstream of a bench.

use crate::go::text::{push_json, rfc3339, since_epoch};
use std::fmt::Write as _;
use std::sync::Arc;

/// The two shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Generate,
}

/// Where the tokens' text comes from.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    /// The server's own, over and over.
    Own,
    /// The same one each time.
    Same(Arc<str>),
    /// The prompt's words, over and over.
    Echo(Vec<String>),
    /// These, after the thoughts.
    Said(Vec<String>),
}

const OWN: [&str; 12] =
    ["The", " river", " runs", " slowly", " to", " the", " sea", ",", " as", " it", " always", " has"];

/// An answer that a model is about to give.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) dialect: Dialect,
    pub(crate) stream: bool,
    /// The model as the caller wrote it.
    pub(crate) model: String,
    /// Model and host of the cloud behind it.
    pub(crate) remote: Option<(String, String)>,
    /// How many tokens; `usize::MAX` never ends.
    pub(crate) tokens: usize,
    /// So many of the first are thoughts.
    pub(crate) thoughts: usize,
    pub(crate) words: Words,
    /// One tool call as JSON, in place of all tokens.
    pub(crate) tool_call: Option<String>,
    /// How many alternatives each token carries, if any log probabilities at all.
    pub(crate) logprobs: Option<usize>,
    pub(crate) done_reason: &'static str,
    /// `/api/generate`'s token list, absent with `raw`.
    pub(crate) context: bool,
    pub(crate) prompt_tokens: usize,
    /// The model was loaded for this request.
    pub(crate) cold: bool,
}

impl Answer {
    /// Lines of the stream before the last object.
    pub(crate) fn lines(&self) -> usize {
        if self.tool_call.is_some() { 1 } else { self.tokens }
    }

    fn word(&self, at: usize) -> &str {
        match &self.words {
            Words::Own => OWN.get(at % OWN.len()).copied().unwrap_or_default(),
            Words::Same(word) => word,
            Words::Echo(words) => words.get(at % words.len().max(1)).map_or("", String::as_str),
            Words::Said(_) if at < self.thoughts => OWN.get(at % OWN.len()).copied().unwrap_or_default(),
            Words::Said(words) => words.get(at - self.thoughts).map_or("", String::as_str),
        }
    }

    fn open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"model\":");
        push_json(out, &self.model);
        if let Some((model, host)) = &self.remote {
            out.extend_from_slice(b",\"remote_model\":");
            push_json(out, model);
            out.extend_from_slice(b",\"remote_host\":");
            push_json(out, host);
        }
        out.extend_from_slice(b",\"created_at\":\"");
        out.extend_from_slice(rfc3339(since_epoch()).as_bytes());
        out.push(b'"');
    }

    /// The member that holds what was said.
    fn said(&self, out: &mut Vec<u8>, text: &str, thinking: &str, tool_call: Option<&str>) {
        out.extend_from_slice(match self.dialect {
            Dialect::Chat => b",\"message\":{\"role\":\"assistant\",\"content\":",
            Dialect::Generate => b",\"response\":",
        });
        push_json(out, text);
        if !thinking.is_empty() {
            out.extend_from_slice(b",\"thinking\":");
            push_json(out, thinking);
        }
        if let Some(call) = tool_call {
            out.extend_from_slice(b",\"tool_calls\":[");
            out.extend_from_slice(call.as_bytes());
            out.push(b']');
        }
        if self.dialect == Dialect::Chat {
            out.push(b'}');
        }
    }

    /// The line of a token, its newline included.
    pub(crate) fn push_line(&self, out: &mut Vec<u8>, at: usize) {
        let word = self.word(at);
        let (text, thinking) = if at < self.thoughts { ("", word) } else { (word, "") };
        self.open(out);
        match self.tool_call.as_deref() {
            Some(call) => self.said(out, "", "", Some(call)),
            None => self.said(out, text, thinking, None),
        }
        out.extend_from_slice(b",\"done\":false");
        self.push_logprobs(out, at..=at);
        out.extend_from_slice(b"}\n");
    }

    /// The last object of a stream of so many tokens, its newline included.
    pub(crate) fn push_last(&self, out: &mut Vec<u8>, tokens: usize) {
        self.open(out);
        self.said(out, "", "", None);
        self.push_end(out, tokens, false);
        out.extend_from_slice(b"}\n");
    }

    /// The whole answer as one object.
    pub(crate) fn whole(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.tokens.min(4_096) * 8);
        self.open(&mut out);
        let text = |range: std::ops::Range<usize>| range.map(|at| self.word(at)).collect::<String>();
        match self.tool_call.as_deref() {
            Some(call) => self.said(&mut out, "", "", Some(call)),
            None => self.said(&mut out, &text(self.thoughts..self.tokens), &text(0..self.thoughts), None),
        }
        self.push_end(&mut out, self.tokens, true);
        out.push(b'}');
        out
    }

    fn push_end(&self, out: &mut Vec<u8>, tokens: usize, whole: bool) {
        let mut text = String::with_capacity(256);
        write!(text, ",\"done\":true,\"done_reason\":\"{}\"", self.done_reason).ok();
        if whole && self.dialect == Dialect::Chat {
            flush(&mut text, out);
            self.push_logprobs(out, 0..=tokens.saturating_sub(1));
        }
        if self.context && self.dialect == Dialect::Generate {
            text.push_str(",\"context\":[1");
            (0..(self.prompt_tokens + tokens).min(4_096)).for_each(|at| {
                write!(text, ",{}", 198 + at % 700).ok();
            });
            text.push(']');
        }
        // Times of a machine that says a hundred tokens in a second and reads a thousand.
        let load: u64 = if self.cold { 812_345_678 } else { 1_072_580 };
        let count = |tokens: usize, nanos: u64| u64::try_from(tokens).unwrap_or(0).saturating_mul(nanos);
        let (read, said) = (count(self.prompt_tokens, 1_000_000), count(tokens, 10_000_000));
        let total = load.saturating_add(read).saturating_add(said).saturating_add(500_000);
        let numbers = [
            ("total_duration", total),
            ("load_duration", load),
            ("prompt_eval_count", count(self.prompt_tokens, 1)),
            ("prompt_eval_duration", read),
            ("eval_count", count(tokens, 1)),
            ("eval_duration", said),
        ];
        // Go leaves out what is zero.
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            write!(text, ",\"{name}\":{number}").ok();
        }
        flush(&mut text, out);
        if whole && self.dialect == Dialect::Generate {
            self.push_logprobs(out, 0..=tokens.saturating_sub(1));
        }
    }

    fn push_logprobs(&self, out: &mut Vec<u8>, tokens: std::ops::RangeInclusive<usize>) {
        let Some(alternatives) = self.logprobs else { return };
        if self.tool_call.is_some() {
            return;
        }
        let one = |out: &mut Vec<u8>, word: &str| {
            out.extend_from_slice(b"{\"token\":");
            push_json(out, word);
            out.extend_from_slice(format!(",\"logprob\":-0.25,\"bytes\":{:?}", word.as_bytes()).as_bytes());
        };
        out.extend_from_slice(b",\"logprobs\":[");
        for at in tokens.clone() {
            if at > *tokens.start() {
                out.push(b',');
            }
            one(out, self.word(at));
            if alternatives > 0 {
                out.extend_from_slice(b",\"top_logprobs\":[");
                for other in 0..alternatives {
                    if other > 0 {
                        out.push(b',');
                    }
                    one(out, self.word(at + other));
                    out.push(b'}');
                }
                out.push(b']');
            }
            out.push(b'}');
        }
        out.push(b']');
    }
}

fn flush(text: &mut String, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    text.clear();
}

//! What an upstream's refusal means, in our words.
//!
//! Takes the status and body of an answer that is none, or the text of an error inside an answer that had begun; promises a status, words
//! that say who can mend it, and a scrubbed text for the log. Ollama's own words stay here: they name paths, hosts and its inner
//! structures, and quote prompts.

mod meaning;

use serde::Deserialize;

use crate::types::ModelName;

use meaning::Meaning;

/// A refusal of the upstream in our words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For the caller.
    pub status: u16,
    /// For the caller.
    pub public: String,
    /// The upstream's words, scrubbed, for the log.
    pub detail: String,
    /// Seconds, where waiting may help.
    pub retry_after: Option<u64>,
}

/// An error as JSON holds it: Ollama's text, or an object with a message.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Text(String),
    Nested {
        message: String,
        #[serde(default, rename = "type")]
        kind: String,
    },
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Told,
}

impl Told {
    /// All that it says. llama-server's errors come as JSON inside the text, with a line of its log behind it at times.
    fn text(self) -> String {
        let text = match self {
            Self::Nested { message, kind } => return format!("{message}\n{kind}"),
            Self::Text(text) => text,
        };
        let mut inner = serde_json::Deserializer::from_str(&text).into_iter::<ErrorBody>();
        match inner.next() {
            Some(Ok(ErrorBody { error: Self::Nested { message, kind } })) => {
                let behind = text.get(inner.byte_offset()..).unwrap_or_default();
                format!("{message}\n{kind}\n{behind}")
            }
            Some(Ok(ErrorBody { error: Self::Text(inner) })) => inner,
            _ => text,
        }
    }
}

/// What a status other than 200 and its body mean.
pub fn of_status(status: u16, body: &[u8], model: &ModelName) -> Fault {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        // Not Ollama's words at all: a proxy in between, or a route that this version does not have.
        let status_here = if status == 503 { 503 } else { 502 };
        return Fault {
            status: status_here,
            public: "the model server gave no usable answer".into(),
            detail: format!("status {status} without an Ollama error body"),
            retry_after: (status_here == 503).then_some(5),
        };
    };
    let text = error.text();
    let detail = format!("status {status}: {}", crate::record::scrub(&text));
    if let Some(meaning) = Meaning::of(Some(status), &text) {
        return meaning.fault(Some(model), detail);
    }
    let (status, public) = match status {
        // Its own words may name hosts and repeat prompts: the log has them, scrubbed.
        400 | 404 | 413 | 422 => (status, "the model server refused the request"),
        429 | 503 => (503, "the model server is busy; try again"),
        _ => (502, "the model server failed"),
    };
    Fault { status, public: public.into(), detail, retry_after: (status == 503).then_some(5) }
}

/// What an error inside an answer means whose status was 200: its text, or its JSON.
pub fn of_text(text: &str) -> Fault {
    let text = Told::Text(text.to_owned()).text();
    let detail = format!("an error in the answer: {}", crate::record::scrub(&text));
    if let Some(meaning) = Meaning::of(None, &text) {
        return meaning.fault(None, detail);
    }
    Fault { status: 502, public: "the model server failed while answering".into(), detail, retry_after: None }
}

#[cfg(test)]
mod tests;

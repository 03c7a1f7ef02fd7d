//! Ollama's wire forms: requests read, replies written.
//!
//! Takes a body's bytes and promises typed requests, or a [`Refusal`] with Ollama's status and words.

pub mod duration;
pub mod fields;
pub mod format;
pub mod options;
pub mod reply;
pub mod request;
pub mod show;

/// A request that is not served: the status and the text of `{"error": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The words, as Ollama says them where Ollama says them.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// A refusal as Ollama passes it on from its runner: JSON within the text.
    pub fn nested(status: u16, kind: &str, message: &str) -> Self {
        let inner = serde_json::json!({"error": {"code": status, "message": message, "type": kind}});
        Self::new(status, inner.to_string())
    }

    /// No model of that name: the words of chat and generate.
    pub fn no_model(asked: &str) -> Self {
        Self::new(404, format!("model '{asked}' not found"))
    }

    /// No model of that name, or its file is gone: the words of the scheduler.
    pub fn pull_first(asked: &str) -> Self {
        Self::new(404, format!("model \"{asked}\" not found, try pulling it first"))
    }
}

//! Dialects: what the fields of a request mean, and how errors, heartbeats and last lines look, one room for each API.

pub mod ollama;

use crate::types::ModelName;

/// A request that passed: the witness that routing asks for. Only a dialect makes one, out of what it judged.
#[derive(Debug)]
pub struct Call {
    path: &'static str,
    shape: Shape,
    model: ModelName,
    by_default: bool,
    stream: bool,
    body: Vec<u8>,
    dropped: Vec<String>,
    tokens: (u64, u64),
}

impl Call {
    /// The upstream's path, a constant of ours.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// What the upstream's answer looks like.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The model, as the body names it.
    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    /// Did the request name no model, so that the default one stands there?
    pub const fn is_by_default(&self) -> bool {
        self.by_default
    }

    /// Is the answer a stream?
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// The rebuilt JSON.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Tokens that it may take: of the prompt, estimated, and of the answer, as its end says.
    pub const fn tokens(&self) -> (u64, u64) {
        self.tokens
    }

    /// Names of fields that were dropped or changed, each cut to 64 characters, at most 32.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }
}

/// What the upstream's answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `message` objects.
    Chat,
    /// `response` texts.
    Generate,
    /// `embeddings`.
    Embed,
    /// One `embedding`, the older form.
    Embeddings,
    /// Facts about a model.
    Show,
}

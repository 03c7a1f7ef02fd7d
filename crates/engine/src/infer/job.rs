//! One piece of work for the worker, and what it says about it.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::outlet::Outlet;
use crate::library::Entry;
use crate::wire::Refusal;
use crate::wire::duration::KeepAlive;
use crate::wire::format::Format;
use crate::wire::options::Options;

/// One request in line.
#[derive(Debug)]
pub struct Job {
    /// Its number in the log.
    pub id: u64,
    /// Its route, for the log.
    pub route: &'static str,
    /// The model as the caller wrote it, for errors.
    pub asked: String,
    /// The model.
    pub entry: Arc<Entry>,
    /// How long the model stays afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// The context length asked for.
    pub num_ctx: Option<i64>,
    /// The work.
    pub task: Task,
    /// When the request was read.
    pub arrived: Instant,
    /// Where the answer goes.
    pub outlet: Outlet,
}

/// The work.
#[derive(Debug)]
pub enum Task {
    /// Have the model in memory.
    Load,
    /// Have the model out of memory.
    Unload,
    /// Continue text.
    Generate(Box<Generation>),
    /// Turn texts into vectors.
    Embed(Embedding),
}

/// What a generation needs.
#[derive(Debug)]
pub struct Generation {
    /// What to continue.
    pub prompt: Prompt,
    /// How.
    pub options: Options,
    /// Into what.
    pub format: Format,
    /// Cut a prompt that is too long; else refuse it.
    pub truncate: bool,
    /// Tell how likely tokens were, with so many of the likeliest beside each.
    pub logprobs: Option<usize>,
    /// Tokens of earlier turns; `Some` where the answer has to end with all tokens.
    pub context: Option<Vec<i64>>,
}

/// What to continue.
#[derive(Debug)]
pub enum Prompt {
    /// Turns, to be put into the model's own template.
    Chat(Vec<Turn>),
    /// Text as it is.
    Raw(String),
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// `system`, `user`, `assistant` or any other word.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// What an embedding needs.
#[derive(Debug)]
pub struct Embedding {
    /// The texts.
    pub inputs: Vec<String>,
    /// Cut vectors to so many numbers.
    pub dimensions: Option<usize>,
    /// Cut a text that is too long; else refuse it.
    pub truncate: bool,
}

/// What the worker says about a job.
#[derive(Debug)]
pub enum Event {
    /// It failed, or was refused.
    Failed(Refusal),
    /// More text.
    Piece(String, Vec<Logprob>),
    /// The vectors; `Done` follows.
    Vectors(Vec<Vec<f32>>),
    /// It is done.
    Done(Box<Summary>),
}

/// How a job went: the last line's figures, in nanoseconds and tokens. Zero is left out.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Summary {
    /// `stop`, `length`, `load`, `unload`; the line has it further up.
    #[serde(skip)]
    pub reason: &'static str,
    /// All tokens, for the next request's `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<i32>>,
    /// From arrival to the end.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_duration: u64,
    /// Until the model was in memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub load_duration: u64,
    /// Tokens of the prompt.
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_eval_count: u64,
    /// Time the prompt took.
    #[serde(skip_serializing_if = "is_zero")]
    pub prompt_eval_duration: u64,
    /// Tokens generated.
    #[serde(skip_serializing_if = "is_zero")]
    pub eval_count: u64,
    /// Time they took.
    #[serde(skip_serializing_if = "is_zero")]
    pub eval_duration: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprob {
    /// The token as text.
    pub token: String,
    /// The logarithm of its probability.
    pub logprob: f64,
    /// The token as bytes.
    pub bytes: Vec<u8>,
    /// The likeliest tokens at its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<Self>,
}

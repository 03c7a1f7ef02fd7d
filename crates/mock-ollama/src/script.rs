//! What a test may ask of the server: delays, silences, cuts, wrong bytes.
//!
//! A [`Script`] holds for the requests that its [`On`] names, from the moment that it is set; the newest of the most particular kind
//! wins (prompt, then model, then path, then any). Every field may be left out; a script of defaults changes nothing.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// Which requests a script holds for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Those whose prompt, or whose last turn of a user, holds this text.
    Prompt(String),
    /// Those that name this model, in any spelling.
    Model(String),
    /// Those for this path, without a query.
    Path(String),
    /// All.
    Any,
}

impl On {
    /// Requests that name this model.
    pub fn model(name: impl Into<String>) -> Self {
        Self::Model(name.into())
    }

    /// Requests whose prompt, or last turn of a user, holds this text.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::Prompt(text.into())
    }

    /// Requests for this path.
    pub fn path(path: impl Into<String>) -> Self {
        Self::Path(path.into())
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With a FIN, as when a process exits.
    #[default]
    Close,
    /// With a reset.
    Reset,
}

/// What happens after a [`Raw`] reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// The next request is awaited.
    #[default]
    Keep,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more is said, and the connection stays open until the caller leaves.
    Hold,
}

/// A reply written by the test, down to the status line.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    /// The bytes, one write each, with the script's gap in between.
    pub pieces: Vec<Bytes>,
    /// What comes after them.
    pub then: Then,
}

impl Raw {
    /// One write, then `then`.
    pub fn new(reply: impl Into<Bytes>, then: Then) -> Self {
        Self { pieces: vec![reply.into()], then }
    }
}

/// How to treat a request. Counts are tokens, which are lines of a stream; a tool call is one. As JSON (`mock-ollama drive`), times are
/// milliseconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "switches that a test sets by name, each on its own")]
pub struct Script {
    /// Time until the first token, and so until the head.
    #[serde(deserialize_with = "millis")]
    pub head_delay: Duration,
    /// Time between tokens. A whole answer takes as long as its tokens.
    #[serde(deserialize_with = "millis")]
    pub gap: Duration,
    /// How many tokens the model would say; the caller's `num_predict` may end it sooner.
    pub tokens: Option<usize>,
    /// The text of each token.
    pub token: Option<String>,
    /// Each token is as many bytes long; where `text` is given, as many characters (5 by itself).
    pub token_size: Option<usize>,
    /// All that the model says, cut into tokens. `{prompt}` stands for what it was asked.
    pub text: Option<String>,
    /// So many tokens of its own are thoughts, before the answer, whatever the model can do.
    pub thoughts: Option<usize>,
    /// The model says the words of the prompt.
    pub echo: bool,
    /// The model never stops, whatever `num_predict` says.
    pub endless: bool,
    /// The request is read, and never answered.
    pub never: bool,
    /// Falls silent after so many tokens, and stays.
    pub hold_after: Option<usize>,
    /// The stream ends well, without its last object.
    pub no_done: bool,
    /// A line after the last object.
    pub extra_line: Option<String>,
    /// The connection ends after so many tokens.
    pub die_after: Option<usize>,
    /// How it does.
    pub die: End,
    /// It ends in the middle of the next line.
    pub die_mid_line: bool,
    /// This token's line (counted from 0) is not JSON.
    pub malformed_at: Option<usize>,
    /// After so many tokens an error line ends the stream. 0, or a whole answer: status 500.
    pub error_at: Option<usize>,
    /// The text of the error; a default is there.
    pub error_text: Option<String>,
    /// Answers with this status and the error text as JSON.
    pub status: Option<u16>,
    /// Answers with an HTML page, as a proxy in between would; status 502 unless `status` says otherwise.
    pub html: bool,
    /// Writes at most so many bytes at a time.
    pub split: Option<usize>,
    /// Puts so many lines into one chunk.
    pub glue: Option<usize>,
    /// Header fields added to whatever is answered.
    pub extra_headers: Vec<(String, String)>,
    /// These bytes, and nothing of the above but delays and `split`.
    #[serde(skip)]
    pub raw: Option<Raw>,
    /// Redirects there, with 307.
    pub redirect: Option<String>,
    /// Holds for so many requests, then is forgotten.
    pub times: Option<usize>,
}

impl Script {
    pub(crate) fn error_text(&self) -> &str {
        // What Ollama says when the model's process is gone.
        self.error_text
            .as_deref()
            .unwrap_or("an error was encountered while running the model: unexpected EOF")
    }
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

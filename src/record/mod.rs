//! Record: one per request, open from the first byte to the last, written once however the request ends.
//!
//! Takes what each stage learns; promises two access lines for a proxied request and one for a refusal, never a key, a prompt
//! or an upstream address. Lines are formatted into a buffer of the thread and written by a ticking thread (`access`): on the
//! request path a line costs a copy.

mod access;
mod line;
mod redact;
pub mod stamp;
pub mod trace;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use access::AccessLog;
pub use redact::{escape, scrub};

use crate::types::{KeyId, ModelName, RequestId, Side};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The last byte went out.
    Done,
    /// It broke; the caller was told.
    Error,
    /// The caller left.
    ClientGone,
    /// A clock ran out.
    Timeout,
    /// It was refused before anything went upstream.
    Refused,
}

impl Ending {
    /// The word in log lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Error => "error",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// The counts of an answer's final object; absent is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// `prompt_eval_count`.
    pub prompt: Option<u64>,
    /// `eval_count`.
    pub output: Option<u64>,
    /// Nanoseconds that the model server worked on it.
    pub worked: Option<u64>,
}

impl Tokens {
    /// Of the prompt and the answer.
    pub fn all(&self) -> u64 {
        self.prompt.unwrap_or(0).saturating_add(self.output.unwrap_or(0))
    }

    /// Milliseconds that the model server worked on it.
    pub fn gpu_ms(&self) -> u64 {
        self.worked.unwrap_or(0) / 1_000_000
    }
}

/// Everything about one request that may be written down.
#[derive(Debug)]
pub struct Record {
    log: Arc<AccessLog>,
    started: Instant,
    /// Its id.
    pub id: RequestId,
    /// As it came.
    pub method: http::Method,
    /// As it came, cut and escaped when written.
    pub path: String,
    /// The client, where it is known.
    pub client: Option<IpAddr>,
    /// The key, where one was accepted.
    pub key: Option<KeyId>,
    /// The model, where one was named.
    pub model: Option<ModelName>,
    /// The upstream's route, once something goes there.
    pub upstream_path: Option<&'static str>,
    /// A part of the page, or a probe: its line is written at level debug, unless it failed.
    pub minor: bool,
    /// Is the answer streamed?
    pub stream: bool,
    /// The status that the caller saw, or would have seen.
    pub status: u16,
    /// Fields that were dropped or changed.
    pub dropped: Option<String>,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the final object.
    pub tokens: Tokens,
    /// The answer was cut, and its tokens counted here.
    pub estimated: bool,
    /// Milliseconds in the queue.
    pub queued: Option<u64>,
    /// Until the first word.
    first: Option<Duration>,
    ending: Option<Ending>,
    fault: Option<(Side, String)>,
}

impl Record {
    /// Opens the record of a request.
    pub fn open(log: &Arc<AccessLog>, id: RequestId, method: http::Method, path: &str) -> Self {
        let mut cut = path.len().min(256);
        while !path.is_char_boundary(cut) {
            cut -= 1;
        }
        Self {
            log: Arc::clone(log),
            started: Instant::now(),
            id,
            method,
            path: path.get(..cut).unwrap_or_default().to_owned(),
            client: None,
            key: None,
            model: None,
            upstream_path: None,
            minor: false,
            stream: false,
            status: 0,
            dropped: None,
            bytes_out: 0,
            tokens: Tokens::default(),
            estimated: false,
            queued: None,
            first: None,
            ending: None,
            fault: None,
        }
    }

    /// Something goes upstream: the first line.
    pub fn proxying(&mut self, upstream_path: &'static str) {
        self.upstream_path = Some(upstream_path);
        if self.log.info() {
            self.log.write(|json, out| line::proxying(self, json, out));
        }
    }

    /// A word of the answer has come.
    pub fn heard(&mut self) {
        if self.first.is_none() {
            self.first = Some(self.started.elapsed());
        }
    }

    /// It failed, on this side, for this reason (for the log alone).
    pub fn fail(&mut self, side: Side, reason: impl Into<String>) {
        self.fault = Some((side, reason.into()));
    }

    /// It has ended: the last line. Only the first call counts.
    pub fn end(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(ending);
        if self.status == 0 {
            // nginx's word for a caller who left before there was an answer.
            self.status = 499;
        }
        let upstream_failed = matches!(self.fault, Some((Side::Upstream | Side::Gateway, _)));
        let told = if self.minor && self.status < 400 { self.log.debug() } else { self.log.info() };
        if told || (upstream_failed && ending != Ending::Refused && self.log.warn()) {
            self.log.write(|json, out| line::ended(self, json, out));
        }
    }
}

impl Drop for Record {
    /// A record that nobody ended belongs to a caller who left.
    fn drop(&mut self) {
        self.end(Ending::ClientGone);
    }
}

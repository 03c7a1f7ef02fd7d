//! Record: one per request, open from the first byte to the last, written once however the request ends.
//!
//! Takes what each stage learns; promises two access lines for a proxied request and one for a refusal, never a key, a prompt
//! or an upstream address. Lines are formatted into a buffer of the thread and written by a ticking thread (`access`): on the
//! request path a line costs a copy.

mod access;
pub mod boots;
mod flood;
mod ledger;
mod line;
pub mod metrics;
mod pace;
mod past;
mod redact;
mod scrub;
mod shard;
pub mod show;
pub mod stamp;
mod sums;
pub mod trace;
pub mod writer;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub use access::AccessLog;
use ledger::Ended;
pub use ledger::{Ack, Ledger, LedgerError};
pub use redact::{Secrets, brief, escape, mask};
pub use scrub::scrub;

use crate::config::AuditMode;
use crate::store::audit::{AuditRow, Begin};
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
    /// Of the prompt and the answer; `None` where nobody counted.
    pub fn all(&self) -> Option<u64> {
        let counted = self.prompt.is_some() || self.output.is_some();
        counted.then(|| self.prompt.unwrap_or(0).saturating_add(self.output.unwrap_or(0)))
    }

    /// Milliseconds that the model server worked on it.
    pub fn gpu_ms(&self) -> u64 {
        self.worked.unwrap_or(0) / 1_000_000
    }
}

/// When the model server began to work on a request: set with its turn, read by whoever settles it.
pub type Began = Arc<OnceLock<Instant>>;

/// Where records go: lines to the log, rows to the ledger.
#[derive(Debug)]
pub struct Desk {
    /// Lines.
    pub log: Arc<AccessLog>,
    /// Rows.
    pub ledger: Arc<Ledger>,
    /// What of a caller's text neither may hold.
    pub secrets: Secrets,
}

/// Everything about one request that may be written down.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts of one request, each on its own")]
pub struct Record {
    desk: Arc<Desk>,
    started: Instant,
    /// Its id.
    pub id: RequestId,
    /// The method, where it is one that anybody uses; `-` for a word of somebody's own.
    pub method: &'static str,
    /// The path, a constant of ours; `-` where it is none of the table's.
    pub path: &'static str,
    /// One of the table's, in a constant of ours; `-` where it is none of them.
    pub route: &'static str,
    /// The client, where it is known.
    pub client: Option<IpAddr>,
    /// The key, where one was accepted.
    pub key: Option<KeyId>,
    /// The model, where one was named. A caller's word until something goes upstream, which has it then.
    pub model: Option<ModelName>,
    /// Has an upstream this model?
    pub listed: bool,
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
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// From the final object.
    pub tokens: Tokens,
    /// The answer was cut, and its tokens counted here.
    pub estimated: bool,
    /// Tokens that its prompt may have, where nobody counts them.
    pub estimate: u64,
    /// When the model server began; none again where it refused without work.
    pub began: Option<Began>,
    /// Milliseconds in the queue.
    pub queued: Option<u64>,
    /// Until the first word.
    first: Option<Duration>,
    /// Which limit refused it.
    pub limit: Option<&'static str>,
    ending: Option<Ending>,
    fault: Option<(Side, String)>,
    /// Has its row a place in the ledger?
    placed: bool,
    /// Was its begin told?
    begun: bool,
}

impl Record {
    /// Opens the record of a request. Boxed at once: it is handed on from room to room.
    pub fn open(desk: &Arc<Desk>, id: RequestId, method: &http::Method) -> Box<Self> {
        desk.ledger.open.fetch_add(1, Ordering::Relaxed);
        Box::new(Self {
            desk: Arc::clone(desk),
            started: Instant::now(),
            id,
            method: known(method),
            path: "-",
            route: "-",
            client: None,
            key: None,
            model: None,
            listed: false,
            upstream_path: None,
            minor: false,
            stream: false,
            status: 0,
            dropped: None,
            bytes_in: 0,
            bytes_out: 0,
            tokens: Tokens::default(),
            estimated: false,
            estimate: 0,
            began: None,
            queued: None,
            first: None,
            limit: None,
            ending: None,
            fault: None,
            placed: false,
            begun: false,
        })
    }

    /// Something goes upstream: the first line.
    pub fn proxying(&mut self, upstream_path: &'static str) {
        self.upstream_path = Some(upstream_path);
        if self.desk.log.info() {
            self.desk.log.write(|json, out| line::proxying(self, json, out));
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
        self.fault = Some((side, redact::reason(&self.desk.secrets, &reason.into())));
    }

    /// It has ended: the last line. Only the first call counts.
    pub fn end(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(ending);
        self.fill();
        if self.status == 0 {
            // nginx's word for a caller who left before there was an answer.
            self.status = 499;
        }
        let upstream_failed = matches!(self.fault, Some((Side::Upstream | Side::Gateway, _)));
        let log = &self.desk.log;
        let told = if self.minor && self.status < 400 { log.debug() } else { log.info() };
        if told || (upstream_failed && ending != Ending::Refused && log.warn()) {
            log.write(|json, out| line::ended(self, json, out));
        }
        self.desk.ledger.open.fetch_sub(1, Ordering::Relaxed);
        if !self.minor {
            let (begun, limit, listed) = (self.begun, self.limit, self.listed);
            let ended = Ended { row: self.row(ending), begun, limit, listed };
            self.desk.ledger.end(ended, self.placed);
        }
    }

    /// What the model server worked on and did not count is estimated, however it ended: whoever leaves early, is halted, or gets no
    /// answer that can be passed on has used it all the same. Who was refused without work has no beginning any more.
    fn fill(&mut self) {
        let counted = self.tokens.prompt.is_some() || self.tokens.output.is_some();
        let Some(began) = self.began.as_ref().and_then(|began| began.get()) else { return };
        if self.tokens.worked.is_none() {
            self.tokens.worked = u64::try_from(began.elapsed().as_nanos()).ok();
        }
        if !counted && self.estimate > 0 {
            self.estimated = true;
            self.tokens.prompt = Some(self.estimate);
        }
    }

    /// Takes a place for its row; `false` while there is none. It must have one before it goes upstream.
    pub fn place(&mut self) -> Result<bool, LedgerError> {
        self.placed = self.placed || self.desk.ledger.take_place()?;
        Ok(self.placed)
    }

    /// Tells that it begins, once; in strict mode it must not go on before the [`Ack`].
    pub fn begin(&mut self) -> Option<Arc<Ack>> {
        if self.begun || self.desk.ledger.mode == AuditMode::Off {
            return None;
        }
        self.begun = true;
        self.desk.ledger.begin(Begin {
            request_id: self.id.0,
            time: Self::came(self.started.elapsed()),
            key_id: self.key.as_ref().map(|key| Arc::clone(&key.0)),
            peer: self.client,
            method: self.method.into(),
            route: self.route.into(),
            model: self.model(),
            stream: self.stream,
        })
    }

    /// When it came, so long ago: in milliseconds since 1970.
    fn came(ago: Duration) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(i64::MAX)
    }

    /// The model as it may be written down: the upstream has what something went there for; any other name is a caller's text.
    fn model(&self) -> Option<Arc<str>> {
        let model = self.model.as_ref()?;
        Some(if self.listed { model.shared() } else { self.desk.secrets.shown(model.as_str()).into() })
    }

    fn row(&self, ending: Ending) -> AuditRow {
        let reason = self.fault.as_ref().map(|(_, reason)| reason.clone().into());
        let took = self.started.elapsed();
        AuditRow {
            time: Self::came(took),
            request_id: self.id.0,
            key_id: self.key.as_ref().map(|key| Arc::clone(&key.0)),
            peer: self.client,
            method: self.method.into(),
            route: self.route.into(),
            model: self.model(),
            dialect: "ollama".into(),
            stream: self.stream,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            prompt_tokens: self.tokens.prompt,
            output_tokens: self.tokens.output,
            estimated: self.estimated,
            queue_ms: self.queued,
            first_ms: self.first.map(millis),
            total_ms: millis(took),
            // Longer than the request it cannot have been, whatever the upstream says.
            gpu_ms: self.tokens.worked.map(|_| self.tokens.gpu_ms().min(millis(took))),
            upstream: self.upstream_path.map(Into::into),
            status: self.status,
            ending: ending.name().into(),
            reason,
            count: 1,
            action: None,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The methods of HTTP (and the first that a client of shared folders sends) are known; any other word is a caller's text.
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "POST" => "POST",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        "PROPFIND" => "PROPFIND",
        _ => "-",
    }
}

impl Drop for Record {
    /// A record that nobody ended belongs to a caller who left.
    fn drop(&mut self) {
        self.end(Ending::ClientGone);
    }
}

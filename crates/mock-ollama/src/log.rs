//! What the server saw, and waiting for it.
//!
//! One entry a request, from its head on. Everybody who waits is woken by each change: no polling. Switched off
//! ([`Builder::record`](crate::Builder::record)), nothing is kept and a request costs nothing here.

use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How far a request had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The server was still reading the request's body.
    ReadingBody,
    /// Nothing had been answered.
    BeforeHead,
    /// The head was sent, and so perhaps were tokens.
    Answering,
}

/// The caller left before its answer was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// How far the request had come.
    pub phase: Phase,
    /// Time since the request's head.
    pub after: Duration,
    /// When it was noticed.
    pub at: Instant,
    /// Tokens sent until then.
    pub tokens_sent: usize,
    /// By a reset, not a FIN.
    pub reset: bool,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the connection, from 1.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// The header fields, in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding; empty until it was read.
    pub body: Bytes,
    /// The body was read to its end.
    pub complete: bool,
    /// When the head was read.
    pub head_at: Instant,
    /// When the first token, or the whole answer, was sent.
    pub first_token_at: Option<Instant>,
    /// When the answer was complete, whatever it was (a scripted cut too).
    pub finished_at: Option<Instant>,
    /// The caller left.
    pub disconnected: Option<Disconnect>,
    /// Tokens sent so far.
    pub tokens_sent: usize,
}

impl Seen {
    /// The value of a header field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A question about the server or its models, not work: health, list, residency, version, status, show.
    pub fn is_probe(&self) -> bool {
        is_probe(&self.method, &self.target)
    }

    /// The answer was given, or its caller left.
    fn ended(&self) -> bool {
        self.finished_at.is_some() || self.disconnected.is_some()
    }
}

pub(crate) fn is_probe(method: &str, target: &str) -> bool {
    match method {
        "GET" | "HEAD" => matches!(target, "/" | "/api/tags" | "/api/ps" | "/api/version" | "/api/status"),
        "POST" => target == "/api/show",
        _ => false,
    }
}

/// What was waited for did not happen in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "waited {waited:?} for {what}; saw {seen} requests, {finished} finished, {disconnected} disconnected"
)]
pub struct TimedOut {
    what: String,
    waited: Duration,
    seen: usize,
    finished: usize,
    disconnected: usize,
}

/// Where an entry stands; void after a `clear`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    generation: u64,
    index: usize,
}

#[derive(Debug, Default)]
struct Entries {
    generation: u64,
    seen: Vec<Seen>,
}

/// The entries, and the bell that rings at each change.
#[derive(Debug)]
pub(crate) struct Log {
    entries: Mutex<Entries>,
    bell: watch::Sender<()>,
    on: bool,
}

impl Log {
    pub(crate) fn new(on: bool) -> Self {
        Self { entries: Mutex::default(), bell: watch::Sender::new(()), on }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an entry.
    pub(crate) fn open(&self, entry: impl FnOnce() -> Seen) -> Option<Ticket> {
        if !self.on {
            return None;
        }
        let mut entries = self.lock();
        entries.seen.push(entry());
        let ticket = Ticket { generation: entries.generation, index: entries.seen.len() - 1 };
        drop(entries);
        self.bell.send_replace(());
        Some(ticket)
    }

    /// Changes an entry.
    pub(crate) fn note(&self, ticket: Option<Ticket>, change: impl FnOnce(&mut Seen)) {
        let Some(ticket) = ticket else { return };
        let mut entries = self.lock();
        if entries.generation == ticket.generation
            && let Some(seen) = entries.seen.get_mut(ticket.index)
        {
            change(seen);
        }
        drop(entries);
        self.bell.send_replace(());
    }

    pub(crate) fn clear(&self) {
        let mut entries = self.lock();
        entries.generation += 1;
        entries.seen.clear();
    }

    pub(crate) fn list(&self, probes: bool) -> Vec<Seen> {
        self.lock().seen.iter().filter(|seen| seen.is_probe() == probes).cloned().collect()
    }

    /// Waits until `ready` finds in the requests (probes left out) what it looks for.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        timeout: Duration,
        ready: impl Fn(&[&Seen]) -> Option<T>,
    ) -> Result<T, TimedOut> {
        let mut bell = self.bell.subscribe();
        let look = async {
            loop {
                bell.mark_unchanged();
                let found = {
                    let entries = self.lock();
                    let seen: Vec<_> = entries.seen.iter().filter(|seen| !seen.is_probe()).collect();
                    ready(&seen)
                };
                match found {
                    Some(found) => return found,
                    // The sender lives in `self`: this only fails if it does not.
                    None if bell.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            }
        };
        tokio::time::timeout(timeout, look).await.map_err(|_| self.timed_out(what, timeout))
    }

    fn timed_out(&self, what: &str, waited: Duration) -> TimedOut {
        let seen = self.list(false);
        TimedOut {
            what: what.to_owned(),
            waited,
            seen: seen.len(),
            finished: seen.iter().filter(|seen| seen.finished_at.is_some()).count(),
            disconnected: seen.iter().filter(|seen| seen.disconnected.is_some()).count(),
        }
    }
}

/// So many requests were read, or left halfway.
pub(crate) fn seen_at_least(count: usize) -> impl Fn(&[&Seen]) -> Option<Vec<Seen>> {
    move |seen| {
        let there: Vec<_> =
            seen.iter().filter(|one| one.complete || one.ended()).map(|one| (*one).clone()).collect();
        (there.len() >= count).then_some(there)
    }
}

/// So many requests have ended.
pub(crate) fn ended_at_least(count: usize) -> impl Fn(&[&Seen]) -> Option<Vec<Seen>> {
    move |seen| {
        let there: Vec<_> = seen.iter().filter(|one| one.ended()).map(|one| (*one).clone()).collect();
        (there.len() >= count).then_some(there)
    }
}

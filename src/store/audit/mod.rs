//! The audit: one row a request, chained by a key that is not in the store, so that a changed, missing or inserted row shows.
//!
//! A chain is cut into segments, one a process and day; each begins with the head of the one before. Old segments go whole, and keep
//! their heads.

mod chain;
mod heads;
mod rows;
mod verify;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use chain::{ChainKey, FORM, KeyError, Mac, Segment};
pub use heads::Anchor;
pub use verify::{Fault, Report};

/// What is written of one request; never a prompt, an answer, or a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Milliseconds since 1970: when it came.
    pub time: i64,
    /// `x-request-id`; 0 where a row stands for several.
    pub request_id: u64,
    /// The key, where one was accepted.
    pub key_id: Option<Arc<str>>,
    /// The client's address, where it is known.
    pub peer: Option<IpAddr>,
    /// As it came.
    pub method: Cow<'static, str>,
    /// One of the table's paths, or `-`.
    pub route: Cow<'static, str>,
    /// The canonical model, where one was judged.
    pub model: Option<Arc<str>>,
    /// Whose API it spoke.
    pub dialect: Cow<'static, str>,
    /// Was the answer streamed?
    pub stream: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// As the model server counted; absent is not zero.
    pub prompt_tokens: Option<u64>,
    /// As the model server counted, or as counted here where `estimated`.
    pub output_tokens: Option<u64>,
    /// The stream was cut, and its tokens counted here.
    pub estimated: bool,
    /// Milliseconds in the queue.
    pub queue_ms: Option<u64>,
    /// Milliseconds until the first word.
    pub first_ms: Option<u64>,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// Milliseconds of the model server's work.
    pub gpu_ms: Option<u64>,
    /// The upstream's route, where something went there.
    pub upstream: Option<Cow<'static, str>>,
    /// What the caller saw, or would have seen.
    pub status: u16,
    /// `done`, `error`, `client_gone`, `timeout`, `refused` or `interrupted`.
    pub ending: Cow<'static, str>,
    /// Why it failed or was refused.
    pub reason: Option<Cow<'static, str>>,
    /// Requests that this row stands for.
    pub count: u64,
    /// What an operator did, as JSON, where the row is of no request.
    pub action: Option<Arc<str>>,
}

/// A row with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// Its place in the table.
    pub seq: i64,
    /// Its segment.
    pub segment: String,
    /// Its place there, from 1.
    pub n: u64,
    /// The row.
    pub row: AuditRow,
    /// Over the one before and this row.
    pub mac: Mac,
    /// Every cell stands as we write it. One that reads the same as another (`stream` 7 for 1) is a change all the same.
    pub as_written: bool,
}

/// A request that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// `x-request-id`.
    pub request_id: u64,
    /// Milliseconds since 1970.
    pub time: i64,
    /// The key.
    pub key_id: Option<Arc<str>>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    /// The method.
    pub method: Cow<'static, str>,
    /// The route.
    pub route: Cow<'static, str>,
    /// The model.
    pub model: Option<Arc<str>>,
    /// Is the answer streamed?
    pub stream: bool,
}

impl Begin {
    /// The row of a request whose process died.
    pub fn interrupted(self) -> AuditRow {
        AuditRow {
            time: self.time,
            request_id: self.request_id,
            key_id: self.key_id,
            peer: self.peer,
            method: self.method,
            route: self.route,
            model: self.model,
            dialect: "ollama".into(),
            stream: self.stream,
            bytes_in: 0,
            bytes_out: 0,
            prompt_tokens: None,
            output_tokens: None,
            estimated: false,
            queue_ms: None,
            first_ms: None,
            total_ms: 0,
            gpu_ms: None,
            upstream: None,
            status: 0,
            ending: "interrupted".into(),
            reason: Some("the gateway ended before this request did".into()),
            count: 1,
            action: None,
        }
    }
}

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows of requests that have ended, in order.
    pub rows: Vec<AuditRow>,
    /// Requests that have begun and not ended, by their id.
    pub begins: HashMap<u64, Begin>,
    /// Requests whose begin was written before.
    pub ended: Vec<u64>,
    /// Begins without an end once this is written.
    pub open: u64,
    /// A segment of another process that is closed with it.
    pub closes: Option<Segment>,
}

impl Batch {
    /// Is there nothing to write?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.begins.is_empty() && self.ended.is_empty()
    }
}

#[cfg(test)]
mod tests;

//! Forward: send the call, bring the answer back.
//!
//! Takes a [`Target`] and a turn; promises either a whole answer, checked, or a stream whose head is out. Four clocks run:
//! connect, first byte, silence, whole life. Nothing is spawned: the upstream connection lives in the future or the body that
//! hyper polls, so a caller who leaves drops it, and the GPU stops.

mod body;
mod late;
mod lines;
mod relay;
mod stream;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use crate::config;
use crate::dialect::Shape;
use crate::dialect::ollama::answer::{self, Line};
use crate::dialect::ollama::fault;
use crate::listen::clock::{self, Clock, Millis};
use crate::queue::Turn;
use crate::record::Tokens;
use crate::respond::Failure;
use crate::route::Target;
use crate::upstream::{self, MediaType, Outgoing, Piece};

pub use body::{Held, ReplyBody};
pub use late::{Late, Opening};
pub use relay::Relay;
pub use stream::Stream;

/// An upstream's error body is read no further than this.
const MAX_ERROR: usize = 64 << 10;

/// A whole answer up to this is out of our hands at once.
const SMALL: usize = 64 << 10;

/// Clocks and bounds.
#[derive(Debug, Clone)]
pub struct Rules {
    first_byte: Option<std::time::Duration>,
    idle: Option<std::time::Duration>,
    total: Option<std::time::Duration>,
    max_line: usize,
    max_answer: usize,
    /// Silence after which a heartbeat goes out.
    pub heartbeat: Option<std::time::Duration>,
}

impl Rules {
    /// From the configuration.
    pub fn new(upstream: &config::Upstream, heartbeat: Option<std::time::Duration>) -> Arc<Self> {
        Arc::new(Self {
            first_byte: upstream.first_byte,
            idle: upstream.idle,
            total: upstream.total,
            max_line: upstream.max_line,
            max_answer: upstream.max_answer,
            heartbeat,
        })
    }
}

impl Rules {
    /// Bytes of a whole answer. A number takes some twenty in JSON, so many texts at once make long ones.
    const fn most(&self, shape: Shape) -> usize {
        match shape {
            Shape::Embed | Shape::Embeddings => self.max_answer.saturating_mul(4),
            _ => self.max_answer,
        }
    }
}

/// An answer that has begun.
#[derive(Debug)]
pub enum Opened {
    /// One whole object.
    Whole {
        /// Its bytes, as they came.
        bytes: Vec<u8>,
        /// Its counts.
        tokens: Tokens,
        /// How long it waited for its turn.
        queued: Millis,
        /// Of a large one, without its slot: the caller may take it as slowly as it likes, but not many of them at once.
        turn: Option<Box<Turn>>,
    },
    /// Lines that are still coming.
    Stream(Source),
}

/// Where the lines of a stream come from.
#[derive(Debug)]
pub struct Source {
    /// To be read.
    pub(super) body: upstream::Body,
    /// Its slot.
    pub(super) turn: Turn,
    /// When the answer must have ended.
    pub(super) total_by: Millis,
    /// How long it waited for its turn.
    pub(super) queued: Millis,
}

/// Sends the call, and waits for the head of the answer; for all of it where it is not streamed.
pub async fn open(
    rules: &Rules,
    target: &Target,
    (turn, queued): (Turn, Millis),
    clock: &Clock,
) -> Result<Opened, Failure> {
    let call = target.call();
    let now = clock.now();
    let total_by = clock::after(now, rules.total);
    let by = clock::after(now, rules.first_byte).min(total_by);
    let accept = if call.is_stream() { "application/x-ndjson" } else { "application/json" };
    let request = Outgoing { method: "POST", path: call.path(), accept, body: call.body() };
    let mut answer = target.client().send(clock, by, request).await?;
    if answer.head.status != 200 {
        let status = answer.head.status;
        let body = read_whole(&mut answer.body, clock, by, MAX_ERROR).await.unwrap_or_default();
        let failure = Failure::from_fault(fault::of_status(status, &body, call.model()));
        // It says no before it works; what breaks while it does is of the other kind.
        let refused = matches!(status, 400..=499 | 503);
        return Err(if refused { failure.without_work() } else { failure });
    }
    match answer.head.media_type {
        MediaType::Ndjson if call.is_stream() => {
            Ok(Opened::Stream(Source { body: answer.body, turn, total_by, queued }))
        }
        // Loading and unloading answer with one object even on a stream.
        MediaType::Json => {
            let bytes = read_whole(&mut answer.body, clock, by, rules.most(call.shape())).await?;
            whole(bytes, call.is_stream(), (turn, queued))
        }
        _ => Err(Failure::bad_answer("an answer of an unexpected media type")),
    }
}

fn whole(bytes: Vec<u8>, is_stream: bool, (turn, queued): (Turn, Millis)) -> Result<Opened, Failure> {
    let turn = (bytes.len() > SMALL).then(|| Box::new(turn.give_slot()));
    match answer::judge(&bytes) {
        // In place of a stream it must be the last object; alone, Ollama itself leaves `done` out at times.
        Line::Part if is_stream => {
            Err(Failure::bad_answer("one object in place of a stream, and not its last"))
        }
        Line::Part => Ok(Opened::Whole { bytes, tokens: Tokens::default(), queued, turn }),
        Line::Done(tokens) => Ok(Opened::Whole { bytes, tokens, queued, turn }),
        Line::Error(text) => Err(Failure::from_fault(fault::of_text(&text))),
        Line::Broken => Err(Failure::bad_answer("a whole answer that is no JSON object")),
    }
}

async fn read_whole(
    body: &mut upstream::Body,
    clock: &Clock,
    by: Millis,
    most: usize,
) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let reading = std::future::poll_fn(|cx| {
        loop {
            match ready!(body.poll_piece(cx, &mut bytes)) {
                Ok(Piece::Data) if bytes.len() <= most => {}
                Ok(Piece::Data) => {
                    return Poll::Ready(Err(Failure::long_answer(most)));
                }
                Ok(Piece::End) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(Failure::bad_answer(error.to_string()))),
            }
        }
    });
    match clock::until(clock, by, pin!(reading)).await {
        None => Err(upstream::UpstreamError::FirstByteTimeout.into()),
        Some(Err(failure)) => Err(failure),
        Some(Ok(())) => Ok(bytes),
    }
}

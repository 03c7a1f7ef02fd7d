//! The relay: the upstream's lines, byte for byte, with backpressure, for as long as the caller takes them.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::lines::{Lines, Splitter};
use super::{Held, Rules, Source};
use crate::dialect::Shape;
use crate::dialect::ollama::answer;
use crate::listen::clock::{self, Clock, Millis, NEVER};
use crate::queue::Turn;
use crate::record::{Ending, Record, Tokens};
use crate::respond::StreamFault;
use crate::types::{ModelName, Side};
use crate::upstream::{self, Piece};

/// Behind the final object the upstream gets this long to end its body properly, so that its connection can serve again.
const LINGER: Millis = 1_000;

/// What a stream keeps while it runs, and what a waiting one will need.
#[derive(Debug)]
pub struct Stream {
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Arc<Clock>,
    /// For heartbeats: the call itself, with its body, is not kept while the answer runs.
    shape: Shape,
    model: ModelName,
    pub(super) record: Box<Record>,
    /// Dropped with the stream.
    held: Held,
    /// When the last byte went to the caller.
    pub(super) sent: Millis,
}

impl Stream {
    /// Of this call, from now on.
    pub fn new(
        rules: Arc<Rules>,
        clock: Arc<Clock>,
        shape: Shape,
        model: ModelName,
        record: Box<Record>,
        held: Held,
    ) -> Self {
        let sent = clock.now();
        Self { rules, clock, shape, model, record, held, sent }
    }

    /// The first heartbeat is due already.
    #[must_use]
    pub fn overdue(self) -> Self {
        Self { sent: 0, ..self }
    }

    /// The answer's own counts.
    pub(super) fn settle(&mut self, tokens: Tokens) {
        self.record.tokens = tokens;
        if let Some(permit) = &mut self.held.permit {
            permit.settle(tokens.all(), tokens.worked.map(|_| tokens.gpu_ms()));
        }
    }

    /// There was no answer, and no work for one.
    pub(super) fn forgive(&mut self) {
        if let Some(permit) = &mut self.held.permit {
            permit.forgive();
        }
    }

    /// An answer that was cut after so many parts: the model worked since its turn began, loading included.
    fn settle_cut(&mut self, parts: u64) {
        let began = self.record.began.as_ref().and_then(|began| began.get());
        let millis = began.map_or(0, |began| Millis::try_from(began.elapsed().as_millis()).unwrap_or(0));
        let prompt = Some(self.record.estimate).filter(|tokens| *tokens > 0);
        let worked = Some(millis.saturating_mul(1_000_000));
        self.record.tokens = Tokens { prompt, output: Some(parts), worked };
        self.record.estimated = true;
        if let Some(permit) = &mut self.held.permit {
            permit.settle_cut(parts, millis);
        }
    }

    /// Must it end although nothing is wrong with it?
    pub(super) fn halted(&self) -> Option<StreamFault> {
        if self.clock.cut() {
            return Some(StreamFault::Stopping);
        }
        let permit = self.held.permit.as_ref()?;
        permit.halt(&self.clock).map(StreamFault::from)
    }

    /// Is a heartbeat due? Then this is it.
    pub(super) fn heartbeat(&mut self) -> Option<Bytes> {
        if !self.clock.passed(clock::after(self.sent, self.rules.heartbeat)) {
            return None;
        }
        Some(self.send(answer::heartbeat(self.shape, &self.model)))
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>) -> Bytes {
        self.sent = self.clock.now();
        self.record.bytes_out += bytes.len() as u64;
        Bytes::from(bytes)
    }

    /// The last line of a stream that broke, behind what was whole.
    pub(super) fn fail(
        &mut self,
        mut lines: Vec<u8>,
        side: Side,
        public: &str,
        detail: String,
        ending: Ending,
    ) -> Bytes {
        lines.extend(answer::error_line(public));
        self.record.fail(side, detail);
        let bytes = self.send(lines);
        self.record.end(ending);
        bytes
    }
}

/// A stream that flows.
#[derive(Debug)]
pub struct Relay {
    stream: Stream,
    /// `None`: it has ended.
    body: Option<upstream::Body>,
    /// Given on with the final object: what the upstream does behind it costs nobody a slot.
    turn: Option<Turn>,
    lines: Splitter,
    heard: Millis,
    total_by: Millis,
    /// Until when the body must have ended behind its final object.
    linger_by: Millis,
    /// Were the answer's tokens settled?
    settled: bool,
}

impl Drop for Relay {
    /// The caller may have left: what the model said until then is theirs all the same.
    fn drop(&mut self) {
        self.settle_cut();
    }
}

impl Relay {
    /// Relays this body.
    pub fn new(mut stream: Stream, source: Source) -> Self {
        let Source { body, turn, total_by, queued } = source;
        let lines = Splitter::new(stream.rules.max_line);
        let heard = stream.clock.now();
        stream.record.queued = Some(queued);
        let (body, turn) = (Some(body), Some(turn));
        Self { stream, body, turn, lines, heard, total_by, linger_by: NEVER, settled: false }
    }

    /// The answer is over, with these counts of its own.
    fn settle(&mut self, tokens: Tokens) {
        self.settled = true;
        self.stream.settle(tokens);
    }

    /// The answer is over without its counts: what came was counted here.
    fn settle_cut(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.stream.settle_cut(self.lines.parts());
    }

    /// The next lines; `None` at the end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            if self.linger_by == NEVER
                && let Some(fault) = self.stream.halted()
            {
                return Poll::Ready(Some(self.break_off(Vec::new(), &fault)));
            }
            if self.linger_by == NEVER && self.stream.clock.passed(self.total_by) {
                let fault = StreamFault::Clock("upstream.total_timeout");
                return Poll::Ready(Some(self.break_off(Vec::new(), &fault)));
            }
            let mut fresh = Vec::new();
            match body.poll_piece(cx, &mut fresh) {
                Poll::Pending => return self.silent(),
                Poll::Ready(Ok(Piece::Data)) => {
                    if let Some(frame) = self.take(fresh) {
                        return Poll::Ready(Some(frame));
                    }
                }
                Poll::Ready(Ok(Piece::End)) => {
                    return Poll::Ready(self.ended("it ended without its final object"));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(self.ended(&error.to_string())),
            }
        }
    }

    fn take(&mut self, fresh: Vec<u8>) -> Option<Bytes> {
        if self.linger_by != NEVER {
            // Behind the final object nothing is passed on.
            return None;
        }
        self.heard = self.stream.clock.now();
        match self.lines.push(fresh) {
            Lines::None => None,
            Lines::Some(lines) => {
                self.stream.record.heard();
                Some(self.stream.send(lines))
            }
            Lines::Done(lines, tokens) => {
                self.stream.record.heard();
                self.settle(tokens);
                self.linger_by = self.heard + LINGER;
                self.turn = None;
                let frame = self.stream.send(lines);
                self.stream.record.end(Ending::Done);
                Some(frame)
            }
            Lines::Fault(lines, fault) => Some(self.break_off(lines, &fault)),
        }
    }

    fn silent(&mut self) -> Poll<Option<Bytes>> {
        let clock = &self.stream.clock;
        if clock.passed(self.linger_by) {
            return Poll::Ready(self.ended(""));
        }
        if clock.passed(self.total_by) {
            return Poll::Ready(Some(
                self.break_off(Vec::new(), &StreamFault::Clock("upstream.total_timeout")),
            ));
        }
        if clock.passed(clock::after(self.heard, self.stream.rules.idle)) {
            return Poll::Ready(Some(
                self.break_off(Vec::new(), &StreamFault::Clock("upstream.idle_timeout")),
            ));
        }
        if self.linger_by == NEVER
            && let Some(frame) = self.stream.heartbeat()
        {
            return Poll::Ready(Some(frame));
        }
        Poll::Pending
    }

    /// The body is over: properly, if its final object came.
    fn ended(&mut self, why: &str) -> Option<Bytes> {
        if self.linger_by != NEVER {
            self.body = None;
            self.stream.record.end(Ending::Done);
            return None;
        }
        match self.lines.finish() {
            Lines::Done(lines, tokens) => {
                self.body = None;
                self.settle(tokens);
                let frame = self.stream.send(lines);
                self.stream.record.end(Ending::Done);
                Some(frame)
            }
            Lines::Fault(lines, fault) => Some(self.break_off(lines, &fault)),
            Lines::None | Lines::Some(_) => {
                Some(self.break_off(Vec::new(), &StreamFault::Broken(why.to_owned())))
            }
        }
    }

    /// Ends with one error line, and closes the upstream connection.
    fn break_off(&mut self, lines: Vec<u8>, fault: &StreamFault) -> Bytes {
        self.body = None;
        self.settle_cut();
        self.stream.record.limit = fault.limit();
        self.stream.fail(lines, fault.side(), fault.public(), fault.detail(), fault.ending())
    }
}

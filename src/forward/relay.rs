//! The relay: the upstream's lines, byte for byte, with backpressure, for as long as the caller takes them.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::Source;
use super::lines::{Lines, Splitter};
use super::stream::Stream;
use crate::listen::clock::{self, Millis, NEVER};
use crate::queue::Turn;
use crate::record::{Ending, Tokens};
use crate::respond::StreamFault;
use crate::upstream::{self, Piece};

/// Behind the final object the upstream gets this long to end its body properly, so that its connection can serve again.
const LINGER: Millis = 1_000;

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
    /// Until when the body must have ended behind its final object.
    linger_by: Millis,
    /// Were the answer's tokens settled?
    settled: bool,
}

impl Drop for Relay {
    /// The caller may have left, or taken too little to hear why it ends: what the model said until then is theirs all the same.
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let fault = self.stream.cut_off();
        self.settle_cut();
        if let Some(fault) = fault {
            self.stream.end_unheard(&fault);
        }
    }
}

impl Relay {
    /// Relays this body.
    pub fn new(mut stream: Stream, source: Source) -> Self {
        let Source { body, turn, total_by, queued } = source;
        let lines = Splitter::new(stream.rules.max_line);
        let heard = stream.clock.now();
        stream.record.queued = Some(queued);
        stream.lasts_until(total_by);
        let (body, turn) = (Some(body), Some(turn));
        Self { stream, body, turn, lines, heard, linger_by: NEVER, settled: false }
    }

    /// Has all of it been handed out?
    pub(super) const fn is_over(&self) -> bool {
        self.body.is_none()
    }

    /// The answer is over, with these counts of its own.
    fn settle(&mut self, tokens: Tokens) {
        self.settled = true;
        self.stream.settle(tokens);
        self.stream.unwatch();
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
                && let Some(fault) = self.stream.must_end()
            {
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

//! What every stream keeps while it runs: its record, what it holds, and what may end it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Held, Rules};
use crate::admit::Standing;
use crate::dialect::Shape;
use crate::dialect::ollama::answer;
use crate::listen::Halting;
use crate::listen::clock::{self, Clock, Millis, NEVER};
use crate::record::{Ending, Record, Tokens};
use crate::respond::StreamFault;
use crate::types::{ModelName, Side};

/// From so many bytes on the connection is asked to watch as well. hyper polls the body until its buffer holds four times as many,
/// so short answers need no watch; one behind another whose end was not taken yet has it from the start.
const WATCHED: u64 = 16 << 10;

/// Asked by the connection, while nobody polls the body.
#[derive(Debug)]
struct Watch {
    standing: Option<Standing>,
    total_by: Millis,
}

impl Halting for Watch {
    fn must_end(&self, clock: &Clock) -> bool {
        let halted = || self.standing.as_ref().is_some_and(|standing| standing.halt(clock).is_some());
        clock.cut() || clock.passed(self.total_by) || halted()
    }
}

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
    /// When the whole answer must have ended.
    total_by: Millis,
    /// Does the connection watch over it?
    watched: bool,
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
        let total_by = NEVER;
        let mut stream = Self { rules, clock, shape, model, record, held, sent, total_by, watched: false };
        if stream.held.in_flight.is_stalled() {
            stream.watch();
        }
        stream
    }

    /// Until when it may take, known once its upstream has begun to answer.
    pub(super) fn lasts_until(&mut self, total_by: Millis) {
        self.total_by = total_by;
        if self.watched {
            self.watch();
        }
    }

    /// Has the connection ask as well whether it must end.
    pub(super) fn watch(&mut self) {
        self.watched = true;
        let standing = self.held.permit.as_ref().map(|permit| permit.standing());
        self.held.in_flight.watch(Box::new(Watch { standing, total_by: self.total_by }));
    }

    /// The model has said all, and may be read at leisure.
    pub(super) fn unwatch(&mut self) {
        self.watched = true;
        self.held.in_flight.unwatch();
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
        self.record.began = None;
        if let Some(permit) = &mut self.held.permit {
            permit.forgive();
        }
    }

    /// An answer that was cut after so many parts: the model worked since its turn began, loading included.
    pub(super) fn settle_cut(&mut self, parts: u64) {
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

    /// Must it end although nothing is wrong with it, or because it takes too long?
    pub(super) fn must_end(&self) -> Option<StreamFault> {
        if self.clock.cut() {
            return Some(StreamFault::Stopping);
        }
        if self.clock.passed(self.total_by) {
            return Some(StreamFault::Clock("upstream.total_timeout"));
        }
        let permit = self.held.permit.as_ref()?;
        permit.halt(&self.clock).map(StreamFault::from)
    }

    /// Why the connection cut it off, if it did: asked before anything is settled.
    pub(super) fn cut_off(&self) -> Option<StreamFault> {
        self.held.in_flight.was_cut_off().then(|| self.must_end())?
    }

    /// It ends for this reason, which nobody can be told any more.
    pub(super) fn end_unheard(&mut self, fault: &StreamFault) {
        self.record.limit = fault.limit();
        self.record.fail(fault.side(), fault.detail());
        self.record.end(fault.ending());
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
        if self.record.bytes_out >= WATCHED && !self.watched {
            self.watch();
        }
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

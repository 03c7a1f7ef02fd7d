//! A stream whose upstream has not answered yet: the head went out with the first heartbeat, so that tunnels stay open; what
//! fails from now on is the stream's error line.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Opened;
use super::relay::Relay;
use super::stream::Stream;
use crate::dialect::ollama::answer;
use crate::listen::clock::Millis;
use crate::queue::{Phase, Progress};
use crate::record::Ending;
use crate::respond::Failure;

/// How often a place in line is looked at.
const LOOK: Millis = 500;

/// The future of the upstream's answer.
pub type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;

/// A stream that waits.
pub struct Late {
    stream: Option<Stream>,
    opening: Opening,
    /// Of a caller who asked for phases, and what was told of it.
    progress: Option<(Arc<Progress>, Phase)>,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Drop for Late {
    /// The caller may have taken too little to hear why it ends.
    fn drop(&mut self) {
        if let Some(stream) = &mut self.stream
            && let Some(fault) = stream.cut_off()
        {
            stream.end_unheard(&fault);
        }
    }
}

/// What a poll of it brought.
pub(super) enum Next {
    /// A frame, or the end.
    Frame(Option<Bytes>),
    /// From now on there is something to relay.
    Relay(Box<Relay>),
}

impl Late {
    /// Waits on for an answer that did not come before the first heartbeat was due, or whose caller wants to hear how it goes.
    pub fn new(stream: Stream, opening: Opening, progress: Option<Arc<Progress>>) -> Self {
        Self { stream: Some(stream), opening, progress: progress.map(|progress| (progress, Phase::Begun)) }
    }

    /// Has all of it been handed out?
    pub(super) const fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// The line of a phase that was not told yet.
    fn news(&mut self, stream: &mut Stream) -> Option<Bytes> {
        let (progress, told) = self.progress.as_mut()?;
        let phase = progress.get();
        if std::mem::replace(told, phase) == phase {
            // Others may leave the line without a word to this one.
            stream.clock.passed(stream.clock.now() + LOOK);
            return None;
        }
        let line = match phase {
            Phase::Begun => return None,
            Phase::Queue(place) => answer::phase_line("queue", place),
            Phase::Loading => answer::phase_line("loading", 0),
            Phase::Prompt => answer::phase_line("prompt", 0),
        };
        Some(stream.send(line))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(mut stream) = self.stream.take() else { return Poll::Ready(Next::Frame(None)) };
        let frame = match self.opening.as_mut().poll(cx) {
            Poll::Pending => {
                if let Some(fault) = stream.must_end() {
                    stream.record.limit = fault.limit();
                    let frame =
                        stream.fail(Vec::new(), fault.side(), fault.public(), fault.detail(), fault.ending());
                    return Poll::Ready(Next::Frame(Some(frame)));
                }
                let beat = self.news(&mut stream).or_else(|| stream.heartbeat());
                self.stream = Some(stream);
                return beat.map_or(Poll::Pending, |frame| Poll::Ready(Next::Frame(Some(frame))));
            }
            Poll::Ready(Ok(Opened::Stream(source))) => {
                return Poll::Ready(Next::Relay(Box::new(Relay::new(stream, source))));
            }
            Poll::Ready(Ok(Opened::Whole { mut bytes, tokens, queued, turn: _ })) => {
                stream.record.queued = Some(queued);
                stream.settle(tokens);
                if !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                let frame = stream.send(bytes);
                stream.record.end(Ending::Done);
                frame
            }
            Poll::Ready(Err(failure)) => {
                if !failure.worked {
                    stream.forgive();
                }
                stream.record.limit = failure.limit;
                stream.fail(Vec::new(), failure.side, &failure.public, failure.detail, failure.ending)
            }
        };
        // The stream, and all that it held, ends with this frame.
        Poll::Ready(Next::Frame(Some(frame)))
    }
}

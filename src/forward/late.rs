//! A stream whose upstream has not answered yet: the head went out with the first heartbeat, so that tunnels stay open; what
//! fails from now on is the stream's error line.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Opened;
use super::relay::{Relay, Stream};
use crate::record::Ending;
use crate::respond::{Failure, StreamFault};
use crate::types::Side;

/// The future of the upstream's answer.
pub type Opening = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;

/// A stream that waits.
pub struct Late {
    stream: Option<Stream>,
    opening: Opening,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("stream", &self.stream).finish_non_exhaustive()
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
    /// Waits on for an answer that did not come before the first heartbeat was due.
    pub fn new(stream: Stream, opening: Opening) -> Self {
        Self { stream: Some(stream), opening }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(mut stream) = self.stream.take() else { return Poll::Ready(Next::Frame(None)) };
        let frame = match self.opening.as_mut().poll(cx) {
            Poll::Pending if stream.clock.cut() => {
                let fault = StreamFault::Stopping;
                stream.fail(Vec::new(), Side::Gateway, fault.public(), fault.detail(), Ending::Error)
            }
            Poll::Pending => {
                let beat = stream.heartbeat();
                self.stream = Some(stream);
                return beat.map_or(Poll::Pending, |frame| Poll::Ready(Next::Frame(Some(frame))));
            }
            Poll::Ready(Ok(Opened::Stream { body, turn, total_by })) => {
                return Poll::Ready(Next::Relay(Box::new(Relay::new(stream, body, turn, total_by))));
            }
            Poll::Ready(Ok(Opened::Whole { mut bytes, tokens })) => {
                if !bytes.ends_with(b"\n") {
                    bytes.push(b'\n');
                }
                stream.record.tokens = tokens;
                let frame = stream.send(bytes);
                stream.record.end(Ending::Done);
                frame
            }
            Poll::Ready(Err(failure)) => {
                stream.fail(Vec::new(), failure.side, &failure.public, failure.detail, failure.ending)
            }
        };
        // The stream, and all that it held, ends with this frame.
        Poll::Ready(Next::Frame(Some(frame)))
    }
}

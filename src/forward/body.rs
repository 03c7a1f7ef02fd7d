//! The body of every answer, and what lives exactly as long as it.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::late::{self, Late};
use super::relay::Relay;
use crate::admit::Permit;
use crate::listen::InFlight;
use crate::queue::Turn;
use crate::record::{Ending, Record};

/// A whole answer goes out in pieces of this size.
const SLICE: usize = 16 << 10;

/// Held until the last byte is gone or the caller has left.
#[derive(Debug)]
pub struct Held {
    /// Frees the connection for its next request.
    pub in_flight: InFlight,
    /// Counts the request.
    pub permit: Option<Box<Permit>>,
    /// Of a whole answer: ended with its last slice. A stream keeps its own.
    pub record: Option<Box<Record>>,
    /// Of a large whole answer: it counts among its caller's running ones until it was taken.
    pub turn: Option<Box<Turn>>,
}

/// What hyper polls.
pub enum ReplyBody {
    /// Whole bytes.
    Whole {
        /// Until they are taken.
        bytes: Bytes,
        /// Dropped with the body.
        held: Held,
    },
    /// Lines of the upstream.
    Relay(Box<Relay>),
    /// Heartbeats, until there is something to relay.
    Late(Box<Late>),
}

impl ReplyBody {
    /// Gives a whole answer its record, to end with its last byte; at once where there is none to come (HEAD, an empty body).
    /// The records of streams, and those that have ended already, are left alone.
    pub fn carry(&mut self, mut record: Box<Record>, is_head: bool) {
        match self {
            Self::Whole { bytes, held } if !is_head && !bytes.is_empty() => {
                held.record = Some(record);
            }
            _ => record.end(Ending::Done),
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole { .. } => "Whole",
            Self::Relay(_) => "Relay",
            Self::Late(_) => "Late",
        })
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            let frame = match this {
                Self::Whole { bytes, .. } if bytes.is_empty() => None,
                // In slices: hyper takes the next while it holds less than its buffer, so what is held is held until all but the
                // last 64 KiB have gone out.
                Self::Whole { bytes, held } => {
                    let slice = bytes.split_to(bytes.len().min(SLICE));
                    if let Some(record) = &mut held.record {
                        record.bytes_out += slice.len() as u64;
                        if bytes.is_empty() {
                            record.end(Ending::Done);
                        }
                    }
                    Some(slice)
                }
                Self::Relay(relay) => std::task::ready!(relay.poll(cx)),
                Self::Late(late) => match std::task::ready!(late.poll(cx)) {
                    late::Next::Frame(frame) => frame,
                    late::Next::Relay(relay) => {
                        *this = Self::Relay(relay);
                        continue;
                    }
                },
            };
            return Poll::Ready(frame.map(|bytes| Ok(Frame::data(bytes))));
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { bytes, .. } => bytes.is_empty(),
            // Its last line may fill the buffer: nothing must be held until somebody asks for more.
            Self::Relay(relay) => relay.is_over(),
            Self::Late(late) => late.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(_) | Self::Late(_) => SizeHint::default(),
        }
    }
}

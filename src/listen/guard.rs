//! The socket as hyper sees it: judged heads only, with the moments that the deadlines need.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite};

use super::clock::{Millis, NEVER};
use super::head::Reject;
use super::scan::Scanner;
use super::scratch;
use super::state::ConnState;
use super::stream::Stream;
use super::verb::Verb;

/// A caller's socket under guard.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) io: Stream,
    state: Arc<ConnState>,
    scanner: Scanner,
    /// Of a judged head, what did not fit hyper's buffer.
    ready: Vec<u8>,
    given: usize,
    body_since: Millis,
    body_bytes: u64,
    stalled: bool,
    answering: bool,
    reject: Option<Reject>,
}

impl Guarded {
    pub(super) fn new(io: Stream, state: Arc<ConnState>) -> Self {
        Self {
            io,
            state,
            scanner: Scanner::default(),
            ready: Vec::new(),
            given: 0,
            body_since: NEVER,
            body_bytes: 0,
            stalled: false,
            answering: false,
            reject: None,
        }
    }

    /// Why the connection must end, if the bytes on it say so.
    pub(super) const fn rejected(&self) -> Option<Reject> {
        self.reject
    }

    /// Did an answer to the present request begin to go out?
    pub(super) const fn answering(&self) -> bool {
        self.answering
    }

    /// Has a request begun that is not whole?
    pub(super) fn is_inside_request(&self) -> bool {
        self.scanner.is_inside()
    }

    /// What is known of the present request's method.
    pub(super) const fn verb(&self) -> Verb {
        self.scanner.verb()
    }

    fn hand_out(&mut self, cursor: &mut ReadBufCursor<'_>) {
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let n = rest.len().min(cursor.remaining());
        cursor.put_slice(rest.get(..n).unwrap_or_default());
        self.given += n;
        if self.given == self.ready.len() {
            self.ready = Vec::new();
            self.given = 0;
        }
    }

    /// Judges what was read; `true` when hyper got something.
    fn take(&mut self, bytes: &[u8], cursor: &mut ReadBufCursor<'_>) -> io::Result<bool> {
        // Bytes during an answer begin no request: they are refused below, and nothing may be written into the answer.
        let idle = !self.state.is_busy();
        if idle {
            self.scanner.next_request();
        }
        if idle && !self.scanner.is_inside() {
            self.answering = false;
            self.state.begin_request(self.state.hence(self.state.deadlines.head));
            (self.body_since, self.body_bytes) = (NEVER, 0);
        }
        let ready = &mut self.ready;
        let fed = self.scanner.feed(bytes, &self.state.inlet, |piece| {
            if ready.is_empty() && piece.len() <= cursor.remaining() {
                cursor.put_slice(piece);
            } else {
                ready.extend_from_slice(piece);
            }
        });
        let passed = fed.map_err(|reject| {
            self.reject = Some(reject);
            io::Error::new(io::ErrorKind::InvalidData, reject.reason)
        })?;
        if self.scanner.is_whole() {
            self.state.end_request();
        } else if self.scanner.in_body() {
            self.extend_body_time(bytes.len());
        }
        if !self.ready.is_empty() {
            self.hand_out(cursor);
        }
        Ok(passed)
    }

    /// The caller asked whether it may send its body, and the stage wants it. Nothing else is being written: an answer would
    /// have taken the question back.
    fn tell_to_go_on(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        match Pin::new(&mut self.io).poll_write(cx, GO_ON) {
            // What TLS could not send at once goes with the next write.
            Poll::Ready(Ok(n)) if n == GO_ON.len() => match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(flushed) => flushed,
                Poll::Pending => Ok(()),
            },
            // It will not wait for ever (RFC 9110 section 10.1.1).
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(_)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn extend_body_time(&mut self, n: usize) {
        if self.body_since == NEVER {
            self.body_since = self.state.clock.now();
        }
        self.body_bytes += n as u64;
        let deadlines = &*self.state.deadlines;
        let earned = deadlines.body.saturating_add((self.body_bytes >> 10) * 1_000).min(deadlines.body_most);
        let silent = self.state.hence(deadlines.body_silence);
        self.state.set_read_by(self.body_since.saturating_add(earned).min(silent));
    }

    fn wrote<T>(&mut self, result: &Poll<io::Result<T>>) {
        match result {
            Poll::Pending if !self.stalled => {
                self.stalled = true;
                self.state.set_write_by(self.state.hence(self.state.deadlines.write_stall));
            }
            Poll::Pending => {}
            Poll::Ready(_) => {
                self.answering = true;
                // An answer whose last bytes still go out is no idle connection.
                if !self.state.is_busy() && !self.scanner.is_inside() {
                    self.state.rearm_idle();
                }
                if std::mem::take(&mut self.stalled) {
                    self.state.set_write_by(NEVER);
                }
            }
        }
    }
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given < this.ready.len() {
            this.hand_out(&mut cursor);
            return Poll::Ready(Ok(()));
        }
        if cursor.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.scanner.in_body() && this.state.inlet.takes_go_on() {
            this.tell_to_go_on(cx)?;
        }
        loop {
            if this.scanner.in_body() && this.state.inlet.is_full() {
                return Poll::Pending;
            }
            // `poll_read` and not `try_read`: after a short read it knows that the socket is empty and saves the next call.
            let judged = scratch::with(|mut buffer| {
                ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                // End of stream reads as nothing; hyper takes it from there.
                Poll::Ready(if bytes.is_empty() { Ok(true) } else { this.take(bytes, &mut cursor) })
            });
            if ready!(judged)? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Write for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    /// hyper then joins small pieces in its buffer: one `send` costs less than a list of slices.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.io.must_flush() {
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.io).poll_flush(cx);
        // Whoever takes nothing stalls here and not in the write before, which TLS has taken into its buffer.
        if result.is_pending() || self.stalled {
            self.wrote(&result);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.io), cx)
    }
}

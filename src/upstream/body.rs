//! The body of an answer, read from the socket by whoever polls it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::Client;
use crate::listen::chunked::{Broken, Chunked};
use crate::listen::clock;
use crate::listen::scratch;

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// HTTP/1.0 style: a cut cannot be told from an end, so the reader must know its own end.
    UntilClose,
}

/// Why a body broke.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did.
    #[error("it ended before its end")]
    Short,
    /// The connection broke.
    #[error("the connection broke: {}", .0.kind())]
    Io(io::Error),
    /// The framing is not to be trusted.
    #[error("its body breaks HTTP: {0}")]
    Protocol(&'static str),
}

impl From<Broken> for BodyError {
    fn from(_: Broken) -> Self {
        Self::Protocol("the chunked coding is broken")
    }
}

/// What a poll brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes were appended.
    Data,
    /// The end; the connection went back to the pool if it may serve again.
    End,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// A body that is still coming. Dropping it closes the connection, so that the upstream stops.
#[derive(Debug)]
pub struct Body {
    stream: Option<TcpStream>,
    state: State,
    /// Bytes that came with the head.
    rest: Vec<u8>,
    /// Where the connection may serve again.
    home: Option<Arc<Client>>,
}

impl Body {
    pub(super) fn new(stream: TcpStream, framing: Framing, rest: Vec<u8>, home: Option<Arc<Client>>) -> Self {
        let state = match framing {
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Chunked(Chunked::START),
            Framing::UntilClose => State::UntilClose,
        };
        Self { stream: Some(stream), state, rest, home }
    }

    /// Appends what the socket holds to `out`: one read at most.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<Piece, BodyError>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            match &mut self.state {
                // A whole answer that came with its head is not copied again.
                State::Length(left) if out.is_empty() && rest.len() as u64 <= *left => {
                    *left -= rest.len() as u64;
                    *out = rest;
                }
                _ => self.decode(&rest, out)?,
            }
            if !out.is_empty() {
                return Poll::Ready(Ok(Piece::Data));
            }
        }
        loop {
            if self.at_end() {
                self.go_home();
                return Poll::Ready(Ok(Piece::End));
            }
            let read = scratch::with(|mut buffer| {
                if let Some(stream) = &mut self.stream {
                    ready!(Pin::new(stream).poll_read(cx, &mut buffer)).map_err(BodyError::Io)?;
                }
                let bytes = buffer.filled();
                Poll::Ready(if bytes.is_empty() {
                    self.closed()
                } else {
                    self.decode(bytes, out).map(|()| false)
                })
            });
            match ready!(read) {
                Ok(true) => return Poll::Ready(Ok(Piece::End)),
                Ok(false) if out.is_empty() => {}
                Ok(false) => return Poll::Ready(Ok(Piece::Data)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn decode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let used = match &mut self.state {
            State::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(bytes.get(..n).unwrap_or_default());
                *left -= n as u64;
                n
            }
            State::Chunked(chunked) => {
                out.reserve(bytes.len());
                chunked.decode(bytes, out)?
            }
            State::UntilClose => {
                out.extend_from_slice(bytes);
                bytes.len()
            }
        };
        if used < bytes.len() {
            // Bytes behind the end belong to nobody: this connection must not serve another caller.
            self.home = None;
        }
        Ok(())
    }

    const fn at_end(&self) -> bool {
        matches!(self.state, State::Length(0) | State::Chunked(Chunked::Ended))
    }

    /// The other side closed: an end only where closing is the framing.
    fn closed(&mut self) -> Result<bool, BodyError> {
        self.home = None;
        self.stream = None;
        if matches!(self.state, State::UntilClose) { Ok(true) } else { Err(BodyError::Short) }
    }

    fn go_home(&mut self) {
        if let (Some(stream), Some(home)) = (self.stream.take(), self.home.take()) {
            home.pool.give(stream, clock::now());
        }
    }
}

//! The HTTP/1.1 client for the upstream: connections, head, framing.
//!
//! Takes a rebuilt request; promises the answer's head and a body that is read from the socket by whoever polls it (nothing
//! is spawned, so dropping it closes the connection and Ollama stops). Refuses every framing that two readers could read
//! differently (RFC 9112 section 6.3; trust.md group L): a hostile upstream gets a 502, never another caller's answer.

mod body;
mod head;
mod pool;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

pub use body::{Body, BodyError, Piece};
use head::Found;
pub use head::{Head, MediaType};
use pool::Pool;

use crate::config::UpstreamUrl;
use crate::listen::clock::{self, Clock, Millis};

/// A pooled connection that the other side had closed says so at once.
const STALE: Millis = 1_000;

/// A body up to this goes out with its head in one write; a larger one is not copied.
const JOINED: usize = 16 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing listens there, or the name has no address.
    #[error("cannot connect: {}", .0.kind())]
    Connect(io::Error),
    /// Connecting took too long.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// No whole head in time.
    #[error("no answer in time")]
    FirstByteTimeout,
    /// It hung up instead of answering.
    #[error("it closed the connection without an answer")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {}", .0.kind())]
    Io(io::Error),
    /// It answered, in a way that is not to be trusted.
    #[error("its answer breaks HTTP: {0}")]
    Protocol(&'static str),
}

/// What to send. The path is a constant of ours, the body was rebuilt.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Without the upstream's prefix.
    pub path: &'static str,
    /// The media type that we expect.
    pub accept: &'static str,
    /// JSON, or nothing for GET.
    pub body: &'a [u8],
}

/// An answer whose head has come.
#[derive(Debug)]
pub struct Answer {
    /// Status and type.
    pub head: Head,
    /// To be read.
    pub body: Body,
}

/// One upstream.
#[derive(Debug)]
pub struct Client {
    url: UpstreamUrl,
    connect: Option<std::time::Duration>,
    pool: Pool,
}

impl Client {
    /// For this upstream.
    pub fn new(url: UpstreamUrl, connect: Option<std::time::Duration>) -> Arc<Self> {
        Arc::new(Self { url, connect, pool: Pool::default() })
    }

    /// Sends a request and reads the head of its answer, until `by`.
    ///
    /// A pooled connection may have been closed by the other side at the very moment it was taken: it is tried again once on
    /// a new connection, if not a byte had come back.
    pub async fn send(
        self: &Arc<Self>,
        clock: &Clock,
        by: Millis,
        request: Outgoing<'_>,
    ) -> Result<Answer, UpstreamError> {
        let wire = self.wire(request);
        let large = if request.body.len() > JOINED { request.body } else { b"" };
        if let Some(stream) = self.pool.take(clock.now()) {
            let began = clock.now();
            match self.exchange(stream, clock, by, [&wire, large]).await {
                // Later than that it was no stale connection: it died of this request, and need not do so twice.
                Err(UpstreamError::Closed | UpstreamError::Io(_)) if clock.now() < began + STALE => {}
                other => return other,
            }
        }
        let stream = Box::pin(self.connect(clock, by)).await?;
        self.exchange(stream, clock, by, [&wire, large]).await
    }

    /// Sends, and reads the head of the answer. It is read while the request is still being written: an upstream may refuse a
    /// body that it has not read, and wait.
    async fn exchange(
        self: &Arc<Self>,
        mut stream: TcpStream,
        clock: &Clock,
        by: Millis,
        mut wire: [&[u8]; 2],
    ) -> Result<Answer, UpstreamError> {
        let mut reader = head::Reader::default();
        let mut broken = None;
        let talk = poll_fn(|cx| {
            if broken.is_none()
                && let Poll::Ready(Err(error)) = poll_write(&stream, cx, &mut wire)
            {
                broken = Some(error);
                wire = [b""; 2];
            }
            match ready!(reader.poll(&mut stream, cx)) {
                // An upstream that answers early and hangs up has still answered; otherwise the failed write is the reason.
                Err(UpstreamError::Closed) => {
                    Poll::Ready(Err(broken.take().map_or(UpstreamError::Closed, UpstreamError::Io)))
                }
                other => Poll::Ready(other),
            }
        });
        let Found { head, framing, rest, keep } =
            clock::until(clock, by, pin!(talk)).await.ok_or(UpstreamError::FirstByteTimeout)??;
        // Behind an early answer the rest of the request would be read as the next one.
        let keep = keep && broken.is_none() && wire.iter().all(|piece| piece.is_empty());
        Ok(Answer { head, body: Body::new(stream, framing, rest, keep.then(|| Arc::clone(self))) })
    }

    async fn connect(&self, clock: &Clock, by: Millis) -> Result<TcpStream, UpstreamError> {
        let at = clock::after(clock.now(), self.connect).min(by);
        let connecting = async {
            // Every address of the name in turn: `localhost` may be ::1 first while Ollama has 127.0.0.1 only.
            let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match clock::until(clock, at, pin!(connecting)).await {
            None => Err(UpstreamError::ConnectTimeout),
            Some(result) => result.map_err(UpstreamError::Connect),
        }
    }

    fn wire(&self, request: Outgoing<'_>) -> Vec<u8> {
        const AGENT: &str = concat!(
            "\r\nUser-Agent: portcullis/",
            env!("CARGO_PKG_VERSION"),
            "\r\nAccept-Encoding: identity\r\nAccept: "
        );
        let mut wire = Vec::with_capacity(request.body.len().min(JOINED) + 320);
        let host = self.pool.authority(|| self.url.authority());
        for part in [
            request.method,
            " ",
            &self.url.prefix,
            request.path,
            " HTTP/1.1\r\nHost: ",
            host,
            AGENT,
            request.accept,
        ] {
            wire.extend_from_slice(part.as_bytes());
        }
        if request.method == "GET" {
            wire.extend_from_slice(b"\r\n\r\n");
        } else {
            wire.extend_from_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
            decimal(request.body.len(), &mut wire);
            wire.extend_from_slice(b"\r\n\r\n");
            if request.body.len() <= JOINED {
                wire.extend_from_slice(request.body);
            }
        }
        wire
    }
}

/// Appends a number. The formatting of the standard library costs as much as the rest of the head.
fn decimal(number: usize, out: &mut Vec<u8>) {
    if number > 9 {
        decimal(number / 10, out);
    }
    out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
}

/// Writes the pieces one behind the other; what is left of them stands in them.
fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, pieces: &mut [&[u8]; 2]) -> Poll<io::Result<()>> {
    for piece in pieces {
        while !piece.is_empty() {
            match stream.try_write(piece) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => *piece = piece.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
    Poll::Ready(Ok(()))
}

//! One connection: hyper under guard, its deadlines, and a proper end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::clock::{self, Millis, NEVER};
use super::guard::Guarded;
use super::head::Reject;
use super::scratch;
use super::state::ConnState;
use super::stream::Stream;
use super::verb::Verb;

/// Whoever has sent more than anybody may has so long to read the answer.
const LAST_LOOK: Millis = 1_000;

/// An answer that must end has so long to say why, where its caller takes little of it.
const LAST_LINE: Millis = 500;

/// An answer on its way.
pub type Answering<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

/// What answers requests, and hears of connections that never made one.
pub trait Handler: Send + Sync + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static;

    /// Answers one request, whose body is in the inlet. Dropped when the caller leaves. Boxed, so that an idle connection does
    /// not keep room for it.
    fn answer(
        self: &Arc<Self>,
        state: Arc<ConnState>,
        peer: SocketAddr,
        head: Parts,
    ) -> Answering<Self::Body>;

    /// A connection was refused before it became a request; returns the whole answer to write, with a body only where one may be.
    fn rejected(&self, peer: SocketAddr, reject: Reject, verb: Verb) -> Vec<u8>;

    /// Bytes of a body that a caller may send: so many are read behind an early refusal, and thrown away.
    fn largest_body(&self) -> usize;

    /// May this peer open more connections than others?
    fn is_exempt(&self, peer: IpAddr) -> bool;
}

/// Serves one connection to its end.
pub(super) async fn run<H: Handler>(
    stream: Stream,
    peer: SocketAddr,
    state: Arc<ConnState>,
    handler: Arc<H>,
) {
    let clock = Arc::clone(&state.clock);
    let guarded = Guarded::new(stream, Arc::clone(&state));
    let service = {
        let (handler, state) = (Arc::clone(&handler), Arc::clone(&state));
        service_fn(move |request: Request<Incoming>| {
            handler.answer(Arc::clone(&state), peer, request.into_parts().0)
        })
    };
    // While it answers, hyper looks for the end of the connection by reading, and that read is what brings the body into the
    // inlet: `half_close(false)` is not only for noticing who leaves. Tests in `tests/it/bodies.rs` hold hyper to it.
    // Deadlines are ours (`read_by`, `write_by`); hyper's own header timeout would arm a timer per request.
    let mut conn = http1::Builder::new()
        .half_close(false)
        .keep_alive(true)
        .pipeline_flush(false)
        .max_buf_size(64 << 10)
        .serve_connection(guarded, service);
    let (mut draining, mut cut_by) = (false, NEVER);
    let late = poll_fn(|cx| {
        clock.begin(cx.waker());
        if clock.draining() && !draining {
            draining = true;
            if !state.is_whole() {
                state.set_read_by(state.read_by());
            }
            Pin::new(&mut conn).graceful_shutdown();
        }
        if conn.poll_without_shutdown(cx).is_ready() {
            return Poll::Ready(false);
        }
        if clock.passed(state.read_by()) || clock.passed(state.write_by()) || state.gives_way() {
            return Poll::Ready(true);
        }
        if is_overdue(&state, &mut cut_by) {
            state.cut_off();
            return Poll::Ready(false);
        }
        Poll::Pending
    });
    let late = late.await;
    let parts = conn.into_parts();
    if !state.gives_way() {
        Box::pin(close(parts.io, late, peer, (&state, &*handler))).await;
    }
}

/// Has its answer outlived its right to go on, and the time for its last line? A caller who reads a little now and then keeps hyper's
/// buffer full, so that the body is not polled: it, and the upstream's connection with it, would go on for as long as that lasts.
fn is_overdue(state: &ConnState, cut_by: &mut Millis) -> bool {
    *cut_by = if state.must_end() { (*cut_by).min(state.hence(LAST_LINE)) } else { NEVER };
    state.clock.passed(*cut_by)
}

/// Ends a connection: with an answer where it was refused, and without a reset that would swallow the answer.
async fn close<H: Handler>(
    mut guarded: Guarded,
    late: bool,
    peer: SocketAddr,
    (state, handler): (&ConnState, &H),
) {
    let slow = Reject { status: StatusCode::REQUEST_TIMEOUT, reason: "the request did not arrive in time" };
    let reject = guarded.rejected().or_else(|| (late && guarded.is_inside_request()).then_some(slow));
    if let Some(reject) = reject {
        let answer = handler.rejected(peer, reject, guarded.verb());
        if !guarded.answering() {
            let writing = guarded.io.write_all(&answer);
            let _ended = tokio::time::timeout(Duration::from_secs(1), writing).await;
        }
    }
    if reject.is_some() || guarded.is_inside_request() {
        linger(&mut guarded.io, state, handler.largest_body()).await;
    } else if guarded.io.must_flush() {
        // Without its last word (close_notify) a caller cannot tell the end from a cut.
        let _ended = tokio::time::timeout(Duration::from_secs(1), guarded.io.shutdown()).await;
    }
}

/// Closing a socket with unread bytes resets it, and a reset overtakes the answer: many callers read only once they have sent all. So what
/// they send is read and thrown away, for some seconds and up to the largest body; whoever sends more than that has a moment left to read.
async fn linger(io: &mut Stream, state: &ConnState, most: usize) {
    let clock = &state.clock;
    state.set_read_by(clock::now().saturating_add(state.deadlines.linger));
    let (mut left, mut said, mut draining) = (most, false, false);
    poll_fn(|cx| {
        clock.begin(cx.waker());
        if clock.draining() && !draining {
            draining = true;
            state.set_read_by(state.read_by());
        }
        // Meanwhile, since whoever takes nothing must not keep us from taking.
        said = said || Pin::new(&mut *io).poll_shutdown(cx).is_ready();
        while left > 0 {
            let read = scratch::with(|mut buffer| {
                Pin::new(&mut *io).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
            });
            match read {
                Poll::Ready(Ok(n @ 1..)) if n < left => left -= n,
                Poll::Ready(Ok(1..)) => {
                    left = 0;
                    state.set_read_by(state.read_by().min(state.hence(LAST_LOOK)));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if clock.passed(state.read_by()) || clock.cut() || state.gives_way() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

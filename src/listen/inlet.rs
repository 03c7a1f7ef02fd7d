//! The body of the present request, between the guard that takes it off the wire and the stage that asks for it.
//!
//! hyper never sees a body. Its own channel for one costs a second wake-up of the task per request, and it would frame the bytes
//! a second time. Takes decoded bytes from the guard, little until the stage has asked for more, so that an unknown caller fills
//! no memory and a busy one feels backpressure. Promises the whole body up to a cap, or a refusal as soon as it is known.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::chunked::{Broken, Chunked};
use super::head::Framing;

/// Held before anybody has asked: what one read brings.
const UNASKED: usize = 64 << 10;

/// The body is larger than the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// The body of one request after the other.
#[derive(Debug, Default)]
pub struct Inlet(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    coding: Coding,
    bytes: Vec<u8>,
    /// How much may be held.
    allowance: usize,
    /// The guard has stopped reading, and must be woken.
    stopped: bool,
    /// The caller waits for `100 Continue` before it sends (RFC 9110 section 10.1.1).
    expects: bool,
    /// It may have it now.
    go_on: bool,
}

/// What is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Coding {
    #[default]
    Ended,
    Length(u64),
    Chunked(Chunked),
}

impl Inlet {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request; `true` if no body comes.
    pub(super) fn begin(&self, framing: Framing, expects: bool) -> bool {
        let coding = match framing {
            Framing::Length(0) => Coding::Ended,
            Framing::Length(n) => Coding::Length(n),
            Framing::Chunked => Coding::Chunked(Chunked::START),
        };
        let ended = coding == Coding::Ended;
        *self.inner() = Inner { coding, allowance: UNASKED, expects: expects && !ended, ..Inner::default() };
        ended
    }

    /// Takes raw bytes; how many of them belong to the body, and whether it has ended with them.
    pub(super) fn push(&self, input: &[u8]) -> Result<(usize, bool), Broken> {
        let inner = &mut *self.inner();
        let used = match &mut inner.coding {
            Coding::Ended => 0,
            Coding::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                inner.bytes.extend_from_slice(input.get(..n).unwrap_or_default());
                *left -= n as u64;
                n
            }
            Coding::Chunked(chunked) => chunked.decode(input, &mut inner.bytes)?,
        };
        if matches!(inner.coding, Coding::Length(0) | Coding::Chunked(Chunked::Ended)) {
            inner.coding = Coding::Ended;
        }
        inner.expects = false;
        Ok((used, inner.coding == Coding::Ended))
    }

    /// Is as much held as may be? Then the stage will wake the task once it wants more.
    pub(super) fn is_full(&self) -> bool {
        let mut inner = self.inner();
        inner.stopped = inner.bytes.len() >= inner.allowance;
        inner.stopped
    }

    /// The request was answered: what nobody read of its body need not wait for the next request to go.
    pub(super) fn forget(&self) {
        let mut inner = self.inner();
        (inner.bytes, inner.allowance) = (Vec::new(), UNASKED);
    }

    /// Must the caller be told now that it may send? Said once.
    pub(super) fn takes_go_on(&self) -> bool {
        std::mem::take(&mut self.inner().go_on)
    }

    /// The whole body; refused unread where its announced length is beyond the cap. Whoever is too slow for it is the guard's
    /// business, and whoever leaves takes this future along.
    pub async fn read(&self, cap: usize) -> Result<Vec<u8>, TooLarge> {
        poll_fn(|cx| {
            let mut inner = self.inner();
            let to_come = match inner.coding {
                Coding::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
                Coding::Chunked(_) | Coding::Ended => 0,
            };
            if inner.bytes.len().saturating_add(to_come) > cap {
                return Poll::Ready(Err(TooLarge));
            }
            if inner.coding == Coding::Ended {
                return Poll::Ready(Ok(std::mem::take(&mut inner.bytes)));
            }
            inner.allowance = cap.saturating_add(1);
            // The guard is polled before the stage: what it has to do now, it does in the next turn.
            if std::mem::take(&mut inner.expects) {
                inner.go_on = true;
                cx.waker().wake_by_ref();
            }
            if std::mem::take(&mut inner.stopped) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn read(inlet: &Inlet, cap: usize) -> Poll<Result<Vec<u8>, TooLarge>> {
        pin!(inlet.read(cap)).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_comes_in_pieces() {
        let inlet = Inlet::default();
        assert!(!inlet.begin(Framing::Length(5), false));
        assert_eq!(inlet.push(b"hel"), Ok((3, false)));
        assert!(read(&inlet, 5).is_pending());
        assert_eq!(inlet.push(b"lo, world"), Ok((2, true)), "what lies behind is not its own");
        assert_eq!(read(&inlet, 5), Poll::Ready(Ok(b"hello".to_vec())));
        assert!(!inlet.begin(Framing::Chunked, false));
        assert_eq!(inlet.push(b"5\r\nhello\r\n0\r\n\r\nG"), Ok((15, true)));
        assert_eq!(read(&inlet, 5), Poll::Ready(Ok(b"hello".to_vec())));
        assert!(inlet.begin(Framing::Length(0), true));
        assert_eq!(read(&inlet, 5), Poll::Ready(Ok(vec![])));
    }

    #[test]
    fn what_is_announced_too_large_is_not_waited_for() {
        let inlet = Inlet::default();
        inlet.begin(Framing::Length(6), true);
        assert_eq!(read(&inlet, 5), Poll::Ready(Err(TooLarge)));
        assert!(!inlet.takes_go_on(), "nobody was told to send it");
        inlet.begin(Framing::Chunked, false);
        assert!(read(&inlet, 5).is_pending());
        assert_eq!(inlet.push(b"6\r\n123456"), Ok((9, false)));
        assert_eq!(read(&inlet, 5), Poll::Ready(Err(TooLarge)));
    }

    #[test]
    fn little_is_held_until_somebody_asks() {
        let inlet = Inlet::default();
        inlet.begin(Framing::Length(1 << 20), true);
        assert!(!inlet.is_full() && !inlet.takes_go_on());
        inlet.push(&vec![0; UNASKED]).unwrap();
        assert!(inlet.is_full());
        assert!(read(&inlet, 1 << 20).is_pending());
        assert!(!inlet.is_full());
        assert!(!inlet.takes_go_on(), "it sends already");
        inlet.forget();
        assert_eq!(inlet.inner().bytes.capacity(), 0, "an idle connection holds no body that was refused");
        inlet.begin(Framing::Length(10), true);
        assert!(read(&inlet, 10).is_pending());
        assert!(inlet.takes_go_on() && !inlet.takes_go_on());
    }
}

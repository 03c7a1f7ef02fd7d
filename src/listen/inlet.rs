//! The body of the present request, between the guard that takes it off the wire and the stage that asks for it.
//!
//! hyper never sees a body. Its own channel for one costs a second wake-up of the task per request, and it would frame the bytes
//! a second time. Takes decoded bytes from the guard, little until the stage has asked for more, so that an unknown caller fills
//! no memory and a busy one feels backpressure. Promises the whole body up to a cap, or a refusal as soon as it is known. What is
//! held grows in steps, each of which the stage must grant: no more than twice of what has come, whatever length was announced.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::chunked::{Broken, Chunked};
use super::head::Framing;

/// Held before anybody has asked: what one read brings.
pub const UNASKED: usize = 64 << 10;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<E> {
    /// It is larger than the cap.
    TooLarge,
    /// It was not granted.
    Refused(E),
}

/// Grants memory for a body, and hears how it comes along.
pub trait Grants {
    /// Why not.
    type Error;

    /// So much of the body is here, and it is not whole. Told whenever the reader is polled.
    fn comes(&mut self, here: usize, cx: &Context<'_>) -> Result<(), Self::Error>;

    /// May so many bytes be held, in place of those that were granted before?
    fn hold(&mut self, bytes: usize) -> Result<(), Self::Error>;
}

/// Grants whatever the cap allows: where that is little, and callers are few.
#[derive(Debug, Clone, Copy)]
pub struct Freely;

impl Grants for Freely {
    type Error = Infallible;

    fn comes(&mut self, _here: usize, _cx: &Context<'_>) -> Result<(), Infallible> {
        Ok(())
    }

    fn hold(&mut self, _bytes: usize) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The body of one request after the other.
#[derive(Debug, Default)]
pub struct Inlet(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    coding: Coding,
    bytes: Vec<u8>,
    /// How much may be held, once the stage has asked for the body.
    allowance: Option<usize>,
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
        *self.inner() = Inner { coding, expects: expects && !ended, ..Inner::default() };
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
        inner.stopped = inner.bytes.len() >= inner.allowance.unwrap_or(UNASKED);
        inner.stopped
    }

    /// The request was answered: what nobody read of its body need not wait for the next request to go.
    pub(super) fn forget(&self) {
        let mut inner = self.inner();
        (inner.bytes, inner.allowance) = (Vec::new(), None);
    }

    /// Must the caller be told now that it may send? Said once.
    pub(super) fn takes_go_on(&self) -> bool {
        std::mem::take(&mut self.inner().go_on)
    }

    /// The whole body; refused unread where its announced length is beyond the cap. Whoever is too slow for it is the guard's
    /// business, and whoever leaves takes this future along.
    pub async fn read<G: Grants>(&self, cap: usize, grants: &mut G) -> Result<Vec<u8>, Unread<G::Error>> {
        poll_fn(|cx| self.poll(cap, grants, cx)).await
    }

    fn poll<G: Grants>(
        &self,
        cap: usize,
        grants: &mut G,
        cx: &Context<'_>,
    ) -> Poll<Result<Vec<u8>, Unread<G::Error>>> {
        let mut inner = self.inner();
        let here = inner.bytes.len();
        // Of chunks, as many as the cap allows and one more, so that one too many is seen.
        let (least, most) = match inner.coding {
            Coding::Length(left) => {
                let whole = here.saturating_add(usize::try_from(left).unwrap_or(usize::MAX));
                (whole, whole)
            }
            Coding::Chunked(_) => (here, cap.saturating_add(1)),
            Coding::Ended => (here, here),
        };
        if least > cap {
            return Poll::Ready(Err(Unread::TooLarge));
        }
        if inner.coding == Coding::Ended {
            grants.hold(here).map_err(Unread::Refused)?;
            return Poll::Ready(Ok(std::mem::take(&mut inner.bytes)));
        }
        grants.comes(here, cx).map_err(Unread::Refused)?;
        if inner.allowance.is_none() && here < UNASKED {
            let little = UNASKED.min(most);
            grants.hold(little).map_err(Unread::Refused)?;
            inner.allowance = Some(little);
        } else if inner.allowance.is_none_or(|allowance| here >= allowance) {
            let allowance = here.saturating_mul(2).min(most);
            // What one read brings may come on top.
            let room = allowance.saturating_add(UNASKED).min(most);
            grants.hold(room).map_err(Unread::Refused)?;
            inner.bytes.reserve_exact(room.saturating_sub(here));
            inner.allowance = Some(allowance);
        }
        // The guard is polled before the stage: what it has to do now, it does in the next turn.
        if std::mem::take(&mut inner.expects) {
            inner.go_on = true;
            cx.waker().wake_by_ref();
        }
        if std::mem::take(&mut inner.stopped) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    fn read(inlet: &Inlet, cap: usize) -> Poll<Result<Vec<u8>, Unread<Infallible>>> {
        pin!(inlet.read(cap, &mut Freely)).poll(&mut Context::from_waker(Waker::noop()))
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
        assert_eq!(read(&inlet, 5), Poll::Ready(Err(Unread::TooLarge)));
        assert!(!inlet.takes_go_on(), "nobody was told to send it");
        inlet.begin(Framing::Chunked, false);
        assert!(read(&inlet, 5).is_pending());
        assert_eq!(inlet.push(b"6\r\n123456"), Ok((9, false)));
        assert_eq!(read(&inlet, 5), Poll::Ready(Err(Unread::TooLarge)));
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
        inlet.push(&vec![0; UNASKED]).unwrap();
        assert!(inlet.is_full(), "twice of what had come");
        assert!(!inlet.takes_go_on(), "it sends already");
        inlet.forget();
        assert_eq!(inlet.inner().bytes.capacity(), 0, "an idle connection holds no body that was refused");
        inlet.begin(Framing::Length(10), true);
        assert!(read(&inlet, 10).is_pending());
        assert!(inlet.takes_go_on() && !inlet.takes_go_on());
    }

    /// Remembers the largest grant, and refuses beyond a bound.
    struct Meter(usize, usize);

    impl Grants for Meter {
        type Error = ();

        fn comes(&mut self, _here: usize, _cx: &Context<'_>) -> Result<(), ()> {
            Ok(())
        }

        fn hold(&mut self, bytes: usize) -> Result<(), ()> {
            self.0 = bytes;
            if bytes > self.1 { Err(()) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_announced_takes_no_memory_before_it_comes_and_nothing_is_held_beyond_the_grant() {
        const LENGTH: usize = 20 << 20;
        for framing in [Framing::Length(LENGTH as u64), Framing::Chunked] {
            let (inlet, mut meter) = (Inlet::default(), Meter(0, usize::MAX));
            let cx = &mut Context::from_waker(Waker::noop());
            inlet.begin(framing, false);
            let piece = match framing {
                Framing::Length(_) => vec![b'x'; UNASKED],
                Framing::Chunked => [b"fff8\r\n", vec![b'x'; 0xfff8].as_slice(), b"\r\n"].concat(),
            };
            let mut here = 0;
            while here < LENGTH - UNASKED {
                assert!(pin!(inlet.read(LENGTH, &mut meter)).poll(cx).is_pending());
                if !inlet.is_full() {
                    inlet.push(&piece).unwrap();
                }
                here = inlet.inner().bytes.len();
                assert!(inlet.inner().bytes.capacity() <= meter.0.max(2 * UNASKED), "at {here}");
                assert!(meter.0 <= 2 * here + 2 * UNASKED, "{} at {here}", meter.0);
            }
            let mut small = Meter(0, 1 << 20);
            inlet.inner().allowance = Some(0);
            assert_eq!(pin!(inlet.read(LENGTH, &mut small)).poll(cx), Poll::Ready(Err(Unread::Refused(()))));
        }
    }
}

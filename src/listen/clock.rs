//! Deadlines without timers: one cell per connection, swept a few times a second.
//!
//! A timer per request costs up to 1.8 µs (performance.md); a sweep over one cell per connection costs nothing that could be
//! measured. Whatever waits on a connection (a head, the queue, the upstream, a heartbeat) asks its [`Clock`] whether a
//! moment has passed; the clock remembers the earliest moment asked about and wakes the connection's task then.
//!
//! A clock that nobody sweeps would let its work wait for ever, so there is none: a listener's clocks are swept by its accept loop, and
//! work outside of a connection has one from [`alone`], which carries its own timer.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

/// Milliseconds since the process started: a monotonic moment that fits an atomic.
pub type Millis = u64;

/// No moment.
pub const NEVER: Millis = Millis::MAX;

/// How often the cells are looked at: the precision of every clock.
pub const TICK: Duration = Duration::from_millis(100);

/// Now.
pub fn now() -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    to_millis(START.get_or_init(Instant::now).elapsed())
}

/// The moment after a while; `None`: never.
pub fn after(from: Millis, wait: Option<Duration>) -> Millis {
    wait.map_or(NEVER, |wait| from.saturating_add(to_millis(wait)))
}

fn to_millis(d: Duration) -> Millis {
    Millis::try_from(d.as_millis()).unwrap_or(NEVER - 1)
}

/// The clock of one connection.
#[derive(Debug)]
pub struct Clock {
    /// When the present poll began: reading the system's clock a dozen times per request costs.
    now: AtomicU64,
    next: AtomicU64,
    waker: AtomicWaker,
    phase: Arc<Phase>,
}

impl Clock {
    fn new(phase: Arc<Phase>) -> Self {
        Self { now: AtomicU64::new(now()), next: AtomicU64::new(NEVER), waker: AtomicWaker::new(), phase }
    }

    /// Starts one poll of the connection's task: forgets the moments asked about before, and remembers whom to wake.
    pub fn begin(&self, waker: &Waker) {
        self.waker.register(waker);
        self.now.store(now(), Ordering::Relaxed);
        self.next.store(NEVER, Ordering::Relaxed);
    }

    /// When the present poll of the connection's task began.
    pub fn now(&self) -> Millis {
        self.now.load(Ordering::Relaxed)
    }

    /// Has the moment passed? If not, the connection's task is woken then.
    pub fn passed(&self, at: Millis) -> bool {
        if at == NEVER {
            return false;
        }
        if self.now() >= at {
            return true;
        }
        self.next.fetch_min(at, Ordering::Relaxed);
        false
    }

    /// Has its task look again at what it waits for.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Is the gateway about to stop, so that no connection should be kept for another request?
    pub fn draining(&self) -> bool {
        self.phase.draining.load(Ordering::Relaxed)
    }

    /// Is the time for draining over, so that what still streams must end now?
    pub fn cut(&self) -> bool {
        self.phase.cut.load(Ordering::Relaxed)
    }
}

/// Waits for `work` until `at`; `None` when the moment came first. Must run in the clock's own task. Takes the work pinned, so
/// that it is not moved once more.
pub fn until<'w, F: Future + ?Sized>(
    clock: &'w Clock,
    at: Millis,
    mut work: Pin<&'w mut F>,
) -> impl Future<Output = Option<F::Output>> + use<'w, F> {
    std::future::poll_fn(move |cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if clock.passed(at) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
}

/// Works outside of any connection, under a clock of its own: a wait until some moment ends at that moment, to the millisecond.
pub fn alone<F: Future>(work: impl FnOnce(Arc<Clock>) -> F) -> impl Future<Output = F::Output> {
    let clock = Arc::new(Clock::new(Arc::default()));
    let mut work = Box::pin(work(Arc::clone(&clock)));
    let mut timer = None;
    std::future::poll_fn(move |cx| {
        loop {
            clock.begin(cx.waker());
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let next = clock.next.load(Ordering::Relaxed);
            if next == NEVER {
                return Poll::Pending;
            }
            let at = Instant::now() + Duration::from_millis(next.saturating_sub(now()));
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            timer.as_mut().reset(at);
            ready!(timer.as_mut().poll(cx));
        }
    })
}

#[derive(Debug, Default)]
struct Phase {
    draining: AtomicBool,
    cut: AtomicBool,
}

/// Looks at every connection's clock.
#[derive(Debug, Default)]
pub struct Sweeper {
    clocks: Mutex<Vec<Weak<Clock>>>,
    phase: Arc<Phase>,
}

impl Sweeper {
    /// A clock for a new connection.
    pub(super) fn enrol(&self) -> Arc<Clock> {
        let clock = Arc::new(Clock::new(Arc::clone(&self.phase)));
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&clock));
        clock
    }

    /// For tests of the stages: a clock that stands still until its test sweeps.
    #[cfg(test)]
    pub(crate) fn clock(&self) -> Arc<Clock> {
        self.enrol()
    }

    /// Wakes whoever waits for a moment that has passed; forgets closed connections.
    pub fn sweep(&self) {
        let now = now();
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner).retain(|clock| {
            clock.upgrade().is_some_and(|clock| {
                if clock.next.load(Ordering::Relaxed) <= now {
                    clock.waker.wake();
                }
                true
            })
        });
    }

    /// Tells every connection to finish what it has and close.
    pub fn drain(&self) {
        self.phase.draining.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Tells every stream to end now, with an error line.
    pub fn cut(&self) {
        self.phase.cut.store(true, Ordering::Relaxed);
        self.wake_all();
    }

    /// Wakes every connection: something happened that each must look at.
    pub fn wake_all(&self) {
        for clock in
            self.clocks.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade)
        {
            clock.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_at_the_earliest_moment_asked_about() {
        let (sweeper, count) = (Sweeper::default(), Arc::new(Count(AtomicUsize::new(0))));
        let clock = sweeper.clock();
        clock.begin(&Waker::from(Arc::clone(&count)));
        assert!(!clock.passed(NEVER));
        assert!(!clock.passed(now() + 60_000));
        sweeper.sweep();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert!(clock.passed(clock.now()));
        clock.next.fetch_min(now(), Ordering::Relaxed);
        sweeper.sweep();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_works_alone_waits_no_longer_than_it_says() {
        let waited = alone(|clock| async move {
            let by = after(clock.now(), Some(Duration::from_millis(50)));
            let first = until(&clock, by, std::pin::pin!(std::future::pending::<()>())).await;
            // The second wait has its own moment, and is not the first one's.
            let began = clock.now();
            let by = after(began, Some(Duration::from_millis(50)));
            let second = until(&clock, by, std::pin::pin!(std::future::pending::<()>())).await;
            (first, second, clock.now() - began)
        });
        let (first, second, took) = tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
        assert_eq!((first, second), (None, None));
        assert!(took >= 50, "{took} ms");
    }

    #[test]
    fn draining_wakes_everybody_and_closed_connections_are_forgotten() {
        let (sweeper, count) = (Sweeper::default(), Arc::new(Count(AtomicUsize::new(0))));
        let clock = sweeper.clock();
        clock.begin(&Waker::from(Arc::clone(&count)));
        assert!(!clock.draining());
        sweeper.drain();
        assert!(clock.draining() && !clock.cut());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        drop(clock);
        sweeper.sweep();
        assert!(sweeper.clocks.lock().unwrap().is_empty());
    }
}

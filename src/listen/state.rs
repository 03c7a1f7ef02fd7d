//! What the guard, the service and the connection's task tell each other about one connection.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::{Clock, Millis, NEVER};
use super::deadlines::Deadlines;
use super::inlet::Inlet;

/// Once the gateway stops, what is left of a request must come within this.
const LAST_WORDS: Millis = 2_000;

/// Whether an answer must end. Its body knows, but nobody polls that while its caller takes nothing: then it is asked here.
pub trait Halting: Debug + Send {
    /// Must it end by now? If not, the clock is told when to ask again; whoever revokes a key rings for everybody.
    fn must_end(&self, clock: &Clock) -> bool;
}

/// Shared state of one connection.
#[derive(Debug)]
pub struct ConnState {
    /// The clock of its task.
    pub clock: Arc<Clock>,
    /// The body of the present request.
    pub inlet: Inlet,
    /// How long it may take over what.
    pub(super) deadlines: Arc<Deadlines>,
    /// Is a whole request with us that was not yet answered to its end?
    busy: AtomicBool,
    /// Was the present request answered before all of it had come?
    answered: AtomicBool,
    /// Must it end, so that a newcomer has its place?
    gives_way: AtomicBool,
    /// Is there somebody to ask whether its answer must end?
    watched: AtomicBool,
    halting: Mutex<Option<Box<dyn Halting>>>,
    /// Was its answer cut because it had to end, and its caller took too little to let it end by itself?
    cut_off: AtomicBool,
    /// Until when the next step of reading must have happened.
    read_by: AtomicU64,
    /// Until when the caller must have taken something; never, while it does.
    write_by: AtomicU64,
}

impl ConnState {
    /// Of a connection that was just accepted.
    pub(super) fn new(clock: Arc<Clock>, deadlines: Arc<Deadlines>) -> Arc<Self> {
        let read_by = clock.now().saturating_add(deadlines.first);
        Arc::new(Self {
            clock,
            deadlines,
            inlet: Inlet::default(),
            busy: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            halting: Mutex::new(None),
            cut_off: AtomicBool::new(false),
            read_by: AtomicU64::new(read_by),
            write_by: AtomicU64::new(NEVER),
        })
    }

    /// Has all of the present request come?
    pub fn is_whole(&self) -> bool {
        self.is_busy()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Ends it as soon as its task looks: without an answer, since nobody has asked anything, or not to the end.
    pub(super) fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
        self.clock.wake();
    }

    pub(super) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    /// Does its caller take nothing at the moment?
    pub(super) fn is_stalled(&self) -> bool {
        self.write_by() != NEVER
    }

    fn halting(&self) -> MutexGuard<'_, Option<Box<dyn Halting>>> {
        self.halting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Must its answer end, while its caller takes nothing? Whoever takes what is there has the body polled, which ends by itself.
    pub(super) fn must_end(&self) -> bool {
        self.is_stalled() && self.halting().as_ref().is_some_and(|halting| halting.must_end(&self.clock))
    }

    /// Its answer had to end, and now does.
    pub(super) fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Relaxed);
    }

    /// The first byte of a request has come.
    pub(super) fn begin_request(&self, read_by: Millis) {
        self.answered.store(false, Ordering::Relaxed);
        self.set_read_by(read_by);
    }

    /// The last byte of it has: it is being answered, unless a refusal went out before.
    pub(super) fn end_request(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.busy.store(true, Ordering::Relaxed);
            self.read_by.store(NEVER, Ordering::Relaxed);
        }
    }

    /// The moment so long from now.
    pub(super) fn hence(&self, wait: Millis) -> Millis {
        self.clock.now().saturating_add(wait)
    }

    pub(super) fn read_by(&self) -> Millis {
        self.read_by.load(Ordering::Relaxed)
    }

    /// Something went out: the idle time begins anew.
    pub(super) fn rearm_idle(&self) {
        self.set_read_by(self.hence(self.deadlines.idle));
    }

    pub(super) fn write_by(&self) -> Millis {
        self.write_by.load(Ordering::Relaxed)
    }

    pub(super) fn set_write_by(&self, at: Millis) {
        self.write_by.store(at, Ordering::Relaxed);
    }

    pub(super) fn set_read_by(&self, at: Millis) {
        // Nobody who dawdles delays a stop.
        let last = if self.clock.draining() { self.clock.now() + LAST_WORDS } else { NEVER };
        self.read_by.store(at.min(last), Ordering::Relaxed);
    }
}

/// Rides in the response body: when it goes, the connection may take another request.
#[derive(Debug)]
pub struct InFlight(Arc<ConnState>);

impl InFlight {
    /// For the answer of the request that this connection brought.
    pub const fn new(state: Arc<ConnState>) -> Self {
        Self(state)
    }

    /// Does the caller take nothing at the moment?
    pub fn is_stalled(&self) -> bool {
        self.0.is_stalled()
    }

    /// From now on the connection asks as well whether this answer must end.
    pub fn watch(&self, halting: Box<dyn Halting>) {
        *self.0.halting() = Some(halting);
        self.0.watched.store(true, Ordering::Relaxed);
    }

    /// It may go out to its last byte.
    pub fn unwatch(&self) {
        if self.0.watched.load(Ordering::Relaxed) {
            self.0.watched.store(false, Ordering::Relaxed);
            *self.0.halting() = None;
        }
    }

    /// Did the connection end because this answer had to?
    pub fn was_cut_off(&self) -> bool {
        self.0.cut_off.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.unwatch();
        self.0.busy.store(false, Ordering::Relaxed);
        self.0.answered.store(true, Ordering::Relaxed);
        self.0.inlet.forget();
        self.0.rearm_idle();
    }
}

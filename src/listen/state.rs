//! What the guard, the service and the connection's task tell each other about one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::clock::{Clock, Millis, NEVER};
use super::deadlines::Deadlines;
use super::inlet::Inlet;

/// Once the gateway stops, what is left of a request must come within this.
const LAST_WORDS: Millis = 2_000;

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
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
        self.0.answered.store(true, Ordering::Relaxed);
        self.0.inlet.forget();
        self.0.rearm_idle();
    }
}

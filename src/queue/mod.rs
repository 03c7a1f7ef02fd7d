//! Queue: what does not fit the upstream's slots, or its principal's turns at once, waits.
//!
//! Takes whoever was routed, and the [`Account`] it is counted for; promises a [`Turn`] that holds one of the upstream's slots
//! until it is dropped, so it rides in the response body. Turns are given by principal, in proportion to weights (`rounds`):
//! who is new gets the next slot that becomes free, behind only those who are new before it, and who comes again within its
//! weight waits for at most one turn of each other, however many they have waiting. Who has as many turns as it may have
//! (`limits.concurrent`) waits in its own lane, and others pass it. Refuses when the wait is too long, when too many of one
//! principal wait (`queue.per_key`), and when the queue is full: then the newest of whoever has most waiting, be it the one
//! that comes.

mod account;
#[cfg(test)]
mod fairness;
mod progress;
mod rounds;
#[cfg(test)]
mod simulation;
mod state;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use crate::admit::Running;
use crate::config;
use crate::listen::clock::{self, Clock};
use crate::route::Target;

use account::Hold;
pub use account::{Account, Turn};
pub use progress::{Phase, Progress};
use state::{Entered, GRANTED, REFUSED, State, TAKEN, Ticket, WAITING};

/// What the queue holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait.
    pub waiting: usize,
    /// Turns that were given and are not over.
    pub running: usize,
    /// The bound of `running`, if there is one.
    pub slots: Option<usize>,
}

/// Why there is no turn.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QueueError {
    /// So many wait already.
    #[error("the queue is full ({0} waiting)")]
    Full(usize),
    /// It took too long.
    #[error("waited {0:?} for a turn")]
    Late(Duration),
    /// So many of this principal wait already.
    #[error("{0} requests of this key wait already (queue.per_key)")]
    PerKey(usize),
    /// So many of this principal run already, and nobody may wait.
    #[error("more than {0} requests of this key at once (limits.concurrent)")]
    Concurrent(u32),
}

impl QueueError {
    /// The caller's own bound, in a word for metrics; `None` where it is everybody's.
    pub const fn word(&self) -> Option<&'static str> {
        match self {
            Self::PerKey(_) => Some("queue_per_key"),
            Self::Concurrent(_) => Some("concurrent"),
            Self::Full(_) | Self::Late(_) => None,
        }
    }
}

/// The slots of one upstream and who waits for them.
#[derive(Debug)]
pub struct Slots {
    length: usize,
    wait: Option<Duration>,
    is_bounded: bool,
    /// Turns of whom nothing bounds: neither slots nor a number of their own.
    unbounded: AtomicUsize,
    state: Mutex<State>,
}

impl Slots {
    /// So many requests at once (`None`: no bound).
    pub fn new(slots: Option<usize>, queue: config::Queue) -> Arc<Self> {
        Arc::new(Self {
            length: queue.length,
            wait: queue.wait,
            is_bounded: slots.is_some(),
            unbounded: AtomicUsize::new(0),
            state: Mutex::new(State::new(slots, queue.length, queue.per_key)),
        })
    }

    /// Waits for a turn, and tells `progress` the place in line whenever it is polled. Dropping the future leaves the queue.
    pub async fn turn(
        self: &Arc<Self>,
        clock: &Clock,
        _for: &Target,
        account: &Account,
        progress: Option<&Progress>,
    ) -> Result<Turn, QueueError> {
        self.wait(clock, account, progress).await
    }

    async fn wait(
        self: &Arc<Self>,
        clock: &Clock,
        account: &Account,
        progress: Option<&Progress>,
    ) -> Result<Turn, QueueError> {
        if !self.is_bounded && account.most.is_none() {
            self.unbounded.fetch_add(1, Ordering::Relaxed);
            return Ok(self.hold(Hold::Free));
        }
        let ticket = match self.enter(account)? {
            Entered::Slot(at) => return Ok(self.hold(Hold::Slot(at))),
            Entered::Line(ticket) => ticket,
        };
        let by = clock::after(clock.now(), self.wait);
        let waiting = Waiting { slots: self, ticket };
        let decided = std::future::poll_fn(|cx| {
            waiting.ticket.waker.register(cx.waker());
            match waiting.ticket.fate.load(Ordering::Acquire) {
                WAITING => {}
                fate => return Poll::Ready(fate == GRANTED),
            }
            if let Some(progress) = progress {
                progress.set(Phase::Queue(self.place(&waiting.ticket)));
            }
            Poll::Pending
        });
        match clock::until(clock, by, pin!(decided)).await {
            Some(true) => Ok(waiting.accept()),
            Some(false) => Err(QueueError::Full(self.length)),
            None => Err(QueueError::Late(self.wait.unwrap_or_default())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(self: &Arc<Self>, hold: Hold) -> Turn {
        Turn { slots: Arc::clone(self), hold }
    }

    /// Takes a slot, or a place in the queue.
    fn enter(&self, account: &Account) -> Result<Entered, QueueError> {
        let mut evicted = None;
        let entered = self.lock().enter(account, &mut evicted);
        if let Some(evicted) = evicted {
            evicted.waker.wake();
        }
        entered
    }

    /// How many turns will be given before this one's and with it; 0 for whoever does not wait.
    fn place(&self, ticket: &Arc<Ticket>) -> u32 {
        let picture = self.lock().picture();
        u32::try_from(picture.place(ticket)).unwrap_or(u32::MAX)
    }

    /// How many wait and run.
    pub fn load(&self) -> Load {
        let (state, unbounded) = (self.lock(), self.unbounded.load(Ordering::Relaxed));
        let running = state.running() + unbounded;
        Load { waiting: state.rounds.waiting(), running, slots: state.slots }
    }

    /// Gives a slot to the next in line, or back, and its principal one of its turns.
    fn leave(&self, at: usize) {
        self.given_back(|state| {
            if let Some(running) = state.leave(at) {
                running.end();
            }
        });
    }

    /// The slot alone; whose it was.
    fn leave_slot(&self, at: usize) -> Option<Arc<Running>> {
        self.given_back(|state| state.leave(at))
    }

    /// The principal's turn alone, whose slot was given on before.
    fn leave_share(&self, running: &Running) {
        self.given_back(|_| running.end());
    }

    fn given_back<T>(&self, back: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let given = back(&mut state);
        let next = state.next();
        drop(state);
        if let Some(next) = next {
            next.waker.wake();
        }
        given
    }

    fn leave_free(&self) {
        self.unbounded.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place in the queue. Dropped without being accepted, it is left, and a turn that came meanwhile goes to the next.
struct Waiting<'a> {
    slots: &'a Arc<Slots>,
    ticket: Arc<Ticket>,
}

impl Waiting<'_> {
    fn accept(self) -> Turn {
        let at = self.ticket.at.load(Ordering::Relaxed);
        let turn = self.slots.hold(Hold::Slot(at));
        self.ticket.fate.store(TAKEN, Ordering::Relaxed);
        turn
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if matches!(self.ticket.fate.load(Ordering::Acquire), TAKEN | REFUSED) {
            return;
        }
        let mut state = self.slots.lock();
        let fate = self.ticket.fate.load(Ordering::Acquire);
        if fate == WAITING {
            state.rounds.remove(&self.ticket.principal, |other| Arc::ptr_eq(other, &self.ticket));
        }
        drop(state);
        if fate == GRANTED {
            self.slots.leave(self.ticket.at.load(Ordering::Relaxed));
        }
    }
}

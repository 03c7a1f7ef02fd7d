//! Queue: what does not fit the upstream's slots waits its turn.
//!
//! Takes whoever was routed, and the [`Account`] it is counted for; promises a [`Turn`] that holds one of the upstream's slots
//! until it is dropped, so it rides in the response body. Turns are given by principal, in proportion to weights (`rounds`):
//! who is new gets the next slot that becomes free, behind only those who are new before it, and who comes again within its
//! weight waits for at most one turn of each other, however many they have waiting. Refuses when the wait is too long, and
//! when the queue is full: then the newest of whoever has most waiting, be it the one that comes.

#[cfg(test)]
mod fairness;
mod progress;
mod rounds;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::config;
use crate::listen::clock::{self, Clock};
use crate::route::Target;
use crate::types::Principal;

pub use progress::{Phase, Progress};
use rounds::Rounds;

/// Whom a turn is counted for.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its requests wait for one another.
    pub principal: Principal,
    /// Its turns in a round: 1 to 100, and what is outside is brought there.
    pub weight: u32,
}

impl Account {
    fn weight(&self) -> usize {
        self.weight.clamp(1, 100) as usize
    }
}

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

/// One of the upstream's slots, until dropped.
#[derive(Debug)]
pub struct Turn {
    slots: Arc<Slots>,
    /// Which of them, where they are bounded.
    at: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.slots.leave(self.at);
    }
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
}

/// The slots of one upstream and who waits for them.
#[derive(Debug)]
pub struct Slots {
    length: usize,
    wait: Option<Duration>,
    room: Room,
}

#[derive(Debug)]
enum Room {
    /// Nobody waits; so many run.
    Unbounded(AtomicUsize),
    Bounded(Mutex<State>),
}

/// While a slot is free, nobody waits.
#[derive(Debug)]
struct State {
    slots: usize,
    /// Who has each slot that was ever taken: whoever runs is not new when it waits, too.
    holders: Vec<Option<Principal>>,
    /// Which of these are free.
    free: Vec<usize>,
    rounds: Rounds<Arc<Ticket>>,
}

impl State {
    fn running(&self) -> usize {
        self.holders.len().saturating_sub(self.free.len())
    }

    /// A free slot, if there is one.
    fn take(&mut self, principal: &Principal) -> Option<usize> {
        if self.running() >= self.slots {
            return None;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.holders.push(None);
            self.holders.len() - 1
        });
        self.hold(at, principal);
        Some(at)
    }

    fn hold(&mut self, at: usize, principal: &Principal) {
        if let Some(holder) = self.holders.get_mut(at) {
            *holder = Some(principal.clone());
        }
    }

    fn holds(&self, principal: &Principal) -> bool {
        self.holders.iter().flatten().any(|holder| holder == principal)
    }
}

/// What became of a waiting request. It changes under the lock, until it has its turn or is refused.
#[derive(Debug)]
struct Ticket {
    principal: Principal,
    fate: AtomicU8,
    /// The slot that it has, once it is granted.
    at: AtomicUsize,
    waker: AtomicWaker,
}

/// What a request got at once.
enum Entered {
    Slot(usize),
    Line(Arc<Ticket>),
}

const WAITING: u8 = 0;
/// It has a slot and does not know.
const GRANTED: u8 = 1;
/// It has its turn.
const TAKEN: u8 = 2;
/// It made room for another.
const REFUSED: u8 = 3;

impl Slots {
    /// So many requests at once (`None`: no bound).
    pub fn new(slots: Option<usize>, queue: config::Queue) -> Arc<Self> {
        let room = slots.map_or(Room::Unbounded(AtomicUsize::new(0)), |slots| {
            let rounds = Rounds::new(queue.length);
            Room::Bounded(Mutex::new(State { slots, holders: Vec::new(), free: Vec::new(), rounds }))
        });
        Arc::new(Self { length: queue.length, wait: queue.wait, room })
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
        let ticket = match self.enter(account)? {
            Entered::Slot(at) => return Ok(Turn { slots: Arc::clone(self), at }),
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

    fn lock(&self) -> Result<MutexGuard<'_, State>, &AtomicUsize> {
        match &self.room {
            Room::Unbounded(running) => Err(running),
            Room::Bounded(state) => Ok(state.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Takes a slot, or a place in the queue.
    fn enter(&self, account: &Account) -> Result<Entered, QueueError> {
        let mut state = match self.lock() {
            Ok(state) => state,
            Err(running) => {
                running.fetch_add(1, Ordering::Relaxed);
                return Ok(Entered::Slot(0));
            }
        };
        if let Some(at) = state.take(&account.principal) {
            return Ok(Entered::Slot(at));
        }
        let waiting = state.rounds.waiting();
        let evicted = if waiting < self.length {
            None
        } else {
            let evicted = state.rounds.evict(account).ok_or(QueueError::Full(waiting))?;
            evicted.fate.store(REFUSED, Ordering::Release);
            Some(evicted)
        };
        let ticket = Arc::new(Ticket {
            principal: account.principal.clone(),
            fate: AtomicU8::new(WAITING),
            at: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        });
        let runs = state.holds(&account.principal);
        state.rounds.push(account, runs, Arc::clone(&ticket));
        drop(state);
        if let Some(evicted) = evicted {
            evicted.waker.wake();
        }
        Ok(Entered::Line(ticket))
    }

    /// How many turns will be given before this one's and with it; 0 for whoever does not wait.
    fn place(&self, ticket: &Arc<Ticket>) -> u32 {
        let Ok(rounds) = self.lock().map(|state| state.rounds.clone()) else { return 0 };
        u32::try_from(rounds.place(|other| Arc::ptr_eq(other, ticket))).unwrap_or(u32::MAX)
    }

    /// How many wait and run.
    pub fn load(&self) -> Load {
        match self.lock() {
            Ok(state) => {
                Load { waiting: state.rounds.waiting(), running: state.running(), slots: Some(state.slots) }
            }
            Err(running) => Load { waiting: 0, running: running.load(Ordering::Relaxed), slots: None },
        }
    }

    /// Gives a slot to the next in line, or back.
    fn leave(&self, at: usize) {
        let mut state = match self.lock() {
            Ok(state) => state,
            Err(running) => {
                running.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        };
        let Some(next) = state.rounds.pop() else {
            if let Some(holder) = state.holders.get_mut(at) {
                *holder = None;
            }
            state.free.push(at);
            return;
        };
        state.hold(at, &next.principal);
        next.at.store(at, Ordering::Relaxed);
        next.fate.store(GRANTED, Ordering::Release);
        drop(state);
        next.waker.wake();
    }
}

/// A place in the queue. Dropped without being accepted, it is left, and a turn that came meanwhile goes to the next.
struct Waiting<'a> {
    slots: &'a Arc<Slots>,
    ticket: Arc<Ticket>,
}

impl Waiting<'_> {
    fn accept(self) -> Turn {
        let turn = Turn { slots: Arc::clone(self.slots), at: self.ticket.at.load(Ordering::Relaxed) };
        self.ticket.fate.store(TAKEN, Ordering::Relaxed);
        turn
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if matches!(self.ticket.fate.load(Ordering::Acquire), TAKEN | REFUSED) {
            return;
        }
        let Ok(mut state) = self.slots.lock() else { return };
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

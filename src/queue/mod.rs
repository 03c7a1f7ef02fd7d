//! Queue: what does not fit the upstream's slots waits its turn.
//!
//! Takes whoever was routed; promises a [`Turn`] that holds one of the upstream's slots until it is dropped, so it rides in
//! the response body. Refuses when the queue is full or the wait too long. First come, first served for now; a turn is given
//! by the one who leaves, so fair turns per key change this file alone.

mod progress;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use atomic_waker::AtomicWaker;

use crate::config;
use crate::listen::clock::{self, Clock};
use crate::route::Target;

pub use progress::{Phase, Progress};

/// One of the upstream's slots, until dropped.
#[derive(Debug)]
pub struct Turn {
    slots: Option<Arc<Slots>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(slots) = &self.slots {
            slots.leave();
        }
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
    /// `None`: no bound, nobody waits.
    state: Option<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: VecDeque<Arc<Ticket>>,
}

#[derive(Debug, Default)]
struct Ticket {
    granted: AtomicBool,
    waker: AtomicWaker,
}

impl Slots {
    /// So many requests at once (`None`: no bound).
    pub fn new(slots: Option<usize>, queue: config::Queue) -> Arc<Self> {
        let state = slots.map(|free| Mutex::new(State { free, waiting: VecDeque::new() }));
        Arc::new(Self { length: queue.length, wait: queue.wait, state })
    }

    /// Waits for a turn, and tells `progress` the place in line whenever it is polled. Dropping the future leaves the queue.
    pub async fn turn(
        self: &Arc<Self>,
        clock: &Clock,
        _for: &Target,
        progress: Option<&Progress>,
    ) -> Result<Turn, QueueError> {
        self.wait(clock, progress).await
    }

    async fn wait(self: &Arc<Self>, clock: &Clock, progress: Option<&Progress>) -> Result<Turn, QueueError> {
        let Some(state) = &self.state else { return Ok(Turn { slots: None }) };
        let ticket = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn { slots: Some(Arc::clone(self)) });
            }
            if state.waiting.len() >= self.length {
                return Err(QueueError::Full(state.waiting.len()));
            }
            let ticket = Arc::new(Ticket::default());
            state.waiting.push_back(Arc::clone(&ticket));
            ticket
        };
        let by = clock::after(clock.now(), self.wait);
        let waiting = Waiting { slots: self, ticket };
        let granted = std::future::poll_fn(|cx| {
            waiting.ticket.waker.register(cx.waker());
            if waiting.ticket.granted.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if let Some(progress) = progress {
                progress.set(Phase::Queue(self.place(&waiting.ticket)));
            }
            Poll::Pending
        });
        match clock::until(clock, by, pin!(granted)).await {
            Some(()) => Ok(waiting.accept()),
            None => Err(QueueError::Late(self.wait.unwrap_or_default())),
        }
    }

    /// The place in line, from 1; 0 for whoever is not in it.
    fn place(&self, ticket: &Arc<Ticket>) -> u32 {
        let Some(state) = &self.state else { return 0 };
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.waiting.iter().position(|other| Arc::ptr_eq(other, ticket));
        at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(0)
    }

    /// How many wait, and how many slots are free.
    #[cfg(test)]
    fn load(&self) -> (usize, usize) {
        self.state.as_ref().map_or((0, usize::MAX), |state| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.waiting.len(), state.free)
        })
    }

    /// Gives a slot to the next in line, or back.
    fn leave(&self) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.waiting.pop_front() {
            Some(next) => {
                next.granted.store(true, Ordering::Release);
                next.waker.wake();
            }
            None => state.free += 1,
        }
    }
}

/// A place in the queue. Dropped without being accepted, it is left, and a turn that came meanwhile goes to the next.
struct Waiting<'a> {
    slots: &'a Arc<Slots>,
    ticket: Arc<Ticket>,
}

impl Waiting<'_> {
    fn accept(self) -> Turn {
        let turn = Turn { slots: Some(Arc::clone(self.slots)) };
        self.ticket.granted.store(false, Ordering::Relaxed);
        turn
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(state) = &self.slots.state else { return };
        let granted = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.retain(|other| !Arc::ptr_eq(other, &self.ticket));
            self.ticket.granted.load(Ordering::Acquire)
        };
        if granted {
            self.slots.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::clock::Sweeper;
    use std::task::{Context, Waker};

    fn slots(n: usize, length: usize) -> (Arc<Slots>, Arc<Clock>) {
        let queue = config::Queue { length, wait: Some(Duration::from_mins(1)) };
        (Slots::new(Some(n), queue), Sweeper::default().clock())
    }

    #[test]
    fn first_come_first_served_and_leaving_passes_the_turn_on() {
        let (slots, clock) = slots(1, 2);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(first)) = pin!(slots.wait(&clock, None)).poll(&mut cx) else { panic!("no turn") };
        let mut second = Box::pin(slots.wait(&clock, None));
        let mut third = Box::pin(slots.wait(&clock, None));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(Err(error)) = pin!(slots.wait(&clock, None)).poll(&mut cx) else {
            panic!("no bound")
        };
        assert_eq!(error, QueueError::Full(2));
        drop(first);
        assert!(third.as_mut().poll(&mut cx).is_pending(), "the second is first");
        drop(second);
        let Poll::Ready(Ok(turn)) = third.as_mut().poll(&mut cx) else { panic!("the turn was lost") };
        assert_eq!(slots.load(), (0, 0));
        drop(turn);
        assert_eq!(slots.load(), (0, 1));
    }

    #[test]
    fn nobody_waits_where_the_length_is_zero_and_all_pass_without_a_bound() {
        let (none, clock) = slots(1, 0);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(_turn)) = pin!(none.wait(&clock, None)).poll(&mut cx) else { panic!("no turn") };
        assert!(matches!(pin!(none.wait(&clock, None)).poll(&mut cx), Poll::Ready(Err(QueueError::Full(0)))));
        let queue = config::Queue { length: 0, wait: None };
        let free = Slots::new(None, queue);
        for _ in 0..100 {
            assert!(matches!(pin!(free.wait(&clock, None)).poll(&mut cx), Poll::Ready(Ok(_))));
        }
    }
}

//! Where a job's answer goes, and how the worker learns that nobody wants it any more.
//!
//! The channel is bounded: a caller that does not read holds the worker back, not the memory. The flag is set
//! by dropping a [`Guard`], which lives in the request's future and then in the answer's body; both are dropped
//! by the HTTP server when the caller leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::job::Event;

/// Events that may wait for a slow reader.
const PENDING: usize = 256;

/// The caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

#[derive(Debug, Default)]
struct Cancel {
    flag: AtomicBool,
    at: OnceLock<Instant>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Outlet {
    events: mpsc::Sender<Event>,
    cancel: Arc<Cancel>,
}

/// Says on being dropped that nobody waits any more.
#[derive(Debug)]
pub struct Guard(Arc<Cancel>);

/// An outlet, the events that come out of it, and the guard that keeps it wanted.
pub fn channel() -> (Outlet, mpsc::Receiver<Event>, Guard) {
    let (events, receiver) = mpsc::channel(PENDING);
    let cancel = Arc::new(Cancel::default());
    (Outlet { events, cancel: Arc::clone(&cancel) }, receiver, Guard(cancel))
}

impl Outlet {
    /// Does somebody still wait?
    pub fn wanted(&self) -> Result<(), Gone> {
        if self.cancel.flag.load(Ordering::Acquire) { Err(Gone) } else { Ok(()) }
    }

    /// Says something; waits while the reader is behind.
    pub fn say(&self, event: Event) -> Result<(), Gone> {
        self.wanted()?;
        self.events.blocking_send(event).map_err(|_| Gone)
    }

    /// When the caller's leaving was noticed.
    pub fn left_at(&self) -> Option<Instant> {
        self.cancel.at.get().copied()
    }

    /// A question for llama.cpp while it loads: shall it go on?
    pub fn watcher(&self) -> impl Fn() -> bool + 'static {
        let cancel = Arc::clone(&self.cancel);
        move || !cancel.flag.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.at.get_or_init(Instant::now);
        self.0.flag.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_is_noticed() {
        let (outlet, mut events, guard) = channel();
        assert_eq!(outlet.say(Event::Piece("a".into(), Vec::new())), Ok(()));
        assert!(matches!(events.blocking_recv(), Some(Event::Piece(..))));
        drop(guard);
        assert!(outlet.left_at().is_some());
        assert_eq!(outlet.wanted(), Err(Gone));
        assert_eq!(outlet.say(Event::Piece("b".into(), Vec::new())), Err(Gone));
    }

    #[test]
    fn a_dropped_receiver_is_noticed() {
        let (outlet, events, _guard) = channel();
        drop(events);
        assert_eq!(outlet.say(Event::Piece("a".into(), Vec::new())), Err(Gone));
    }
}

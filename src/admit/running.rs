//! How many requests of one principal have a turn: a number that its meter keeps, and the queue alone changes.

use std::sync::atomic::{AtomicU32, Ordering};

/// Requests of one principal that have their turn. Neither those that wait, nor those whose body is still on its way.
#[derive(Debug, Default)]
pub struct Running(AtomicU32);

impl Running {
    /// So many.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more has its turn. The queue's lock is held: nobody looks and takes at once.
    pub fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One is over; under the same lock.
    pub fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

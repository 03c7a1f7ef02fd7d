//! Whom turns are counted for, and the turn itself.

use std::sync::Arc;

use super::Slots;
use crate::admit::Running;
use crate::types::Principal;

/// Whom a turn is counted for.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its requests wait for one another.
    pub principal: Principal,
    /// Its turns in a round: 1 to 100, and what is outside is brought there.
    pub weight: u32,
    /// Its turns at once; `None`: as many as there are.
    pub most: Option<u32>,
    /// How many it has. One for each principal, whoever asks.
    pub running: Arc<Running>,
}

impl Account {
    pub(super) fn weight(&self) -> usize {
        self.weight.clamp(1, 100) as usize
    }

    /// May it have one more turn?
    pub(super) fn may_run(&self) -> bool {
        self.most.is_none_or(|most| self.running.get() < most)
    }
}

/// What a turn takes up.
#[derive(Debug)]
pub(super) enum Hold {
    /// Nothing: there is no bound, neither of slots nor of its principal.
    Free,
    /// A slot, and one of its principal's turns.
    Slot(usize),
    /// The slot was given on; the answer is still being taken.
    Share(Arc<Running>),
    /// It is over.
    Over,
}

/// One of the upstream's slots, until dropped.
#[derive(Debug)]
pub struct Turn {
    pub(super) slots: Arc<Slots>,
    pub(super) hold: Hold,
}

impl Turn {
    /// The upstream is done, and its slot serves the next one; the principal's own count stays until this is dropped, so that nobody
    /// piles up large answers that are not taken.
    #[must_use]
    pub fn give_slot(mut self) -> Self {
        self.hold = match std::mem::replace(&mut self.hold, Hold::Over) {
            Hold::Slot(at) => self.slots.leave_slot(at).map_or(Hold::Over, Hold::Share),
            other => other,
        };
        self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.hold, Hold::Over) {
            Hold::Free => self.slots.leave_free(),
            Hold::Slot(at) => self.slots.leave(at),
            Hold::Share(running) => self.slots.leave_share(&running),
            Hold::Over => {}
        }
    }
}

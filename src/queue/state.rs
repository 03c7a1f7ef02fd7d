//! Who has which slot, and who waits: what the queue keeps under its lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use atomic_waker::AtomicWaker;

use super::rounds::Rounds;
use super::{Account, QueueError};
use crate::admit::Running;
use crate::types::Principal;

/// What became of a waiting request. It changes under the lock, until it has its turn or is refused.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) principal: Principal,
    pub(super) running: Arc<Running>,
    pub(super) fate: AtomicU8,
    /// The slot that it has, once it is granted.
    pub(super) at: AtomicUsize,
    pub(super) waker: AtomicWaker,
}

pub(super) const WAITING: u8 = 0;
/// It has a slot and does not know.
pub(super) const GRANTED: u8 = 1;
/// It has its turn.
pub(super) const TAKEN: u8 = 2;
/// It made room for another.
pub(super) const REFUSED: u8 = 3;

/// What a request got at once.
pub(super) enum Entered {
    Slot(usize),
    Line(Arc<Ticket>),
}

/// While a slot is free, nobody waits but those whose principal has all the turns that it may have.
#[derive(Debug)]
pub(super) struct State {
    /// `None`: as many as are asked for.
    pub(super) slots: Option<usize>,
    /// Requests that may wait.
    length: usize,
    per_key: Option<usize>,
    /// Who has each slot that was ever taken, and which turn of all it is.
    holders: Vec<Option<(u64, Arc<Running>)>>,
    /// Which of these are free.
    free: Vec<usize>,
    /// Given so far.
    turns: u64,
    pub(super) rounds: Rounds<Arc<Ticket>>,
}

impl State {
    pub(super) fn new(slots: Option<usize>, length: usize, per_key: Option<usize>) -> Self {
        let (holders, free, rounds) = (Vec::new(), Vec::new(), Rounds::new(length));
        Self { slots, length, per_key, holders, free, turns: 0, rounds }
    }

    /// Slots that are taken.
    pub(super) fn running(&self) -> usize {
        self.holders.len().saturating_sub(self.free.len())
    }

    fn has_room(&self) -> bool {
        self.slots.is_none_or(|slots| self.running() < slots)
    }

    fn take(&mut self, running: &Arc<Running>) -> usize {
        self.turns += 1;
        running.begin();
        let holder = Some((self.turns, Arc::clone(running)));
        if let Some(at) = self.free.pop()
            && let Some(place) = self.holders.get_mut(at)
        {
            *place = holder;
            return at;
        }
        self.holders.push(holder);
        self.holders.len() - 1
    }

    /// Takes a slot or a place in line; `evicted` is whoever made room.
    pub(super) fn enter(
        &mut self,
        account: &Account,
        evicted: &mut Option<Arc<Ticket>>,
    ) -> Result<Entered, QueueError> {
        let (waiting, own) = (self.rounds.waiting(), self.rounds.waits(&account.principal));
        // Behind others of its own in any case: they may wait for a bound that was raised since.
        if own == 0 && self.has_room() && account.may_run() {
            return Ok(Entered::Slot(self.take(&account.running)));
        }
        if let Some(most) = account.most
            && self.length == 0
            && !account.may_run()
        {
            return Err(QueueError::Concurrent(most));
        }
        if let Some(most) = self.per_key
            && own >= most
        {
            return Err(QueueError::PerKey(most));
        }
        if waiting >= self.length {
            let newest = self.rounds.evict(account).ok_or(QueueError::Full(waiting))?;
            newest.fate.store(REFUSED, Ordering::Release);
            *evicted = Some(newest);
        }
        let ticket = Arc::new(Ticket {
            principal: account.principal.clone(),
            running: Arc::clone(&account.running),
            fate: AtomicU8::new(WAITING),
            at: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
        });
        self.rounds.push(account, account.running.get() > 0, Arc::clone(&ticket));
        // One whose bound is higher now than when the others of its lane came may be next already.
        while let Some(next) = self.next() {
            next.waker.wake();
        }
        Ok(Entered::Line(ticket))
    }

    /// Gives back a slot; whose it was.
    pub(super) fn leave(&mut self, at: usize) -> Option<Arc<Running>> {
        let (_, running) = self.holders.get_mut(at)?.take()?;
        self.free.push(at);
        Some(running)
    }

    /// Gives a free slot to whoever may have it first; to be woken.
    pub(super) fn next(&mut self) -> Option<Arc<Ticket>> {
        if !self.has_room() {
            return None;
        }
        let next = self.rounds.pop(|lane| lane.may_run(lane.running.get()))?;
        let at = self.take(&next.running);
        next.at.store(at, Ordering::Relaxed);
        next.fate.store(GRANTED, Ordering::Release);
        Some(next)
    }
}

/// What was there at a moment, to see how it goes on.
pub(super) struct Picture {
    rounds: Rounds<Arc<Ticket>>,
    /// Those that run, the oldest first; `None` where there is a slot for everybody, so that nobody waits for others.
    ends: Option<VecDeque<Arc<Running>>>,
}

impl State {
    /// Copied under the lock, thought about without it.
    pub(super) fn picture(&self) -> Picture {
        let ends = self.slots.map(|_| {
            let mut holders: Vec<_> = self.holders.iter().flatten().cloned().collect();
            holders.sort_unstable_by_key(|(turn, _)| *turn);
            holders.into_iter().map(|(_, running)| running).collect()
        });
        Picture { rounds: self.rounds.clone(), ends }
    }
}

impl Picture {
    /// How many turns are given until this one has its own, if nobody came or went, and turns ended in the order in which they began;
    /// 0: it does not wait.
    pub(super) fn place(self, ticket: &Arc<Ticket>) -> usize {
        let Self { mut rounds, ends } = self;
        let Some(mut ends) = ends else {
            return rounds.place_among_own(&ticket.principal, |other| Arc::ptr_eq(other, ticket));
        };
        let mut counts = BTreeMap::new();
        let mut turns = 0;
        while let Some(ended) = ends.pop_front() {
            *count(&mut counts, &ended) -= 1;
            let next = rounds.pop(|lane| lane.may_run(*count(&mut counts, &lane.running)));
            let Some(next) = next else { continue };
            turns += 1;
            if Arc::ptr_eq(&next, ticket) {
                return turns;
            }
            *count(&mut counts, &next.running) += 1;
            ends.push_back(Arc::clone(&next.running));
        }
        // Behind answers of its own that are still being taken.
        let rest = std::iter::from_fn(|| rounds.pop(|_| true));
        rest.enumerate().find(|(_, other)| Arc::ptr_eq(other, ticket)).map_or(0, |(more, _)| turns + more + 1)
    }
}

fn count<'a>(counts: &'a mut BTreeMap<usize, u32>, running: &Arc<Running>) -> &'a mut u32 {
    counts.entry(Arc::as_ptr(running).addr()).or_insert_with(|| running.get())
}

//! The queue over time, without time: what random arrivals, service and leaving, drawn from a seed, make of the real [`Slots`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{Account, Load, Progress, QueueError, Slots, Turn};
use crate::config;
use crate::listen::clock::{Clock, Sweeper};
use crate::types::{KeyId, Principal};

/// The account of a key.
pub(super) fn account(key: &str, weight: u32) -> Account {
    Account { principal: Principal::Key(KeyId(key.into())), weight, most: None, running: Arc::default() }
}

/// The same, with so many turns at once.
pub(super) fn bounded(key: &str, weight: u32, most: u32) -> Account {
    Account { most: Some(most), ..account(key, weight) }
}

/// Was it woken?
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

/// Splitmix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

type Future = Pin<Box<dyn std::future::Future<Output = Result<Turn, QueueError>>>>;

pub(super) struct Waiter {
    pub(super) key: usize,
    future: Future,
    pub(super) flag: Arc<Flag>,
    pub(super) progress: Arc<Progress>,
    /// Turns given to each key before it came.
    pub(super) before: Vec<usize>,
}

/// A request has its turn.
pub(super) struct Given {
    pub(super) key: usize,
    /// Turns given to each key while it waited, its own not counted.
    pub(super) meanwhile: Vec<usize>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Comes(usize),
    Ends(usize),
}

pub(super) struct World {
    pub(super) slots: Arc<Slots>,
    clock: Arc<Clock>,
    pub(super) keys: Vec<Account>,
    pub(super) random: Random,
    now: u64,
    ids: usize,
    pub(super) events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    pub(super) waiting: BTreeMap<usize, Waiter>,
    pub(super) running: BTreeMap<usize, (usize, Turn)>,
    /// Those that run, the oldest first.
    pub(super) order: Vec<usize>,
    /// Given to each key.
    pub(super) turns: Vec<usize>,
    /// Refused to each key.
    pub(super) full: Vec<usize>,
}

impl World {
    pub(super) fn new(seed: u64, slots: usize, length: usize, weights: &[u32]) -> Self {
        let keys = weights.iter().enumerate().map(|(n, &w)| account(&n.to_string(), w)).collect();
        Self::of(seed, Some(slots), length, keys)
    }

    /// Of these principals; without slots there is no bound but their own.
    pub(super) fn of(seed: u64, slots: Option<usize>, length: usize, keys: Vec<Account>) -> Self {
        Self {
            slots: Slots::new(slots, config::Queue { length, wait: None, per_key: None }),
            clock: Sweeper::default().clock(),
            random: Random(seed),
            now: 0,
            ids: 0,
            events: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            order: Vec::new(),
            turns: vec![0; keys.len()],
            full: vec![0; keys.len()],
            keys,
        }
    }

    pub(super) fn later(&mut self, within: u64, event: Event) {
        self.ids += 1;
        let at = self.now + self.random.below(within);
        self.events.push(Reverse((at, self.ids, event)));
    }

    pub(super) fn next(&mut self) -> Event {
        let Reverse((at, _, event)) = self.events.pop().expect("something happens");
        self.now = at;
        event
    }

    pub(super) fn waits(&self, key: usize) -> usize {
        self.waiting.values().filter(|waiter| waiter.key == key).count()
    }

    /// A request of this key comes; it may have its turn, or none, at once.
    pub(super) fn comes(&mut self, key: usize) {
        let (slots, clock, account) =
            (Arc::clone(&self.slots), Arc::clone(&self.clock), self.keys[key].clone());
        let progress = Arc::new(Progress::default());
        let told = Arc::clone(&progress);
        let future = Box::pin(async move { slots.wait(&clock, &account, Some(&told)).await });
        let (flag, before) = (Flag::new(), self.turns.clone());
        flag.set();
        self.ids += 1;
        self.waiting.insert(self.ids, Waiter { key, future, flag, progress, before });
    }

    /// Polls whoever was woken, and says who got a turn. A turn ends within `service`.
    pub(super) fn poll(&mut self, service: u64) -> Vec<Given> {
        let mut given = Vec::new();
        while let Some((&id, waiter)) =
            self.waiting.iter_mut().find_map(|(id, w)| w.flag.take().then_some((id, w)))
        {
            let waker = Waker::from(Arc::clone(&waiter.flag));
            let Poll::Ready(result) = waiter.future.as_mut().poll(&mut Context::from_waker(&waker)) else {
                continue;
            };
            let Waiter { key, before, .. } = self.waiting.remove(&id).unwrap();
            match result {
                Ok(turn) => {
                    let meanwhile =
                        self.turns.iter().zip(&before).map(|(now, before)| now - before).collect();
                    given.push(Given { key, meanwhile });
                    self.turns[key] += 1;
                    self.running.insert(id, (key, turn));
                    self.order.push(id);
                    self.later(service, Event::Ends(id));
                }
                Err(error) => {
                    assert!(matches!(error, QueueError::Full(_)), "{error}");
                    self.full[key] += 1;
                }
            }
        }
        given
    }

    /// A turn is over; whose it was.
    pub(super) fn ends(&mut self, id: usize) -> usize {
        self.order.retain(|other| *other != id);
        let (key, turn) = self.running.remove(&id).expect("it runs");
        drop(turn);
        key
    }

    /// How many turns of this key are not over.
    pub(super) fn runs(&self, key: usize) -> usize {
        self.running.values().filter(|(of, _)| *of == key).count()
    }

    /// What must hold at any time at which everybody woken was polled.
    pub(super) fn check(&self) {
        let Load { waiting, running, slots } = self.slots.load();
        assert_eq!((waiting, running), (self.waiting.len(), self.running.len()), "a slot was lost or found");
        assert!(slots.is_none_or(|slots| running <= slots));
        for (key, account) in self.keys.iter().enumerate() {
            let runs = self.runs(key);
            // Whom nothing bounds, nobody counts.
            let counted = if slots.is_some() || account.most.is_some() { runs } else { 0 };
            assert_eq!(counted, account.running.get() as usize);
            let at_bound = account.most.is_some_and(|most| runs == most as usize);
            assert!(account.most.is_none_or(|most| runs <= most as usize), "{runs} of key {key}");
            assert!(
                self.waits(key) == 0 || at_bound || Some(running) == slots,
                "a slot is free and key {key} waits"
            );
        }
    }
}

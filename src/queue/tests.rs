//! The queue from outside: bounds, leaving, places. Order over time is in `simulation`.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::simulation::{Flag, account, bounded};
use super::{Load, Phase, Progress, QueueError, Slots, Turn};
use crate::config;
use crate::listen::clock::{Clock, Sweeper};

fn slots(n: usize, length: usize) -> (Arc<Slots>, Arc<Clock>) {
    let queue = config::Queue { length, wait: Some(Duration::from_mins(1)), per_key: None };
    (Slots::new(Some(n), queue), Sweeper::default().clock())
}

fn poll(future: Pin<&mut impl Future<Output = Result<Turn, QueueError>>>) -> Poll<Result<Turn, QueueError>> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn now(future: impl Future<Output = Result<Turn, QueueError>>) -> Result<Turn, QueueError> {
    match poll(pin!(future)) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn one_principal_is_served_in_order_and_leaving_passes_the_turn_on() {
    let (slots, clock) = slots(1, 2);
    let one = account("one", 1);
    let first = now(slots.wait(&clock, &one, None)).expect("a free slot");
    let mut second = Box::pin(slots.wait(&clock, &one, None));
    let mut third = Box::pin(slots.wait(&clock, &one, None));
    assert!(poll(second.as_mut()).is_pending());
    assert!(poll(third.as_mut()).is_pending());
    assert_eq!(now(slots.wait(&clock, &one, None)).unwrap_err(), QueueError::Full(2));
    drop(first);
    assert!(poll(third.as_mut()).is_pending(), "the second is first");
    drop(second);
    let Poll::Ready(Ok(turn)) = poll(third.as_mut()) else { panic!("the turn was lost") };
    assert_eq!(slots.load(), Load { waiting: 0, running: 1, slots: Some(1) });
    drop(turn);
    assert_eq!(slots.load(), Load { waiting: 0, running: 0, slots: Some(1) });
}

#[test]
fn who_runs_already_is_not_new() {
    for slots_of_all in [1, 3] {
        let (slots, clock) = slots(slots_of_all, 10);
        let (heavy, light) = (account("heavy", 1), account("light", 1));
        let mut turns: Vec<_> =
            (0..slots_of_all).map(|_| now(slots.wait(&clock, &heavy, None)).expect("a free slot")).collect();
        let mut many: Vec<_> = (0..5).map(|_| Box::pin(slots.wait(&clock, &heavy, None))).collect();
        assert!(many.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let mut one = Box::pin(slots.wait(&clock, &light, None));
        assert!(poll(one.as_mut()).is_pending());
        turns.pop();
        assert!(poll(one.as_mut()).is_ready(), "the next slot is the light one's, of {slots_of_all}");
    }
}

#[test]
fn nobody_waits_where_the_length_is_zero_and_all_pass_without_a_bound() {
    let (none, clock) = slots(1, 0);
    let one = account("one", 0);
    let _turn = now(none.wait(&clock, &one, None)).expect("a free slot");
    assert_eq!(now(none.wait(&clock, &one, None)).unwrap_err(), QueueError::Full(0));
    assert_eq!(now(none.wait(&clock, &account("two", 9), None)).unwrap_err(), QueueError::Full(0));
    let free = Slots::new(None, config::Queue { length: 0, wait: None, per_key: None });
    let turns: Vec<_> = (0..100).map(|_| now(free.wait(&clock, &one, None)).expect("no bound")).collect();
    assert_eq!(free.load(), Load { waiting: 0, running: 100, slots: None });
    drop(turns);
    assert_eq!(free.load(), Load { waiting: 0, running: 0, slots: None });
}

#[test]
fn the_place_is_by_the_order_of_turns_and_not_of_arrival() {
    let (slots, clock) = slots(1, 8);
    let (heavy, light) = (account("heavy", 1), account("light", 1));
    let running = now(slots.wait(&clock, &heavy, None)).expect("a free slot");
    let progress: [Progress; 4] = Default::default();
    let mut waiting: Vec<_> =
        progress[..3].iter().map(|progress| Box::pin(slots.wait(&clock, &heavy, Some(progress)))).collect();
    let places = || progress.each_ref().map(Progress::get);
    for future in &mut waiting {
        assert!(poll(future.as_mut()).is_pending());
    }
    assert_eq!(places(), [Phase::Queue(1), Phase::Queue(2), Phase::Queue(3), Phase::Begun]);
    drop(running);
    let Poll::Ready(Ok(_running)) = poll(waiting[0].as_mut()) else { panic!("no turn") };
    waiting.push(Box::pin(slots.wait(&clock, &light, Some(&progress[3]))));
    for future in waiting[1..].iter_mut().rev() {
        assert!(poll(future.as_mut()).is_pending());
    }
    assert_eq!(places()[1..], [Phase::Queue(2), Phase::Queue(3), Phase::Queue(1)]);
}

#[test]
fn whoever_makes_room_is_told_at_once() {
    let (slots, clock) = slots(1, 2);
    let (heavy, light) = (account("heavy", 1), account("light", 1));
    let _running = now(slots.wait(&clock, &heavy, None)).expect("a free slot");
    let flags = [Flag::new(), Flag::new()];
    let mut waiting: Vec<_> = flags.iter().map(|_| Box::pin(slots.wait(&clock, &heavy, None))).collect();
    for (future, flag) in waiting.iter_mut().zip(&flags) {
        assert!(future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(flag)))).is_pending());
    }
    let mut came = Box::pin(slots.wait(&clock, &light, None));
    assert!(poll(came.as_mut()).is_pending());
    assert!(!flags[0].take() && flags[1].take(), "the newest of the largest is woken");
    let Poll::Ready(Err(error)) = poll(waiting[1].as_mut()) else { panic!("it waits") };
    assert_eq!(error, QueueError::Full(2));
    assert_eq!(now(slots.wait(&clock, &heavy, None)).unwrap_err(), QueueError::Full(2));
    assert_eq!(slots.load().waiting, 2);
    drop((waiting, came));
    assert_eq!(slots.load(), Load { waiting: 0, running: 1, slots: Some(1) });
}

#[test]
fn the_wait_ends() {
    let queue = config::Queue { length: 1, wait: Some(Duration::ZERO), per_key: None };
    let (slots, clock, one) = (Slots::new(Some(1), queue), Sweeper::default().clock(), account("one", 1));
    let _running = now(slots.wait(&clock, &one, None)).expect("a free slot");
    assert_eq!(now(slots.wait(&clock, &one, None)).unwrap_err(), QueueError::Late(Duration::ZERO));
    assert_eq!(slots.load().waiting, 0);
}

#[test]
fn a_key_at_its_bound_waits_although_slots_are_free_and_its_own_end_lets_the_next_in() {
    let queue = config::Queue { length: 8, wait: None, per_key: Some(2) };
    for of_all in [Some(4), None] {
        let (slots, clock) = (Slots::new(of_all, queue), Sweeper::default().clock());
        let (one, other) = (bounded("one", 1, 1), account("other", 1));
        let first = now(slots.wait(&clock, &one, None)).expect("a free slot");
        let progress = Progress::default();
        let mut second = Box::pin(slots.wait(&clock, &one, None));
        let mut third = Box::pin(slots.wait(&clock, &one, Some(&progress)));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        assert_eq!(progress.get(), Phase::Queue(2));
        assert_eq!(now(slots.wait(&clock, &one, None)).unwrap_err(), QueueError::PerKey(2));
        let passes = now(slots.wait(&clock, &other, None)).expect("others pass");
        drop(passes);
        assert!(poll(second.as_mut()).is_pending(), "another's end is none of its own");
        drop(first);
        let Poll::Ready(Ok(second)) = poll(second.as_mut()) else { panic!("its own end lets it in") };
        assert!(poll(third.as_mut()).is_pending());
        assert_eq!((progress.get(), slots.load().running), (Phase::Queue(1), 1));
        // The slot serves others, and the answer still counts for its own key until it was taken.
        let taken_slowly = second.give_slot();
        assert_eq!(slots.load().running, 0);
        assert!(poll(third.as_mut()).is_pending());
        drop(taken_slowly);
        assert!(poll(third.as_mut()).is_ready());
        drop(third);
        assert_eq!((slots.load().running, one.running.get()), (0, 0));
    }
}

#[test]
fn a_bound_that_is_raised_holds_for_those_who_wait_already() {
    let queue = config::Queue { length: 8, wait: None, per_key: None };
    let (slots, clock) = (Slots::new(Some(4), queue), Sweeper::default().clock());
    let one = bounded("one", 1, 1);
    let _first = now(slots.wait(&clock, &one, None)).expect("a free slot");
    let mut second = Box::pin(slots.wait(&clock, &one, None));
    assert!(poll(second.as_mut()).is_pending());
    let raised = super::Account { most: Some(2), ..one.clone() };
    let mut third = Box::pin(slots.wait(&clock, &raised, None));
    assert!(poll(third.as_mut()).is_pending(), "behind the second");
    assert!(poll(second.as_mut()).is_ready());
}

#[test]
fn where_nobody_may_wait_the_own_bound_is_named() {
    let queue = config::Queue { length: 0, wait: None, per_key: None };
    let (slots, clock) = (Slots::new(Some(4), queue), Sweeper::default().clock());
    let one = bounded("one", 1, 1);
    let _first = now(slots.wait(&clock, &one, None)).expect("a free slot");
    assert_eq!(now(slots.wait(&clock, &one, None)).unwrap_err(), QueueError::Concurrent(1));
}

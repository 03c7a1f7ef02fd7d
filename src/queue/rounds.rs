//! Rounds: whose turn is next.
//!
//! Takes waiting requests, each with its [`Account`]; promises turns by principal, in rounds: deficit round robin with a list
//! of new principals before the old ones (RFC 8290, sections 4.1 and 4.2). A turn costs 1 and a round gives each principal its
//! weight, so that turns are in proportion to weights. Refuses nothing by itself, but finds whom to send away.
//!
//! A principal that has as many turns as it may have is passed by and keeps its place: a turn of its own that ends makes it
//! the next, if it has turns left in the round. A round is over when nobody in it may have a turn.
//!
//! Two things differ from packets, because a turn may last minutes. Principals take a round's turns one by one, not in one go,
//! and the new list gives one turn: else a weight of 100 would let a hundred turns pass before somebody with little to ask.
//! And who has nothing waiting is remembered until its round is over, with the turns it has left: so coming and going gains
//! no turn, and a second question within the round does not wait for the next.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use super::Account;
use crate::admit::Running;
use crate::types::Principal;

/// So many turns in a row may go to new principals while an old one waits: a flood of addresses does not starve the rest.
const NEW_IN_A_ROW: u32 = 16;

/// What one principal has waiting.
#[derive(Debug, Clone)]
pub(super) struct Lane<T> {
    principal: Principal,
    weight: usize,
    /// Turns at once.
    most: Option<u32>,
    /// How many it has.
    pub(super) running: Arc<Running>,
    /// Turns left in this round.
    credit: usize,
    requests: VecDeque<T>,
}

impl<T> Lane<T> {
    /// May it have one more turn, where it has so many?
    pub(super) fn may_run(&self, running: u32) -> bool {
        self.most.is_none_or(|most| running < most)
    }

    /// By what waits relative to the weight.
    fn compare(&self, other: &Self) -> Ordering {
        (self.requests.len() * other.weight).cmp(&(other.requests.len() * self.weight))
    }
}

/// All who wait, oldest first within a principal.
#[derive(Debug, Clone)]
pub(super) struct Rounds<T> {
    /// Came when it had nothing waiting; nobody in it is empty.
    new: VecDeque<Lane<T>>,
    /// Has turns left in this round.
    now: VecDeque<Lane<T>>,
    /// Has used its round up.
    next: VecDeque<Lane<T>>,
    waiting: usize,
    row: u32,
    length: usize,
}

impl<T> Rounds<T> {
    /// For so many requests; the caller keeps to it.
    pub(super) fn new(length: usize) -> Self {
        let (new, now, next) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { new, now, next, waiting: 0, row: 0, length }
    }

    /// How many requests wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of this principal do.
    pub(super) fn waits(&self, principal: &Principal) -> usize {
        if self.waiting == 0 {
            return 0;
        }
        self.find(principal).map_or(0, |lane| lane.requests.len())
    }

    fn find(&self, principal: &Principal) -> Option<&Lane<T>> {
        let mut lanes = self.new.iter().chain(&self.now).chain(&self.next);
        lanes.find(|lane| lane.principal == *principal)
    }

    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane<T>> {
        self.new.iter_mut().chain(&mut self.now).chain(&mut self.next)
    }

    fn lane(&mut self, principal: &Principal) -> Option<&mut Lane<T>> {
        self.lanes().find(|lane| lane.principal == *principal)
    }

    /// One more waits. Where others of its principal run already, it is not new: it has had a turn.
    pub(super) fn push(&mut self, account: &Account, runs: bool, request: T) {
        self.waiting += 1;
        let weight = account.weight();
        if let Some(lane) = self.lane(&account.principal) {
            (lane.weight, lane.most) = (weight, account.most);
            lane.credit = lane.credit.min(weight);
            lane.requests.push_back(request);
            return;
        }
        // Most who are remembered have nothing waiting: a bound in memory is worth more than their one turn too early.
        if self.new.len() + self.now.len() + self.next.len() >= self.length.saturating_mul(2) {
            self.now.retain(|lane| !lane.requests.is_empty());
            self.next.retain(|lane| !lane.requests.is_empty());
        }
        let requests = VecDeque::from([request]);
        let (principal, running) = (account.principal.clone(), Arc::clone(&account.running));
        let lane = Lane { principal, weight, most: account.most, running, credit: weight, requests };
        if runs { self.now.push_back(lane) } else { self.new.push_back(lane) }
    }

    /// Takes whose turn it is, among the lanes that `may` have one.
    pub(super) fn pop(&mut self, mut may: impl FnMut(&Lane<T>) -> bool) -> Option<T> {
        if self.waiting == 0 {
            // A slot stays free: whatever was taken before, nobody went short.
            *self = Self::new(self.length);
            return None;
        }
        if self.row >= NEW_IN_A_ROW || self.new.is_empty() {
            self.row = 0;
            if let Some(request) = self.pop_old(&mut may) {
                return Some(request);
            }
        }
        let at = self.new.iter().position(&mut may);
        if let Some(lane) = at.and_then(|at| self.new.remove(at)) {
            self.row += 1;
            return self.serve(lane);
        }
        // Those who are new have all the turns that they may have: nobody waits behind them.
        self.pop_old(&mut may)
    }

    fn pop_old(&mut self, may: &mut impl FnMut(&Lane<T>) -> bool) -> Option<T> {
        for _this_and_next in 0..2 {
            let mut at = 0;
            for _ in 0..self.now.len() {
                let lane = self.now.get(at)?;
                if !lane.requests.is_empty() && !may(lane) {
                    at += 1;
                    continue;
                }
                let lane = self.now.remove(at)?;
                if !lane.requests.is_empty() {
                    return self.serve(lane);
                }
                // Without a turn in this round, it is forgotten: the round it had is over.
                if lane.credit < lane.weight {
                    self.now.push_back(lane);
                }
            }
            // The round is over. Whoever is at its bound keeps its place, and gains nothing by it.
            self.now.retain(|lane| !lane.requests.is_empty());
            self.now.append(&mut self.next);
        }
        None
    }

    /// Gives it one turn, and a place among the old, be it empty or not.
    fn serve(&mut self, mut lane: Lane<T>) -> Option<T> {
        let request = lane.requests.pop_front()?;
        self.waiting -= 1;
        lane.credit = lane.credit.saturating_sub(1);
        if lane.credit == 0 {
            lane.credit = lane.weight;
            self.next.push_back(lane);
        } else {
            self.now.push_back(lane);
        }
        Some(request)
    }

    /// Takes out the request that it is.
    pub(super) fn remove(&mut self, principal: &Principal, is: impl FnMut(&T) -> bool) {
        let Some(lane) = self.lane(principal) else { return };
        let at = lane.requests.iter().position(is);
        if at.and_then(|at| lane.requests.remove(at)).is_some() {
            self.waiting -= 1;
            // Who was new has had no turn, so there is nothing to remember.
            self.new.retain(|lane| !lane.requests.is_empty());
        }
    }

    /// The place of a request among those of its principal; 0: it does not wait.
    pub(super) fn place_among_own(&self, principal: &Principal, is: impl FnMut(&T) -> bool) -> usize {
        let lane = self.find(principal);
        lane.and_then(|lane| lane.requests.iter().position(is)).map_or(0, |at| at + 1)
    }

    /// Makes room for one of this account: takes out the newest of the principal that has most waiting for its weight.
    /// `None` where that would make nothing fairer: the only one that a principal has waiting stays in any case, and who
    /// has none waiting gets room from whoever has several.
    pub(super) fn evict(&mut self, account: &Account) -> Option<T> {
        let (own, weight) = (self.lane(&account.principal).map_or(0, |l| l.requests.len()), account.weight());
        let largest = self.lanes().filter(|lane| lane.requests.len() > 1).max_by(|a, b| a.compare(b))?;
        if own > 0 && (own + 1) * largest.weight >= largest.requests.len() * weight {
            return None;
        }
        let newest = largest.requests.pop_back()?;
        self.waiting -= 1;
        Some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::simulation::account;

    fn order(rounds: &mut Rounds<&'static str>) -> String {
        std::iter::from_fn(|| rounds.pop(|_| true)).collect::<Vec<_>>().join(" ")
    }

    /// How many turns are given until this one has its own.
    fn place(rounds: &Rounds<&'static str>, wanted: &str) -> usize {
        let mut rounds = rounds.clone();
        let turns = std::iter::from_fn(|| rounds.pop(|_| true));
        turns.enumerate().find(|(_, request)| *request == wanted).map_or(0, |(turns, _)| turns + 1)
    }

    #[test]
    fn principals_take_turns_by_weight_and_new_ones_come_first() {
        let (a, b, c) = (account("a", 1), account("b", 2), account("c", 1));
        let mut rounds = Rounds::new(100);
        for request in ["a1", "a2", "a3"] {
            rounds.push(&a, false, request);
        }
        for request in ["b1", "b2", "b3", "b4"] {
            rounds.push(&b, false, request);
        }
        assert_eq!(rounds.pop(|_| true), Some("a1"));
        rounds.push(&c, false, "c1");
        assert_eq!(place(&rounds, "c1"), 2, "behind b, who is new as well");
        assert_eq!(place(&rounds, "a3"), 7);
        assert_eq!(place(&rounds, "a1"), 0);
        assert_eq!(order(&mut rounds), "b1 c1 b2 a2 b3 b4 a3");
        assert_eq!(rounds.new.len() + rounds.now.len() + rounds.next.len(), 0, "nobody is remembered");
    }

    #[test]
    fn who_is_new_and_may_not_run_hides_nobody() {
        let (old, bound) = (account("old", 1), account("bound", 1));
        let mut rounds = Rounds::new(100);
        for request in ["o1", "o2"] {
            rounds.push(&old, false, request);
        }
        assert_eq!(rounds.pop(|_| true), Some("o1"));
        rounds.push(&bound, false, "b1");
        let may = |lane: &Lane<&str>| lane.principal != bound.principal;
        assert_eq!(rounds.pop(may), Some("o2"));
        assert_eq!(rounds.pop(may), None);
        assert_eq!(order(&mut rounds), "b1");
    }

    #[test]
    fn coming_and_going_gains_nothing() {
        // `goes` has one waiting at most, and sends the next when it has let some turns pass; `stays` has always many.
        for (weights, share) in [((1, 1), 500), ((1, 9), 100), ((2, 8), 200), ((3, 1), 750)] {
            for pause in 0..12 {
                let (goes, stays) = (account("goes", weights.0), account("stays", weights.1));
                let (mut rounds, mut turns, mut passed) = (Rounds::new(2_000), 0, pause);
                rounds.push(&stays, false, "stays");
                for _ in 0..1_000 {
                    rounds.push(&stays, false, "stays");
                    if passed == pause {
                        rounds.push(&goes, false, "goes");
                    }
                    passed += 1;
                    if rounds.pop(|_| true) == Some("goes") {
                        (turns, passed) = (turns + 1, 0);
                    }
                }
                assert!(turns <= share + weights.0, "{turns} turns of 1000 at {weights:?} and {pause}");
            }
        }
    }

    #[test]
    fn a_flood_of_new_principals_starves_nobody_and_is_not_remembered() {
        let (mut rounds, mut row, mut most) = (Rounds::new(20), 0, 0);
        let old = account("old", 100);
        (0..10).for_each(|_| rounds.push(&old, false, "old"));
        for n in 0..2_000 {
            rounds.push(&account(&format!("new {n}"), 1), false, "new");
            row += 1;
            if rounds.pop(|_| true) == Some("old") {
                row = 0;
                rounds.push(&old, false, "old");
                assert_eq!(rounds.pop(|_| true), Some("new"));
            }
            assert!(row <= 16, "{row} turns in a row");
            most = most.max(rounds.new.len() + rounds.now.len() + rounds.next.len());
        }
        assert_eq!(most, 40);
        while rounds.pop(|_| true).is_some() {}
        assert_eq!(rounds.new.len() + rounds.now.len() + rounds.next.len(), 0);
    }

    #[test]
    fn room_is_made_by_the_largest_for_its_weight() {
        let (a, b, c) = (account("a", 4), account("b", 1), account("c", 1));
        let mut rounds = Rounds::new(8);
        for request in ["a1", "a2", "a3", "a4", "a5"] {
            rounds.push(&a, false, request);
        }
        for request in ["b1", "b2", "b3"] {
            rounds.push(&b, false, request);
        }
        assert_eq!(rounds.evict(&b), None, "it is the largest itself");
        assert_eq!(rounds.evict(&a), Some("b3"));
        assert_eq!(rounds.evict(&c), Some("b2"), "two for a weight of one are more than five for four");
        assert_eq!(rounds.evict(&b), None, "with two it would be the largest");
        assert_eq!(rounds.evict(&c), Some("a5"), "the only one of b stays");
    }
}

//! Model time of a day that is used while answers run: what each of them is charged with, and which one has to end.
//!
//! An answer is charged with what its model took lately, and with the time that it has its slot once that is more: waiting costs
//! nothing, loading a model does. Looked at once a second by the answers themselves; whoever has no such limit has nothing of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::Instant;

use super::budget::Short;
use crate::listen::clock::{Clock, Millis};
use crate::record::Began;

/// An answer of a model of which nothing is known.
const UNKNOWN: Millis = 10_000;
/// What an answer is charged with at least.
pub(super) const LEAST: Millis = 1_000;
const MOST: Millis = 60_000;
const SECOND: Millis = 1_000;

/// One answer's part of the model time.
#[derive(Debug)]
pub(super) struct Charge {
    /// What it is charged with at least.
    reserved: Millis,
    began: Began,
    /// It must end.
    over: AtomicBool,
    /// The second in which it was looked at last.
    looked: AtomicU64,
}

impl Charge {
    /// What it is charged with by now.
    fn now(&self) -> Millis {
        self.reserved.max(self.worked().unwrap_or(0))
    }

    /// What it takes of the day, once those that must end have ended: such a one has had its time, and will not use the rest.
    fn claim(&self) -> Millis {
        if self.is_told() { self.worked().unwrap_or(0) } else { self.now() }
    }

    /// Was it told to end?
    fn is_told(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// For how long it has had its slot; `None`: it has none yet.
    pub(super) fn worked(&self) -> Option<Millis> {
        self.began
            .get()
            .map(Instant::elapsed)
            .map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX))
    }

    /// Must it end? Once in a second `sweep` looks whether one of its principal must. The connection is woken when that is due.
    pub(super) fn is_over(&self, clock: &Clock, sweep: impl FnOnce(u64)) -> bool {
        let second = clock.now() / SECOND;
        if self.looked.swap(second, Ordering::Relaxed) != second {
            sweep(second);
        }
        clock.passed((second + 1) * SECOND);
        self.is_told()
    }
}

/// What one principal has running, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Charges {
    all: Vec<Arc<Charge>>,
    swept: u64,
}

impl Charges {
    /// What all of it is charged with by now.
    pub(super) fn now(&self) -> Millis {
        self.all.iter().map(|charge| charge.now()).fold(0, Millis::saturating_add)
    }

    /// What the next answer of a model with this mean is charged with, where so much is left; `None`: it does not fit.
    fn next(&self, left: Millis, mean: Option<Millis>) -> Option<Millis> {
        let next = mean.unwrap_or(UNKNOWN).clamp(LEAST, MOST);
        match left {
            left if left >= next => Some(next),
            // Its last answer may be a short one.
            left if self.all.is_empty() && left >= LEAST => Some(left),
            _ => None,
        }
    }

    /// Takes an answer's part of what is left, or says that it does not fit.
    pub(super) fn begin(
        &mut self,
        left: Millis,
        mean: Option<Millis>,
        began: &Began,
        short: Short,
    ) -> Result<Arc<Charge>, Short> {
        let reserved = self.next(left.saturating_sub(self.now()), mean).ok_or(short)?;
        let charge = Arc::new(Charge {
            reserved,
            began: Arc::clone(began),
            over: AtomicBool::new(false),
            looked: AtomicU64::new(0),
        });
        self.all.push(Arc::clone(&charge));
        Ok(charge)
    }

    /// Is there nothing more to take?
    pub(super) fn is_spent(&self, left: Millis) -> bool {
        left.saturating_sub(self.now()) < LEAST
    }

    /// It is over.
    pub(super) fn end(&mut self, charge: &Arc<Charge>) {
        self.all.retain(|other| !Arc::ptr_eq(other, charge));
    }

    /// Ends the youngest answer that has its turn, where they take more than is left; once a second. One that waits takes nothing yet.
    pub(super) fn sweep(&mut self, second: u64, left: Millis) {
        if self.swept >= second {
            return;
        }
        self.swept = second;
        let claimed = self.all.iter().map(|charge| charge.claim()).fold(0, Millis::saturating_add);
        let works = |charge: &&Arc<Charge>| !charge.is_told() && charge.worked().is_some();
        if claimed > left
            && let Some(youngest) = self.all.iter().rfind(works)
        {
            youngest.over.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Effective;
    use super::super::budget::{Budget, Moment};
    use super::*;
    use crate::store::usage::Spent;

    const fn at(seconds: u64) -> Moment {
        Moment { now: seconds * 1_000, wall: 1_768_645_985 + seconds.cast_signed() }
    }

    #[test]
    fn running_answers_are_charged_with_what_they_may_take() {
        let limits = Effective { gpu_seconds_per_day: Some(25), ..Effective::default() };
        let mut budget = Budget::of(Spent::default(), at(0));
        let mut charge = |mean| budget.charge(&limits, || mean, &Began::default(), at(0));
        let short = Short { what: "seconds of the model server per day", limit: 25, seconds: 5 };
        assert!(charge(None).unwrap().is_some(), "10 s where nothing is known");
        assert!(charge(Some(3)).unwrap().is_some(), "a second at least");
        assert_eq!(charge(Some(90_000)).unwrap_err(), short, "a minute at most");
        let third = charge(Some(14_000)).unwrap().unwrap();
        assert_eq!(budget.spent(&limits, at(0)), Some(short));
        budget.discharge(&third);
        assert_eq!(budget.spent(&limits, at(0)), None);
        // What is left is less than the mean, and others run.
        budget.settle(&limits, (0, 0), 0, 12_000, at(0));
        assert_eq!(budget.charge(&limits, || Some(5_000), &Began::default(), at(0)).unwrap_err(), short);
        let mut alone = Budget::of(Spent { day_gpu_ms: 23_000, ..Spent::default() }, at(0));
        let last = alone.charge(&limits, || Some(5_000), &Began::default(), at(0)).unwrap();
        assert!(last.is_some(), "alone, it gets the two seconds that are left");
        let mut gone = Budget::of(Spent { day_gpu_ms: 24_500, ..Spent::default() }, at(0));
        let until_midnight = 86_400 - (10 * 3_600 + 33 * 60 + 5);
        assert_eq!(gone.spent(&limits, at(0)), Some(Short { seconds: until_midnight, ..short }));
        let free = alone.charge(&Effective::default(), || None, &Began::default(), at(0));
        assert!(free.unwrap().is_none());
    }

    #[test]
    fn the_youngest_ends_and_one_a_second() {
        let limits = Effective { gpu_seconds_per_day: Some(25), ..Effective::default() };
        let mut budget = Budget::of(Spent::default(), at(0));
        let clock = crate::listen::clock::Sweeper::default().clock();
        let turn = |has: bool| {
            let began = Began::default();
            if has {
                began.set(Instant::now()).unwrap();
            }
            began
        };
        let mut charge = |has| budget.charge(&limits, || None, &turn(has), at(0)).unwrap().unwrap();
        let (old, young) = (charge(true), charge(true));
        let over = |charge: &Arc<Charge>| charge.is_over(&clock, |_| {});
        budget.sweep(&limits, 1, at(1));
        assert!(!over(&old) && !over(&young));
        budget.settle(&limits, (0, 0), 0, 6_000, at(1));
        budget.sweep(&limits, 1, at(1));
        assert!(!over(&young), "in the next second");
        budget.sweep(&limits, 2, at(2));
        assert!(!over(&old) && over(&young));
        budget.sweep(&limits, 3, at(3));
        assert!(!over(&old), "what the other will not use any more is not counted");
        budget.discharge(&young);
        budget.sweep(&limits, 4, at(4));
        assert!(!over(&old), "it fits alone");
        // One that waits has taken nothing: ending it would leave the one that works.
        let waits = budget.charge(&limits, || Some(1_000), &turn(false), at(4)).unwrap().unwrap();
        budget.settle(&limits, (0, 0), 0, 9_000, at(4));
        budget.sweep(&limits, 5, at(5));
        assert!(over(&old) && !over(&waits));
    }
}

//! Budgets of tokens: reserve first, settle at the end.
//!
//! A minute is a bucket that fills steadily (GCRA with a weight, ITU-T I.371): what was used is owed, and paid off as time goes by. Days and
//! months are windows of the calendar in UTC. What is reserved counts as used, so requests side by side cannot pass the same check together;
//! what a request took beyond its reservation is owed before the next one is admitted.

use std::sync::Arc;

use super::gpu::{self, Charge, Charges};
use super::limits::Effective;
use crate::listen::clock::Millis;
use crate::record::Began;
use crate::store::usage::Spent;

/// Nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// Seconds after which to come again where there is enough, but for what is reserved by requests that run.
const SOON: u64 = 5;

/// What one principal has used.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When the minute's allowance would be whole again, in nanoseconds of the process.
    whole_at: u64,
    day: Window,
    month: Window,
    /// Milliseconds of the model server's work.
    gpu: Window,
    /// What works now, where a limit of that holds.
    charges: Charges,
}

/// A part of the calendar.
#[derive(Debug, Default)]
struct Window {
    /// Which one.
    number: i64,
    used: u64,
    reserved: u64,
}

impl Window {
    fn turn_to(&mut self, number: i64) {
        if self.number != number {
            self.number = number;
            self.used = 0;
        }
    }

    /// Would so much fit, once what is reserved were given back?
    const fn would_hold(&self, amount: u64, limit: Option<u64>) -> bool {
        match limit {
            Some(limit) => self.used.saturating_add(amount) <= limit,
            None => true,
        }
    }

    fn left(&self, limit: Option<u64>) -> u64 {
        limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.used.saturating_add(self.reserved)))
    }
}

/// A moment: of the process, for rates, and of the calendar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Millis,
    /// Seconds since 1970.
    pub(super) wall: i64,
}

const DAY: i64 = 86_400;

impl Moment {
    /// The day's number, and the seconds until the next one.
    const fn day(self) -> (i64, u64) {
        (self.wall.div_euclid(DAY), (DAY - self.wall.rem_euclid(DAY)).unsigned_abs())
    }

    /// The month's number, and the seconds until the next one.
    fn month(self) -> (i64, u64) {
        let Ok(at) = time::OffsetDateTime::from_unix_timestamp(self.wall) else { return (0, 1) };
        let (year, month) = (at.year(), at.month());
        let days = i64::from(month.length(year)) - i64::from(at.day());
        let left = days.saturating_mul(DAY).unsigned_abs() + self.day().1;
        (i64::from(year) * 12 + i64::from(u8::from(month)), left)
    }
}

/// Which bound does not hold, and how long it takes until it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) what: &'static str,
    pub(super) limit: u64,
    pub(super) seconds: u64,
}

/// What is left of the narrowest bound on tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenState {
    /// The bound.
    pub limit: u64,
    /// Tokens left.
    pub remaining: u64,
    /// Seconds until all of it is back.
    pub reset: u64,
}

/// Nanoseconds that a token of so many in a minute takes to come back.
const fn step(limit: u64) -> u64 {
    let step = MINUTE / if limit == 0 { 1 } else { limit };
    if step == 0 { 1 } else { step }
}

const fn nanos(now: Millis) -> u64 {
    now.saturating_mul(1_000_000)
}

impl Budget {
    /// With what the store knows of the day and the month.
    pub(super) fn of(spent: Spent, at: Moment) -> Self {
        let window = |number, used| Window { number, used, reserved: 0 };
        Self {
            whole_at: 0,
            day: window(at.day().0, spent.day_tokens),
            month: window(at.month().0, spent.month_tokens),
            gpu: window(at.day().0, spent.day_gpu_ms),
            charges: Charges::default(),
        }
    }

    fn turn_to(&mut self, at: Moment) {
        let (day, _) = at.day();
        // A month ends with a day: the calendar is asked once a day.
        if day != self.day.number {
            self.day.turn_to(day);
            self.gpu.turn_to(day);
            self.month.turn_to(at.month().0);
        }
    }

    fn owed(&self, at: Moment) -> u64 {
        self.whole_at.saturating_sub(nanos(at.now))
    }

    /// Is something spent already, so that nothing more fits?
    pub(super) fn spent(&mut self, limits: &Effective, at: Moment) -> Option<Short> {
        self.turn_to(at);
        if let Some((left, short)) = self.gpu_left(limits, at)
            && self.charges.is_spent(left)
        {
            return Some(short);
        }
        self.short(limits, 1, at)
    }

    /// Milliseconds of the model server that are not used yet, what works now aside, and what to say when they do not do.
    fn gpu_left(&self, limits: &Effective, at: Moment) -> Option<(Millis, Short)> {
        let limit = limits.gpu_seconds_per_day?;
        let left = self.gpu.left(Some(limit.saturating_mul(1_000)));
        // Enough for an answer, were it the only one.
        let seconds = if left >= gpu::LEAST { SOON } else { at.day().1 };
        Some((left, Short { what: "seconds of the model server per day", limit, seconds }))
    }

    /// Charges an answer with model time, where a limit of that holds: `mean` is what its model took lately.
    pub(super) fn charge(
        &mut self,
        limits: &Effective,
        mean: impl FnOnce() -> Option<Millis>,
        began: &Began,
        at: Moment,
    ) -> Result<Option<Arc<Charge>>, Short> {
        let Some((left, short)) = self.gpu_left(limits, at) else { return Ok(None) };
        self.charges.begin(left, mean(), began, short).map(Some)
    }

    /// What it worked is known by now, and settled.
    pub(super) fn discharge(&mut self, charge: &Arc<Charge>) {
        self.charges.end(charge);
    }

    /// Ends an answer where those that work take more than there is; once a second.
    pub(super) fn sweep(&mut self, limits: &Effective, second: u64, at: Moment) {
        self.turn_to(at);
        if let Some((left, _)) = self.gpu_left(limits, at) {
            self.charges.sweep(second, left);
        }
    }

    /// Which bound so many tokens would break.
    fn short(&self, limits: &Effective, tokens: u64, at: Moment) -> Option<Short> {
        for (what, window, limit, seconds) in [
            ("tokens per month", &self.month, limits.tokens_per_month, at.month().1),
            ("tokens per day", &self.day, limits.tokens_per_day, at.day().1),
        ] {
            if window.left(limit) < tokens {
                let seconds = if window.would_hold(tokens, limit) { SOON } else { seconds };
                return Some(Short { what, limit: limit.unwrap_or(0), seconds });
            }
        }
        let limit = limits.tokens_per_minute?;
        let needed = self.owed(at).saturating_add(tokens.saturating_mul(step(limit)));
        let over = needed.saturating_sub(MINUTE);
        (over > 0).then(|| Short { what: "tokens per minute", limit, seconds: over.div_ceil(1_000_000_000) })
    }

    /// Tokens that would fit now.
    pub(super) fn left(&mut self, limits: &Effective, at: Moment) -> u64 {
        self.turn_to(at);
        let minute = limits
            .tokens_per_minute
            .map_or(u64::MAX, |limit| MINUTE.saturating_sub(self.owed(at)) / step(limit));
        minute.min(self.day.left(limits.tokens_per_day)).min(self.month.left(limits.tokens_per_month))
    }

    /// Takes so many tokens, or says what does not fit. What is returned goes with the settling: until when the minute's are owed.
    pub(super) fn reserve(&mut self, limits: &Effective, tokens: u64, at: Moment) -> Result<u64, Short> {
        self.turn_to(at);
        if let Some(short) = self.short(limits, tokens, at) {
            return Err(short);
        }
        if let Some(limit) = limits.tokens_per_minute {
            self.whole_at = self.whole_at.max(nanos(at.now)) + tokens.saturating_mul(step(limit));
        }
        self.day.reserved = self.day.reserved.saturating_add(tokens);
        self.month.reserved = self.month.reserved.saturating_add(tokens);
        Ok(self.whole_at)
    }

    /// Gives a reservation back, and takes what was used. Of the minute's, only what time has not paid off yet is given back.
    pub(super) fn settle(
        &mut self,
        limits: &Effective,
        (reserved, owed_until): (u64, u64),
        used: u64,
        gpu_ms: u64,
        at: Moment,
    ) {
        self.turn_to(at);
        if let Some(limit) = limits.tokens_per_minute {
            let unpaid = owed_until.saturating_sub(nanos(at.now)).min(reserved.saturating_mul(step(limit)));
            // What time has paid off of the reservation, it has paid off of what was used.
            let paid = reserved.saturating_mul(step(limit)).saturating_sub(unpaid);
            let owed = used.saturating_mul(step(limit)).saturating_sub(paid);
            let back = self.whole_at.saturating_sub(unpaid);
            self.whole_at = if owed == 0 { back } else { back.max(nanos(at.now)).saturating_add(owed) };
        }
        for window in [&mut self.day, &mut self.month] {
            window.reserved = window.reserved.saturating_sub(reserved);
            window.used = window.used.saturating_add(used);
        }
        self.gpu.used = self.gpu.used.saturating_add(gpu_ms);
    }

    /// What the headers say; `None` without a bound on tokens.
    pub(super) fn state(&self, limits: &Effective, at: Moment) -> Option<TokenState> {
        if let Some(limit) = limits.tokens_per_minute {
            let remaining = MINUTE.saturating_sub(self.owed(at)) / step(limit);
            let reset = self.owed(at).div_ceil(1_000_000_000);
            return Some(TokenState { limit, remaining: remaining.min(limit), reset });
        }
        let window = |window: &Window, limit: u64, reset| TokenState {
            limit,
            remaining: window.left(Some(limit)),
            reset,
        };
        let day = limits.tokens_per_day.map(|limit| window(&self.day, limit, at.day().1));
        day.or_else(|| limits.tokens_per_month.map(|limit| window(&self.month, limit, at.month().1)))
    }

    /// Tokens of the day and the month, and milliseconds of the model server in the day.
    pub(super) fn used(&mut self, at: Moment) -> Spent {
        self.turn_to(at);
        Spent { day_tokens: self.day.used, month_tokens: self.month.used, day_gpu_ms: self.gpu.used }
    }

    /// Is there nothing to remember? Of whoever has these limits and asks for no figures, only what they count.
    pub(super) fn is_idle(&mut self, limits: Option<&Effective>, at: Moment) -> bool {
        self.turn_to(at);
        let counts =
            |limit: fn(&Effective) -> Option<u64>| limits.is_none_or(|limits| limit(limits).is_some());
        self.owed(at) == 0
            && self.month.reserved == 0
            && (self.month.used == 0 || !counts(|limits| limits.tokens_per_month))
            && (self.day.used == 0 || !counts(|limits| limits.tokens_per_day))
            && (self.gpu.used == 0 || !counts(|limits| limits.gpu_seconds_per_day))
    }

    /// Seconds until the day's budgets are whole again.
    pub(super) const fn day_ends_in(at: Moment) -> u64 {
        at.day().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(minute: Option<u64>, day: Option<u64>) -> Effective {
        Effective { tokens_per_minute: minute, tokens_per_day: day, ..Effective::default() }
    }

    const fn at(seconds: u64) -> Moment {
        Moment { now: seconds * 1_000, wall: 1_768_645_985 + seconds.cast_signed() }
    }

    #[test]
    fn what_is_reserved_is_gone_for_the_next_and_comes_back_unused() {
        let (mut budget, limits) = (Budget::default(), limits(Some(600), None));
        assert_eq!(budget.left(&limits, at(0)), 600);
        let owed = budget.reserve(&limits, 500, at(0)).unwrap();
        assert_eq!(budget.left(&limits, at(0)), 100);
        let short = budget.reserve(&limits, 200, at(0)).unwrap_err();
        assert_eq!(short, Short { what: "tokens per minute", limit: 600, seconds: 10 });
        assert!(budget.reserve(&limits, 200, at(9)).is_err(), "Retry-After is no second too long");
        budget.settle(&limits, (500, owed), 50, 0, at(0));
        assert_eq!(budget.left(&limits, at(0)), 550);
        assert_eq!(budget.state(&limits, at(0)), Some(TokenState { limit: 600, remaining: 550, reset: 5 }));
        budget.reserve(&limits, 550, at(0)).unwrap();
        assert_eq!(budget.left(&limits, at(30)), 300, "half a minute brings half back");
    }

    #[test]
    fn what_was_taken_beyond_the_reservation_is_owed() {
        let (mut budget, limits) = (Budget::default(), limits(Some(60), Some(1_000)));
        let owed = budget.reserve(&limits, 10, at(0)).unwrap();
        budget.settle(&limits, (10, owed), 120, 0, at(0));
        assert_eq!(budget.spent(&limits, at(0)).unwrap().seconds, 61, "a minute of debt, and a token");
        assert_eq!(budget.spent(&limits, at(61)), None);
        assert_eq!(budget.used(at(0)).day_tokens, 120);
    }

    #[test]
    fn days_end_at_midnight_and_reservations_count() {
        let (mut budget, limits) = (Budget::default(), limits(None, Some(100)));
        budget.reserve(&limits, 60, at(0)).unwrap();
        let until_midnight = 86_400 - (10 * 3_600 + 33 * 60 + 5);
        let short = Short { what: "tokens per day", limit: 100, seconds: SOON };
        assert_eq!(budget.reserve(&limits, 41, at(0)), Err(short), "what is reserved may come back");
        let short = Short { seconds: until_midnight, ..short };
        assert_eq!(budget.reserve(&limits, 101, at(0)), Err(short));
        budget.reserve(&limits, 40, at(0)).unwrap();
        budget.settle(&limits, (60, 0), 60, 0, at(1));
        budget.settle(&limits, (40, 0), 40, 0, at(1));
        assert_eq!(budget.spent(&limits, at(1)).unwrap().what, "tokens per day");
        assert_eq!(budget.spent(&limits, at(until_midnight)), None);
    }

    #[test]
    fn the_model_servers_time_and_the_month_are_bounds_too() {
        let limits =
            Effective { gpu_seconds_per_day: Some(10), tokens_per_month: Some(50), ..Effective::default() };
        let mut budget = Budget::of(Spent { day_tokens: 0, month_tokens: 49, day_gpu_ms: 9_000 }, at(0));
        assert_eq!(budget.spent(&limits, at(0)), None);
        budget.settle(&limits, (0, 0), 1, 1, at(0));
        assert_eq!(budget.spent(&limits, at(0)).unwrap().what, "seconds of the model server per day");
        let tomorrow = at(86_400);
        let short = budget.spent(&limits, tomorrow).unwrap();
        assert_eq!(short.what, "tokens per month");
        assert_eq!(short.seconds, 14 * 86_400 - (10 * 3_600 + 33 * 60 + 5), "until the first of February");
    }

    #[test]
    fn a_slow_answer_gives_back_only_what_time_has_not_paid_off() {
        let (mut budget, limits) = (Budget::default(), limits(Some(600), None));
        let owed = budget.reserve(&limits, 300, at(0)).unwrap();
        // After a minute the bucket is full again, and is emptied by others.
        budget.reserve(&limits, 600, at(60)).unwrap();
        budget.settle(&limits, (300, owed), 10, 0, at(60));
        assert_eq!(budget.left(&limits, at(60)), 0, "a minute holds no more than a minute");
        assert_eq!(budget.left(&limits, at(90)), 300);
    }
}

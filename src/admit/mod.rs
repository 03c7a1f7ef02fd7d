//! Admit: may they call now. Before the body is read.
//!
//! Takes a [`Caller`]; promises a [`Permit`] that counts the request until it is dropped, so it rides in the response body. Refuses beyond
//! the rate (GCRA), the number at once, or a budget of tokens that is spent; nobody waits here. Once the body is judged, the permit
//! reserves its tokens, and settles them when the answer is over.

mod budget;
mod limits;
mod permit;
mod rate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;
use crate::identify::Caller;
use crate::listen::clock::{self, Millis};
use crate::listen::network;
use crate::store::usage::Spent;
use crate::types::Principal;

pub use budget::TokenState;
use budget::{Budget, Moment, Short};
pub use limits::Effective;
pub use permit::Permit;
use rate::Rate;

/// Meters of addresses that did not call for a while go beyond this many.
const ADDRESSES: usize = 10_000;

fn moment() -> Moment {
    Moment { now: clock::now(), wall: crate::store::wall() }
}

/// The state of a rate after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// A minute's allowance.
    pub limit: u32,
    /// Requests left at once.
    pub remaining: u32,
    /// Seconds until all of it is back.
    pub reset: u64,
}

/// Why not now.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AdmitError {
    /// Too many in a minute.
    #[error("more than {} requests per minute", .state.limit)]
    Rate {
        /// For `Retry-After`.
        seconds: u64,
        /// For the headers.
        state: RateState,
    },
    /// Too many at once.
    #[error("more than {limit} requests at once")]
    Concurrent {
        /// The bound.
        limit: u32,
    },
    /// A budget does not hold it.
    #[error("more than {limit} {what}")]
    Budget {
        /// `tokens per day` and the like.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// For `Retry-After`.
        seconds: u64,
        /// For the headers.
        state: Option<TokenState>,
    },
}

impl AdmitError {
    fn budget(Short { what, limit, seconds }: Short, state: Option<TokenState>) -> Self {
        Self::Budget { what, limit, seconds: seconds.max(1), state }
    }

    /// The bound, in a word for metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "requests_per_minute",
            Self::Concurrent { .. } => "concurrent",
            Self::Budget { .. } => "budget",
        }
    }
}

#[derive(Debug, Default)]
struct Meter {
    rate: Rate,
    running: AtomicU32,
    /// Touched only where a budget holds.
    budget: Mutex<Budget>,
}

impl Meter {
    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stage: one meter per key, or per address in public mode (IPv6 by /64).
#[derive(Debug)]
pub struct Admit {
    limits: Limits,
    /// Stays where the limits are renewed.
    used: Arc<Used>,
}

#[derive(Debug)]
struct Used {
    /// What keys had used when this process started; taken when a key calls first.
    spent: Mutex<HashMap<String, Spent>>,
    started: Moment,
    meters: Mutex<HashMap<Principal, Arc<Meter>>>,
}

impl Admit {
    /// With these limits for everybody who has none of their own.
    pub fn new(limits: &Limits, spent: Vec<(String, Spent)>) -> Self {
        let spent = Mutex::new(spent.into_iter().collect());
        let used = Used { spent, started: moment(), meters: Mutex::new(HashMap::new()) };
        Self { limits: *limits, used: Arc::new(used) }
    }

    /// The same stage with other limits: what was used stays used.
    #[must_use]
    pub fn renewed(&self, limits: &Limits) -> Self {
        Self { limits: *limits, used: Arc::clone(&self.used) }
    }

    /// Counts a request, or says why not. One that `spends` nothing needs no budget: whoever has used up theirs may still ask when it is
    /// back.
    pub fn admit(&self, caller: Caller, spends: bool, now: Millis) -> Result<Box<Permit>, AdmitError> {
        let limits = Effective::of(&self.limits, caller.key().map(|key| &key.limits));
        let principal = principal(&caller);
        // A key may always ask what it has used.
        let metered = caller.key().is_some()
            || limits.requests_per_minute.is_some()
            || limits.concurrent.is_some()
            || limits.budgets();
        let meter = metered.then(|| self.meter(&principal, now));
        let running = meter.as_ref().map_or(0, |meter| meter.running.fetch_add(1, Ordering::Relaxed));
        let mut permit = Box::new(Permit {
            caller,
            principal,
            limits,
            meter,
            rate: None,
            tokens: None,
            reserved: 0,
            owed_at: 0,
            prompt: 0,
            began: None,
            settled: false,
        });
        let Some(meter) = permit.meter.as_deref() else { return Ok(permit) };
        // First what costs no allowance: a refused request should not use up the minute.
        if let Some(limit) = limits.concurrent.filter(|&limit| running >= limit) {
            return Err(AdmitError::Concurrent { limit });
        }
        if limits.budgets() {
            let (at, mut budget) = (moment(), meter.budget());
            let spent = budget.spent(&limits, at).filter(|_| spends);
            permit.tokens = budget.state(&limits, at);
            if let Some(short) = spent {
                return Err(AdmitError::budget(short, permit.tokens));
            }
        }
        if let Some(limit) = limits.requests_per_minute {
            let (allowed, wait, state) = meter.rate.take(limit, now);
            if !allowed {
                return Err(AdmitError::Rate { seconds: wait.div_ceil(1000).max(1), state });
            }
            permit.rate = Some(state);
        }
        Ok(permit)
    }

    /// What a caller has used of its budgets.
    pub fn used(&self, permit: &Permit) -> Spent {
        permit.meter.as_ref().map_or_else(Spent::default, |meter| meter.budget().used(moment()))
    }

    fn meter(&self, principal: &Principal, now: Millis) -> Arc<Meter> {
        let mut meters = self.used.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = meters.get(principal) {
            return Arc::clone(meter);
        }
        if meters.len() >= ADDRESSES {
            let at = moment();
            let budgets = Effective::of(&self.limits, None).budgets();
            meters.retain(|principal, meter| {
                let idle = meter.running.load(Ordering::Relaxed) == 0
                    && meter.rate.is_full(now)
                    && (!budgets || meter.budget().is_idle(at));
                matches!(principal, Principal::Key(_)) || !idle
            });
        }
        let meter = Arc::new(Meter { budget: Mutex::new(self.budget(principal)), ..Meter::default() });
        meters.insert(principal.clone(), Arc::clone(&meter));
        meter
    }

    /// What a principal had used when this process started.
    fn budget(&self, principal: &Principal) -> Budget {
        let Principal::Key(id) = principal else { return Budget::of(Spent::default(), moment()) };
        let mut spent = self.used.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the day and the month in which it was read.
        Budget::of(spent.remove(&*id.0).unwrap_or_default(), self.used.started)
    }
}

fn principal(caller: &Caller) -> Principal {
    match caller.key() {
        Some(key) => Principal::Key(key.id.clone()),
        None => Principal::Address(caller.address().map(network)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(per_minute: Option<u32>, concurrent: Option<u32>) -> Admit {
        let limits = Limits { requests_per_minute: per_minute, concurrent, ..Limits::default() };
        Admit::new(&limits, Vec::new())
    }

    fn caller(ip: &str) -> Caller {
        Caller::at(Some(ip.parse().unwrap()))
    }

    #[test]
    fn a_permit_counts_while_it_lives() {
        let stage = stage(None, Some(2));
        let (a, _b) = (
            stage.admit(caller("1.1.1.1"), true, 5).unwrap(),
            stage.admit(caller("1.1.1.1"), true, 5).unwrap(),
        );
        assert_eq!(stage.admit(caller("1.1.1.1"), true, 5).unwrap_err(), AdmitError::Concurrent { limit: 2 });
        assert!(stage.admit(caller("1.1.1.2"), true, 5).is_ok(), "another address has its own count");
        drop(a);
        assert!(stage.admit(caller("1.1.1.1"), true, 5).is_ok());
    }

    #[test]
    fn a_minute_at_once_then_one_by_one() {
        let stage = stage(Some(60), None);
        let ask =
            |now| stage.admit(caller("1.1.1.1"), true, now).map(|permit| permit.rate.unwrap().remaining);
        for left in (0..60).rev() {
            assert_eq!(ask(5), Ok(left));
        }
        let empty = RateState { limit: 60, remaining: 0, reset: 60 };
        assert_eq!(ask(5), Err(AdmitError::Rate { seconds: 1, state: empty }));
        assert_eq!(ask(1_005), Ok(0));
        assert!(ask(1_006).is_err());
    }

    #[test]
    fn a_permit_settles_what_it_reserved() {
        let limits = Limits { tokens_per_minute: Some(1_000), ..Limits::default() };
        let stage = Admit::new(&limits, Vec::new());
        let mut first = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        assert_eq!(first.caps().fill_output, Some(500), "half of what is left");
        first.reserve(100, 500).unwrap();
        let mut second = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        assert!(matches!(second.reserve(100, 500), Err(AdmitError::Budget { limit: 1_000, .. })));
        drop(second);
        first.settle(Some(30), 0);
        assert_eq!(stage.used(&first).day_tokens, 30);
        drop(first);
        let mut third = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        third.reserve(900, 60).unwrap();
        drop(third);
        let mut fourth = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        assert!(fourth.reserve(900, 60).is_ok(), "what was never answered is given back");
    }
}

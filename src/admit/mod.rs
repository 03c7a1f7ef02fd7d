//! Admit: may they call now. Before the body is read.
//!
//! Takes a [`Caller`]; promises a [`Permit`] that rides in the response body. Refuses beyond the rate (GCRA) and where a budget is
//! spent; nobody waits here, and how many run at once is the queue's business. Watches over bodies on their way ([`Watch`]): too many
//! unfinished ones of one principal, and more memory for all of them than there is. Once the body is judged, the permit reserves its
//! tokens and its model time, and settles them when the answer is over.

mod budget;
mod gpu;
mod limits;
mod meter;
mod permit;
mod rate;
mod running;
mod upload;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;
use crate::identify::Caller;
use crate::listen::clock::{self, Clock, Millis};
use crate::listen::network;
use crate::store::usage::Spent;
use crate::types::Principal;

pub use budget::TokenState;
use budget::{Budget, Moment, Short};
pub use limits::Effective;
use meter::{Meter, Meters, Rates};
pub use permit::{Halt, Permit, Standing};
pub use running::Running;
use upload::Memory;
pub use upload::{Share, Watch};

fn moment() -> Moment {
    at(clock::now())
}

/// The moment at which a task's clock stood: the system's is read once less.
fn at(now: Millis) -> Moment {
    Moment { now, wall: crate::store::wall() }
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
    /// Too many lists in a minute.
    #[error("more than {} lists per minute", .state.limit)]
    Lists {
        /// For `Retry-After`.
        seconds: u64,
        /// For the headers.
        state: RateState,
    },
    /// More unfinished uploads than one may have, and this was the slowest.
    #[error(
        "more than {most} unfinished requests at once, and this was the slowest to come: send it in one go"
    )]
    Uploads {
        /// The bound.
        most: usize,
    },
    /// All bodies together take too much memory.
    #[error("the requests of all callers together hold more than {most} bytes (limits.body_memory)")]
    BodyMemory {
        /// The bound.
        most: usize,
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
            Self::Lists { .. } => "lists_per_minute",
            Self::Uploads { .. } => "uploads",
            Self::BodyMemory { .. } => "body_memory",
            Self::Budget { .. } => "budget",
        }
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
    meters: Meters,
    memory: Arc<Memory>,
}

impl Admit {
    /// With these limits for everybody who has none of their own.
    pub fn new(limits: &Limits, spent: Vec<(String, Spent)>) -> Self {
        let spent = Mutex::new(spent.into_iter().collect());
        let used = Used { spent, started: moment(), meters: Meters::default(), memory: Memory::new() };
        Self { limits: *limits, used: Arc::new(used) }
    }

    /// The same stage with other limits: what was used stays used.
    #[must_use]
    pub fn renewed(&self, limits: &Limits) -> Self {
        Self { limits: *limits, used: Arc::clone(&self.used) }
    }

    /// Counts a request, or says why not. One that `spends` nothing asks for a list: it needs no budget, since whoever has used up theirs
    /// may still ask when it is back, and has a rate of its own.
    pub fn admit(&self, caller: Caller, spends: bool, now: Millis) -> Result<Box<Permit>, AdmitError> {
        let limits = Effective::of(&self.limits, caller.key().map(|key| &key.limits));
        let principal = principal(&caller);
        let meter = self.meter(&principal, now);
        let mut permit = Permit::new(caller, principal, limits, meter);
        // First what costs no allowance: a refused request should not use up the minute.
        if limits.budgets() {
            let (at, mut budget) = (at(now), permit.meter.budget());
            let spent = budget.spent(&limits, at).filter(|_| spends);
            let tokens = budget.state(&limits, at);
            drop(budget);
            permit.tokens = tokens;
            if let Some(short) = spent {
                return Err(AdmitError::budget(short, tokens));
            }
        }
        permit.rate = self.take(&permit, spends, now)?;
        Ok(permit)
    }

    /// Takes one of the minute's, of an address without a key from the wider networks that it belongs to as well: they have 4 and 16
    /// times as many.
    fn take(&self, permit: &Permit, spends: bool, now: Millis) -> Result<Option<RateState>, AdmitError> {
        let limit = if spends { permit.limits.requests_per_minute } else { permit.limits.lists_per_minute };
        let Some(limit) = limit else { return Ok(None) };
        let take = |rates: &Rates, limit| {
            let rate = if spends { &rates.models } else { &rates.lists };
            match rate.take(limit, now) {
                (true, _, state) => Ok(state),
                (false, wait, state) => {
                    let seconds = wait.div_ceil(1000).max(1);
                    Err(if spends {
                        AdmitError::Rate { seconds, state }
                    } else {
                        AdmitError::Lists { seconds, state }
                    })
                }
            }
        };
        let state = take(&permit.meter.rates, limit)?;
        if let Principal::Address(Some(IpAddr::V6(address))) = permit.principal {
            for (bits, times) in [(56, 4), (48, 16)] {
                let network = IpAddr::V6((address.to_bits() >> (128 - bits) << (128 - bits)).into());
                let rates = self.used.meters.wider((network, bits), now);
                take(&rates, limit.saturating_mul(times))?;
            }
        }
        Ok(Some(state))
    }

    /// Watches over the body of an admitted request.
    pub fn watch<'a>(&self, permit: &'a Permit, clock: &'a Clock) -> Watch<'a> {
        let share = Share::new(&self.used.memory);
        Watch::new(&permit.meter.uploads, clock, self.limits.body_memory, share)
    }

    /// Bytes of all bodies that are held.
    pub fn body_bytes(&self) -> usize {
        self.used.memory.held()
    }

    /// What a caller has used of its budgets.
    pub fn used(&self, permit: &Permit) -> Spent {
        permit.meter.budget().used(moment())
    }

    fn meter(&self, principal: &Principal, now: Millis) -> Arc<Meter> {
        let addresses = || Effective::of(&self.limits, None);
        self.used.meters.of(principal, addresses, now, moment, || self.budget(principal))
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

    fn stage(per_minute: Option<u32>) -> Admit {
        let limits =
            Limits { requests_per_minute: per_minute, lists_per_minute: Some(2), ..Limits::default() };
        Admit::new(&limits, Vec::new())
    }

    fn caller(ip: &str) -> Caller {
        Caller::at(Some(ip.parse().unwrap()))
    }

    #[test]
    fn a_minute_at_once_then_one_by_one() {
        let stage = stage(Some(60));
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
        assert_eq!(first.caps(clock::now()).fill_output, Some(500), "half of what is left");
        first.reserve((100, 500), || None, clock::now()).unwrap();
        let mut second = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        assert!(matches!(
            second.reserve((100, 500), || None, clock::now()),
            Err(AdmitError::Budget { limit: 1_000, .. })
        ));
        drop(second);
        first.settle(Some(30), Some(0));
        assert_eq!(stage.used(&first).day_tokens, 30);
        drop(first);
        let mut third = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        third.reserve((900, 60), || None, clock::now()).unwrap();
        drop(third);
        let mut fourth = stage.admit(caller("1.1.1.1"), true, 5).unwrap();
        assert!(
            fourth.reserve((900, 60), || None, clock::now()).is_ok(),
            "what was never answered is given back"
        );
    }

    #[test]
    fn lists_have_a_rate_of_their_own() {
        let stage = stage(Some(1));
        let ask = |spends| stage.admit(caller("1.1.1.1"), spends, 5).map(|_| ());
        assert_eq!([ask(false), ask(false), ask(true)], [Ok(()), Ok(()), Ok(())]);
        assert!(matches!(ask(false), Err(AdmitError::Lists { seconds: 30, .. })));
        assert!(matches!(ask(true), Err(AdmitError::Rate { seconds: 60, .. })));
    }

    #[test]
    fn wider_networks_count_as_well() {
        let stage = stage(Some(10));
        let ask = |n: u32| stage.admit(caller(&format!("2001:db8:0:{n:x}::1")), true, 5).is_ok();
        // Each from a /64 of its own.
        assert_eq!((0..200).filter(|n| ask(*n)).count(), 40, "a /56 has four times as many");
        assert_eq!((0x100..0x1000).filter(|n| ask(*n)).count(), 120, "a /48 sixteen times");
        assert!(stage.admit(caller("2001:db8:1::1"), true, 5).is_ok(), "the next one is another owner's");
    }

    #[test]
    fn a_flood_of_addresses_looks_at_a_few_meters_and_forgets_none_that_counts() {
        let stage = stage(Some(1));
        let address = |n: u32| caller(&std::net::Ipv4Addr::from(n).to_string());
        let (running, mut before) = (stage.admit(address(1), true, 5).unwrap(), 0);
        for n in 2..80_000 {
            let _one = stage.admit(address(n), true, 5);
            let (len, looks) = stage.used.meters.looks();
            assert!(looks - before <= 4 && len <= 65_536, "{} looks among {len}", looks - before);
            before = looks;
        }
        assert!(stage.admit(address(2), true, 5).is_err(), "its minute is used up");
        drop(running);
        let _later = stage.admit(address(90_000), true, 70_000);
        assert!(stage.admit(address(90_001), true, 70_000).is_ok());
        assert!(stage.used.meters.looks().0 < 65_536, "who is gone makes room");
    }
}

//! Admit: may they call now. Before the body is read.
//!
//! Takes a [`Caller`]; promises a [`Permit`] that counts the request until it is dropped, so it rides in the response body.
//! Refuses beyond the rate (GCRA) or the number at once; nobody waits here.

mod rate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;
use crate::identify::Caller;
use crate::listen::clock::Millis;
use crate::listen::network;
use crate::types::Principal;

use rate::Rate;

/// Meters of addresses that did not call for a while go beyond this many.
const ADDRESSES: usize = 10_000;

/// An admitted request, counted while it lives.
#[derive(Debug)]
pub struct Permit {
    caller: Caller,
    meter: Option<Arc<Meter>>,
    rate: Option<RateState>,
}

impl Permit {
    /// Who was admitted.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the rate headers say; `None` without a limit.
    pub const fn rate(&self) -> Option<RateState> {
        self.rate
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
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
}

#[derive(Debug, Default)]
struct Meter {
    rate: Rate,
    running: AtomicU32,
}

/// The stage: one meter per key, or per address in public mode (IPv6 by /64).
#[derive(Debug)]
pub struct Admit {
    per_minute: Option<u32>,
    concurrent: Option<u32>,
    meters: Mutex<HashMap<Principal, Arc<Meter>>>,
}

impl Admit {
    /// With these limits for everybody.
    pub fn new(limits: &Limits) -> Self {
        Self {
            per_minute: limits.requests_per_minute,
            concurrent: limits.concurrent,
            meters: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a request, or says why not.
    pub fn admit(&self, caller: &Caller, now: Millis) -> Result<Permit, AdmitError> {
        if self.per_minute.is_none() && self.concurrent.is_none() {
            return Ok(Permit { caller: caller.clone(), meter: None, rate: None });
        }
        let meter = self.meter(principal(caller), now);
        // First what costs no allowance: a refused request should not use up the minute.
        let running = meter.running.fetch_add(1, Ordering::Relaxed);
        let mut permit = Permit { caller: caller.clone(), meter: Some(Arc::clone(&meter)), rate: None };
        if let Some(limit) = self.concurrent.filter(|&limit| running >= limit) {
            return Err(AdmitError::Concurrent { limit });
        }
        let Some(limit) = self.per_minute else { return Ok(permit) };
        let (allowed, wait, state) = meter.rate.take(limit, now);
        if !allowed {
            return Err(AdmitError::Rate { seconds: wait.div_ceil(1000).max(1), state });
        }
        permit.rate = Some(state);
        Ok(permit)
    }

    fn meter(&self, principal: Principal, now: Millis) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= ADDRESSES && !meters.contains_key(&principal) {
            meters.retain(|_, meter| meter.running.load(Ordering::Relaxed) > 0 || !meter.rate.is_full(now));
        }
        Arc::clone(meters.entry(principal).or_default())
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
        Admit { per_minute, concurrent, meters: Mutex::default() }
    }

    fn caller(ip: &str) -> Caller {
        Caller::at(Some(ip.parse().unwrap()))
    }

    #[test]
    fn a_permit_counts_while_it_lives() {
        let stage = stage(None, Some(2));
        let (a, _b) =
            (stage.admit(&caller("1.1.1.1"), 5).unwrap(), stage.admit(&caller("1.1.1.1"), 5).unwrap());
        assert_eq!(stage.admit(&caller("1.1.1.1"), 5).unwrap_err(), AdmitError::Concurrent { limit: 2 });
        assert!(stage.admit(&caller("1.1.1.2"), 5).is_ok(), "another address has its own count");
        drop(a);
        assert!(stage.admit(&caller("1.1.1.1"), 5).is_ok());
    }

    #[test]
    fn a_minute_at_once_then_one_by_one() {
        let stage = stage(Some(60), None);
        let ask = |now| stage.admit(&caller("1.1.1.1"), now).map(|permit| permit.rate.unwrap().remaining);
        for left in (0..60).rev() {
            assert_eq!(ask(5), Ok(left));
        }
        let empty = RateState { limit: 60, remaining: 0, reset: 60 };
        assert_eq!(ask(5), Err(AdmitError::Rate { seconds: 1, state: empty }));
        assert_eq!(ask(1_005), Ok(0));
        assert!(ask(1_006).is_err());
    }
}

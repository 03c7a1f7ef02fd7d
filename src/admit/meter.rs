//! What is counted for one principal, and the table of all.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Effective;
use super::budget::{Budget, Moment};
use super::rate::Rate;
use super::running::Running;
use super::upload::Uploads;
use crate::listen::clock::Millis;
use crate::types::{Principal, Roll, Worth};

/// Meters of principals that did not call for a while go beyond this many.
const MANY: usize = 10_000;
/// More than these there are not: other addresses share a few.
const MOST: usize = 65_536;

/// Of requests to models, and of lists.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) models: Rate,
    pub(super) lists: Rate,
}

impl Rates {
    fn are_full(&self, now: Millis) -> bool {
        self.models.is_full(now) && self.lists.is_full(now)
    }
}

/// What one principal does and has used.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) rates: Rates,
    /// Changed by the queue.
    pub(super) running: Arc<Running>,
    /// Touched only where a budget holds.
    budget: Mutex<Budget>,
    pub(super) uploads: Uploads,
}

impl Meter {
    pub(super) fn with(budget: Budget) -> Arc<Self> {
        Arc::new(Self { budget: Mutex::new(budget), ..Self::default() })
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All meters.
#[derive(Debug)]
pub(super) struct Meters {
    own: Mutex<Roll<Principal, Arc<Meter>>>,
    /// Of wider networks: whoever owns a /48 owns 65,536 addresses in our sense.
    wider: Mutex<Roll<(IpAddr, u8), Arc<Rates>>>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { own: Mutex::new(Roll::new(MANY, MOST)), wider: Mutex::new(Roll::new(MANY, MOST)) }
    }
}

impl Meters {
    /// The meter of a principal, made with `new` where there is none. `addresses`: what holds for those without a key.
    pub(super) fn of(
        &self,
        principal: &Principal,
        addresses: impl Fn() -> Effective,
        now: Millis,
        at: impl Fn() -> Moment,
        new: impl Fn() -> Budget,
    ) -> Arc<Meter> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = own.find(principal) {
            return Arc::clone(meter);
        }
        let addresses = addresses();
        let worth = |principal: &Principal, meter: &Arc<Meter>| {
            // A key may always ask what it has used.
            let limits = if matches!(principal, Principal::Key(_)) { None } else { Some(&addresses) };
            let idle = Arc::strong_count(meter) == 1
                && Arc::strong_count(&meter.running) == 1
                && meter.rates.are_full(now)
                && meter.budget().is_idle(limits, at());
            if idle { Worth::Nothing } else { Worth::Live }
        };
        // Keys are given out by the operator: what one of them has used is never counted for another.
        let always = matches!(principal, Principal::Key(_));
        let meter = own.entry(principal, always, worth, || Meter::with(new()));
        meter.map_or_else(|| Meter::with(new()), |meter| Arc::clone(meter))
    }

    /// The rates of a network.
    pub(super) fn wider(&self, network: (IpAddr, u8), now: Millis) -> Arc<Rates> {
        let mut wider = self.wider.lock().unwrap_or_else(PoisonError::into_inner);
        let worth =
            |_: &_, rates: &Arc<Rates>| if rates.are_full(now) { Worth::Nothing } else { Worth::Live };
        wider.entry(&network, false, worth, Arc::default).map(|rates| Arc::clone(rates)).unwrap_or_default()
    }

    /// Meters, and how many were looked at to make room.
    #[cfg(test)]
    pub(super) fn looks(&self) -> (usize, u64) {
        let own = self.own.lock().unwrap();
        (own.len(), own.looks())
    }
}

//! GCRA: one moment per key says everything (ITU-T I.371; the "theoretical arrival time").

use std::sync::atomic::{AtomicU64, Ordering};

use super::RateState;
use crate::listen::clock::Millis;

/// Microseconds in a minute: finer than a millisecond, since 100,000 requests a minute are 600 µs apart.
const MINUTE: u64 = 60_000_000;

/// The rate of one key.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When the allowance would be whole again, in microseconds.
    whole_at: AtomicU64,
}

impl Rate {
    /// Takes one request of `limit` per minute. Whether it may, how long to wait if not (ms), and the state after it.
    pub(super) fn take(&self, limit: u32, now: Millis) -> (bool, Millis, RateState) {
        let step = step(limit);
        let now = now.saturating_mul(1000);
        let mut before = self.whole_at.load(Ordering::Relaxed);
        loop {
            let after = before.max(now) + step;
            if after - now > MINUTE {
                let wait = (after - now - MINUTE).div_ceil(1000);
                return (false, wait, state(limit, step, before.max(now) - now));
            }
            match self.whole_at.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (true, 0, state(limit, step, after - now)),
                Err(current) => before = current,
            }
        }
    }

    /// Its state, with nothing taken.
    pub(super) fn state(&self, limit: u32, now: Millis) -> RateState {
        let (step, now) = (step(limit), now.saturating_mul(1000));
        state(limit, step, self.whole_at.load(Ordering::Relaxed).max(now) - now)
    }

    /// Is nothing of the allowance used?
    pub(super) fn is_full(&self, now: Millis) -> bool {
        self.whole_at.load(Ordering::Relaxed) <= now.saturating_mul(1000)
    }
}

/// Between two requests of so many in a minute, in microseconds; whatever the limit, they take some.
fn step(limit: u32) -> u64 {
    (MINUTE / u64::from(limit.max(1))).max(1)
}

fn state(limit: u32, step: u64, used: u64) -> RateState {
    let remaining = u32::try_from((MINUTE - used.min(MINUTE)) / step).unwrap_or(u32::MAX).min(limit);
    RateState { limit, remaining, reset: used.div_ceil(1_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_finer_than_the_clock_divides_by_nothing() {
        let rate = Rate::default();
        assert!(rate.take(u32::MAX, 5).0);
        assert_eq!(rate.state(u32::MAX, 5).limit, u32::MAX);
    }
}

//! Lock-out by client address, IPv6 by /64: ten wrong keys in ten minutes, then a delay that grows.
//!
//! Never by key: that would let anybody lock a victim out. Behind a tunnel without `listen.trusted_proxy` everybody shares
//! one address, so a key that cannot be guessed still passes, and a weak one is tried once a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::listen::clock::Millis;
use crate::listen::network;

const FAILURES: u32 = 10;
const WINDOW: Millis = 600_000;
const FIRST_DELAY: Millis = 60_000;
const LONGEST_DELAY: Millis = 900_000;
const BETWEEN_TRIES: Millis = 1_000;
/// A bound on memory: beyond it the oldest entries go.
const ADDRESSES: usize = 20_000;

/// What a lock-out says about an address.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Verdict {
    /// Nothing.
    Open,
    /// Locked for so long; `may_try`: this request may try a weak key.
    Locked {
        /// For `Retry-After`.
        seconds: u64,
        /// At most once a second.
        may_try: bool,
    },
}

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    failures: u32,
    since: Millis,
    locks: u32,
    locked_until: Millis,
    tried: Millis,
}

/// Failures by address.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    entries: Mutex<HashMap<Option<IpAddr>, Entry>>,
    /// Spares the lock on the way of every good request.
    known: AtomicUsize,
}

impl Lockout {
    pub(super) fn verdict(&self, address: Option<IpAddr>, now: Millis) -> Verdict {
        if self.known.load(Ordering::Relaxed) == 0 {
            return Verdict::Open;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(&address.map(network)).filter(|entry| entry.locked_until > now)
        else {
            return Verdict::Open;
        };
        let may_try = now >= entry.tried.saturating_add(BETWEEN_TRIES);
        if may_try {
            entry.tried = now;
        }
        Verdict::Locked { seconds: (entry.locked_until - now).div_ceil(1000), may_try }
    }

    pub(super) fn failed(&self, address: Option<IpAddr>, now: Millis) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ADDRESSES {
            entries.retain(|_, entry| entry.locked_until > now || now - entry.since < WINDOW);
            if entries.len() >= ADDRESSES {
                entries.clear();
            }
        }
        let entry = entries.entry(address.map(network)).or_default();
        if now.saturating_sub(entry.since) > WINDOW {
            // A long quiet time forgives the earlier locks as well.
            let locks = if now.saturating_sub(entry.locked_until) > WINDOW { 0 } else { entry.locks };
            *entry = Entry { since: now, locks, ..Entry::default() };
        }
        entry.failures += 1;
        if entry.failures >= FAILURES && entry.locked_until <= now {
            let delay = FIRST_DELAY.saturating_mul(1 << entry.locks.min(8)).min(LONGEST_DELAY);
            entry.locks += 1;
            entry.locked_until = now + delay;
            entry.tried = now;
            entry.failures = FAILURES - 1;
            entry.since = now + delay;
        }
        self.known.store(entries.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_delay_grows_and_ends() {
        let (lockout, a) = (Lockout::default(), Some(ip("10.0.0.1")));
        for _ in 0..9 {
            lockout.failed(a, 0);
        }
        assert_eq!(lockout.verdict(a, 1), Verdict::Open);
        lockout.failed(a, 0);
        assert_eq!(lockout.verdict(a, 500), Verdict::Locked { seconds: 60, may_try: false });
        assert_eq!(lockout.verdict(a, 1_000), Verdict::Locked { seconds: 59, may_try: true });
        assert_eq!(lockout.verdict(a, 1_500), Verdict::Locked { seconds: 59, may_try: false });
        assert_eq!(lockout.verdict(a, 60_001), Verdict::Open);
        lockout.failed(a, 60_001);
        assert_eq!(lockout.verdict(a, 60_002), Verdict::Locked { seconds: 120, may_try: false });
        assert_eq!(lockout.verdict(Some(ip("10.0.0.2")), 60_002), Verdict::Open);
    }

    #[test]
    fn one_owner_of_a_64_is_one_address() {
        let lockout = Lockout::default();
        for i in 0..10 {
            lockout.failed(Some(ip(&format!("2001:db8::{i}"))), 0);
        }
        assert_ne!(lockout.verdict(Some(ip("2001:db8::ffff")), 1), Verdict::Open);
        assert_eq!(lockout.verdict(Some(ip("2001:db8:0:1::1")), 1), Verdict::Open);
    }
}

//! Lock-out by client address: ten different wrong keys in ten minutes, then a delay that grows.
//!
//! Never by key: that would let anybody lock a victim out. Behind a tunnel without `listen.trusted_proxy` everybody shares
//! one address, so a key that cannot be guessed still passes, and a weak one is tried once a second. The same wrong key again, as an
//! agent sends it for hours, is no guess. IPv6 counts by /64, and by /56 and /48 at 4 and 16 times as many: one customer owns that much.
//! Memory is bounded, and who is locked out stays so, whoever else fails.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::listen::clock::Millis;
use crate::listen::network;
use crate::types::{Roll, Worth};

const FAILURES: u32 = 10;
const WINDOW: Millis = 600_000;
const FIRST_DELAY: Millis = 60_000;
const LONGEST_DELAY: Millis = 900_000;
const BETWEEN_TRIES: Millis = 1_000;
/// Entries that are out of date go beyond so many.
const MANY: usize = 20_000;
/// Beyond so many, those that are not locked go as well.
const MOST: usize = 65_536;
/// Wrong keys of one network that are known again. More than it has tries, so that for one address the count is exact.
const KEYS: usize = 16;

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
    /// Of the last wrong keys; the oldest is overwritten.
    keys: [u32; KEYS],
    key: usize,
}

impl Entry {
    fn worth(&self, now: Millis) -> Worth {
        if self.locked_until > now {
            Worth::Live
        } else if now.saturating_sub(self.since.max(self.locked_until)) > WINDOW {
            Worth::Nothing
        } else {
            Worth::Little
        }
    }

    /// Counts a wrong key, if it is another one; `most`: so many lock.
    fn failed(&mut self, key: u32, most: u32, now: Millis) {
        if now.saturating_sub(self.since) > WINDOW {
            // A long quiet time forgives the earlier locks as well.
            let locks = if now.saturating_sub(self.locked_until) > WINDOW { 0 } else { self.locks };
            *self = Self { since: now, locks, ..Self::default() };
        }
        if self.keys.contains(&key) {
            return;
        }
        if let Some(place) = self.keys.get_mut(self.key % KEYS) {
            *place = key;
        }
        self.key = (self.key + 1) % KEYS;
        self.failures += 1;
        if self.failures >= most && self.locked_until <= now {
            let delay = FIRST_DELAY.saturating_mul(1 << self.locks.min(8)).min(LONGEST_DELAY);
            self.locks += 1;
            self.locked_until = now + delay;
            self.tried = now;
            self.failures = most - 1;
            self.since = now + delay;
        }
    }
}

/// Failures by network: its first address, and how many bits of it count.
#[derive(Debug)]
pub(super) struct Lockout {
    entries: Mutex<Roll<(Option<IpAddr>, u8), Entry>>,
    /// When the last lock ends: spares the entries on the way of every good request.
    last: AtomicU64,
    hasher: RandomState,
}

impl Default for Lockout {
    fn default() -> Self {
        let entries = Mutex::new(Roll::new(MANY, MOST));
        Self { entries, last: AtomicU64::new(0), hasher: RandomState::new() }
    }
}

/// The networks that an address counts for, and how many times as many keys each may try.
fn networks(address: Option<IpAddr>) -> impl Iterator<Item = ((Option<IpAddr>, u8), u32)> {
    let own = address.map(network);
    let wider = |bits: u8, times: u32| match own {
        Some(IpAddr::V6(v6)) => {
            let first = v6.to_bits() >> (128 - u32::from(bits)) << (128 - u32::from(bits));
            Some(((Some(IpAddr::V6(first.into())), bits), times))
        }
        _ => None,
    };
    [Some(((own, 64), 1)), wider(56, 4), wider(48, 16)].into_iter().flatten()
}

impl Lockout {
    pub(super) fn verdict(&self, address: Option<IpAddr>, now: Millis) -> Verdict {
        if self.last.load(Ordering::Relaxed) <= now {
            return Verdict::Open;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut verdict = Verdict::Open;
        for (network, _) in networks(address) {
            let Some(entry) = entries.get_mut(&network).filter(|entry| entry.locked_until > now) else {
                continue;
            };
            let free = now >= entry.tried.saturating_add(BETWEEN_TRIES);
            if free {
                entry.tried = now;
            }
            let left = (entry.locked_until - now).div_ceil(1000);
            verdict = match verdict {
                Verdict::Open => Verdict::Locked { seconds: left, may_try: free },
                Verdict::Locked { seconds, may_try } => {
                    Verdict::Locked { seconds: seconds.max(left), may_try: may_try && free }
                }
            };
        }
        verdict
    }

    /// Somebody at this address presented this key, and it is none.
    pub(super) fn failed(&self, address: Option<IpAddr>, key: &str, now: Millis) {
        // Enough of it to tell one guess from another; the hash is salted, and no more is kept of a key. 0 is nobody's.
        let key = u32::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(1).max(1);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for (network, times) in networks(address) {
            let fresh = || Entry { since: now, ..Entry::default() };
            if let Some(entry) = entries.entry(&network, false, |_, entry| entry.worth(now), fresh) {
                entry.failed(key, FAILURES * times, now);
                self.last.fetch_max(entry.locked_until, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(lockout: &Lockout, address: Option<IpAddr>, keys: std::ops::Range<u32>, now: Millis) {
        keys.for_each(|key| lockout.failed(address, &key.to_string(), now));
    }

    #[test]
    fn the_delay_grows_and_ends() {
        let (lockout, a) = (Lockout::default(), Some(ip("10.0.0.1")));
        fail(&lockout, a, 0..9, 0);
        assert_eq!(lockout.verdict(a, 1), Verdict::Open);
        fail(&lockout, a, 9..10, 0);
        assert_eq!(lockout.verdict(a, 500), Verdict::Locked { seconds: 60, may_try: false });
        assert_eq!(lockout.verdict(a, 1_000), Verdict::Locked { seconds: 59, may_try: true });
        assert_eq!(lockout.verdict(a, 1_500), Verdict::Locked { seconds: 59, may_try: false });
        assert_eq!(lockout.verdict(a, 60_001), Verdict::Open);
        fail(&lockout, a, 10..11, 60_001);
        assert_eq!(lockout.verdict(a, 60_002), Verdict::Locked { seconds: 120, may_try: false });
        assert_eq!(lockout.verdict(Some(ip("10.0.0.2")), 60_002), Verdict::Open);
    }

    #[test]
    fn the_same_wrong_key_is_one_guess() {
        let (lockout, a) = (Lockout::default(), Some(ip("10.0.0.1")));
        for now in 0..10_000 {
            lockout.failed(a, "an old key of an agent", now * 100);
        }
        fail(&lockout, a, 0..8, 1_000_000);
        assert_eq!(lockout.verdict(a, 1_000_001), Verdict::Open);
        fail(&lockout, a, 0..9, 1_000_000);
        assert_ne!(lockout.verdict(a, 1_000_001), Verdict::Open, "nine others, and that one");
    }

    #[test]
    fn one_owner_of_a_64_is_one_address_and_wider_ones_count_too() {
        let lockout = Lockout::default();
        for i in 0..10 {
            fail(&lockout, Some(ip(&format!("2001:db8::{i}"))), i..i + 1, 0);
        }
        assert_ne!(lockout.verdict(Some(ip("2001:db8::ffff")), 1), Verdict::Open);
        assert_eq!(lockout.verdict(Some(ip("2001:db8:0:1::1")), 1), Verdict::Open);
        for i in 10..40 {
            fail(&lockout, Some(ip(&format!("2001:db8:0:{i:x}::1"))), i..i + 1, 0);
        }
        assert_ne!(lockout.verdict(Some(ip("2001:db8:0:ff::1")), 1), Verdict::Open, "its /56");
        assert_eq!(lockout.verdict(Some(ip("2001:db8:0:100::1")), 1), Verdict::Open);
        for i in 40..160 {
            fail(&lockout, Some(ip(&format!("2001:db8:0:{:x}::1", i * 0x100))), i..i + 1, 0);
        }
        assert_ne!(lockout.verdict(Some(ip("2001:db8:0:ffff::1")), 1), Verdict::Open, "its /48");
        assert_eq!(lockout.verdict(Some(ip("2001:db8:1::1")), 1), Verdict::Open);
    }

    #[test]
    fn a_flood_of_failing_networks_lifts_no_lock_and_scans_nothing() {
        let (lockout, victim) = (Lockout::default(), Some(ip("2001:db8::1")));
        fail(&lockout, victim, 0..10, 0);
        for n in 0..100_000_u128 {
            let before = lockout.entries.lock().unwrap().looks();
            // Each a /48 of its own: three entries.
            let address = IpAddr::V6((0x2a00 << 112 | n << 80).into());
            lockout.failed(Some(address), "guess", 1);
            let entries = lockout.entries.lock().unwrap();
            assert!(entries.looks() - before <= 12 && entries.len() <= MOST, "{}", entries.len());
        }
        assert_eq!(lockout.verdict(victim, 2), Verdict::Locked { seconds: 60, may_try: false });
    }
}

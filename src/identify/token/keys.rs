//! An issuer's signing keys: fetched behind the requests, kept while the issuer is away, asked for again when one is unknown.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use super::fetch::Fetcher;
use crate::listen::clock::{self, Millis};

/// A good set is looked at again after this: issuers publish a key hours before they use it.
const AGAIN: Duration = Duration::from_hours(1);
/// And for so long it is believed while the issuer is away. After that nobody is.
const KEPT: Millis = 24 * 3_600_000;
/// Unknown keys make us ask once in this time at most: whoever invents their names must not make us a flood.
const BETWEEN: Millis = 60_000;
/// After a failure, doubled each time.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// More keys than these no issuer has.
const MOST: usize = 64;

/// What is known of a key.
pub(super) enum Found {
    Key(Arc<DecodingKey>),
    /// It may be known soon.
    Later,
    Unknown,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<String, Arc<DecodingKey>>,
    until: Millis,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct SigningKeys {
    known: ArcSwap<Known>,
    fetching: AtomicBool,
    /// When an unknown key made us ask last; 0: never.
    asked: AtomicU64,
    /// Somebody waits for a fetch.
    wanted: AtomicBool,
    thread: OnceLock<Thread>,
}

impl SigningKeys {
    fn empty() -> Self {
        Self {
            known: ArcSwap::default(),
            fetching: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Fetched from this URL, now and later, by a thread that ends with them.
    pub(super) fn fetched(url: String, ca_file: Option<PathBuf>) -> Arc<Self> {
        let keys = Arc::new(Self::empty());
        keys.fetching.store(true, Ordering::Relaxed);
        let weak = Arc::downgrade(&keys);
        let work = move || keep(&weak, &Fetcher::new(url, ca_file));
        match thread::Builder::new().name("signing-keys".into()).spawn(work) {
            Ok(running) => {
                let _first = keys.thread.set(running.thread().clone());
            }
            Err(error) => tracing::error!(error = %error.kind(), "signing keys cannot be fetched: no thread"),
        }
        keys
    }

    /// The key of this name.
    pub(super) fn find(&self, id: &str, now: Millis) -> Found {
        let known = self.known.load();
        if now > known.until || known.keys.is_empty() {
            return Found::Later;
        }
        if let Some(key) = known.keys.get(id) {
            return Found::Key(Arc::clone(key));
        }
        if self.fetching.load(Ordering::Relaxed) || self.may_ask(now) { Found::Later } else { Found::Unknown }
    }

    /// Once in a while an unknown key is worth asking for.
    fn may_ask(&self, now: Millis) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let due = asked == 0 || now.saturating_sub(asked) >= BETWEEN;
        let first = due
            && self.asked.compare_exchange(asked, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first {
            self.fetching.store(true, Ordering::Relaxed);
            self.wanted.store(true, Ordering::Release);
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }
        first
    }

    /// Takes over a set; `false`: it is none, and what was known stays.
    fn take(&self, document: &[u8], now: Millis) -> bool {
        let keys = read(document);
        let good = !keys.is_empty();
        if good {
            self.known.store(Arc::new(Known { keys, until: now.saturating_add(KEPT) }));
        }
        good
    }
}

impl Drop for SigningKeys {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Fetches until nobody holds the keys any more.
fn keep(holder: &Weak<SigningKeys>, fetcher: &Fetcher) {
    let mut retry = RETRY;
    loop {
        let document = fetcher.fetch();
        let Some(keys) = holder.upgrade() else { return };
        let failure = match document {
            Ok(document) if keys.take(&document, clock::now()) => None,
            Ok(_) => Some("it holds no RS256 key"),
            Err(why) => Some(why),
        };
        keys.fetching.store(false, Ordering::Relaxed);
        drop(keys);
        let wait = match failure {
            None => {
                retry = RETRY;
                AGAIN
            }
            Some(why) => {
                tracing::warn!(why, "an issuer's signing keys cannot be fetched: those known stay for a day");
                let longer = (retry * 2).min(LONGEST_RETRY);
                std::mem::replace(&mut retry, longer)
            }
        };
        if !is_still_held(holder, wait) {
            return;
        }
    }
}

/// Waits until somebody wants the keys, or for so long; `false` where nobody holds them any more.
fn is_still_held(holder: &Weak<SigningKeys>, wait: Duration) -> bool {
    let by = clock::after(clock::now(), Some(wait));
    loop {
        let Some(keys) = holder.upgrade() else { return false };
        let left = Duration::from_millis(by.saturating_sub(clock::now()));
        if keys.wanted.swap(false, Ordering::Acquire) || left.is_zero() {
            return true;
        }
        // Held while it parks, it would never be dropped.
        drop(keys);
        thread::park_timeout(left);
    }
}

/// The RS256 keys of a JWK set (RFC 7517), by name. Others, short ones and nameless ones are left out.
fn read(document: &[u8]) -> HashMap<String, Arc<DecodingKey>> {
    let Ok(set) = serde_json::from_slice::<Value>(document) else { return HashMap::new() };
    let list = set.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).map(str::to_owned);
    let is = |key: &Value, name: &str, wanted: &str| key.get(name).is_none_or(|value| value == wanted);
    let read = |key: &Value| {
        let (id, modulus, exponent) = (text(key, "kid")?, text(key, "n")?, text(key, "e")?);
        // 2048 bits are 342 digits.
        let fits = text(key, "kty")? == "RSA"
            && is(key, "use", "sig")
            && is(key, "alg", "RS256")
            && modulus.len() >= 342;
        let key = DecodingKey::from_rsa_components(&modulus, &exponent).ok().filter(|_| fits)?;
        Some((id, Arc::new(key)))
    };
    list.iter().take(MOST).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(digits: usize) -> String {
        format!("{}w", "x".repeat(digits - 1))
    }

    fn document(ids: &[&str]) -> String {
        let key = |id: &&str| serde_json::json!({"kid": id, "kty": "RSA", "alg": "RS256", "use": "sig", "n": modulus(342), "e": "AQAB"});
        serde_json::json!({"keys": ids.iter().map(key).collect::<Vec<_>>()}).to_string()
    }

    fn word(found: &Found) -> &'static str {
        match found {
            Found::Key(_) => "key",
            Found::Later => "later",
            Found::Unknown => "unknown",
        }
    }

    #[test]
    fn invented_names_ask_once_a_minute() {
        let keys = SigningKeys::empty();
        assert_eq!(word(&keys.find("a", 1)), "later", "nothing is known yet");
        assert!(keys.take(document(&["a"]).as_bytes(), 1));
        assert_eq!(word(&keys.find("a", 2)), "key");
        let mut fetches = 0;
        for now in (0..600_000).step_by(10) {
            keys.find(&format!("invented-{now}"), now);
            fetches += u32::from(keys.wanted.swap(false, Ordering::Relaxed));
            keys.fetching.store(false, Ordering::Relaxed);
        }
        assert_eq!(fetches, 10, "in ten minutes");
        assert_eq!(word(&keys.find("a", 2)), "key");
    }

    #[test]
    fn a_good_set_outlives_bad_answers_for_a_day() {
        let keys = SigningKeys::empty();
        assert!(keys.take(document(&["a", "b"]).as_bytes(), 1));
        let secret = document(&["a"]).replace("RSA", "oct");
        let short = document(&["a"]).replace(&modulus(342), &modulus(340));
        let other = document(&["a"]).replace("RS256", "RS512");
        for bad in
            ["", "<html>", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kid":"a"}]}"#, &secret, &short, &other]
        {
            assert!(!keys.take(bad.as_bytes(), 2), "{bad}");
        }
        assert_eq!(word(&keys.find("b", KEPT)), "key");
        assert_eq!(word(&keys.find("b", KEPT + 2)), "later", "a day without the issuer");
        assert!(keys.take(document(&["a"]).as_bytes(), 3));
        keys.fetching.store(false, Ordering::Relaxed);
        keys.asked.store(1, Ordering::Relaxed);
        assert_eq!(word(&keys.find("b", 4)), "unknown", "what the issuer dropped is dropped");
    }
}

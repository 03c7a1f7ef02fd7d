//! The keys, by the SHA-256 of the whole: looked up in memory, never in a database on the request path.
//!
//! A [`Keyring`] is replaced whole when the store changes. A key that did not change stays the same object, so that whoever holds it
//! learns when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::key::ApiKey;
use crate::store::keys::{self, KeyRow, Secret};
use crate::types::{KeyId, KeyLimits, ModelGlob, ModelName, Scopes};

/// A key as the gate knows it: never in clear.
#[derive(Debug)]
pub struct Key {
    /// For logs.
    pub id: KeyId,
    /// What people call it; the operator's own keys have none.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// The models that it may use; none: all.
    pub models: Vec<ModelGlob>,
    /// How much.
    pub limits: KeyLimits,
    /// Generated, or 20 characters and more: it cannot have been guessed.
    pub strong: bool,
    expires_at: Option<i64>,
    ended: AtomicBool,
}

impl Key {
    /// May it use this model?
    pub fn may_use(&self, model: &ModelName) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob.fits(model))
    }

    /// Was it revoked since somebody called with it?
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// When it expires, in seconds since 1970.
    pub const fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }

    /// For somebody whose issuer vouches for them, and who has no limits of their own here.
    pub(super) fn of_identity(id: KeyId) -> Self {
        Self {
            id,
            name: None,
            scopes: Scopes::USE,
            models: Vec::new(),
            limits: KeyLimits::default(),
            strong: true,
            expires_at: None,
            ended: AtomicBool::new(false),
        }
    }

    fn is_like(&self, row: &KeyRow) -> bool {
        *self.id.0 == row.id
            && self.name.as_deref() == Some(&row.name)
            && self.scopes == row.scopes
            && self.models == row.models
            && self.limits == row.limits
            && self.expires_at == row.expires_at
    }

    fn stored(row: KeyRow) -> Self {
        Self {
            id: KeyId(row.id.into()),
            name: Some(row.name),
            scopes: row.scopes,
            models: row.models,
            limits: row.limits,
            strong: true,
            expires_at: row.expires_at,
            ended: AtomicBool::new(false),
        }
    }
}

/// What there is under an identity's name.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// Nothing.
    Unknown,
    /// Its limits.
    Key(Arc<Key>),
    /// A key that was revoked or has expired: whoever has this name is shut out.
    Ended,
}

#[derive(Debug, Clone)]
struct Entry {
    digest: Digest256,
    /// From then on this secret opens nothing.
    ends_at: Option<i64>,
    key: Arc<Key>,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keyring {
    /// By digest: as good as random, so nothing is gained by hashing it once more.
    sorted: Vec<Entry>,
    /// Keys that are named after an identity; `None`: it was revoked.
    named: HashMap<String, Option<Arc<Key>>>,
}

/// How such names begin.
const IDENTITIES: [&str; 2] = ["access:", "oidc:"];

/// An operator's own key shorter than this is tried slowly during a lock-out.
const STRONG: usize = 20;

impl Keyring {
    /// The operator's keys: named by their place, `env-1` and so on, since they may have any form.
    pub fn given(keys: &[String]) -> Self {
        let mut ring = Self::default();
        for (i, text) in keys.iter().enumerate() {
            let own = ApiKey::parse(text).ok();
            let id = own.map_or_else(|| format!("env-{}", i + 1), |key| key.id().to_owned());
            let key = Key {
                id: KeyId(id.into()),
                name: None,
                scopes: Scopes::USE,
                models: Vec::new(),
                limits: KeyLimits::default(),
                strong: text.len() >= STRONG,
                expires_at: None,
                ended: AtomicBool::new(false),
            };
            ring.add(words(&digest(text)), None, Arc::new(key));
        }
        ring
    }

    /// `before` with other keys of the operator's; how many of the old ones ended with it.
    pub fn given_instead(before: &Self, keys: &[String]) -> (Self, usize) {
        let mut ring = Self { named: before.named.clone(), ..Self::given(keys) };
        let mut ended = 0;
        for entry in &before.sorted {
            match ring.place(&entry.digest) {
                Err(_) if entry.key.name.is_none() => {
                    entry.key.ended.store(true, Ordering::Relaxed);
                    ended += 1;
                }
                Err(place) => ring.sorted.insert(place, entry.clone()),
                // The same key under the same name stays the same object.
                Ok(place) => {
                    if let Some(new) = ring.sorted.get_mut(place).filter(|new| new.key.id == entry.key.id) {
                        new.key = Arc::clone(&entry.key);
                    }
                }
            }
        }
        (ring, ended)
    }

    /// The operator's keys of `before`, and those of the store. Keys of `before` that are no longer there have ended; their number.
    pub fn renewed(before: &Self, rows: Vec<KeyRow>, secrets: &[Secret]) -> (Self, usize) {
        let mut known: HashMap<&str, &Arc<Key>> =
            before.sorted.iter().map(|entry| (&*entry.key.id.0, &entry.key)).collect();
        let mut ring = Self::default();
        for entry in before.sorted.iter().filter(|entry| entry.key.name.is_none()) {
            known.remove(&*entry.key.id.0);
            ring.add(entry.digest, None, Arc::clone(&entry.key));
        }
        let mut keys = HashMap::new();
        let is_identity = |row: &KeyRow| IDENTITIES.iter().any(|prefix| row.name.starts_with(prefix));
        let revoked = rows.iter().filter(|row| row.revoked_at.is_some() && is_identity(row));
        ring.named = revoked.map(|row| (row.name.to_ascii_lowercase(), None)).collect();
        for row in rows.into_iter().filter(|row| row.revoked_at.is_none()) {
            let name = is_identity(&row).then(|| row.name.to_ascii_lowercase());
            let same = known.remove(row.id.as_str()).filter(|key| key.is_like(&row));
            let key = same.cloned().unwrap_or_else(|| Arc::new(Key::stored(row)));
            if let Some(name) = name {
                ring.named.insert(name, Some(Arc::clone(&key)));
            }
            keys.insert(key.id.clone(), key);
        }
        for secret in secrets {
            if let Some(key) = keys.get(&KeyId(secret.key_id.as_str().into())) {
                ring.add(words(&secret.digest), secret.ends_at, Arc::clone(key));
            }
        }
        for gone in known.values() {
            gone.ended.store(true, Ordering::Relaxed);
        }
        let ended = known.len();
        (ring, ended)
    }

    fn add(&mut self, digest: Digest256, ends_at: Option<i64>, key: Arc<Key>) {
        if let Err(place) = self.place(&digest) {
            self.sorted.insert(place, Entry { digest, ends_at, key });
        }
    }

    fn place(&self, digest: &Digest256) -> Result<usize, usize> {
        self.sorted.binary_search_by(|entry| entry.digest.cmp(digest))
    }

    /// The key of this text. The digest that is compared cannot be chosen by whoever guesses, and the last word is a comparison in
    /// constant time.
    pub fn find(&self, text: &str) -> Option<&Arc<Key>> {
        let digest = words(&digest(text));
        let entry = self.sorted.get(self.place(&digest).ok()?)?;
        let same = bool::from(entry.digest.ct_eq(&digest));
        let ends = [entry.ends_at, entry.key.expires_at];
        // Most keys never end: the system's clock is asked for the others alone.
        let past = ends.iter().any(Option::is_some) && {
            let now = crate::store::wall();
            ends.into_iter().flatten().any(|end| end <= now)
        };
        (same && !past).then_some(&entry.key)
    }

    pub(super) fn named(&self, name: &str) -> Named {
        match self.named.get(name) {
            None => Named::Unknown,
            Some(Some(key)) if key.expires_at.is_none_or(|end| end > crate::store::wall()) => {
                Named::Key(Arc::clone(key))
            }
            Some(_) => Named::Ended,
        }
    }

    /// Keys that could be guessed.
    pub fn weak(&self) -> usize {
        self.sorted.iter().filter(|entry| !entry.key.strong).count()
    }
}

/// SHA-256 of a whole key, as the store keeps it.
pub(super) fn digest(text: &str) -> keys::Digest {
    Sha256::digest(text.as_bytes()).into()
}

/// In words, which are compared four at a time and not thirty-two.
type Digest256 = [u64; 4];

fn words(digest: &keys::Digest) -> Digest256 {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_the_key() {
        let ring = Keyring::given(&["your-secret-key".into(), "second".into()]);
        assert_eq!(&*ring.find("your-secret-key").unwrap().id.0, "env-1");
        assert_eq!(&*ring.find("second").unwrap().id.0, "env-2");
        for wrong in ["", "your-secret-ke", "your-secret-key ", "YOUR-SECRET-KEY", "' OR 1=1--", "%"] {
            assert!(ring.find(wrong).is_none(), "{wrong:?}");
        }
        assert_eq!(ring.weak(), 2);
    }

    fn row(id: &str, expires_at: Option<i64>, revoked_at: Option<i64>) -> KeyRow {
        KeyRow {
            id: id.into(),
            name: id.into(),
            scopes: Scopes::USE,
            models: vec![],
            limits: KeyLimits::default(),
            note: String::new(),
            created_at: 1,
            expires_at,
            revoked_at,
            rotated_at: None,
            generated: false,
        }
    }

    fn secret(text: &str, id: &str, ends_at: Option<i64>) -> Secret {
        Secret { digest: digest(text), key_id: id.into(), ends_at }
    }

    #[test]
    fn keys_come_change_and_end() {
        let given = Keyring::given(&["mine".into()]);
        let secrets = [secret("a", "a", None), secret("b", "b", None), secret("old", "b", Some(5))];
        let (ring, ended) =
            Keyring::renewed(&given, vec![row("a", None, None), row("b", Some(i64::MAX), None)], &secrets);
        assert_eq!(ended, 0);
        let a = Arc::clone(ring.find("a").unwrap());
        assert!(ring.find("b").is_some() && ring.find("mine").is_some());
        assert!(ring.find("old").is_none(), "its overlap is over");
        let changed = KeyRow { note: "a note changes nothing".into(), ..row("a", None, None) };
        let (ring, ended) = Keyring::renewed(&ring, vec![changed, row("b", Some(5), None)], &secrets);
        assert_eq!(ended, 0, "changed and gone are different things");
        assert!(Arc::ptr_eq(&a, ring.find("a").unwrap()), "the same object while nothing changes");
        assert!(ring.find("b").is_none(), "expired");
        let (ring, ended) = Keyring::renewed(&ring, vec![row("a", None, Some(7))], &secrets);
        assert_eq!(ended, 2);
        assert!(a.has_ended() && ring.find("a").is_none());
        assert!(ring.find("mine").is_some(), "the operator's own stay");
    }
}

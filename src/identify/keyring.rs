//! The keys, by the SHA-256 of the whole: looked up in memory, never in a database on the request path.
//!
//! A [`Keyring`] is replaced whole when the store changes. A key that did not change stays the same object, so that whoever holds it
//! learns when it ends.

use std::collections::{HashMap, HashSet};
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

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// When it expires, in seconds since 1970.
    pub const fn expires_at(&self) -> Option<i64> {
        self.expires_at
    }

    /// For somebody whose issuer vouches for them, and who has no limits of their own here.
    pub(super) fn of_identity(id: KeyId) -> Self {
        Self::of_operator(id, true)
    }

    fn of_operator(id: KeyId, strong: bool) -> Self {
        Self {
            id,
            name: None,
            scopes: Scopes::USE,
            models: Vec::new(),
            limits: KeyLimits::default(),
            strong,
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

/// An operator's own key shorter than this is tried slowly during a lock-out.
const STRONG: usize = 20;

impl Keyring {
    /// The operator's keys: named by their place, `env-1` and so on, since they may have any form.
    pub fn given(keys: &[String]) -> Self {
        Self::given_instead(&Self::default(), keys).0
    }

    /// `before` with other keys of the operator's; how many of the old ones ended with it. One that stays is the same object under the same
    /// name, whatever its place, and no name is given to another.
    pub fn given_instead(before: &Self, keys: &[String]) -> (Self, usize) {
        let (own, stored): (Vec<&Entry>, Vec<&Entry>) =
            before.sorted.iter().partition(|entry| entry.key.name.is_none());
        let mut ring = Self { sorted: stored.into_iter().cloned().collect(), named: before.named.clone() };
        let mut taken: HashSet<KeyId> = own.iter().map(|entry| entry.key.id.clone()).collect();
        for (place, text) in (1..).zip(keys) {
            let digest = words(&digest(text));
            let same = own.iter().find(|entry| entry.digest == digest).map(|entry| Arc::clone(&entry.key));
            let key = same.unwrap_or_else(|| {
                let id =
                    ApiKey::parse(text).map_or_else(|_| free(place, &taken), |key| KeyId(key.id().into()));
                Arc::new(Key::of_operator(id, text.len() >= STRONG))
            });
            taken.insert(key.id.clone());
            ring.add(digest, None, key);
        }
        let gone = own.into_iter().filter(|entry| ring.place(&entry.digest).is_err());
        let ended = gone.map(|entry| entry.key.end()).count();
        (ring, ended)
    }

    /// The operator's keys of `before`, and those of the store. Secrets of `before` that are no longer there have ended, and with them what
    /// runs under them; their number. Each secret has an object of its own, so that one can end without the other.
    pub fn renewed(before: &Self, rows: &[KeyRow], secrets: &[Secret]) -> (Self, usize) {
        let mut known: HashMap<Digest256, &Arc<Key>> = HashMap::new();
        let mut ring = Self::default();
        for entry in &before.sorted {
            if entry.key.name.is_none() {
                ring.add(entry.digest, None, Arc::clone(&entry.key));
            } else {
                known.insert(entry.digest, &entry.key);
            }
        }
        let mut ended = ring.name_anew(before, rows);
        let rows: HashMap<&str, &KeyRow> =
            rows.iter().filter(|row| row.revoked_at.is_none()).map(|row| (row.id.as_str(), row)).collect();
        for secret in secrets {
            let Some(row) = rows.get(secret.key_id.as_str()) else { continue };
            let digest = words(&secret.digest);
            let same = known.remove(&digest).filter(|key| key.is_like(row)).cloned();
            ring.add(digest, secret.ends_at, same.unwrap_or_else(|| Arc::new(Key::stored((*row).clone()))));
        }
        for gone in known.values() {
            gone.end();
            ended += 1;
        }
        (ring, ended)
    }

    /// The keys that hold identities' limits; how many of those before have ended.
    fn name_anew(&mut self, before: &Self, rows: &[KeyRow]) -> usize {
        for row in rows.iter().filter(|row| row.revoked_at.is_some() && keys::is_identity(&row.name)) {
            self.named.insert(row.name.clone(), None);
        }
        for row in rows.iter().filter(|row| row.revoked_at.is_none() && keys::is_identity(&row.name)) {
            let same = before.named.get(&row.name).cloned().flatten().filter(|key| key.is_like(row));
            let key = same.unwrap_or_else(|| Arc::new(Key::stored(row.clone())));
            self.named.insert(row.name.clone(), Some(key));
        }
        let mut ended = 0;
        for (name, key) in before.named.iter().filter_map(|(name, key)| Some((name, key.as_ref()?))) {
            let goes_on = self.named.get(name).and_then(Option::as_ref).is_some_and(|now| now.id == key.id);
            if !goes_on {
                key.end();
                ended += 1;
            }
        }
        ended
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

    /// Ends what runs under keys and secrets whose time is over; how many that are.
    pub(super) fn end_what_is_over(&self, now: i64) -> usize {
        let is_over = |end: Option<i64>| end.is_some_and(|end| end <= now);
        let secrets = self.sorted.iter().filter(|entry| is_over(entry.ends_at)).map(|entry| &entry.key);
        let keys = self.sorted.iter().map(|entry| &entry.key).chain(self.named.values().flatten());
        let over = secrets.chain(keys.filter(|key| is_over(key.expires_at)));
        over.filter(|key| !key.has_ended()).map(|key| key.end()).count()
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

/// `env-3`, or the next number that nothing has.
fn free(place: usize, taken: &HashSet<KeyId>) -> KeyId {
    let names = (place..=place + taken.len()).map(|n| KeyId(format!("env-{n}").into()));
    names.into_iter().find(|id| !taken.contains(id)).unwrap_or_else(|| KeyId(format!("env-{place}").into()))
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

    #[test]
    fn keys_that_stay_keep_their_names_and_the_others_get_new_ones() {
        let list = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let ring = Keyring::given(&list(&["first", "second", "third"]));
        let second = Arc::clone(ring.find("second").unwrap());
        let (ring, ended) = Keyring::given_instead(&ring, &list(&["second", "third", "fourth"]));
        assert_eq!(ended, 1);
        assert!(Arc::ptr_eq(&second, ring.find("second").unwrap()) && !second.has_ended());
        let fourth = &ring.find("fourth").unwrap().id;
        assert!(!["env-1", "env-2", "env-3"].contains(&&*fourth.0), "{fourth:?} was another key's");
        let (ring, ended) = Keyring::given_instead(&ring, &[]);
        assert!(ended == 3 && second.has_ended() && ring.find("third").is_none());
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
    fn a_secret_that_is_gone_ends_what_runs_with_it_and_nothing_else() {
        let ring =
            |before: &Keyring, secrets: &[Secret]| Keyring::renewed(before, &[row("a", None, None)], secrets);
        let (both, _) =
            ring(&Keyring::default(), &[secret("old", "a", Some(i64::MAX)), secret("new", "a", None)]);
        let (old, new) = (Arc::clone(both.find("old").unwrap()), Arc::clone(both.find("new").unwrap()));
        let (one, ended) = ring(&both, &[secret("new", "a", None)]);
        assert_eq!((ended, old.has_ended(), new.has_ended()), (1, true, false));
        assert!(Arc::ptr_eq(&new, one.find("new").unwrap()) && one.find("old").is_none());
    }

    #[test]
    fn what_expires_ends_what_runs_with_it_once() {
        let secrets = [secret("old", "a", Some(50)), secret("new", "a", None), secret("b", "b", None)];
        let rows = [row("a", None, None), row("b", Some(70), None)];
        let (ring, _) = Keyring::renewed(&Keyring::default(), &rows, &secrets);
        let ended = |text: &str| {
            let place = ring.place(&words(&digest(text))).unwrap();
            ring.sorted[place].key.has_ended()
        };
        assert_eq!(ring.end_what_is_over(49), 0);
        assert_eq!(
            (ring.end_what_is_over(50), ended("old"), ended("new"), ended("b")),
            (1, true, false, false)
        );
        assert_eq!((ring.end_what_is_over(70), ended("new"), ended("b")), (1, false, true));
        assert_eq!(ring.end_what_is_over(80), 0, "once");
    }

    #[test]
    fn keys_come_change_and_end() {
        let given = Keyring::given(&["mine".into()]);
        let secrets = [secret("a", "a", None), secret("b", "b", None), secret("old", "b", Some(5))];
        let (ring, ended) =
            Keyring::renewed(&given, &[row("a", None, None), row("b", Some(i64::MAX), None)], &secrets);
        assert_eq!(ended, 0);
        let a = Arc::clone(ring.find("a").unwrap());
        assert!(ring.find("b").is_some() && ring.find("mine").is_some());
        assert!(ring.find("old").is_none(), "its overlap is over");
        let changed = KeyRow { note: "a note changes nothing".into(), ..row("a", None, None) };
        let (ring, ended) = Keyring::renewed(&ring, &[changed, row("b", Some(5), None)], &secrets);
        assert_eq!(ended, 0, "changed and gone are different things");
        assert!(Arc::ptr_eq(&a, ring.find("a").unwrap()), "the same object while nothing changes");
        assert!(ring.find("b").is_none(), "expired");
        let (ring, ended) = Keyring::renewed(&ring, &[row("a", None, Some(7))], &secrets);
        assert_eq!(ended, 3, "each secret");
        assert!(a.has_ended() && ring.find("a").is_none());
        assert!(ring.find("mine").is_some(), "the operator's own stay");
    }
}

//! The keyring in use: renewed from the store whenever a key changes there, by whatever process.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::keyring::{Key, Keyring, Named};
use crate::listen::Bell;
use crate::store::{Store, StoreError, wall};
use crate::types::{KeyId, Roll, Worth};

/// How often the store is asked whether a key changed: well within the second that is promised.
const LOOK: Duration = Duration::from_millis(250);

/// Beyond so many identities, those for whom nothing runs are forgotten.
const MANY: usize = 1_000;

/// The keys that open the gate now.
#[derive(Debug)]
pub struct Ring {
    keys: ArcSwap<Keyring>,
    with_generated: bool,
    /// Keys of identities that have none of their own in the store, while something runs under them.
    issued: Mutex<Roll<String, Weak<Key>>>,
    store: Mutex<Store>,
    generation: AtomicI64,
    bell: Bell,
    stopped: AtomicBool,
}

impl Ring {
    /// The operator's keys and those of the store; `bell` wakes what runs when a key ends. The generated key counts only where nothing is
    /// given.
    pub fn open(given: Option<&[String]>, store: Store, bell: Bell) -> Result<Arc<Self>, StoreError> {
        let ring = Self {
            keys: ArcSwap::from_pointee(Keyring::given(given.unwrap_or_default())),
            with_generated: given.is_none(),
            issued: Mutex::new(Roll::new(MANY, usize::MAX)),
            store: Mutex::new(store),
            generation: AtomicI64::new(-1),
            bell,
            stopped: AtomicBool::new(false),
        };
        ring.refresh()?;
        Ok(Arc::new(ring))
    }

    /// The key of this text.
    pub fn find(&self, text: &str) -> Option<Arc<Key>> {
        self.keys.load().find(text).cloned()
    }

    /// The key that holds an identity's limits: the one of its name in the store, else one that holds none of its own. `None`: whoever
    /// has this name is shut out.
    pub(super) fn of_identity(&self, name: &str, id: &KeyId) -> Option<Arc<Key>> {
        if let Named::Key(key) = self.keys.load().named(name) {
            return Some(key);
        }
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock: whoever is shut out meanwhile is not issued a key behind `end_issued`.
        match self.keys.load().named(name) {
            Named::Key(key) => Some(key),
            Named::Ended => None,
            Named::Unknown => {
                let worth = |_: &String, key: &Weak<Key>| {
                    if key.strong_count() > 0 { Worth::Live } else { Worth::Nothing }
                };
                let issued = issued.entry(&name.to_owned(), true, worth, Weak::new)?;
                Some(issued.upgrade().unwrap_or_else(|| {
                    let key = Arc::new(Key::of_identity(id.clone()));
                    *issued = Arc::downgrade(&key);
                    key
                }))
            }
        }
    }

    /// Ends what runs for those who were shut out; how many.
    fn end_issued(&self) -> usize {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load();
        let shut_out = issued.iter().filter(|(name, _)| matches!(keys.named(name), Named::Ended));
        shut_out.filter_map(|(_, key)| key.upgrade()).map(|key| key.end()).count()
    }

    /// Reads the keys again where one changed.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the keys: what changes in between is read once more.
        let generation = store.generation()?;
        if self.generation.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        let (mut rows, secrets) = (store.keys()?, store.secrets()?);
        rows.retain(|row| self.with_generated || !row.generated);
        let (ring, ended) = Keyring::renewed(&self.keys.load(), &rows, &secrets);
        self.keys.store(Arc::new(ring));
        self.generation.store(generation, Ordering::Relaxed);
        if ended + self.end_issued() > 0 {
            self.bell.ring();
        }
        Ok(())
    }

    /// Other keys of the operator's own, from now on. Those that are gone end, and with them what runs under them.
    pub fn give(&self, given: &[String]) {
        {
            let _one_at_a_time = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            let (ring, ended) = Keyring::given_instead(&self.keys.load(), given);
            self.keys.store(Arc::new(ring));
            self.generation.store(-1, Ordering::Relaxed);
            if ended > 0 {
                self.bell.ring();
            }
        }
        self.take_over();
    }

    /// What was done is done, whether or not the store can be read now: the watch takes it over later.
    fn take_over(&self) {
        if let Err(error) = self.refresh() {
            tracing::warn!(%error, "the keys cannot be read again for the moment");
        }
    }

    /// Works on the store of the keys, and takes over what changed there.
    pub fn with<T>(&self, work: impl FnOnce(&mut Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let done = {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut store)
        };
        self.take_over();
        done
    }

    /// Ends what runs under a key that has expired, or with a secret whose overlap is over: nothing changes in the store at that moment.
    fn end_what_is_over(&self) {
        if self.keys.load().end_what_is_over(wall()) > 0 {
            self.bell.ring();
        }
    }

    /// Looks at the store until [`Ring::stop`], in a thread of its own: a slow disk delays nobody.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let ring = Arc::clone(self);
        thread::Builder::new().name("keys".into()).spawn(move || {
            let mut failing = false;
            while !ring.stopped.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK);
                ring.end_what_is_over();
                match ring.refresh() {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(%error, "the keys cannot be read again: those known stay in force");
                    }
                    Err(_) => {}
                }
            }
        })
    }

    /// Ends the watch.
    pub fn stop(&self, watch: &JoinHandle<()>) {
        self.stopped.store(true, Ordering::Relaxed);
        watch.thread().unpark();
    }
}

//! The keyring in use: renewed from the store whenever a key changes there, by whatever process.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::keyring::{Key, Keyring, Named};
use crate::listen::Bell;
use crate::store::{Store, StoreError};

/// How often the store is asked whether a key changed: well within the second that is promised.
const LOOK: Duration = Duration::from_millis(250);

/// The keys that open the gate now.
#[derive(Debug)]
pub struct Ring {
    keys: ArcSwap<Keyring>,
    with_generated: bool,
    store: Mutex<Store>,
    generation: AtomicI64,
    bell: Bell,
    stopped: AtomicBool,
}

impl Ring {
    /// The operator's keys and those of the store; `bell` wakes what runs when a key ends. The generated key counts only where the
    /// operator gives none.
    pub fn open(given: &[String], store: Store, bell: Bell) -> Result<Arc<Self>, StoreError> {
        let ring = Self {
            keys: ArcSwap::from_pointee(Keyring::given(given)),
            with_generated: given.is_empty(),
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

    /// The key of an identity's name.
    pub(super) fn named(&self, name: &str) -> Named {
        self.keys.load().named(name)
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
        let (ring, ended) = Keyring::renewed(&self.keys.load(), rows, &secrets);
        self.keys.store(Arc::new(ring));
        self.generation.store(generation, Ordering::Relaxed);
        if ended > 0 {
            self.bell.ring();
        }
        Ok(())
    }

    /// Are there keys of the operator's own, so that none is generated?
    pub const fn is_given(&self) -> bool {
        !self.with_generated
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

    /// Looks at the store until [`Ring::stop`], in a thread of its own: a slow disk delays nobody.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let ring = Arc::clone(self);
        thread::Builder::new().name("keys".into()).spawn(move || {
            let mut failing = false;
            while !ring.stopped.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK);
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

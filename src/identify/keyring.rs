//! The keys, by the SHA-256 of the whole: looked up in memory, never in a database on the request path.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::key::ApiKey;
use crate::types::{KeyId, Scopes};

/// A key as the gate knows it: never in clear.
#[derive(Debug)]
pub struct Key {
    /// For logs.
    pub id: KeyId,
    /// Its place among the keys: what meters are kept by.
    pub index: usize,
    /// What it may do.
    pub scopes: Scopes,
    /// Generated, or 20 characters and more: it cannot have been guessed.
    pub strong: bool,
    digest: [u8; 32],
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keyring {
    by_digest: HashMap<[u8; 32], Arc<Key>>,
}

/// An operator's own key shorter than this is tried slowly during a lock-out.
const STRONG: usize = 20;

impl Keyring {
    /// The operator's keys: named by their place, `env-1` and so on, since they may have any form.
    pub fn given(keys: &[String]) -> Self {
        let mut ring = Self::default();
        for (i, text) in keys.iter().enumerate() {
            let own = ApiKey::parse(text).ok();
            let id = own.map_or_else(|| format!("env-{}", i + 1), |key| key.id().to_owned());
            ring.add(text, &id, text.len() >= STRONG);
        }
        ring
    }

    /// The one of the key file.
    pub fn generated(key: Option<&ApiKey>) -> Self {
        let mut ring = Self::default();
        if let Some(key) = key {
            ring.add(key.reveal(), key.id(), true);
        }
        ring
    }

    fn add(&mut self, text: &str, id: &str, strong: bool) {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let key =
            Key { id: KeyId(id.into()), index: self.by_digest.len(), scopes: Scopes::USE, strong, digest };
        self.by_digest.entry(digest).or_insert_with(|| Arc::new(key));
    }

    /// The key of this text. The work is the same for every text of one length.
    pub fn find(&self, text: &str) -> Option<&Arc<Key>> {
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.by_digest.get(&digest).filter(|key| bool::from(key.digest.ct_eq(&digest)))
    }

    /// Keys that could be guessed.
    pub fn weak(&self) -> usize {
        self.by_digest.values().filter(|key| !key.strong).count()
    }
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
}

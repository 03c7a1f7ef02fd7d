//! The keys, by the SHA-256 of the whole: looked up in memory, never in a database on the request path.

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
    /// What it may do.
    pub scopes: Scopes,
    /// Generated, or 20 characters and more: it cannot have been guessed.
    pub strong: bool,
    digest: Digest256,
}

/// All keys.
#[derive(Debug, Default)]
pub struct Keyring {
    /// By digest: as good as random, so nothing is gained by hashing it once more.
    sorted: Vec<Arc<Key>>,
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
        let digest = digest(text);
        if let Err(place) = self.place(&digest) {
            let id = KeyId(id.into());
            self.sorted.insert(place, Arc::new(Key { id, scopes: Scopes::USE, strong, digest }));
        }
    }

    fn place(&self, digest: &Digest256) -> Result<usize, usize> {
        self.sorted.binary_search_by(|key| key.digest.cmp(digest))
    }

    /// The key of this text. The digest that is compared cannot be chosen by whoever guesses, and the last word is a comparison in
    /// constant time.
    pub fn find(&self, text: &str) -> Option<&Arc<Key>> {
        let digest = digest(text);
        let key = self.sorted.get(self.place(&digest).ok()?)?;
        bool::from(key.digest.ct_eq(&digest)).then_some(key)
    }

    /// Keys that could be guessed.
    pub fn weak(&self) -> usize {
        self.sorted.iter().filter(|key| !key.strong).count()
    }
}

/// In words, which are compared four at a time and not thirty-two.
type Digest256 = [u64; 4];

fn digest(text: &str) -> Digest256 {
    let bytes: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
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
}

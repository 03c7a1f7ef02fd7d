//! What the upstream has, by its `/api/tags`, replaced whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use serde::Deserialize;

use crate::listen::clock::Millis;
use crate::types::{ModelName, is_cloud_name};

/// A list older than this is asked for again behind the next request.
const OLD: Millis = 10_000;
/// An unknown name asks for the list again, at most this often: somebody may just have pulled it.
const AGAIN: Millis = 1_000;

/// What matters about a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model {
    /// Runs on ollama.com, whatever its name says.
    pub(super) cloud: bool,
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    list: ArcSwapOption<BTreeMap<ModelName, Model>>,
    heard: AtomicU64,
    asked: AtomicU64,
}

#[derive(Deserialize)]
struct Tags {
    // Go writes an empty list as null.
    models: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    #[serde(default)]
    remote_host: Option<String>,
}

impl Catalogue {
    pub(super) fn get(&self) -> Option<Arc<BTreeMap<ModelName, Model>>> {
        self.list.load_full()
    }

    /// Has it this model? `None`: no, or nothing was heard yet.
    pub(super) fn find(&self, model: &ModelName) -> Option<Model> {
        self.list.load().as_ref()?.get(model).copied()
    }

    /// Reads the body of `/api/tags`; `None` when it is none.
    pub(super) fn set(&self, body: &[u8], now: Millis) -> Option<()> {
        let tags: Tags = serde_json::from_slice(body).ok()?;
        let mut list = BTreeMap::new();
        for tag in tags.models.unwrap_or_default() {
            let cloud = tag.remote_host.is_some_and(|host| !host.is_empty()) || is_cloud_name(&tag.name);
            // What is no name to us cannot be asked for either.
            if let Ok(name) = ModelName::parse(&tag.name) {
                list.insert(name, Model { cloud });
            }
        }
        self.list.store(Some(Arc::new(list)));
        self.heard.store(now, Ordering::Relaxed);
        Some(())
    }

    pub(super) fn asked(&self, now: Millis) {
        self.asked.store(now, Ordering::Relaxed);
    }

    pub(super) fn is_old(&self, now: Millis) -> bool {
        let last = self.heard.load(Ordering::Relaxed).max(self.asked.load(Ordering::Relaxed));
        now.saturating_sub(last) > OLD
    }

    pub(super) fn may_ask_again(&self, now: Millis) -> bool {
        now.saturating_sub(self.asked.load(Ordering::Relaxed)) > AGAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_finds_cloud_aliases() {
        let catalogue = Catalogue::default();
        let body =
            br#"{"models":[{"name":"Alpha"},{"name":"innocent:1b","remote_host":"https://ollama.com:443"}]}"#;
        assert!(catalogue.set(body, 5).is_some());
        let list = catalogue.get().unwrap();
        assert!(!list.get(&ModelName::parse("alpha").unwrap()).unwrap().cloud);
        assert!(list.get(&ModelName::parse("innocent:1b").unwrap()).unwrap().cloud);
        assert!(catalogue.set(b"<html>", 6).is_none());
        assert!(catalogue.set(br#"{"models":null}"#, 6).is_some());
        assert!(catalogue.get().unwrap().is_empty());
    }
}

//! What the upstream has, by its `/api/tags` and `/api/ps`, replaced whole.
//!
//! A look at it costs one load and no lock. Whoever writes builds the next view beside the one in force; facts that were asked for
//! model by model are carried over while the model is the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::entry::{self, Facts, Model};
use crate::dialect::ollama::models;
use crate::listen::clock::Millis;
use crate::types::ModelName;

/// A list older than this is asked for again behind the next request.
const OLD: Millis = 10_000;
/// An unknown name asks for the list again, at most this often: somebody may just have pulled it.
const AGAIN: Millis = 1_000;

/// What the upstream has.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) models: BTreeMap<ModelName, Model>,
    /// Those that can chat, the best first: in memory, else the most recently modified.
    chats: Vec<ModelName>,
}

impl View {
    /// Those that can chat, the best first, and whether each is in memory.
    pub(super) fn chats(&self) -> impl Iterator<Item = (&ModelName, bool)> {
        self.chats.iter().map(|name| (name, self.models.get(name).is_some_and(|model| model.place.is_some())))
    }

    /// Those of which nobody said what they can do.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &ModelName> {
        self.chats.iter().filter(|name| self.models.get(name).is_some_and(Model::is_unknown))
    }

    /// In this order: what was the first stays it while it is in memory, so that two models in turn do not make it change with each
    /// request.
    fn of(models: BTreeMap<ModelName, Model>, before: Option<&Self>) -> Self {
        let first = before.and_then(|view| view.chats.first());
        let mut chats: Vec<&ModelName> =
            models.iter().filter(|(name, model)| model.can_chat(name)).map(|(name, _)| name).collect();
        chats.sort_by_key(|name| {
            let model = models.get(*name);
            let place = model.and_then(|model| model.place);
            let stays = place.is_some() && first == Some(*name);
            let modified = Reverse(model.map(|model| model.modified));
            (model.is_some_and(|model| model.cloud), !stays, place.is_none(), place, modified)
        });
        let chats = chats.into_iter().cloned().collect();
        Self { models, chats }
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    view: ArcSwapOption<View>,
    /// One writes at a time; readers never wait for it.
    writing: Mutex<()>,
    heard: AtomicU64,
    asked: AtomicU64,
}

impl Catalogue {
    pub(super) fn get(&self) -> Option<Arc<View>> {
        self.view.load_full()
    }

    /// Works with what is known; `None`: nothing was heard yet.
    pub(super) fn look<T>(&self, work: impl FnOnce(&View) -> T) -> Option<T> {
        self.view.load().as_deref().map(work)
    }

    /// Is it there, and is it a cloud model? `None`: no, or nothing was heard yet.
    pub(super) fn find(&self, model: &ModelName) -> Option<bool> {
        self.view.load().as_ref()?.models.get(model).map(|model| model.cloud)
    }

    /// Reads the bodies of `/api/tags` and, where there is one, `/api/ps`; `None` when the first is none.
    pub(super) fn set(&self, tags: &[u8], ps: Option<&[u8]>, now: Millis) -> Option<()> {
        let mut models = entry::read(tags)?;
        for (place, name) in ps.map(models::listed).unwrap_or_default().into_iter().enumerate() {
            if let Some(model) = ModelName::parse(&name).ok().and_then(|name| models.get_mut(&name)) {
                model.place = Some(place);
            }
        }
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get();
        for (name, model) in &mut models {
            let same = before.as_ref().and_then(|view| view.models.get(name));
            if let Some(same) = same.filter(|same| same.digest == model.digest) {
                model.shown.clone_from(&same.shown);
            }
        }
        self.view.store(Some(Arc::new(View::of(models, before.as_deref()))));
        self.heard.store(now, Ordering::Relaxed);
        Some(())
    }

    /// Takes over what was asked about some models; those that are gone meanwhile are left alone.
    pub(super) fn learn(&self, learned: Vec<(ModelName, Facts)>) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = self.get() else { return };
        let mut models = before.models.clone();
        for (name, facts) in learned {
            if let Some(model) = models.get_mut(&name) {
                model.shown = Some(facts);
            }
        }
        self.view.store(Some(Arc::new(View::of(models, Some(&before)))));
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
    use serde_json::{Value, json};

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    fn chats(catalogue: &Catalogue) -> Vec<String> {
        catalogue.get().unwrap().chats().map(|(name, _)| name.to_string()).collect()
    }

    fn set(catalogue: &Catalogue, tags: &Value, loaded: &[&str]) {
        let ps: Vec<_> = loaded.iter().map(|name| json!({"name": name})).collect();
        let ps = json!({"models": ps}).to_string();
        assert!(catalogue.set(tags.to_string().as_bytes(), Some(ps.as_bytes()), 1).is_some());
    }

    #[test]
    fn reads_names_and_finds_cloud_aliases() {
        let catalogue = Catalogue::default();
        let body =
            br#"{"models":[{"name":"Alpha"},{"name":"innocent:1b","remote_host":"https://ollama.com:443"}]}"#;
        assert!(catalogue.set(body, None, 5).is_some());
        assert_eq!(catalogue.find(&name("alpha")), Some(false));
        assert_eq!(catalogue.find(&name("innocent:1b")), Some(true));
        assert!(catalogue.set(b"<html>", None, 6).is_none());
        assert!(catalogue.set(br#"{"models":null}"#, None, 6).is_some());
        assert!(catalogue.get().unwrap().models.is_empty());
    }

    #[test]
    fn the_best_is_in_memory_else_the_newest_and_never_an_embedding_model() {
        let catalogue = Catalogue::default();
        let tags = json!({"models": [
            {"name": "newest-embed:1b", "modified_at": "2026-05-04T00:00:00Z"},
            {"name": "mini:l6", "modified_at": "2026-05-03T00:00:00Z", "details": {"family": "bert", "families": ["bert"]}},
            {"name": "vectors:1b", "modified_at": "2026-05-03T00:00:00Z", "capabilities": ["embedding"]},
            {"name": "old:1b", "modified_at": "2026-05-01T00:00:00.5+02:00"},
            {"name": "older:1b", "modified_at": "2026-05-01T00:00:00.4+02:00", "details": {"family": "llama", "families": null}},
            {"name": "oldest:1b", "modified_at": "2026-04-30T21:00:00Z", "capabilities": ["completion", "vision"]},
            {"name": "far:cloud", "modified_at": "2026-05-09T00:00:00Z"},
        ]});
        set(&catalogue, &tags, &[]);
        assert_eq!(chats(&catalogue), ["old:1b", "older:1b", "oldest:1b", "far:cloud"]);
        set(&catalogue, &tags, &["vectors:1b", "oldest:1b"]);
        assert_eq!(chats(&catalogue)[0], "oldest:1b");
        set(&catalogue, &tags, &["older:1b", "oldest:1b"]);
        assert_eq!(chats(&catalogue)[0], "oldest:1b", "it is in memory still");
        set(&catalogue, &tags, &["older:1b"]);
        assert_eq!(chats(&catalogue)[0], "older:1b");
    }

    #[test]
    fn what_was_asked_about_a_model_holds_while_it_is_the_same() {
        let catalogue = Catalogue::default();
        let tags = |digest: &str| json!({"models": [{"name": "plain:1b", "digest": digest}]});
        set(&catalogue, &tags("a"), &[]);
        assert_eq!(chats(&catalogue), ["plain:1b"]);
        let facts = entry::facts(
            json!({"capabilities": ["embedding"], "model_info": {"x.context_length": 512}})
                .to_string()
                .as_bytes(),
        );
        catalogue.learn(vec![(name("plain:1b"), facts), (name("gone:1b"), Facts::default())]);
        set(&catalogue, &tags("a"), &[]);
        assert!(chats(&catalogue).is_empty());
        assert_eq!(catalogue.get().unwrap().models[&name("plain:1b")].context(), Some(512));
        set(&catalogue, &tags("b"), &[]);
        assert_eq!(chats(&catalogue), ["plain:1b"], "another model under that name is asked about anew");
    }
}

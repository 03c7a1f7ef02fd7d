//! The models that the server claims to have, and which of them are loaded.
//!
//! The models of the recordings describe themselves with what was recorded; plain ones borrow the description of
//! `smollm2:135m`. Promises cheap look-ups: an entry is shared, its residency is one atomic.

use crate::recordings;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capability {
    /// Answers prompts and chats.
    Completion,
    /// Calls tools.
    Tools,
    /// Thinks first; does so unless told not to.
    Thinking,
    /// Fills in between a prompt and a suffix.
    Insert,
    /// Takes images.
    Vision,
    /// Turns text into vectors; such a model does nothing else.
    Embedding,
}

impl Capability {
    const ALL: [Self; 6] =
        [Self::Completion, Self::Tools, Self::Thinking, Self::Insert, Self::Vision, Self::Embedding];

    fn word(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Tools => "tools",
            Self::Thinking => "thinking",
            Self::Insert => "insert",
            Self::Vision => "vision",
            Self::Embedding => "embedding",
        }
    }
}

/// A model for [`Builder::models`](crate::Builder::models).
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) name: String,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) remote: Option<(String, String)>,
    /// Entry of `/api/tags`.
    listed: Value,
    /// Answer of `/api/show`.
    shown: Value,
}

/// The descriptions that were recorded, read once.
static RECORDED: LazyLock<Vec<Model>> = LazyLock::new(read_recorded);

impl Model {
    /// A model that answers prompts. A name without a tag gets `:latest`.
    pub fn plain(name: &str) -> Self {
        let template = RECORDED.first().cloned();
        let (mut listed, mut shown) =
            template.map_or((json!({}), json!({})), |model| (model.listed, model.shown));
        let name = super::names::Name::parse(name).map_or_else(|| name.to_owned(), |name| name.short());
        put(&mut listed, "digest", json!(super::manage::digest(name.as_bytes())));
        if let Some(text) =
            shown.get("modelfile").and_then(Value::as_str).map(|t| t.replace("smollm2:135m", &name))
        {
            put(&mut shown, "modelfile", json!(text));
        }
        let mut model = Self { name: String::new(), capabilities: Vec::new(), remote: None, listed, shown };
        model.rename(&name);
        model.with(&[Capability::Completion])
    }

    /// A model that answers prompts, whose name is taken as it is: no Ollama would have it.
    pub fn odd(name: &str) -> Self {
        let mut model = Self::plain("odd");
        model.rename(name);
        model
    }

    /// The same model with these capabilities.
    #[must_use]
    pub fn with(mut self, capabilities: &[Capability]) -> Self {
        capabilities.clone_into(&mut self.capabilities);
        let words: Vec<_> = capabilities.iter().map(|capability| capability.word()).collect();
        put(&mut self.listed, "capabilities", json!(words));
        put(&mut self.shown, "capabilities", json!(words));
        self
    }

    /// The same model, last changed then (RFC 3339).
    #[must_use]
    pub fn modified(mut self, at: &str) -> Self {
        for value in [&mut self.listed, &mut self.shown] {
            put(value, "modified_at", json!(at));
        }
        self
    }

    /// The same model as older servers list it: what it can do and its context stand in `/api/show` alone.
    #[must_use]
    pub fn tersely_listed(mut self) -> Self {
        if let Value::Object(members) = &mut self.listed {
            members.remove("capabilities");
            if let Some(Value::Object(details)) = members.get_mut("details") {
                details.remove("context_length");
            }
        }
        self
    }

    /// The same model as an alias of a cloud model: nothing in its name tells.
    #[must_use]
    pub fn remote(mut self, model: &str, host: &str) -> Self {
        for value in [&mut self.listed, &mut self.shown] {
            put(value, "remote_model", json!(model));
            put(value, "remote_host", json!(host));
        }
        self.remote = Some((model.to_owned(), host.to_owned()));
        self
    }

    /// The models of the recordings.
    pub fn recorded() -> Vec<Self> {
        RECORDED.clone()
    }

    /// What a server has unless it is told otherwise: the recorded models, three plain ones, a cloud alias.
    pub fn defaults() -> Vec<Self> {
        let mut models = Self::recorded();
        models.extend(["alpha:latest", "beta:7b", "qwen3:4b"].map(Self::plain));
        models.push(Self::plain("faraway:latest").remote("gpt-oss:120b", "https://ollama.com:443"));
        models
    }

    pub(crate) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        put(&mut self.listed, "name", json!(name));
        put(&mut self.listed, "model", json!(name));
    }

    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    pub(crate) fn shown(&self) -> &Value {
        &self.shown
    }

    pub(crate) fn digest(&self) -> &str {
        self.listed.get("digest").and_then(Value::as_str).unwrap_or_default()
    }

    /// The context that the model is loaded with unless a request says otherwise.
    pub(crate) fn context(&self) -> usize {
        match self.name.as_str() {
            "team/tuned:v2" => 1_024,
            _ if self.can(Capability::Embedding) => 512,
            _ => 4_096,
        }
    }
}

fn put(value: &mut Value, key: &str, new: Value) {
    if let Value::Object(members) = value {
        members.insert(key.to_owned(), new);
    }
}

/// The entries of `/api/tags` and the answers of `/api/show`, matched by the name in the recorded question.
fn read_recorded() -> Vec<Model> {
    let group = recordings::load("models");
    let body = |name: &str| {
        let recording = group.iter().find(|recording| recording.name == name);
        recording.and_then(|recording| serde_json::from_slice::<Value>(&recording.response_body()).ok())
    };
    let listed = |from: &str, name: &str| {
        let models = body(from)?;
        models
            .get("models")?
            .as_array()?
            .iter()
            .find(|model| model.get("name").is_some_and(|n| n == name))
            .cloned()
    };
    let wanted = [
        ("smollm2:135m", "show"),
        ("smol-tools:latest", "show-tools"),
        ("smol-think:latest", "show-think"),
        ("smol-insert:latest", "show-insert"),
        ("team/tuned:v2", "show-tuned"),
        ("all-minilm:latest", "show-embedding"),
    ];
    let described = wanted.into_iter().filter_map(|(name, show)| {
        let shown = body(show)?;
        // The embedding model came after the list was recorded: its entry is made from the list of loaded models.
        let mut listed = listed("tags", name).or_else(|| listed("ps-two", name))?;
        if let Value::Object(members) = &mut listed {
            members.retain(|key, _| !matches!(key.as_str(), "expires_at" | "size_vram" | "context_length"));
        }
        if let Some(details) =
            listed.get_mut("details").filter(|details| details.get("context_length").is_none())
        {
            put(details, "context_length", json!(512));
            put(details, "embedding_length", json!(384));
        }
        put(&mut listed, "modified_at", shown.get("modified_at").cloned().unwrap_or_default());
        let words = shown.get("capabilities").and_then(Value::as_array).cloned().unwrap_or_default();
        let capabilities: Vec<_> =
            Capability::ALL.into_iter().filter(|one| words.iter().any(|word| word == one.word())).collect();
        let model = Model { name: name.to_owned(), capabilities: Vec::new(), remote: None, listed, shown };
        Some(model.with(&capabilities))
    });
    described.collect()
}

/// A model of the catalogue, and until when it is loaded.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) model: Model,
    key: String,
    /// Seconds since 1970; 0: not loaded.
    loaded_until: AtomicU64,
}

impl Entry {
    fn new(model: Model) -> Arc<Self> {
        let key = model.name.to_ascii_lowercase();
        Arc::new(Self { model, key, loaded_until: AtomicU64::new(0) })
    }

    /// Marks the model as loaded until then (0: unloaded); says whether it was loaded.
    pub(crate) fn keep_until(&self, seconds: u64) -> bool {
        self.loaded_until.swap(seconds, Ordering::Relaxed) != 0
    }
}

/// All models, and the blobs that were uploaded.
#[derive(Debug)]
pub(crate) struct Catalog {
    entries: RwLock<Vec<Arc<Entry>>>,
    blobs: RwLock<BTreeSet<String>>,
}

impl Catalog {
    pub(crate) fn new(models: Vec<Model>) -> Self {
        let entries = models.into_iter().map(Entry::new).collect();
        Self { entries: RwLock::new(entries), blobs: RwLock::default() }
    }

    fn entries(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Entry>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model of that [`Name::key`](super::names::Name::key).
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Entry>> {
        self.entries().iter().find(|entry| entry.key == key).cloned()
    }

    pub(crate) fn add(&self, model: Model) {
        let entry = Entry::new(model);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|old| old.key != entry.key);
        entries.push(entry);
    }

    /// False if there is no such model.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let before = entries.len();
        entries.retain(|entry| entry.key != key);
        entries.len() < before
    }

    /// Answer of `/api/tags`.
    pub(crate) fn list(&self) -> Value {
        let models: Vec<_> = self.entries().iter().map(|entry| entry.model.listed.clone()).collect();
        json!({ "models": models })
    }

    /// Answer of `/api/ps`.
    pub(crate) fn loaded(&self, now: u64) -> Value {
        let entries = self.entries();
        let loaded = entries.iter().filter_map(|entry| {
            let until = entry.loaded_until.load(Ordering::Relaxed);
            let Model { listed, .. } = &entry.model;
            let mut details = listed.get("details").cloned().unwrap_or_default();
            if let Value::Object(members) = &mut details {
                members.retain(|key, _| !matches!(key.as_str(), "context_length" | "embedding_length"));
            }
            (until > now).then(|| {
                json!({
                    "name": entry.model.name, "model": entry.model.name, "size": 209_505_483, "digest": entry.model.digest(),
                    "details": details, "expires_at": crate::go::text::rfc3339(std::time::Duration::from_secs(until)),
                    "size_vram": 0, "context_length": entry.model.context(),
                })
            })
        });
        let loaded: Vec<_> = loaded.collect();
        json!({ "models": loaded })
    }

    pub(crate) fn has_blob(&self, digest: &str) -> bool {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    pub(crate) fn add_blob(&self, digest: String) {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }
}

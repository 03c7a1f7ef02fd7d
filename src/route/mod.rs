//! Route: which upstream answers, and does it have the model.
//!
//! Takes a validated [`Call`]; promises a [`Target`] that knows the model, so that nobody waits for a turn in vain. Refuses
//! unknown models (404) and models that run on ollama.com under any name (403), by the upstream's own list.
//!
//! The list is a cache: looking at it asks nobody. Whatever does ask the upstream for a caller's sake ([`Pool::fetch`] and what
//! follows from it) is called behind the begin of that caller's record, so that in strict mode nothing goes out unrecorded.

mod ask;
mod catalogue;
mod entry;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::Mutex;

use crate::config;
use crate::dialect::Call;
use crate::listen::clock::Millis;
use crate::types::ModelName;
use crate::upstream::Client;

use catalogue::Catalogue;

/// Where a call goes.
#[derive(Debug)]
pub struct Target {
    client: Arc<Client>,
    call: Call,
}

impl Target {
    /// What goes there.
    pub const fn call(&self) -> &Call {
        &self.call
    }

    /// The upstream.
    pub const fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

/// Why a call goes nowhere.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RouteError {
    /// The upstream does not have it.
    #[error("the upstream does not have {0}")]
    UnknownModel(ModelName),
    /// The request named none, and the upstream does not have the default one.
    #[error("the upstream does not have the default model {0}")]
    NoDefault(ModelName),
    /// It runs on ollama.com, on the operator's account.
    #[error("{0} is a cloud model")]
    CloudModel(ModelName),
    /// It does not answer.
    #[error("the upstream does not answer: {0}")]
    NotReady(String),
}

/// What stands in for a default model that nobody chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// It can chat.
    pub model: ModelName,
    /// It is in the upstream's memory; otherwise it is the most recently modified one.
    pub loaded: bool,
}

/// The upstreams (one, for now) and what they have.
#[derive(Debug)]
pub struct Pool {
    client: Arc<Client>,
    catalogue: Catalogue,
    cloud_models: bool,
    /// When the upstream last said whether it answers, and what; one asks at a time.
    probed: Mutex<Option<(Millis, Result<(), String>)>>,
    /// Held by whoever asks about models one by one: the one of which the upstream said nothing.
    shown: Mutex<Option<ModelName>>,
    /// Until when it is not asked about them.
    quiet: AtomicU64,
}

impl Pool {
    /// For the configured upstream.
    pub fn new(upstream: &config::Upstream, cloud_models: bool) -> Self {
        Self {
            client: Client::new(upstream.url.clone(), upstream.connect),
            catalogue: Catalogue::default(),
            cloud_models,
            probed: Mutex::default(),
            shown: Mutex::default(),
            quiet: AtomicU64::default(),
        }
    }

    /// Is the model in the list, and does it run on ollama.com? `None`: it is not, or nothing was heard yet.
    pub fn find(&self, model: &ModelName) -> Option<bool> {
        self.catalogue.find(model)
    }

    /// May the upstream be asked now? Whoever names a model that is not in the list gets an answer from what is there now, and so does
    /// whoever names none while it has none for them: somebody may just have pulled it. Once a second is enough for all of them.
    pub fn may_look(&self, now: Millis) -> bool {
        !self.has_heard() || self.catalogue.may_ask_again(now)
    }

    /// Did the upstream ever say what it has?
    pub fn has_heard(&self) -> bool {
        self.catalogue.look(|_| ()).is_some()
    }

    /// The target of a call whose model was [found](Self::find), or not.
    pub fn route(&self, call: Call, found: Option<bool>) -> Result<Target, RouteError> {
        match found {
            None if call.is_by_default() => Err(RouteError::NoDefault(call.model().clone())),
            None => Err(RouteError::UnknownModel(call.model().clone())),
            Some(true) if !self.cloud_models => Err(RouteError::CloudModel(call.model().clone())),
            Some(_) => Ok(Target { client: Arc::clone(&self.client), call }),
        }
    }

    /// Has the upstream this model, as far as was ever heard? `None`: nothing was heard.
    pub fn has(&self, model: &ModelName) -> Option<bool> {
        self.catalogue.look(|view| view.models.contains_key(model))
    }

    /// A model that the upstream has, if it has any: the first by name.
    pub fn any_model(&self) -> Option<ModelName> {
        self.catalogue.look(|view| view.models.keys().next().cloned())?
    }

    /// The model for whoever names none, where nobody chose one: `usual` where the upstream has it, else one that can chat, and only what
    /// the caller may use. `None`: there is none but the usual one.
    pub fn stand_in(&self, usual: &ModelName, may: impl Fn(&ModelName) -> bool) -> Option<StandIn> {
        let fits = |name: &ModelName, cloud: bool| (self.cloud_models || !cloud) && may(name);
        self.catalogue.look(|view| {
            let cloud = |name: &ModelName| view.models.get(name).map(|model| model.cloud);
            if cloud(usual).is_some_and(|cloud| fits(usual, cloud)) {
                return None;
            }
            let mut chats =
                view.chats().filter(|(name, _)| cloud(name).is_some_and(|cloud| fits(name, cloud)));
            chats.next().map(|(name, loaded)| StandIn { model: name.clone(), loaded })
        })?
    }

    /// What the lists say about a model beside its own entry: is it in memory, and how long a context it was made for.
    pub fn facts(&self, model: &ModelName) -> (bool, Option<u64>) {
        let facts = self.catalogue.look(|view| {
            let model = view.models.get(model)?;
            Some((model.place.is_some(), model.context()))
        });
        facts.flatten().unwrap_or_default()
    }
}

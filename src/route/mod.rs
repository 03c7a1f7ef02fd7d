//! Route: which upstream answers, and does it have the model.
//!
//! Takes a validated [`Call`]; promises a [`Target`] that knows the model, so that nobody waits for a turn in vain. Refuses
//! unknown models (404) and models that run on ollama.com under any name (403), by the upstream's own list.

mod catalogue;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::config;
use crate::dialect::Call;
use crate::dialect::ollama::models;
use crate::listen::clock::{self, Clock, Millis};
use crate::types::ModelName;
use crate::upstream::{Client, Outgoing, Piece, UpstreamError};

use catalogue::Catalogue;

/// Lists and probes must answer within this.
const PROBE: Duration = Duration::from_secs(5);
const MAX_LIST: usize = 8 << 20;
/// What it said to somebody else this lately is said again.
const FRESH: Millis = 100;

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
    /// It runs on ollama.com, on the operator's account.
    #[error("{0} is a cloud model")]
    CloudModel(ModelName),
    /// It does not answer.
    #[error("the upstream does not answer: {0}")]
    NotReady(String),
}

/// The upstreams (one, for now) and what they have.
#[derive(Debug)]
pub struct Pool {
    client: Arc<Client>,
    catalogue: Catalogue,
    cloud_models: bool,
    /// When the upstream last said whether it answers, and what; one asks at a time.
    probed: Mutex<Option<(Millis, Result<(), String>)>>,
}

impl Pool {
    /// For the configured upstream.
    pub fn new(upstream: &config::Upstream, cloud_models: bool) -> Self {
        Self {
            client: Client::new(upstream.url.clone(), upstream.connect),
            catalogue: Catalogue::default(),
            cloud_models,
            probed: Mutex::default(),
        }
    }

    /// Finds the target of a call. The outer error: the upstream did not say what it has.
    pub async fn route(
        self: &Arc<Self>,
        clock: &Clock,
        call: Call,
    ) -> Result<Result<Target, RouteError>, UpstreamError> {
        let now = clock.now();
        let mut found = self.catalogue.find(call.model());
        if found.is_some() {
            self.refresh_behind(now);
        } else if self.catalogue.get().is_none() || self.catalogue.may_ask_again(now) {
            self.catalogue.asked(now);
            // An unknown name may be a cloud model under an alias: without the list it goes nowhere.
            Box::pin(self.fetch(clock)).await?;
            found = self.catalogue.find(call.model());
        }
        Ok(match found {
            None => Err(RouteError::UnknownModel(call.model().clone())),
            Some(model) if model.cloud && !self.cloud_models => {
                Err(RouteError::CloudModel(call.model().clone()))
            }
            Some(_) => Ok(Target { client: Arc::clone(&self.client), call }),
        })
    }

    /// Has the upstream this model, as far as was ever heard? `None`: nothing was heard.
    pub fn has(&self, model: &ModelName) -> Option<bool> {
        self.catalogue.get().map(|list| list.get(model).is_some())
    }

    /// A model that the upstream has, if it has any: the first by name.
    pub fn any_model(&self) -> Option<ModelName> {
        let list = self.catalogue.get()?;
        list.keys().next().cloned()
    }

    /// Does the upstream answer, now or a moment ago? Anybody may ask: those who ask while another question is on its way share
    /// its answer.
    pub async fn probe(&self, clock: &Clock) -> Result<(), RouteError> {
        let asked = clock::now();
        let mut probed = self.probed.lock().await;
        if let Some((heard, said)) = &*probed
            && *heard > asked.saturating_sub(FRESH)
        {
            return said.clone().map_err(RouteError::NotReady);
        }
        // Whoever leaves while it is asked takes nothing along: the next one asks.
        let said = self.get(clock, "/api/version").await.map(|_| ()).map_err(|error| error.to_string());
        *probed = Some((clock::now(), said.clone()));
        said.map_err(RouteError::NotReady)
    }

    /// Is the model in the upstream's memory? Where it does not say, it counts as loaded.
    pub async fn is_loaded(&self, clock: &Clock, model: &ModelName) -> bool {
        match self.get(clock, "/api/ps").await {
            Ok(list) => models::names(&list).iter().any(|name| ModelName::parse(name).as_ref() == Ok(model)),
            Err(_) => true,
        }
    }

    /// Asks the upstream for its models.
    pub async fn fetch(&self, clock: &Clock) -> Result<(), UpstreamError> {
        let body = self.get(clock, "/api/tags").await?;
        self.catalogue.set(&body, clock::now()).ok_or(UpstreamError::Protocol("its model list is no list"))
    }

    /// The bodies of `/api/tags` and the like, whole.
    pub async fn get(&self, clock: &Clock, path: &'static str) -> Result<Vec<u8>, UpstreamError> {
        self.ask(clock, Outgoing { method: "GET", path, accept: "application/json", body: b"" })
            .await
            .and_then(|(status, body)| {
                if status == 200 {
                    Ok(body)
                } else {
                    Err(UpstreamError::Protocol("a list with a status other than 200"))
                }
            })
    }

    /// One short question, its status and whole body.
    pub async fn ask(&self, clock: &Clock, question: Outgoing<'_>) -> Result<(u16, Vec<u8>), UpstreamError> {
        let by = clock::after(clock::now(), Some(PROBE));
        let mut answer = self.client.send(clock, by, question).await?;
        let mut body = Vec::new();
        let reading = std::future::poll_fn(|cx| {
            loop {
                match std::task::ready!(answer.body.poll_piece(cx, &mut body)) {
                    Ok(Piece::Data) if body.len() <= MAX_LIST => {}
                    Ok(Piece::Data) => {
                        return std::task::Poll::Ready(Err(UpstreamError::Protocol("an endless list")));
                    }
                    Ok(Piece::End) => return std::task::Poll::Ready(Ok(())),
                    Err(_) => {
                        return std::task::Poll::Ready(Err(UpstreamError::Protocol(
                            "a list that breaks off",
                        )));
                    }
                }
            }
        });
        clock::until(clock, by, std::pin::pin!(reading)).await.ok_or(UpstreamError::FirstByteTimeout)??;
        Ok((answer.head.status, body))
    }

    /// Asks again in the background, at most every few seconds: a request for a known model does not wait for it.
    fn refresh_behind(self: &Arc<Self>, now: Millis) {
        if self.catalogue.is_old(now) {
            self.catalogue.asked(now);
            let pool = Arc::clone(self);
            tokio::spawn(async move {
                let asking = clock::alone(|clock| async move { pool.fetch(&clock).await });
                if let Err(error) = asking.await {
                    tracing::debug!(%error, "the upstream's model list could not be read again");
                }
            });
        }
    }
}

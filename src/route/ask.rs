//! The gateway's own questions to the upstream: what it has, what is in memory, whether it answers. Each is short and has an end.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{self, Facts, Model};
use super::{Pool, RouteError};
use crate::dialect::ollama::models;
use crate::listen::clock::{self, Clock, Millis};
use crate::types::ModelName;
use crate::upstream::{Outgoing, Piece, UpstreamError};

/// Lists and probes must answer within this.
const PROBE: Duration = Duration::from_secs(5);
const MAX_LIST: usize = 8 << 20;
/// What it said to somebody else this lately is said again.
const FRESH: Millis = 100;
/// Models that are asked about one by one, at a time.
const MOST_SHOWN: usize = 64;

impl Pool {
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
            Ok(list) => models::listed(&list).iter().any(|name| ModelName::parse(name).as_ref() == Ok(model)),
            Err(_) => true,
        }
    }

    /// Asks the upstream for its models and for what is in its memory; the list as it came.
    pub async fn fetch(&self, clock: &Clock) -> Result<Vec<u8>, UpstreamError> {
        self.catalogue.asked(clock::now());
        let tags = self.get(clock, "/api/tags").await?;
        // What is in memory is a courtesy: the list holds without it.
        let ps = self.get(clock, "/api/ps").await.ok();
        match self.catalogue.set(&tags, ps.as_deref(), clock::now()) {
            Some(()) => Ok(tags),
            None => Err(UpstreamError::Protocol("its model list is not a list")),
        }
    }

    /// Asks what the models can do of which the list does not say it (older servers), each once. One asks at a time, and all
    /// together have as long as one list has.
    pub async fn learn(&self, clock: &Clock) {
        let Ok(_one_at_a_time) = self.learning.try_lock() else { return };
        let Some(view) = self.catalogue.get() else { return };
        let unknown = |name: &ModelName| view.models.get(name).is_some_and(Model::is_unknown);
        let names: Vec<&ModelName> =
            view.chats().map(|(name, _)| name).filter(|name| unknown(name)).take(MOST_SHOWN).collect();
        let mut learned: Vec<(ModelName, Facts)> = Vec::new();
        let by = clock::after(clock::now(), Some(PROBE));
        for name in names {
            if clock::now() > by {
                break;
            }
            let body = serde_json::json!({ "model": name.as_str() }).to_string();
            let question = Outgoing {
                method: "POST",
                path: "/api/show",
                accept: "application/json",
                body: body.as_bytes(),
            };
            match self.ask(clock, question).await {
                // A server that does not know its own model says nothing about it; it is not asked again.
                Ok((status, body)) => {
                    let facts = if status == 200 { entry::facts(&body) } else { Facts::default() };
                    learned.push((name.clone(), facts));
                }
                Err(_) => break,
            }
        }
        if !learned.is_empty() {
            self.catalogue.learn(learned);
        }
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

    /// Asks again in the background, at most every few seconds: a request for a known model does not wait for it. `learning`: about models
    /// one by one, too.
    pub fn refresh_behind(self: &Arc<Self>, now: Millis, learning: bool) {
        if self.catalogue.is_old(now) {
            self.catalogue.asked(now);
            let pool = Arc::clone(self);
            tokio::spawn(async move {
                let asking = clock::alone(|clock| async move {
                    if let Err(error) = pool.fetch(&clock).await {
                        tracing::debug!(%error, "the upstream's model list could not be read again");
                    } else if learning {
                        pool.learn(&clock).await;
                    }
                });
                asking.await;
            });
        }
    }
}

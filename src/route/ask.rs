//! The gateway's own questions to the upstream: what it has, what is in memory, whether it answers. Each is short and has an end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::catalogue::View;
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
/// So long a request without a model waits until it is known what the models can do: more than a server needs that is well.
const MOMENT: Duration = Duration::from_secs(1);
/// So long nothing is asked about models one by one after the upstream did not answer that.
const QUIET: Duration = Duration::from_mins(1);

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

    /// Is it in the list without anybody having said what it can do, and may the upstream be asked that now?
    pub fn is_guess(&self, model: &ModelName, now: Millis) -> bool {
        let unknown = |view: &View| view.models.get(model).is_some_and(Model::is_unknown);
        self.catalogue.look(unknown) == Some(true) && self.may_learn(now)
    }

    /// May it be asked what its models can do? Not for a while after it did not answer that.
    fn may_learn(&self, now: Millis) -> bool {
        now >= self.quiet.load(Ordering::Relaxed)
    }

    /// Asks behind the request what models can do of which the list does not say it (older servers); meanwhile their families and names
    /// decide.
    pub fn learn_behind(self: &Arc<Self>) {
        // Whoever asks already asks for all of them.
        if self.shown.try_lock().is_ok() {
            drop(self.learning());
        }
    }

    /// `None`: there is nothing to ask.
    fn learning(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        let unknown = |view: &View| view.unknown().next().is_some();
        if !self.may_learn(clock::now()) || self.catalogue.look(unknown) != Some(true) {
            return None;
        }
        let pool = Arc::clone(self);
        Some(tokio::spawn(async move { clock::alone(|clock| async move { pool.learn(&clock).await }).await }))
    }

    /// Waits for a moment until it is known what the models can do. Where that does not come, what is known decides, and nobody waits
    /// for it again for a while. Who asks is not the one who waits: a caller that leaves takes nothing along.
    pub async fn learned(self: &Arc<Self>, clock: &Clock) {
        let Some(mut learning) = self.learning() else { return };
        let by = clock::after(clock::now(), Some(MOMENT));
        if clock::until(clock, by, std::pin::Pin::new(&mut learning)).await.is_none() {
            self.be_quiet();
        }
    }

    fn be_quiet(&self) {
        self.quiet.store(clock::after(clock::now(), Some(QUIET)), Ordering::Relaxed);
    }

    /// Asks about models one by one, each once. One asks at a time, and all together have as long as one list has.
    async fn learn(&self, clock: &Clock) {
        let mut unanswered = self.shown.lock().await;
        // Somebody may have learned in the meantime that it does not answer.
        let Some(view) = self.catalogue.get().filter(|_| self.may_learn(clock::now())) else { return };
        // What was not answered the last time comes last: it must not keep the others from being known.
        let mut names: Vec<&ModelName> = view.unknown().collect();
        names.sort_by_key(|name| unanswered.as_ref() == Some(*name));
        let mut learned: Vec<(ModelName, Facts)> = Vec::new();
        let by = clock::after(clock::now(), Some(PROBE));
        for name in names.into_iter().take(MOST_SHOWN) {
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
            let Ok((status, body)) = self.ask(clock, question).await else {
                *unanswered = Some(name.clone());
                self.be_quiet();
                break;
            };
            // A server that does not know its own model says nothing about it; it is not asked again.
            let facts = if status == 200 { entry::facts(&body) } else { Facts::default() };
            learned.push((name.clone(), facts));
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
    /// one by one, too, as far as that was answered.
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

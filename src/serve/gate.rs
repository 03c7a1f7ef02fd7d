//! The gate: every part, built once, and the wrapper around the pipeline that turns failures into answers.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, HeaderMap, HeaderValue};
use http::request::Parts;

use super::pages::Pages;
use super::pipeline::{self, Asked};
use crate::admit::{Admit, Permit};
use crate::config::{self, Config, Origins};
use crate::endpoint::Switches;
use crate::forward::{self, Held, ReplyBody};
use crate::identify::{Caller, Identify, Ring};
use crate::listen::clock::{Clock, Millis};
use crate::listen::{Answering, ConnState, InFlight, Reject, Verb};
use crate::queue::Slots;
use crate::record::{Desk, Ending, Record};
use crate::respond::{Failure, cors, head};
use crate::route::Pool;
use crate::store::usage::Spent;
use crate::types::{ModelName, RequestId, Side};
use crate::validate::Rules;

/// Every part of the gate.
#[derive(Debug)]
pub struct Gate {
    pub(super) switches: Switches,
    pub(super) identify: Identify,
    pub(super) admit: Admit,
    pub(super) rules: Rules,
    /// The upstreams.
    pub pool: Arc<Pool>,
    pub(super) slots: Arc<Slots>,
    pub(super) forward: Arc<forward::Rules>,
    pub(super) origins: Origins,
    pub(super) pages: Pages,
    /// Where records go.
    pub desk: Arc<Desk>,
    ids: Arc<Ids>,
    /// What it was built from, to see what of it can stay.
    upstream: config::Upstream,
}

/// What one request carries along its way.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) state: Arc<ConnState>,
    pub(super) peer: SocketAddr,
    /// Taken by the answer of a stream.
    pub(super) record: Option<Box<Record>>,
    /// Taken by the answer.
    pub(super) in_flight: Option<InFlight>,
    /// The request's, emptied for the answer, whose hyper keeps it for the next request: none is ever made anew.
    pub(super) headers: HeaderMap,
}

impl Visit {
    /// A whole answer.
    pub(super) fn whole(
        &mut self,
        bytes: impl Into<Bytes>,
        permit: Option<Box<Permit>>,
    ) -> Response<ReplyBody> {
        let bytes = bytes.into();
        let held = self.held(permit);
        self.answer(ReplyBody::Whole { bytes, held })
    }

    /// An answer with this body.
    pub(super) fn answer(&mut self, body: ReplyBody) -> Response<ReplyBody> {
        let mut response = Response::new(body);
        *response.headers_mut() = std::mem::take(&mut self.headers);
        response
    }

    pub(super) fn held(&mut self, permit: Option<Box<Permit>>) -> Held {
        let in_flight = self.in_flight.take().unwrap_or_else(|| InFlight::new(Arc::clone(&self.state)));
        Held { in_flight, permit, record: None, turn: None }
    }
}

impl Gate {
    /// Builds every part from the configuration; without a ring of keys none is asked. `spent`: what keys used before.
    pub fn new(
        config: &Config,
        ring: Option<Arc<Ring>>,
        spent: Vec<(String, Spent)>,
        desk: Arc<Desk>,
    ) -> Self {
        Self {
            switches: Switches { catalogue: config.routes.catalogue, management: config.routes.management },
            identify: Identify::new(ring, config),
            admit: Admit::new(&config.limits, spent),
            rules: Rules::new(config),
            pool: Arc::new(Pool::new(&config.upstream, config.routes.cloud_models)),
            slots: Slots::new(config.upstream.slots, config.queue),
            forward: forward::Rules::new(&config.upstream, config.heartbeat),
            origins: config.listen.origins.clone(),
            pages: Pages::new(&config.frame_ancestors),
            desk,
            ids: Arc::new(Ids::new()),
            upstream: config.upstream.clone(),
        }
    }

    /// The gate for another configuration. What counts and what waits stays: meters, lock-outs, the queue, and the connections where the
    /// upstream is the same.
    #[must_use]
    pub fn renewed(&self, config: &Config) -> Self {
        let cloud_models = config.routes.cloud_models;
        let same = (&self.upstream.url, self.upstream.connect, self.rules.cloud_models)
            == (&config.upstream.url, config.upstream.connect, cloud_models);
        let pool =
            if same { Arc::clone(&self.pool) } else { Arc::new(Pool::new(&config.upstream, cloud_models)) };
        Self {
            switches: Switches { catalogue: config.routes.catalogue, management: config.routes.management },
            identify: self.identify.renewed(&config.listen),
            admit: self.admit.renewed(&config.limits),
            rules: Rules::new(config),
            pool,
            slots: Arc::clone(&self.slots),
            forward: forward::Rules::new(&config.upstream, config.heartbeat),
            origins: config.listen.origins.clone(),
            pages: Pages::new(&config.frame_ancestors),
            desk: Arc::clone(&self.desk),
            ids: Arc::clone(&self.ids),
            upstream: config.upstream.clone(),
        }
    }
}

impl Gate {
    /// The model of a request that names none. Where nobody chose one it follows what the upstream has, and what the caller may use.
    pub(super) fn default_model(&self, caller: &Caller) -> ModelName {
        let usual = &self.rules.default_model;
        let stand_in = (!self.rules.default_chosen)
            .then(|| self.pool.stand_in(usual, |model| caller.use_model(model).is_ok()));
        stand_in.flatten().map_or_else(|| usual.clone(), |stand_in| stand_in.model)
    }

    /// May the model for a request that names none, as [chosen](Self::default_model), be another soon?
    pub(super) fn is_open(&self, model: &ModelName, now: Millis) -> bool {
        match self.pool.find(model) {
            None => !self.rules.default_chosen && self.pool.may_look(now),
            Some(_) => self.is_guess(model, now),
        }
    }

    /// Does it stand in though nobody said that it can chat, and may the upstream be asked?
    pub(super) fn is_guess(&self, model: &ModelName, now: Millis) -> bool {
        *model != self.rules.default_model && self.pool.is_guess(model, now)
    }

    /// The next request id, for an answer beside the pipeline.
    pub(super) fn next_id(&self) -> RequestId {
        self.ids.next()
    }
}

/// The answer to a failure, and the end of its record. What it repeats of the request was masked where it was put in.
fn failed(visit: &mut Visit, failure: &Failure) -> Response<ReplyBody> {
    if let Some(record) = &mut visit.record {
        record.status = failure.status.as_u16();
        record.limit = failure.limit;
        record.fail(failure.side, failure.detail.clone());
        record.end(failure.ending);
    }
    let (parts, body) = failure.response().into_parts();
    let answer = visit.whole(body, None);
    Response::from_parts(parts, answer.into_body())
}

impl Gate {
    /// Answers one request. What held when it began holds until its end.
    pub(super) fn answer(
        self: Arc<Self>,
        state: Arc<ConnState>,
        peer: SocketAddr,
        head: Parts,
    ) -> Answering<ReplyBody> {
        let id = self.ids.next();
        let mut record = Record::open(&self.desk, id, &head.method);
        // Until a trusted proxy names another: the lines of scanners must say where they came from.
        record.client = Some(peer.ip());
        let is_head = head.method == http::Method::HEAD;
        let origin = cors::allowed(&self.origins, &head.headers).cloned();
        let in_flight = Some(InFlight::new(Arc::clone(&state)));
        let mut visit = Visit { state, peer, record: Some(record), in_flight, headers: HeaderMap::new() };
        let entering = AssertUnwindSafe(|| pipeline::enter(&self, &mut visit, &head));
        let asked = std::panic::catch_unwind(entering).unwrap_or_else(|_| Err(panicked()));
        visit.headers = head.headers;
        visit.headers.clear();
        let asked = asked.unwrap_or_else(|failure| Asked::Answered(Box::new(failed(&mut visit, &failure))));
        // A block and not a function: what a function is given stands in its future twice.
        Box::pin(async move {
            let clock = Arc::clone(&visit.state.clock);
            let result = caught(&clock, pin!(pipeline::run(&self, &mut visit, asked))).await;
            let mut response = result.unwrap_or_else(|failure| failed(&mut visit, &failure));
            if let Some(mut record) = visit.record.take() {
                record.status = response.status().as_u16();
                response.body_mut().carry(record, is_head);
            }
            if !visit.state.is_whole() {
                // The rest of the request will not be read: a pool of the caller's must not think that it may go on here.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            head::common(response.headers_mut(), id);
            cors::answer(&self.origins, origin.as_ref(), response.headers_mut());
            Ok(response)
        })
    }

    /// The answer to what never became a request.
    pub(super) fn rejected(&self, peer: SocketAddr, reject: Reject, verb: Verb) -> Vec<u8> {
        use std::io::Write;
        let id = self.ids.next();
        let method = if verb == Verb::Head { http::Method::HEAD } else { http::Method::GET };
        let mut record = Record::open(&self.desk, id, &method);
        record.client = Some(peer.ip());
        record.status = reject.status.as_u16();
        record.fail(Side::Client, reject.reason);
        record.end(Ending::Refused);
        let body = Failure::refused(reject.status, reject.reason).response().into_body();
        let (length, body) = match verb {
            Verb::Other => (body.len(), body),
            Verb::Head => (body.len(), Vec::new()),
            Verb::Unread => (0, Vec::new()),
        };
        let mut out = Vec::new();
        // Writing to a vector cannot fail.
        let _written = write!(
            out,
            "HTTP/1.1 {} {}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {length}\r\n\
             x-content-type-options: nosniff\r\ncache-control: no-store\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
            reject.status.as_u16(),
            reject.status.canonical_reason().unwrap_or("Error"),
        );
        out.extend_from_slice(&body);
        out
    }
}

/// A panic ends its own request, and no other: an answer, a record, a log line by the panic hook. The end of a drain ends
/// what has no head yet.
async fn caught(
    clock: &Clock,
    mut work: Pin<&mut impl Future<Output = Result<Response<ReplyBody>, Failure>>>,
) -> Result<Response<ReplyBody>, Failure> {
    std::future::poll_fn(|cx| match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(Poll::Pending) if clock.cut() => Poll::Ready(Err(Failure::stopping())),
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(panicked())),
    })
    .await
}

fn panicked() -> Failure {
    Failure::internal("a panic in the pipeline")
}

/// Request ids: unique in a process, and not guessable from one another across processes.
#[derive(Debug)]
struct Ids {
    seed: u64,
    count: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let mut seed = [0; 8];
        // Without random bytes the ids are still unique in this process.
        let _unseeded = getrandom::fill(&mut seed);
        Self { seed: u64::from_le_bytes(seed), count: AtomicU64::new(0) }
    }

    /// splitmix64 (Steele et al., 2014): a bijection, so no id comes twice.
    fn next(&self) -> RequestId {
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        let mut z = self.seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        RequestId(z ^ (z >> 31))
    }
}

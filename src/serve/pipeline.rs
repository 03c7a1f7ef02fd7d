//! THE pipeline: the way of a request, top to bottom.
//!
//! table → identify → admit → validate → route → queue → forward → respond; each stage asks for the witness of the one before.
//!
//! Three functions, one behind the other: [`enter`], [`run`], `proxy`. What needs the head alone comes first and waits for nothing, so that the head is gone before hyper looks at the socket again:
//! its buffer serves the next request then. What is rare is boxed: the future of the common way is allocated for every request.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::gate::{Gate, Visit};
use super::lists;
use super::recording;
use crate::admit::{Permit, Share};
use crate::dialect::ollama;
use crate::dialect::{Call, Shape};
use crate::endpoint::{self, Endpoint, Needs, Proxied};
use crate::forward::{self, Held, Late, Opened, Opening, Relay, ReplyBody, Stream};
use crate::identify::IdentifyError;
use crate::listen::clock::{self, Clock, Millis, NEVER};
use crate::queue::{Account, Phase, Progress};
use crate::record::{Began, Ending, Record, mask};
use crate::respond::{Failure, cors, head};
use crate::route::Target;
use crate::types::Scope;
use crate::validate::{ValidateError, intake};

/// What a request asks, by its head: nothing has been waited for yet.
#[derive(Debug)]
pub(super) enum Asked {
    /// Answered already.
    Answered(Box<Response<ReplyBody>>),
    /// Is the gateway ready?
    Ready,
    /// A list of models.
    List(Endpoint, Box<Permit>),
    /// What its body says; `true`: the caller wants to hear of phases.
    Body(Proxied, Box<Permit>, bool),
}

/// From the head of a request to the admission of its caller.
pub(super) fn enter(gate: &Gate, visit: &mut Visit, request: &Parts) -> Result<Asked, Failure> {
    if request.method == Method::OPTIONS {
        return options(gate, visit, request).map(|response| Asked::Answered(Box::new(response)));
    }
    let endpoint = endpoint::resolve(&request.method, request.uri.path(), gate.switches)?;
    note(visit, |record| (record.route, record.path) = (endpoint.route(), endpoint.path(request.uri.path())));
    intake::query(request.uri.query())?;
    let address = gate.identify.address(visit.peer, &request.headers).map_err(IdentifyError::from)?;
    note(visit, |record| record.client = address);
    gate.identify.host(&request.headers)?;
    let scope = match endpoint.needs() {
        Needs::Nothing => {
            note(visit, |record| record.minor = endpoint.is_minor());
            if endpoint == Endpoint::Ready {
                return Ok(Asked::Ready);
            }
            return lists::open(gate, visit, endpoint, request).map(|page| Asked::Answered(Box::new(page)));
        }
        Needs::Key => None,
        Needs::Scope(scope) => Some(scope),
    };
    let caller = gate.identify.identify(address, &request.headers, scope, visit.state.clock.now())?;
    note(visit, |record| record.key = caller.key_id().cloned());
    let keyed = caller.has_presented_key();
    let spends = scope == Some(Scope::Inference);
    let permit = gate.admit.admit(caller, spends, visit.state.clock.now())?;
    match endpoint {
        Endpoint::Usage => {
            recording::place_now(visit)?;
            Ok(Asked::Answered(Box::new(lists::usage(gate, visit, permit))))
        }
        Endpoint::Proxied(Proxied::Tags | Proxied::Ps | Proxied::Version) | Endpoint::Models => {
            Ok(Asked::List(endpoint, permit))
        }
        Endpoint::Proxied(proxied) => {
            intake::media_type(&request.headers, keyed)?;
            let phases = proxied == Proxied::ChatApi && request.headers.contains_key(head::PHASES);
            Ok(Asked::Body(proxied, permit, phases))
        }
        _ => Err(Failure::refused(StatusCode::FORBIDDEN, "management routes are not part of this version")),
    }
}

/// From there to an answer.
#[expect(
    clippy::manual_async_fn,
    reason = "what a function is given stands in its future twice, and this one is allocated"
)]
pub(super) fn run<'a>(
    gate: &'a Arc<Gate>,
    visit: &'a mut Visit,
    asked: Asked,
) -> impl Future<Output = Result<Response<ReplyBody>, Failure>> + Send + use<'a> {
    async move {
        let (proxied, mut permit, phases) = match asked {
            Asked::Answered(response) => return Ok(*response),
            Asked::Ready => return Box::pin(lists::ready(gate, visit)).await,
            Asked::List(endpoint, permit) => {
                recording::place(visit).await?;
                return Box::pin(lists::list(gate, visit, endpoint, permit)).await;
            }
            Asked::Body(proxied, permit, phases) => (proxied, permit, phases),
        };
        let watch = gate.admit.watch(&permit, &visit.state.clock);
        let (bytes, mut share) = intake::read(watch, &visit.state.inlet, gate.rules.limits.body).await??;
        // Not before: whoever sends for minutes keeps no place from others.
        recording::place(visit).await?;
        note(visit, |record| record.bytes_in = bytes.len() as u64);
        let mut call = parse(gate, proxied, &bytes, &permit, visit.state.clock.now())?;
        if call.is_by_default() && gate.is_open(call.model(), visit.state.clock.now()) {
            Box::pin(lists::choose(gate, visit, permit.caller(), call.model())).await?;
            call = parse(gate, proxied, &bytes, &permit, visit.state.clock.now())?;
        }
        drop(bytes);
        share.becomes(call.body().len());
        note(visit, |record| record.model = Some(call.model().clone()));
        permit.caller().use_model(call.model())?;
        let mut found = gate.pool.find(call.model());
        if found.is_none() && gate.pool.may_look(visit.state.clock.now()) {
            // An unknown name may be a cloud model under an alias: without the list it goes nowhere.
            Box::pin(lists::look(gate, visit)).await?;
            found = gate.pool.find(call.model());
        }
        note(visit, |record| record.listed = found.is_some());
        let target = gate.pool.route(call, found)?;
        if target.call().shape() == Shape::Show {
            recording::begin(visit).await?;
            return Box::pin(lists::show(gate, visit, target.call(), permit)).await;
        }
        let call = target.call();
        let mean = || gate.desk.ledger.metrics.mean_work(call.model());
        permit.reserve(call.tokens(), mean, visit.state.clock.now())?;
        let progress = phases.then(|| Arc::new(Progress::default()));
        proxy(gate, visit, permit, (target, share), progress).await
    }
}

fn parse(
    gate: &Gate,
    proxied: Proxied,
    bytes: &[u8],
    permit: &Permit,
    now: Millis,
) -> Result<Call, ValidateError> {
    let default = || gate.default_model(permit.caller());
    ollama::parse(proxied, bytes, &gate.rules, permit.caps(now), &default)
}

fn note(visit: &mut Visit, change: impl FnOnce(&mut Record)) {
    if let Some(record) = &mut visit.record {
        change(record);
    }
}

/// Queue, forward, respond: until there is an answer, or until a stream has been silent for so long that its head goes out
/// with a heartbeat.
async fn proxy(
    gate: &Gate,
    visit: &mut Visit,
    mut permit: Box<Permit>,
    (target, room): (Target, Share),
    progress: Option<Arc<Progress>>,
) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    let call = target.call();
    let limits = (permit.rate(), permit.tokens());
    let dropped = head::dropped(call.dropped(), mask);
    let (shape, model, is_stream) = (call.shape(), call.model().clone(), call.is_stream());
    note(visit, |record| {
        record.stream = is_stream;
        // The log knows more of what must not be shown than an answer may tell.
        record.dropped = head::dropped(call.dropped(), |name| gate.desk.secrets.mask(name));
        record.proxying(call.path());
    });
    let began = goes_out(visit, &mut permit, call).await?;
    gate.pool.refresh_behind(clock.now(), !gate.rules.default_chosen);
    let heartbeat = gate.forward.heartbeat.filter(|_| is_stream);
    // Whoever wants to hear of phases gets the head at once: what fails within the first poll still has its own status.
    let beat = if progress.is_some() {
        clock.now()
    } else {
        heartbeat.map_or(NEVER, |_| clock::after(clock.now(), heartbeat))
    };
    let mut opening = opening(gate, (target, room), &clock, (account(&permit), began), progress.clone());
    let waiting = clock::until(&clock, beat, opening.as_mut());
    // What is halted here pays for the time that it had.
    let opened = unless_halted(&permit, &clock, pin!(waiting)).await?.transpose();
    if opened.as_ref().is_err_and(|failure| !failure.worked) {
        permit.forgive();
        note(visit, |record| record.began = None);
    }
    let opened = opened?;
    let mut response = match opened {
        Some(Opened::Whole { bytes, tokens, queued, turn }) => {
            permit.settle(tokens.all(), tokens.worked.map(|_| tokens.gpu_ms()));
            note(visit, |record| (record.tokens, record.queued) = (tokens, Some(queued)));
            let held = Held { turn, ..visit.held(Some(permit)) };
            let mut response = visit.answer(ReplyBody::Whole { bytes: bytes.into(), held });
            head::media_type(response.headers_mut(), head::JSON);
            response
        }
        opened => {
            let record = visit.record.take();
            let Some(mut record) = record else { return Err(Failure::internal("a stream without a record")) };
            record.status = 200;
            let held = visit.held(Some(permit));
            let stream = Stream::new(Arc::clone(&gate.forward), clock, shape, model, record, held);
            let mut response = visit.answer(match opened {
                Some(Opened::Stream(source)) => ReplyBody::Relay(Box::new(Relay::new(stream, source))),
                _ if progress.is_some() => ReplyBody::Late(Box::new(Late::new(stream, opening, progress))),
                _ => ReplyBody::Late(Box::new(Late::new(stream.overdue(), opening, None))),
            });
            head::stream(response.headers_mut());
            response
        }
    };
    head::limits(response.headers_mut(), limits);
    if let Some(value) = dropped.and_then(|names| names.parse().ok()) {
        response.headers_mut().insert(head::DROPPED, value);
    }
    Ok(response)
}

/// The last thing before the queue: the key still holds, and the begin is told; in strict mode it is on the disk.
async fn goes_out(visit: &mut Visit, permit: &mut Permit, call: &Call) -> Result<Began, Failure> {
    // It may have been revoked while the body was on the way.
    if permit.caller().has_ended() {
        return Err(Failure::revoked());
    }
    let began = permit.goes_out();
    if let Some(record) = &mut visit.record {
        (record.estimate, record.began) = (call.tokens().0, Some(Arc::clone(&began)));
        recording::begin(visit).await?;
    }
    Ok(began)
}

/// Works on while the caller's key holds, and its model time; whoever revokes a key rings for everybody.
async fn unless_halted<T>(
    permit: &Permit,
    clock: &Clock,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Failure> {
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Pending => {
            permit.halt(clock).map_or(Poll::Pending, |halt| Poll::Ready(Err(Failure::halted(halt))))
        }
        poll @ Poll::Ready(_) => poll.map(Ok),
    })
    .await
}

/// Whom its turn is counted for.
fn account(permit: &Permit) -> Account {
    let limits = permit.limits();
    let (principal, running) = (permit.principal().clone(), permit.running());
    Account { principal, weight: limits.weight, most: limits.concurrent, running }
}

/// From the queue to the head of the upstream's answer.
fn opening(
    gate: &Gate,
    (target, room): (Target, Share),
    clock: &Arc<Clock>,
    (account, began): (Account, Began),
    progress: Option<Arc<Progress>>,
) -> Opening {
    let (rules, slots) = (Arc::clone(&gate.forward), Arc::clone(&gate.slots));
    let (pool, clock) = (Arc::clone(&gate.pool), Arc::clone(clock));
    Box::pin(async move {
        let came = clock.now();
        let turn = slots.turn(&clock, &target, &account, progress.as_deref()).await?;
        let queued = clock.now().saturating_sub(came);
        // It is set here alone.
        let _set = began.set(Instant::now());
        if let Some(progress) = progress {
            let loaded = Box::pin(pool.is_loaded(&clock, target.call().model())).await;
            progress.set(if loaded { Phase::Prompt } else { Phase::Loading });
        }
        let opened = forward::open(&rules, &target, (turn, queued), &clock).await;
        // With its body.
        drop(room);
        opened
    })
}

/// A preflight of an origin that may call, on every path: so that what is wrong with the real request reaches the page's own code. To
/// everybody else 405: no route of ours answers OPTIONS itself.
fn options(gate: &Gate, visit: &mut Visit, request: &Parts) -> Result<Response<ReplyBody>, Failure> {
    if !cors::is_preflight(&gate.origins, &request.headers) {
        let methods = endpoint::methods(request.uri.path(), gate.switches);
        return Err(endpoint::Refusal::Method(methods.unwrap_or("OPTIONS")).into());
    }
    let mut response = visit.whole("", None);
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::preflight(&request.headers, response.headers_mut());
    note(visit, |record| {
        record.status = 204;
        record.end(Ending::Done);
    });
    Ok(response)
}

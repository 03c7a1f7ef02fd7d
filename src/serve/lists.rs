//! Answers that are ours: pages, probes, and the lists of models, filtered and scrubbed.

use std::sync::Arc;

use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::gate::{Gate, Visit};
use super::recording;
use crate::admit::Permit;
use crate::dialect::Call;
use crate::dialect::ollama::fault;
use crate::dialect::ollama::models::{self, Marks};
use crate::endpoint::{Endpoint, Proxied, Refusal};
use crate::forward::ReplyBody;
use crate::identify::{Caller, Key};
use crate::record::{LedgerError, stamp};
use crate::respond::{Failure, head};
use crate::types::{ModelGlob, ModelName, Scopes};
use crate::upstream::Outgoing;

/// Endpoints that ask no key and nobody else.
pub(super) fn open(
    gate: &Gate,
    visit: &mut Visit,
    endpoint: Endpoint,
    request: &Parts,
) -> Result<Response<ReplyBody>, Failure> {
    match endpoint {
        Endpoint::Root => {
            let mut response = visit.whole("", None);
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/chat"));
            Ok(response)
        }
        Endpoint::Health => Ok(json_answer(visit, br#"{"status":"ok"}"#.to_vec(), None)),
        _ => {
            let page = gate.pages.file(request.uri.path(), &request.headers).ok_or(Refusal::Unknown)?;
            let mut response = visit.whole(page.bytes, None);
            *response.status_mut() = page.status;
            *response.headers_mut() = page.headers;
            Ok(response)
        }
    }
}

/// Ready means: a request would be answered.
pub(super) async fn ready(gate: &Arc<Gate>, visit: &mut Visit) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    if clock.draining() {
        return Err(Failure::stopping());
    }
    if gate.desk.ledger.is_failing() {
        return Err(LedgerError::Failing.into());
    }
    gate.pool.probe(&clock).await?;
    Ok(json_answer(visit, br#"{"status":"ready"}"#.to_vec(), None))
}

/// Asks the upstream what it has, behind the begin of the request that wants to know: without that nothing can be said about a name.
pub(super) async fn look(gate: &Gate, visit: &mut Visit) -> Result<(), Failure> {
    recording::begin(visit).await?;
    gate.pool.fetch(&Arc::clone(&visit.state.clock)).await?;
    Ok(())
}

/// Asks the upstream what is needed to choose a model for a request that names none, where this one may be another soon. An older list
/// does where no newer one comes.
pub(super) async fn choose(
    gate: &Gate,
    visit: &mut Visit,
    caller: &Caller,
    model: &ModelName,
) -> Result<(), Failure> {
    recording::begin(visit).await?;
    let clock = Arc::clone(&visit.state.clock);
    let had = gate.pool.has_heard();
    if gate.pool.find(model).is_none()
        && let Err(error) = gate.pool.fetch(&clock).await
    {
        return if had { Ok(()) } else { Err(error.into()) };
    }
    if gate.is_guess(&gate.default_model(caller), clock.now()) {
        gate.pool.learned(&clock).await;
    }
    Ok(())
}

/// `/models`, and Ollama's own lists where they are opened.
pub(super) async fn list(
    gate: &Arc<Gate>,
    visit: &mut Visit,
    endpoint: Endpoint,
    permit: Box<Permit>,
) -> Result<Response<ReplyBody>, Failure> {
    recording::begin(visit).await?;
    let clock = Arc::clone(&visit.state.clock);
    let caller = permit.caller();
    // A name that is none to us stands in no rights.
    let may = |name: &str| {
        !caller.is_narrow() || ModelName::parse(name).is_ok_and(|name| caller.use_model(&name).is_ok())
    };
    let plain = |name: &str| may(name).then(Marks::default);
    let cloud_models = gate.rules.cloud_models;
    let shown = match endpoint {
        Endpoint::Proxied(Proxied::Version) => {
            let body = gate.pool.get(&clock, "/api/version").await?;
            serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object).map(|_| body)
        }
        Endpoint::Proxied(Proxied::Ps) => {
            models::list(&gate.pool.get(&clock, "/api/ps").await?, cloud_models, plain)
        }
        Endpoint::Proxied(_) => models::list(&gate.pool.get(&clock, "/api/tags").await?, cloud_models, plain),
        _ => {
            let body = gate.pool.fetch(&clock).await?;
            let mut default = gate.default_model(caller);
            if gate.is_guess(&default, clock.now()) {
                gate.pool.learned(&clock).await;
                default = gate.default_model(caller);
            } else if !gate.rules.default_chosen {
                // How long their contexts are, nobody waits for.
                gate.pool.learn_behind();
            }
            models::list(&body, cloud_models, |name| may(name).then(|| marks(gate, name, &default)))
        }
    };
    let shown = shown.ok_or_else(|| Failure::bad_answer("a list that cannot be read"))?;
    Ok(rated(json_answer(visit, shown, None), permit))
}

/// What `/models` adds to a model.
fn marks(gate: &Gate, name: &str, default: &ModelName) -> Marks {
    let Ok(name) = ModelName::parse(name) else { return Marks::default() };
    let (loaded, context) = gate.pool.facts(&name);
    Marks { loaded, default: name == *default, context }
}

/// What the caller is and may do, and what of it is used. A limit that does not hold is left out.
pub(super) fn usage(gate: &Gate, visit: &mut Visit, mut permit: Box<Permit>) -> Response<ReplyBody> {
    permit.show_models_rate(visit.state.clock.now());
    let (caller, limits, used) = (permit.caller(), permit.limits(), gate.admit.used(&permit));
    let key = caller.key();
    let scopes = key.map_or(Scopes::USE, |key| key.scopes);
    let globs = key.map(|key| &key.models).filter(|globs| !globs.is_empty());
    let models: Vec<&str> =
        globs.map_or_else(|| vec!["*"], |globs| globs.iter().map(ModelGlob::as_str).collect());
    let mut held = serde_json::Map::new();
    for (name, limit) in [
        ("requests_per_minute", limits.requests_per_minute.map(u64::from)),
        ("lists_per_minute", limits.lists_per_minute.map(u64::from)),
        ("concurrent", limits.concurrent.map(u64::from)),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("tokens_per_day", limits.tokens_per_day),
        ("tokens_per_month", limits.tokens_per_month),
        ("gpu_seconds_per_day", limits.gpu_seconds_per_day),
        ("max_context", limits.max_context.map(u64::from)),
        ("max_output_tokens", limits.max_output_tokens.map(u64::from)),
    ] {
        if let Some(limit) = limit {
            held.insert(name.into(), limit.into());
        }
    }
    let rate = permit.rate().map(|rate| json!({"remaining": rate.remaining, "reset_seconds": rate.reset}));
    let tokens =
        permit.tokens().map(|left| json!({"remaining": left.remaining, "reset_seconds": left.reset}));
    let said = json!({
        "id": caller.key_id().map(ToString::to_string),
        "name": key.and_then(|key| key.name.clone()).or_else(|| caller.key_id().map(ToString::to_string)),
        "scopes": scopes.names(),
        "models": models,
        "expires_at": key.and_then(Key::expires_at).map(stamp::of),
        "limits": held,
        "requests": rate,
        "tokens": tokens,
        "used": {
            "tokens_today": used.day_tokens,
            "tokens_this_month": used.month_tokens,
            "gpu_seconds_today": used.day_gpu_ms / 1_000,
        },
    });
    rated(json_answer(visit, said.to_string().into_bytes(), None), permit)
}

/// With the headers of the caller's limits; the permit ends with the answer's last byte.
fn rated(mut response: Response<ReplyBody>, permit: Box<Permit>) -> Response<ReplyBody> {
    head::limits(response.headers_mut(), (permit.rate(), permit.tokens()));
    if let ReplyBody::Whole { held, .. } = response.body_mut() {
        held.permit = Some(permit);
    }
    response
}

/// `/api/show` without the paths of the upstream's machine.
pub(super) async fn show(
    gate: &Arc<Gate>,
    visit: &mut Visit,
    call: &Call,
    permit: Box<Permit>,
) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    let question =
        Outgoing { method: "POST", path: "/api/show", accept: "application/json", body: call.body() };
    let (status, body) = gate.pool.ask(&clock, question).await?;
    if status != 200 {
        return Err(Failure::from_fault(fault::of_status(status, &body, call.model())));
    }
    let shown = models::facts(&body, call.model())
        .ok_or_else(|| Failure::bad_answer("facts that are no JSON object"))?;
    Ok(json_answer(visit, shown, Some(permit)))
}

fn json_answer(visit: &mut Visit, bytes: Vec<u8>, permit: Option<Box<Permit>>) -> Response<ReplyBody> {
    let mut response = visit.whole(bytes, permit);
    head::media_type(response.headers_mut(), head::JSON);
    response
}

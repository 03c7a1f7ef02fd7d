//! THE pipeline: the way of a request, top to bottom.
//!
//! What is rare is boxed: the future of the common way must stay small, since it is allocated for every request.
//!
//! table → identify → admit → validate → route → queue → forward → respond; each stage asks for the witness of the one before.

use std::sync::Arc;

use http::{Method, Response, StatusCode};

use super::gate::{Gate, Visit};
use super::{intake, lists};
use crate::admit::Permit;
use crate::dialect::ollama;
use crate::endpoint::{self, Endpoint, Proxied};
use crate::forward::{self, Late, Opened, Opening, Relay, ReplyBody, Stream};
use crate::identify::IdentifyError;
use crate::listen::clock::{self, NEVER};
use crate::record::{Ending, Record};
use crate::respond::{Failure, cors, head};
use crate::route::Target;
use crate::validate::{Call, Shape};

/// Answers one request, or says why not.
pub(super) async fn run(
    gate: &Arc<Gate>,
    visit: &mut Visit,
) -> Result<Response<ReplyBody>, Failure> {
    if visit.head.method == Method::OPTIONS {
        return options(gate, visit);
    }
    let endpoint = endpoint::resolve(&visit.head.method, visit.head.uri.path(), gate.switches)?;
    intake::query(visit.head.uri.query())?;
    let address = gate.identify.address(visit.peer, &visit.head.headers).map_err(IdentifyError::from)?;
    note(visit, |record| record.client = address);
    gate.identify.host(&visit.head.headers)?;
    let Some(scope) = endpoint.scope() else {
        return Box::pin(lists::open(gate, visit, endpoint)).await;
    };

    let caller = gate.identify.identify(address, &visit.head.headers, scope, visit.state.clock.now())?;
    note(visit, |record| record.key = caller.key_id().cloned());
    let permit = gate.admit.admit(&caller, visit.state.clock.now())?;
    let proxied = match endpoint {
        Endpoint::Proxied(Proxied::Tags | Proxied::Ps | Proxied::Version) | Endpoint::Models => {
            return Box::pin(lists::list(gate, visit, endpoint, permit)).await;
        }
        Endpoint::Proxied(proxied) => proxied,
        // No caller has the scope that these need, so none comes here.
        _ => return Err(Failure::internal("a management route passed identification")),
    };
    intake::media_type(&visit.head.headers, caller.key.is_some())?;
    let bytes = intake::read(&visit.state.inlet, gate.rules.limits.body).await?;
    let call = ollama::parse(proxied, &bytes, &gate.rules)?;
    drop(bytes);
    let target = gate.pool.route(&visit.state.clock, &call).await??;
    if call.shape == Shape::Show {
        return Box::pin(lists::show(gate, visit, &call, permit)).await;
    }
    proxy(gate, visit, permit, target, call).await
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
    permit: Permit,
    target: Target,
    call: Call,
) -> Result<Response<ReplyBody>, Failure> {
    let (clock, call) = (Arc::clone(&visit.state.clock), Arc::new(call));
    let (rate, dropped) = (permit.rate, head::dropped(&call.dropped));
    note(visit, |record| {
        record.model = Some(call.model.clone());
        record.stream = call.stream;
        record.dropped.clone_from(&dropped);
        record.proxying(call.path);
    });
    let heartbeat = gate.forward.heartbeat.filter(|_| call.stream);
    let beat = heartbeat.map_or(NEVER, |_| clock::after(clock.now(), heartbeat));
    let mut opening: Opening = Box::pin(forward::open(
        Arc::clone(&gate.forward),
        Arc::clone(&gate.slots),
        target,
        Arc::clone(&call),
        Arc::clone(&clock),
    ));
    let opened = clock::until(&clock, beat, opening.as_mut()).await.transpose()?;
    let mut response = match opened {
        Some(Opened::Whole { bytes, tokens }) => {
            note(visit, |record| record.tokens = tokens);
            let mut response = visit.whole(bytes, Some(permit));
            head::media_type(response.headers_mut(), head::JSON);
            response
        }
        opened => {
            let record = visit.record.take();
            let Some(mut record) = record else { return Err(Failure::internal("a stream without a record")) };
            record.status = 200;
            let held = visit.held(Some(permit));
            let stream = Stream::new(Arc::clone(&gate.forward), clock, call, record, held);
            let mut response = visit.answer(match opened {
                Some(Opened::Stream { body, turn, total_by }) => {
                    ReplyBody::Relay(Box::new(Relay::new(stream, body, turn, total_by)))
                }
                _ => ReplyBody::Late(Box::new(Late::new(stream.overdue(), opening))),
            });
            head::media_type(response.headers_mut(), head::NDJSON);
            response
        }
    };
    if let Some(rate) = rate {
        head::rate(response.headers_mut(), rate);
    }
    if let Some(value) = dropped.and_then(|names| names.parse().ok()) {
        response.headers_mut().insert(head::DROPPED, value);
    }
    Ok(response)
}

/// A preflight, or 405: no route of ours answers OPTIONS itself.
fn options(gate: &Gate, visit: &mut Visit) -> Result<Response<ReplyBody>, Failure> {
    let path = visit.head.uri.path();
    let Some(methods) = endpoint::methods(path, gate.switches) else {
        endpoint::resolve(&visit.head.method, path, gate.switches)?;
        return Err(endpoint::Refusal::Unknown.into());
    };
    if !cors::is_preflight(&visit.head.headers) {
        return Err(endpoint::Refusal::Method(methods).into());
    }
    let allowed = cors::allowed(&gate.origins, &visit.head.headers).is_some();
    let mut response = visit.whole("", None);
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allowed {
        cors::preflight(methods, response.headers_mut());
    }
    note(visit, |record| {
        record.status = 204;
        record.end(Ending::Done);
    });
    Ok(response)
}

//! Answers that are ours: pages, probes, and the lists of models, filtered and scrubbed.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::gate::{Gate, Visit};
use crate::admit::Permit;
use crate::dialect::Call;
use crate::dialect::ollama::answer;
use crate::endpoint::{Endpoint, Proxied, Refusal};
use crate::forward::ReplyBody;
use crate::respond::{Failure, head};
use crate::types::is_cloud_name;
use crate::upstream::Outgoing;

/// Endpoints that ask no key and nobody else.
pub(super) fn open(
    gate: &Gate,
    visit: &mut Visit,
    endpoint: Endpoint,
    path: &str,
) -> Result<Response<ReplyBody>, Failure> {
    match endpoint {
        Endpoint::Root => {
            let mut response = visit.whole("", None);
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(LOCATION, HeaderValue::from_static("/chat"));
            Ok(response)
        }
        Endpoint::Health => Ok(object(visit, &json!({"status": "ok"}), None)),
        _ => {
            let (text, headers) = gate.pages.file(path).ok_or(Refusal::Unknown)?;
            let mut response = visit.whole(text, None);
            *response.headers_mut() = headers;
            Ok(response)
        }
    }
}

/// Ready means: a request would be answered. The upstream is asked, not remembered.
pub(super) async fn ready(gate: &Arc<Gate>, visit: &mut Visit) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    if clock.draining() {
        return Err(Failure::refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is shutting down"));
    }
    match gate.pool.get(&clock, "/api/version").await {
        Ok(_) => Ok(object(visit, &json!({"status": "ready"}), None)),
        Err(error) => {
            let mut failure = Failure::from(error);
            failure.status = StatusCode::SERVICE_UNAVAILABLE;
            Err(failure)
        }
    }
}

/// `/models`, and Ollama's own lists where they are opened.
pub(super) async fn list(
    gate: &Arc<Gate>,
    visit: &mut Visit,
    endpoint: Endpoint,
    permit: Permit,
) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    let rate = permit.rate();
    let value = match endpoint {
        Endpoint::Proxied(Proxied::Version) => parsed(&gate.pool.get(&clock, "/api/version").await?)?,
        Endpoint::Proxied(Proxied::Ps) => {
            let mut value = parsed(&gate.pool.get(&clock, "/api/ps").await?)?;
            filter(gate, &mut value);
            value
        }
        _ => {
            let mut value = parsed(&gate.pool.get(&clock, "/api/tags").await?)?;
            filter(gate, &mut value);
            if endpoint == Endpoint::Models {
                // What is loaded is a courtesy: the list is answered without it where that question fails.
                if let Ok(loaded) = gate.pool.get(&clock, "/api/ps").await {
                    mark_loaded(&mut value, &loaded);
                }
            }
            value
        }
    };
    let mut response = object(visit, &value, Some(permit));
    if let Some(rate) = rate {
        head::rate(response.headers_mut(), rate);
    }
    Ok(response)
}

/// `/api/show` without the paths of the upstream's machine.
pub(super) async fn show(
    gate: &Arc<Gate>,
    visit: &mut Visit,
    call: &Call,
    permit: Permit,
) -> Result<Response<ReplyBody>, Failure> {
    let clock = Arc::clone(&visit.state.clock);
    let question =
        Outgoing { method: "POST", path: "/api/show", accept: "application/json", body: call.body() };
    let (status, body) = gate.pool.ask(&clock, question).await?;
    if status != 200 {
        return Err(Failure::from_fault(answer::fault(status, &body, call.model())));
    }
    let mut value = parsed(&body)?;
    if let Some(Value::String(text)) = value.get_mut("modelfile") {
        let tells = |line: &str| {
            line.starts_with('#')
                || ((line.starts_with("FROM ") || line.starts_with("ADAPTER ")) && line.contains(['/', '\\']))
        };
        *text = text.lines().filter(|line| !tells(line)).collect::<Vec<_>>().join("\n");
    }
    Ok(object(visit, &value, Some(permit)))
}

fn object(visit: &mut Visit, value: &Value, permit: Option<Permit>) -> Response<ReplyBody> {
    let mut response = visit.whole(value.to_string(), permit);
    head::media_type(response.headers_mut(), head::JSON);
    response
}

fn parsed(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Failure::bad_answer("a list that is no JSON object"))
}

/// Cloud models are not shown where they cannot be used.
fn filter(gate: &Gate, list: &mut Value) {
    let Some(models) = list.get_mut("models") else { return };
    if models.is_null() {
        *models = json!([]);
    }
    if let Value::Array(models) = models
        && !gate.rules.cloud_models
    {
        models.retain(|entry| {
            let remote =
                entry.get("remote_host").and_then(Value::as_str).is_some_and(|host| !host.is_empty());
            let named = entry.get("name").and_then(Value::as_str).is_some_and(is_cloud_name);
            !remote && !named
        });
    }
}

fn mark_loaded(list: &mut Value, loaded: &[u8]) {
    let Ok(loaded) = serde_json::from_slice::<Value>(loaded) else { return };
    let names: HashSet<&str> = loaded
        .get("models")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|m| m.get("name")?.as_str())
        .collect();
    for entry in list.get_mut("models").and_then(Value::as_array_mut).into_iter().flatten() {
        if entry.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(name))
            && let Some(entry) = entry.as_object_mut()
        {
            entry.insert("loaded".into(), Value::Bool(true));
        }
    }
}

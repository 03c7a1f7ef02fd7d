//! Cross-origin answers (Fetch standard, section 3.2): ours alone; the upstream never sees an Origin.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};

use crate::config::Origins;

/// Bearer keys are sent by scripts, never by the browser on its own: no credentials mode is ever allowed.
const ALLOWED: HeaderValue =
    HeaderValue::from_static("authorization, content-type, x-api-key, x-portcullis-phases");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-portcullis-dropped, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests",
);

/// The request's Origin, if it may read our answers.
pub fn allowed<'h>(origins: &Origins, request: &'h HeaderMap) -> Option<&'h HeaderValue> {
    let origin = request.get(ORIGIN)?;
    match origins {
        Origins::Any => Some(origin),
        Origins::Only(list) => list.iter().any(|own| own.as_bytes() == origin.as_bytes()).then_some(origin),
    }
}

/// Adds what an allowed Origin needs to read an answer; `Vary` wherever the answer depends on it.
pub fn answer(origins: &Origins, allowed: Option<&HeaderValue>, headers: &mut HeaderMap) {
    match origins {
        Origins::Only(list) if list.is_empty() => return,
        _ => headers.append(VARY, HeaderValue::from_static("Origin")),
    };
    if let Some(origin) = allowed {
        let value = if *origins == Origins::Any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Is this OPTIONS a preflight?
pub fn is_preflight(request: &HeaderMap) -> bool {
    request.contains_key(ORIGIN) && request.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds what a preflight of an allowed Origin asks.
pub fn preflight(methods: &'static str, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

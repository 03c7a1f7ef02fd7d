//! Cross-origin answers (Fetch standard, section 3.2): ours alone; the upstream never sees an Origin.
//!
//! Takes a request's head; promises that a page of an allowed origin can read every answer of ours, refusals and their limits too, for which
//! its preflight passes whatever the path. Refuses nothing itself: who is not allowed gets no header, and the browser keeps the answer.

use std::fmt::Write;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};

use crate::config::Origins;

/// What clients ask for. Bearer keys are sent by scripts, never by the browser on its own: no credentials mode is ever allowed.
const ALLOWED: [&str; 15] = [
    "authorization",
    "content-type",
    "accept",
    "user-agent",
    "x-api-key",
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "openai-organization",
    "openai-project",
    "openai-beta",
    "x-app",
    "http-referer",
    "x-title",
    "x-portcullis-phases",
];
/// And whatever begins so: a fixed list cannot keep up with the SDKs.
const STAINLESS: &str = "x-stainless-";
/// So many of those; the SDKs send ten.
const MOST: usize = 64;
/// Whatever the path: the real request then brings the 405, with its words.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, x-portcullis-dropped, retry-after, x-should-retry, \
     x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens",
);

/// The request's Origin, if it may read our answers.
pub fn allowed<'h>(origins: &Origins, request: &'h HeaderMap) -> Option<&'h HeaderValue> {
    let origin = request.get(ORIGIN)?;
    origin.to_str().is_ok_and(|text| origins.allow(text)).then_some(origin)
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

/// Is this OPTIONS the preflight of an origin that may call?
pub fn is_preflight(origins: &Origins, request: &HeaderMap) -> bool {
    request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) && allowed(origins, request).is_some()
}

/// Adds what a preflight asks. Nothing of a network that is more private (`Access-Control-Request-Private-Network`): a page out there has no
/// business with a gate in here unless the browser's user says so.
pub fn preflight(request: &HeaderMap, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.append(
        VARY,
        HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    // A list may come in several fields (RFC 9110 section 5.3).
    let asked =
        request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    if let Some(names) = known(asked).and_then(|names| names.parse().ok()) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
}

/// Those of the asked names that we allow, in lower case, each once.
fn known<'h>(asked: impl Iterator<Item = &'h str>) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for name in asked.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase()) {
        let stainless = name.strip_prefix(STAINLESS).is_some_and(|rest| {
            (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if names.len() < MOST && (stainless || ALLOWED.contains(&name.as_str())) && !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().reduce(|mut all, name| {
        // Writing to a text cannot fail.
        let _written = write!(all, ", {name}");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_headers_that_are_known_are_allowed() {
        let ask = |text| known(std::iter::once(text)).unwrap_or_default();
        assert_eq!(known(["accept", "x-evil, x-title"].into_iter()).as_deref(), Some("accept, x-title"));
        assert_eq!(ask("Authorization, CONTENT-TYPE"), "authorization, content-type");
        assert_eq!(
            ask("x-stainless-os,x-stainless-retry-count,x-evil"),
            "x-stainless-os, x-stainless-retry-count"
        );
        assert_eq!(ask("cookie, x-stainless-, x-stainless-a b, x-stainless-\u{e9}, ,,"), "");
        assert_eq!(ask("accept,Accept"), "accept");
        let many: Vec<_> = (0..1_000).map(|n| format!("x-stainless-{n}")).collect();
        let many = many.join(",");
        assert_eq!(ask(&many).split(", ").count(), MOST);
        for name in ALLOWED {
            assert_eq!(ask(name), name);
        }
    }
}

//! Response headers that every answer carries.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::admit::{RateState, TokenState};
use crate::types::RequestId;

/// Our request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What was dropped or changed in a request.
pub const DROPPED: HeaderName = HeaderName::from_static("x-portcullis-dropped");
/// Asks for lines that tell how far a request has come before its first word.
pub const PHASES: HeaderName = HeaderName::from_static("x-portcullis-phases");
/// JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// A stream of JSON lines.
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// nginx holds an answer back until its end where it is not asked otherwise.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

/// No guessing of types, no caching, and the id that the log knows.
pub fn common(headers: &mut HeaderMap, id: RequestId) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let digits: [u8; 16] = std::array::from_fn(|at| {
        let nibble = usize::try_from(id.0 >> (60 - 4 * at) & 0xf).unwrap_or(0);
        b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0')
    });
    if let Ok(value) = HeaderValue::from_bytes(&digits) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The media type.
pub fn media_type(headers: &mut HeaderMap, value: HeaderValue) {
    headers.insert(CONTENT_TYPE, value);
}

/// Lines that are to be seen as they come.
pub fn stream(headers: &mut HeaderMap) {
    media_type(headers, NDJSON);
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
}

/// The state of the caller's limits.
pub fn limits(headers: &mut HeaderMap, (requests, budget): (Option<RateState>, Option<TokenState>)) {
    if let Some(state) = requests {
        rate(headers, state);
    }
    if let Some(state) = budget {
        tokens(headers, state);
    }
}

fn rate(headers: &mut HeaderMap, state: RateState) {
    headers.insert(LIMIT, HeaderValue::from(state.limit));
    headers.insert(REMAINING, HeaderValue::from(state.remaining));
    headers.insert(RESET, HeaderValue::from(state.reset));
}

fn tokens(headers: &mut HeaderMap, state: TokenState) {
    headers.insert(LIMIT_TOKENS, HeaderValue::from(state.limit));
    headers.insert(REMAINING_TOKENS, HeaderValue::from(state.remaining));
    headers.insert(RESET_TOKENS, HeaderValue::from(state.reset));
}

/// At most 16 names of at most 64 characters, masked before they are cut, anything but visible ASCII replaced; `None` without names. What holds a space or a
/// line's end is no name but a text, perhaps a prompt in the wrong place: nothing of it is shown.
pub fn dropped<'n>(names: &'n [String], mask: impl Fn(&'n str) -> Cow<'n, str>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let clean = |name: &'n String| -> String {
        if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return "?".into();
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '"' | '\\');
        mask(name).chars().take(64).map(|c| if is_plain(c) { c } else { '?' }).collect()
    };
    Some(names.iter().take(16).map(clean).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_names_cannot_break_out_of_the_header() {
        fn plain(name: &str) -> Cow<'_, str> {
            name.into()
        }
        let names = vec!["a".to_owned(), "b\r\nx: y, é".into(), "x:,é\"".into(), "c".repeat(100)];
        let text = dropped(&names, plain).unwrap();
        assert_eq!(text, format!("a, ?, x:???, {}", "c".repeat(64)));
        assert_eq!(dropped(&vec!["x".to_owned(); 30], plain).unwrap().matches('x').count(), 16);
        assert_eq!(dropped(&[], plain), None);
    }
}

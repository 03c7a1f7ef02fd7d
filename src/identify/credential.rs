//! The credential of a request: the only function that reads these headers.
//!
//! Takes a head; promises the one key that it presents. Refuses heads that present two, or one that could be read in two ways: whoever
//! stands in front may have looked at the other.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

const BEARER: &str = "bearer ";
const BASIC: &str = "basic ";
const ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential<'h> {
    /// Nothing, or an empty key.
    None,
    /// This, to be looked up.
    Key(Cow<'h, str>),
    /// The same, by Basic alone: a browser sends that by itself, whoever wrote the page that made the request.
    Basic(Cow<'h, str>),
}

/// `Authorization: Bearer`; `x-api-key` as Anthropic's clients send it; or the password of `Authorization: Basic`, of programs that have only
/// a URL field (RFC 6750 section 2.1, RFC 7617; the scheme's case does not matter). Two that differ are an error. Another scheme is no
/// key of ours: the answer is the 401 that says which one we speak.
pub fn credential(headers: &HeaderMap) -> Result<Credential<'_>, &'static str> {
    let sent = match only(headers, &AUTHORIZATION)? {
        Some(value) if let Some(token) = of_scheme(BEARER, value) => Credential::Key(bare(token)?.into()),
        Some(value) if let Some(token) = of_scheme(BASIC, value) => {
            Credential::Basic(password(bare(token)?).unwrap_or_default().into())
        }
        _ => Credential::None,
    };
    let plain = only(headers, &API_KEY)?.map(bare).transpose()?.filter(|key| !key.is_empty());
    match (sent, plain) {
        (Credential::Key(key) | Credential::Basic(key), Some(plain)) if !key.is_empty() && key != plain => {
            Err("Authorization and x-api-key hold different keys: send one of them")
        }
        (_, Some(plain)) => Ok(Credential::Key(plain.into())),
        (Credential::Key(key) | Credential::Basic(key), None) if key.is_empty() => Ok(Credential::None),
        (sent, None) => Ok(sent),
    }
}

fn of_scheme<'h>(scheme: &str, value: &'h str) -> Option<&'h str> {
    let (own, token) = value.split_at_checked(scheme.len())?;
    own.eq_ignore_ascii_case(scheme).then_some(token)
}

/// One key: a list, or a second scheme behind the first, would be more than one.
fn bare(token: &str) -> Result<&str, &'static str> {
    let token = token.trim_ascii();
    if token.bytes().any(|b| b.is_ascii_whitespace() || b == b',') {
        return Err("a key holds no spaces and no commas");
    }
    Ok(token)
}

/// The password, whatever the name before it; it may hold colons, the name may not. What cannot be read holds none.
fn password(token: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The assertion that Cloudflare Access adds to each request it lets through. Signed, so it does not matter who brought it here; the
/// cookie and the address that come beside it prove nothing and are not read.
pub(super) fn assertion(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    Ok(only(headers, &ASSERTION)?.map(str::trim_ascii).filter(|token| !token.is_empty()))
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("a credential header is repeated");
    }
    first.to_str().map(Some).map_err(|_| "a credential header holds bytes beyond visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        credential(&headers).map(|found| match found {
            Credential::None => None,
            Credential::Key(key) => Some(key.into_owned()),
            Credential::Basic(key) => Some(format!("Basic {key}")),
        })
    }

    fn basic(text: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn forms() {
        let key = Ok(Some("abc".to_owned()));
        assert_eq!(ask(&[("authorization", "Bearer abc")]), key);
        assert_eq!(ask(&[("authorization", "bEARER  abc ")]), key);
        assert_eq!(ask(&[("x-api-key", "abc")]), key);
        assert_eq!(ask(&[("x-api-key", "abc"), ("authorization", "Bearer abc")]), key);
        for none in ["Bearer", "Bearer ", "Digest abc", "Negotiate abc", "abc", "Basic", &basic(b"user:")] {
            assert_eq!(ask(&[("authorization", none)]), Ok(None), "{none}");
            assert_eq!(ask(&[("authorization", none), ("x-api-key", "abc")]), key, "{none}");
        }
        assert_eq!(ask(&[]), Ok(None));
        for bad in [
            &[("authorization", "Bearer a b")][..],
            &[("authorization", "Bearer a,b")],
            &[("authorization", "Bearer a, Basic YTpi")],
            &[("authorization", "Basic YTpi, Bearer a")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", "abc"), ("authorization", "Bearer abd")],
            &[("x-api-key", "abc, abd")],
            &[("x-api-key", "a"), ("x-api-key", "a")],
        ] {
            assert!(ask(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_password_of_basic_is_a_key() {
        for (text, key) in [("any:abc", "abc"), (":abc", "abc"), ("a:b:c", "b:c"), ("k:ä", "ä")] {
            let found = ask(&[("authorization", &basic(text.as_bytes()))]);
            assert_eq!(found, Ok(Some(format!("Basic {key}"))), "{text}");
        }
        let sent = basic(b"any:abc").replace("Basic", "bASIC");
        assert_eq!(ask(&[("authorization", &sent), ("x-api-key", "abc")]), Ok(Some("abc".into())));
        assert!(ask(&[("authorization", &sent), ("x-api-key", "abd")]).is_err(), "two that differ");
        // No password at all: as if nothing had come.
        for none in
            ["d3Jvbmc=".to_owned(), "abc".into(), "YTpi=".into(), "YTpi!".into(), STANDARD.encode(b"a:\xff")]
        {
            assert_eq!(ask(&[("authorization", &format!("Basic {none}"))]), Ok(None), "{none}");
        }
    }
}

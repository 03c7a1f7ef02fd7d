//! The credential of a request: the only function that reads these headers.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

const SCHEME: &str = "bearer ";
const ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What was presented.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential<'h> {
    /// Nothing, or an empty bearer token.
    None,
    /// This, to be looked up.
    Key(&'h str),
}

/// `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it (RFC 6750 section 2.1; the scheme's case does not
/// matter). Both and different is an error, and so is a scheme that we do not speak.
pub fn credential(headers: &HeaderMap) -> Result<Credential<'_>, &'static str> {
    let bearer = match only(headers, &AUTHORIZATION)? {
        None => None,
        Some(value) => match value.split_at_checked(SCHEME.len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => {
                let token = token.trim_ascii();
                if token.bytes().any(|b| b.is_ascii_whitespace()) {
                    return Err("a bearer token holds no spaces");
                }
                Some(token)
            }
            // Another scheme is no key of ours: the answer is the 401 that says which scheme we speak.
            _ => Some(""),
        },
    };
    let plain = only(headers, &API_KEY)?.map(str::trim_ascii);
    match (bearer.filter(|key| !key.is_empty()), plain.filter(|key| !key.is_empty())) {
        (Some(a), Some(b)) if a != b => Err("Authorization and x-api-key differ"),
        (Some(key), _) | (None, Some(key)) => Ok(Credential::Key(key)),
        (None, None) => Ok(Credential::None),
    }
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
            Credential::Key(key) => Some(key.to_owned()),
        })
    }

    #[test]
    fn forms() {
        assert_eq!(ask(&[("authorization", "Bearer abc")]), Ok(Some("abc".into())));
        assert_eq!(ask(&[("authorization", "bEARER  abc ")]), Ok(Some("abc".into())));
        assert_eq!(ask(&[("x-api-key", "abc")]), Ok(Some("abc".into())));
        assert_eq!(ask(&[("x-api-key", "abc"), ("authorization", "Bearer abc")]), Ok(Some("abc".into())));
        assert_eq!(ask(&[("authorization", "Bearer")]), Ok(None));
        assert_eq!(ask(&[("authorization", "Basic abc")]), Ok(None));
        assert_eq!(ask(&[]), Ok(None));
        for bad in [
            &[("authorization", "Bearer a b")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", "abc"), ("authorization", "Bearer abd")],
        ] {
            assert!(ask(bad).is_err(), "{bad:?}");
        }
    }
}

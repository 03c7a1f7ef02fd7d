//! The request as it comes in: its query, its media type, its body up to the cap.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::ValidateError;
use crate::admit::{AdmitError, Share, Watch};
use crate::listen::{Inlet, Unread};

/// No query is read; a key in one is refused.
pub fn query(query: Option<&str>) -> Result<(), ValidateError> {
    const NAMES: [&str; 6] = ["key", "api_key", "apikey", "api-key", "token", "access_token"];
    let named = |pair: &str| {
        let name = pair.split('=').next().unwrap_or("");
        NAMES.iter().any(|key| name.eq_ignore_ascii_case(key))
    };
    if query.is_some_and(|query| query.split('&').any(named)) { Err(ValidateError::KeyInUrl) } else { Ok(()) }
}

/// JSON in UTF-8. A missing type and those that people's scripts send are read as JSON where a key was presented as a web page cannot send
/// it by itself, and refused otherwise, since a page can send them without a preflight.
pub fn media_type(headers: &HeaderMap, keyed: bool) -> Result<(), ValidateError> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(ValidateError::MediaType("a Content-Encoding is not accepted: send the body as it is"));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return if keyed {
            Ok(())
        } else {
            Err(ValidateError::MediaType("send Content-Type: application/json"))
        };
    };
    if value == "application/json" {
        return Ok(());
    }
    let text = value.to_str().unwrap_or("");
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or("");
    if !parts.all(is_utf8) {
        return Err(ValidateError::MediaType("send the body in UTF-8: Content-Type: application/json"));
    }
    let is = |known: &str| essence.eq_ignore_ascii_case(known);
    if is("application/json") || (keyed && PASTED.into_iter().any(is)) {
        Ok(())
    } else {
        Err(ValidateError::MediaType("send Content-Type: application/json, in UTF-8"))
    }
}

/// What people and programs write over JSON: curl's own default, `fetch`'s, an older name, and that of our answers.
const PASTED: [&str; 4] =
    ["application/x-www-form-urlencoded", "text/plain", "text/json", "application/x-ndjson"];

/// Is this parameter of a media type no other charset than UTF-8, by either label (WHATWG Encoding: `utf8` is one too)?
fn is_utf8(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || value.eq_ignore_ascii_case("utf-8")
        || value.eq_ignore_ascii_case("utf8")
}

/// The whole body of an admitted request, up to the cap, and the memory that it takes; refused before it is read where its length says
/// so. The outer error: it is too large. The inner one: there is no room for it.
pub async fn read(
    mut admitted: Watch<'_>,
    inlet: &Inlet,
    cap: usize,
) -> Result<Result<(Vec<u8>, Share), AdmitError>, ValidateError> {
    match inlet.read(cap, &mut admitted).await {
        Ok(bytes) => Ok(Ok((bytes, admitted.into_share()))),
        Err(Unread::Refused(error)) => Ok(Err(error)),
        Err(Unread::TooLarge) => Err(ValidateError::TooLarge { cap }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(value: Option<&str>, keyed: bool) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
        }
        media_type(&headers, keyed).is_ok()
    }

    #[test]
    fn types() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json; charset=utf8",
            "application/json;charset=\"UTF8\"",
            "application/json; charset = utf-8 ;",
            "application/json; odata=verbose; q=1",
        ] {
            assert_eq!((ask(Some(good), true), ask(Some(good), false)), (true, true), "{good}");
        }
        assert_eq!((ask(None, true), ask(None, false)), (true, false));
        for pasted in PASTED {
            for text in [pasted.to_owned(), pasted.to_ascii_uppercase(), format!("{pasted};charset=UTF-8")] {
                assert_eq!((ask(Some(&text), true), ask(Some(&text), false)), (true, false), "{text}");
            }
            assert!(!ask(Some(&format!("{pasted}; charset=iso-8859-1")), true), "{pasted}");
        }
        for bad in [
            "text/html",
            "application/json; charset=utf-16",
            "application/json; charset=iso-8859-1",
            "application/json; charset",
            "application/json; charset=utf-8; charset=utf-7",
            "multipart/form-data",
            "application/octet-stream",
            "",
            "application/jsonx",
        ] {
            assert!(!ask(Some(bad), true), "{bad}");
        }
    }

    #[test]
    fn keys_in_urls() {
        assert!(query(Some("a=b&Key=x")).is_err());
        assert!(query(Some("monkey=1")).is_ok() && query(None).is_ok());
    }
}

//! Fields with a rule of their own: `format`, `think`, `images`, `context`, `input`.

use std::borrow::Cow;

use super::draft::Draft;
use super::grammar;
use crate::validate::bounds::{self, At};
use crate::validate::json::Json;
use crate::validate::{ValidateError, shown};

/// Bytes of a JSON schema: it becomes a grammar upstream.
pub(super) const MAX_SCHEMA: usize = 64 * 1024;
/// Images of one request, all messages together.
const MAX_IMAGES: usize = 64;
/// Token ids of an earlier exchange.
const MAX_CONTEXT: usize = 131_072;
/// The largest token id.
const MAX_TOKEN: i64 = 0x7fff_ffff;
/// Texts to embed at once.
const MAX_INPUT: usize = 65_536;
/// Bytes of a media type at the head of a `data:` URI.
const MAX_MEDIA: usize = 128;
/// How much a model may think, where it is not a boolean.
const LEVELS: [&str; 4] = ["low", "medium", "high", "max"];

/// `"json"` or a schema; the empty string is unset.
pub(super) fn format(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    match value {
        Json::Str(word) if word.is_empty() => Ok(()),
        Json::Str(word) if word == "json" => {
            draft.body.member("format", "json");
            Ok(())
        }
        Json::Str(word) => Err(at.refuse(format!("must be \"json\" or a JSON schema, not {}", shown(word)))),
        Json::Obj(_) => {
            grammar::vet(draft, at, value)?;
            draft.body.key("format");
            draft.free(at, value, MAX_SCHEMA)
        }
        other => Err(at.refuse(format!("must be \"json\" or a JSON schema, not {}", other.kind()))),
    }
}

/// A boolean or a level.
pub(super) fn think(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let got = match value {
        Json::Bool(flag) => {
            draft.body.member("think", flag);
            return Ok(());
        }
        Json::Str(level) => match LEVELS.iter().find(|known| level == *known) {
            Some(level) => {
                draft.body.member("think", level);
                return Ok(());
            }
            None => shown(level),
        },
        other => other.kind().to_owned(),
    };
    Err(at.refuse(format!("must be true, false, \"low\", \"medium\", \"high\" or \"max\", not {got}")))
}

/// Writes `images`; counts them over the whole request.
pub(super) fn images(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let items = bounds::list(at, value, usize::MAX)?;
    draft.images = draft.images.saturating_add(items.len());
    if draft.images > MAX_IMAGES {
        return Err(
            at.refuse(format!("a request may carry at most {MAX_IMAGES} images, not {}", draft.images))
        );
    }
    draft.body.key("images");
    draft.body.open(b'[');
    for (index, item) in items.iter().enumerate() {
        let data = image(at.item(index), item)?;
        draft.body.item();
        draft.body.plain(&data);
        draft.image_bytes = draft.image_bytes.saturating_add(data.len());
    }
    draft.body.close(b']');
    Ok(())
}

/// The base64 of an image: what `base64` and MIME encoders break into lines is joined, and the head of a `data:` URI taken off.
fn image<'t>(at: At<'_>, item: &'t Json<'_>) -> Result<Cow<'t, str>, ValidateError> {
    let text = bounds::text(at, item)?;
    if is_base64(text) {
        return Ok(Cow::Borrowed(text));
    }
    let data = without_head(text).map_err(|words| at.refuse(words))?;
    let data = if memchr::memchr2(b'\r', b'\n', data.as_bytes()).is_some() {
        Cow::Owned(data.split(['\r', '\n']).collect())
    } else {
        Cow::Borrowed(data)
    };
    if is_base64(&data) {
        Ok(data)
    } else {
        Err(at.refuse("must be an image's bytes in standard base64, with padding"))
    }
}

/// The text behind `data:image/…;base64,`, where it begins so; what to send instead, where it is another URL.
fn without_head(text: &str) -> Result<&str, &'static str> {
    let begins =
        |prefix: &str| text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if begins("http:") || begins("https:") || begins("file:") {
        return Err("is a URL, and nothing is fetched from one: send the image's own bytes in base64");
    }
    if !begins("data:") {
        return Ok(text);
    }
    let head_end = memchr::memchr(b',', text.as_bytes().get(..MAX_MEDIA.min(text.len())).unwrap_or_default());
    head_end
        .and_then(|end| text.split_at_checked(end))
        .filter(|(head, _)| {
            let head = head.to_ascii_lowercase();
            head.starts_with("data:image/") && head.ends_with(";base64")
        })
        .and_then(|(_, data)| data.strip_prefix(','))
        .ok_or("is a data: URI of another kind: send data:image/…;base64,… or the base64 alone")
}

/// The standard alphabet in groups of four, at least one, padded at the end alone.
fn is_base64(data: &str) -> bool {
    let bytes = data.as_bytes();
    let digits = bytes.strip_suffix(b"==").or_else(|| bytes.strip_suffix(b"=")).unwrap_or(bytes);
    let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    // Without an early exit inside a chunk this runs several bytes at a time: images have megabytes.
    !digits.is_empty()
        && bytes.len().is_multiple_of(4)
        && digits.chunks(256).all(|chunk| chunk.iter().fold(true, |all, &b| all & digit(b)))
}

/// Writes the token ids of an earlier exchange.
pub(super) fn context(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let ids = bounds::list(at, value, MAX_CONTEXT)?;
    draft.body.key("context");
    draft.body.open(b'[');
    for (index, id) in ids.iter().enumerate() {
        let id = bounds::integer(at.item(index), id, 0, MAX_TOKEN)?;
        draft.body.item();
        draft.body.value(&id);
    }
    draft.body.close(b']');
    Ok(())
}

/// Writes the text or texts to embed.
pub(super) fn input(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    draft.body.key("input");
    match value {
        Json::Str(text) => draft.body.value(text),
        Json::Arr(_) => texts(draft, at, value, MAX_INPUT, usize::MAX)?,
        other => {
            return Err(at.refuse(format!("must be a string or a list of strings, not {}", other.kind())));
        }
    }
    Ok(())
}

/// Writes a list of at most so many strings of at most so many characters.
pub(super) fn texts(
    draft: &mut Draft<'_>,
    at: At<'_>,
    value: &Json<'_>,
    items: usize,
    characters: usize,
) -> Result<(), ValidateError> {
    let list = bounds::list(at, value, items)?;
    draft.body.open(b'[');
    for (index, item) in list.iter().enumerate() {
        let text = bounds::short_text(at.item(index), item, characters)?;
        draft.body.item();
        draft.body.value(text);
    }
    draft.body.close(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{no, ok, sent};
    use super::is_base64;
    use crate::endpoint::Proxied::{Chat, Embed, Generate};

    #[test]
    fn format_is_json_or_a_schema() {
        let call = ok(Chat, r#"{"format":{"type":"object","properties":{"a":{},"A":{}}}}"#);
        assert!(sent(&call)["format"]["properties"]["A"].is_object());
        assert_eq!(sent(&ok(Chat, r#"{"format":"json"}"#))["format"], "json");
        assert!(sent(&ok(Chat, r#"{"format":""}"#)).get("format").is_none());
        for bad in [r#""xml""#, "true", "[]", "7", r#""JSON""#] {
            assert!(
                no(Chat, &format!("{{\"format\":{bad}}}")).starts_with("format: must be \"json\""),
                "{bad}"
            );
        }
        let schema = |bytes: usize| format!("{{\"format\":{{\"a\":\"{}\"}}}}", "x".repeat(bytes - 8));
        ok(Chat, &schema(65_535));
        ok(Chat, &schema(65_536));
        assert!(no(Chat, &schema(65_537)).contains("at most 65536 bytes of JSON, not 65537"));
    }

    #[test]
    fn think_is_a_flag_or_a_level() {
        for good in ["true", "false", r#""low""#, r#""medium""#, r#""high""#, r#""max""#] {
            let call = ok(Chat, &format!("{{\"think\":{good}}}"));
            assert_eq!(sent(&call)["think"].to_string(), good);
        }
        for bad in ["1", r#""""#, r#""HIGH""#, "[]"] {
            assert!(no(Generate, &format!("{{\"think\":{bad}}}")).starts_with("think: "), "{bad}");
        }
    }

    #[test]
    fn images_are_base64_and_few() {
        for good in ["AAAA", "AA==", "AAA=", "ab+/"] {
            assert!(is_base64(good), "{good}");
        }
        for bad in [
            "",
            "=",
            "==",
            "====",
            "A",
            "AA",
            "AAA",
            "AA=",
            "A===",
            "AA=A",
            "AA\n=",
            "AA-_",
            "data:image/png;base64,AAAA",
            "http://evil/x",
        ] {
            assert!(!is_base64(bad), "{bad}");
        }
        let list =
            |n: usize| format!("{{\"prompt\":\"p\",\"images\":[{}\"AAAA\"]}}", "\"AA==\",".repeat(n - 1));
        ok(Generate, &list(63));
        assert_eq!(sent(&ok(Generate, &list(64)))["images"].as_array().unwrap().len(), 64);
        assert!(no(Generate, &list(65)).starts_with("images: a request may carry at most 64 images, not 65"));
    }

    #[test]
    fn images_come_as_people_write_them() {
        let one = |text: &str| serde_json::json!({"prompt": "p", "images": ["AAAA", text]}).to_string();
        for good in [
            "AAAABBB=",
            "AAAABBB=\n",
            "AAAA\nBBB=",
            "\r\nAAAA\r\nBB\rB=\n\n",
            "AAAABBB\n=",
            "data:image/png;base64,AAAABBB=",
            "DATA:Image/SVG+xml;charset=utf-8;BASE64,AAAA\r\nBBB=\r\n",
        ] {
            let call = ok(Generate, &one(good));
            assert_eq!(sent(&call)["images"][1], "AAAABBB=", "{good}");
            assert!(call.dropped.is_empty(), "{good}");
        }
        for (bad, words) in [
            ("http://10.0.0.1/canary", "is a URL"),
            ("HTTPS://canary/a.png", "is a URL"),
            ("file:///canary", "is a URL"),
            ("data:text/plain;base64,AAAA", "data: URI of another kind"),
            ("data:image/svg+xml;utf8,canary", "data: URI of another kind"),
            ("data:image/png;base64", "data: URI of another kind"),
            ("data:", "data: URI of another kind"),
            ("data:é", "data: URI of another kind"),
            ("data:image/png;base64,canary!", "standard base64"),
            ("data:image/png;base64,", "standard base64"),
            ("\n", "standard base64"),
            ("AAAA AAAA", "standard base64"),
            ("AA-_", "standard base64"),
        ] {
            let text = no(Generate, &one(bad));
            assert!(text.starts_with("images[1]: ") && text.contains(words), "{bad}: {text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn context_ids_are_bounded() {
        let call = ok(Generate, r#"{"prompt":"p","context":[0,2147483647,1.0]}"#);
        assert_eq!(sent(&call)["context"].to_string(), "[0,2147483647,1]");
        for bad in ["-1", "2147483648", "1.5", "\"1\"", "null"] {
            assert!(no(Generate, &format!("{{\"context\":[{bad}]}}")).starts_with("context[0]: "), "{bad}");
        }
        let ids = |n: usize| format!("{{\"prompt\":\"p\",\"context\":[{}1]}}", "1,".repeat(n - 1));
        ok(Generate, &ids(131_071));
        ok(Generate, &ids(131_072));
        assert!(no(Generate, &ids(131_073)).starts_with("context: must have at most 131072 items"));
    }

    #[test]
    fn input_is_text_or_texts() {
        assert_eq!(sent(&ok(Embed, r#"{"input":"a"}"#))["input"], "a");
        assert_eq!(sent(&ok(Embed, r#"{"input":["a","b"]}"#))["input"].to_string(), r#"["a","b"]"#);
        for bad in ["7", "{}", "[7]", "[[\"a\"]]", "true"] {
            assert!(no(Embed, &format!("{{\"input\":{bad}}}")).starts_with("input"), "{bad}");
        }
        let list = |n: usize| format!("{{\"input\":[{}\"a\"]}}", "\"a\",".repeat(n - 1));
        ok(Embed, &list(65_535));
        ok(Embed, &list(65_536));
        assert!(no(Embed, &list(65_537)).starts_with("input: must have at most 65536 items"));
    }
}

//! One request head, judged: what two parsers could read differently is refused (RFC 9112 sections 2.2, 3, 6; trust.md A, B).

use std::mem::MaybeUninit;

use http::StatusCode;

/// The largest head.
pub(super) const MAX_HEAD: usize = 32 << 10;
const MAX_TARGET: usize = 8 << 10;
const MAX_HEADERS: usize = 100;

/// Why a connection was refused before its request became one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// The status to answer.
    pub status: StatusCode,
    /// The words for the caller and the log.
    pub reason: &'static str,
}

pub(super) const fn bad(reason: &'static str) -> Reject {
    Reject { status: StatusCode::BAD_REQUEST, reason }
}

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; 0 without a body.
    Length(u64),
    /// Chunked coding.
    Chunked,
}

/// Headers that mean one thing only when they stand once and in ASCII.
const SINGLE: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "content-encoding",
    "authorization",
    "x-api-key",
    "cf-connecting-ip",
    "expect",
    "origin",
];
const HOST: usize = 0;
const LENGTH: usize = 1;
const CODING: usize = 2;
const EXPECT: usize = 8;

/// Judges a whole head, its final blank line included.
pub(super) fn judge(head: &[u8]) -> Result<Framing, Reject> {
    if head.len() > MAX_HEAD {
        return Err(Reject {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            reason: "the request head is larger than 32 KiB",
        });
    }
    lines_end_properly(head)?;
    // Uninitialised: clearing room for a hundred fields would cost more than reading ten.
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Reject {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "more than 100 header fields",
            });
        }
        Err(httparse::Error::Version) => {
            return Err(Reject {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "only HTTP/1.1 and HTTP/1.0 are spoken here",
            });
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(bad("the request head is malformed")),
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    if target.len() > MAX_TARGET {
        return Err(Reject {
            status: StatusCode::URI_TOO_LONG,
            reason: "the request target is longer than 8 KiB",
        });
    }
    let single = singles(request.headers)?;
    let old = request.version == Some(0);
    host(single[HOST], old)?;
    target_form(target, single[HOST])?;
    if let Some(expect) = single[EXPECT]
        && !expect.eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Reject {
            status: StatusCode::EXPECTATION_FAILED,
            reason: "only Expect: 100-continue is known",
        });
    }
    let framing = framing(single[LENGTH], single[CODING], old)?;
    if framing != Framing::Length(0) && matches!(method, "GET" | "HEAD" | "TRACE" | "CONNECT" | "OPTIONS") {
        return Err(bad("this method takes no body"));
    }
    Ok(framing)
}

/// Every line ends with CRLF and none is empty but the last: httparse would take a bare LF and leading blank lines.
fn lines_end_properly(head: &[u8]) -> Result<(), Reject> {
    if head.starts_with(b"\r\n") || head.starts_with(b"\n") {
        return Err(bad("blank lines before the request"));
    }
    for at in memchr::memchr_iter(b'\n', head) {
        if at == 0 || head.get(at - 1) != Some(&b'\r') {
            return Err(bad("a line of the head does not end with CRLF"));
        }
    }
    Ok(())
}

fn singles<'h>(fields: &[httparse::Header<'h>]) -> Result<[Option<&'h [u8]>; SINGLE.len()], Reject> {
    let mut found = [None; SINGLE.len()];
    for field in fields {
        if field.name.is_empty() {
            return Err(bad("a header field has no name"));
        }
        let Some(slot) = single(field.name) else { continue };
        let Some(slot) = found.get_mut(slot) else { continue };
        if slot.is_some() {
            return Err(bad("a header field that may stand only once is repeated"));
        }
        if field.value.iter().any(|&b| b >= 0x80) {
            return Err(bad("a header field that is read here holds bytes beyond ASCII"));
        }
        *slot = Some(field.value);
    }
    Ok(found)
}

/// Its place among [`SINGLE`]. Most fields are none of them, which their length and first letter tell.
fn single(name: &str) -> Option<usize> {
    let first = name.as_bytes().first()?.to_ascii_lowercase();
    if !b"hctaxeou".contains(&first) {
        return None;
    }
    SINGLE.iter().position(|known| known.len() == name.len() && known.eq_ignore_ascii_case(name))
}

fn host(host: Option<&[u8]>, old: bool) -> Result<(), Reject> {
    match host {
        None if old => Ok(()),
        None => Err(bad("the Host header is missing")),
        Some(value) => {
            let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(b);
            if value.is_empty() || value.len() > 255 || !value.iter().all(plain) {
                Err(bad("the Host header is no host name with an optional port"))
            } else {
                Ok(())
            }
        }
    }
}

/// Origin-form, `*`, or absolute-form that names the same host (RFC 9112 section 3.2).
fn target_form(target: &str, host: Option<&[u8]>) -> Result<(), Reject> {
    if target.bytes().any(|b| b == b'#' || b >= 0x80) {
        return Err(bad("the request target holds what a target may not hold"));
    }
    // What hyper would refuse with a bare answer of its own.
    if target.bytes().any(|b| matches!(b, b'<' | b'>' | b'"' | b'`' | b'{' | b'}' | b'^' | b'|'))
        && target.parse::<http::Uri>().is_err()
    {
        return Err(bad("the request target holds what a target may not hold"));
    }
    if target.starts_with('/') {
        return Ok(());
    }
    let Some((scheme, rest)) = target.split_once("://") else { return Ok(()) };
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    let same = host.is_some_and(|host| authority.as_bytes().eq_ignore_ascii_case(host));
    if same && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        Ok(())
    } else {
        Err(bad("the request target names another host than the Host header"))
    }
}

fn framing(length: Option<&[u8]>, coding: Option<&[u8]>, old: bool) -> Result<Framing, Reject> {
    match (length, coding) {
        (Some(_), Some(_)) => Err(bad("both Content-Length and Transfer-Encoding")),
        (None, Some(value)) if !old && value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, Some(_)) => Err(bad("the only transfer coding known here is chunked, in HTTP/1.1")),
        (None, None) => Ok(Framing::Length(0)),
        (Some(value), None) => {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let plain = digits && (value.len() == 1 || !value.starts_with(b"0"));
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            match number.filter(|&n| plain && n < 1 << 62) {
                Some(n) => Ok(Framing::Length(n)),
                None => Err(bad("the Content-Length is no plain number")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(head: &str) -> Result<Framing, Reject> {
        judge(head.as_bytes())
    }

    #[test]
    fn plain_heads_pass() {
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(
            ask("POST /chat HTTP/1.1\r\nhost: [::1]:80\r\nContent-Length: 12\r\n\r\n"),
            Ok(Framing::Length(12))
        );
        assert_eq!(
            ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n"),
            Ok(Framing::Chunked)
        );
        assert_eq!(ask("GET http://a:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n"), Ok(Framing::Length(0)));
        assert_eq!(ask("GET / HTTP/1.0\r\n\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn smuggling_spellings_are_refused() {
        for rest in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 2, 2",
            "Content-Length: +2",
            "Content-Length: 0x2",
            "Content-Length: 02",
            "Content-Length:",
            "Content-Length: -1",
            "Content-Length: 18446744073709551617",
            "Content-Length: 9223372036854775808",
            "Content-Length: 2 2",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding: \"chunked\"",
            "X: a\r\n b",
            " X: a",
            ": a",
            "no colon",
            "X: a\nY: b",
            "Host: b",
            "Authorization: a\r\nAuthorization: a",
            "Content-Type: a\r\nContent-Type: b",
        ] {
            let head = format!("POST /chat HTTP/1.1\r\nHost: a\r\n{rest}\r\n\r\n");
            assert!(ask(&head).is_err(), "{rest:?}");
        }
        for head in [
            "POST /chat HTTP/1.1\r\n\r\n",
            "POST /chat HTTP/1.1\r\nHost:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(ask(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn statuses_tell_what_is_wrong() {
        let status = |head: &str| ask(head).unwrap_err().status.as_u16();
        assert_eq!(status("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\nExpect: banana\r\n\r\n"), 417);
        assert_eq!(status(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000))), 414);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100))), 431);
    }
}

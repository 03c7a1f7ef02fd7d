//! One request head, judged: what two parsers could read differently is refused (RFC 9112 sections 2.2, 3, 6; trust.md A, B).

use std::ops::Range;

use http::StatusCode;

use super::field::{Known, find, is_token_byte};

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

const MALFORMED: Reject = bad("the request head is malformed");

/// Its size alone says no.
pub(super) const TOO_LARGE: Reject = Reject {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "the request head is larger than 32 KiB",
};

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

/// What of a head its reader must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) framing: Framing,
    /// Does the caller wait for `100 Continue`?
    pub(super) expects: bool,
}

/// The position behind the blank line, looked for from `from` on; `None` while it has not come. Every line must end with CRLF
/// and none but the last be empty: most parsers forgive the one or the other.
pub(super) fn end_of(bytes: &[u8], from: usize) -> Result<Option<usize>, Reject> {
    let before = |at: usize, n: usize| at.checked_sub(n).and_then(|at| bytes.get(at)).copied();
    let mut next = from;
    while let Some(at) = find(b'\n', bytes, next) {
        next = at + 1;
        if at == 0 || before(at, 1) != Some(b'\r') {
            return Err(bad("a line of the head does not end with CRLF"));
        }
        match before(at, 2) {
            None => return Err(bad("blank lines before the request")),
            Some(b'\n') => return Ok(Some(at + 1)),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Judges a whole head, its final blank line included, whose lines [`end_of`] has seen. What is to be passed on of it goes to
/// `pass`, piece by piece; all of it is void where the head is refused.
pub(super) fn judge(head: &[u8], mut pass: impl FnMut(&[u8])) -> Result<Head, Reject> {
    if head.len() > MAX_HEAD {
        return Err(TOO_LARGE);
    }
    if holds_controls(head) {
        return Err(MALFORMED);
    }
    let mut lines = Lines { head, at: 0 };
    let Line { method, target, old } = request_line(lines.next().ok_or(MALFORMED)?.1)?;
    let (mut known, mut count, mut passed) = (Known::default(), 0, 0);
    for (span, line) in lines {
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > MAX_HEADERS {
            return Err(Reject {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                reason: "more than 100 header fields",
            });
        }
        if !known.judge(line)? {
            pass(head.get(passed..span.start).unwrap_or_default());
            passed = span.end;
        }
    }
    pass(head.get(passed..).unwrap_or_default());
    host(known.host, old)?;
    target_form(target, known.host)?;
    if known.expect.is_some_and(|expect| !expect.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Reject {
            status: StatusCode::EXPECTATION_FAILED,
            reason: "only Expect: 100-continue is known",
        });
    }
    let framing = framing(known.length, known.coding, old)?;
    if framing != Framing::Length(0)
        && matches!(method, b"GET" | b"HEAD" | b"TRACE" | b"CONNECT" | b"OPTIONS")
    {
        return Err(bad("this method takes no body"));
    }
    // HTTP/1.0 knows no interim answers.
    Ok(Head { framing, expects: known.expect.is_some() && !old })
}

/// Any control byte but tabs and the line ends that [`end_of`] has seen in pairs: with as many CRs as line feeds, no CR stands
/// alone.
fn holds_controls(head: &[u8]) -> bool {
    // Without an early exit inside a chunk this runs many bytes at a time; 128 counts fit a byte.
    let mut surplus = 0_isize;
    let mut any = 0_u8;
    for chunk in head.chunks(128) {
        let (mut returns, mut feeds) = (0_u8, 0_u8);
        for &b in chunk {
            // In numbers, since a match is compiled to a jump for each byte.
            let (tab, cr, lf) = (u8::from(b == b'\t'), u8::from(b == b'\r'), u8::from(b == b'\n'));
            any |= (u8::from(b < b' ') ^ (tab | cr | lf)) | u8::from(b == 0x7f);
            returns += cr;
            feeds += lf;
        }
        surplus += isize::from(returns) - isize::from(feeds);
    }
    any != 0 || surplus != 0
}

/// The lines of a head without their CRLF, and where each stands with it.
struct Lines<'h> {
    head: &'h [u8],
    at: usize,
}

impl<'h> Iterator for Lines<'h> {
    type Item = (Range<usize>, &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.at;
        self.at = find(b'\n', self.head, from)? + 1;
        Some((from..self.at, self.head.get(from..self.at.checked_sub(2)?)?))
    }
}

struct Line<'h> {
    method: &'h [u8],
    target: &'h str,
    /// HTTP/1.0.
    old: bool,
}

/// `POST /chat HTTP/1.1`, with single spaces.
fn request_line(line: &[u8]) -> Result<Line<'_>, Reject> {
    let mut parts = line.splitn(3, |&b| b == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(MALFORMED);
    };
    let visible = target.iter().fold(true, |all, b| all & matches!(b, 0x21..=0x7e));
    let token = !method.is_empty() && method.iter().all(|&b| is_token_byte(b));
    if !token || target.is_empty() || !visible {
        return Err(MALFORMED);
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Reject {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "only HTTP/1.1 and HTTP/1.0 are spoken here",
            });
        }
        _ => return Err(MALFORMED),
    };
    if target.len() > MAX_TARGET {
        return Err(Reject {
            status: StatusCode::URI_TOO_LONG,
            reason: "the request target is longer than 8 KiB",
        });
    }
    Ok(Line { method, target: std::str::from_utf8(target).map_err(|_| MALFORMED)?, old })
}

fn host(host: Option<&[u8]>, old: bool) -> Result<(), Reject> {
    match host {
        None if old => Ok(()),
        None => Err(bad("the Host header is missing")),
        Some(value) => {
            let plain =
                |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
            if value.is_empty() || value.len() > 255 || !value.iter().fold(true, |all, &b| all & plain(b)) {
                Err(bad("the Host header is not a host name with an optional port"))
            } else {
                Ok(())
            }
        }
    }
}

/// Origin-form, `*`, or absolute-form that names the same host (RFC 9112 section 3.2).
fn target_form(target: &str, host: Option<&[u8]>) -> Result<(), Reject> {
    const ODD: Reject = bad("the request target holds what a target may not hold");
    let plain = |b: u8| b.is_ascii_alphanumeric() | matches!(b, b'/' | b'_' | b'-' | b'.');
    if !target.bytes().fold(true, |all, b| all & plain(b)) {
        // What hyper would refuse with a bare answer of its own.
        let odd = |b| matches!(b, b'<' | b'>' | b'"' | b'`' | b'{' | b'}' | b'^' | b'|');
        if target.contains('#') || (target.bytes().any(odd) && target.parse::<http::Uri>().is_err()) {
            return Err(ODD);
        }
    }
    if target.starts_with('/') {
        return Ok(());
    }
    if target != "*" && target.parse::<http::Uri>().is_err() {
        return Err(ODD);
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
            // Eighteen digits fit; a sign, a space or a leading zero is not a plain number.
            let plain = (1..=18).contains(&value.len()) && (value.len() == 1 || !value.starts_with(b"0"));
            let number = value
                .iter()
                .filter(|_| plain)
                .try_fold(0_u64, |number, b| b.is_ascii_digit().then(|| number * 10 + u64::from(b - b'0')));
            match number.filter(|_| plain) {
                Some(n) => Ok(Framing::Length(n)),
                None => Err(bad("the Content-Length is not a plain number")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(head: &str) -> Result<Framing, Reject> {
        match end_of(head.as_bytes(), 0)? {
            Some(end) if end == head.len() => judge(head.as_bytes(), |_| {}).map(|head| head.framing),
            other => panic!("{head:?} ends at {other:?}"),
        }
    }

    #[test]
    fn only_what_is_read_is_passed_on() {
        for framing in ["Content-Length: 12", "transfer-encoding:chunked"] {
            let text = format!(
                "POST /chat HTTP/1.1\r\nCookie: c\r\nHost: a\r\n{framing}\r\nX: y\r\nContent-Type: b\r\nZ: z\r\n\r\n"
            );
            let mut seen = Vec::new();
            judge(text.as_bytes(), |piece| seen.extend_from_slice(piece)).unwrap();
            assert_eq!(seen, b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\n\r\n");
        }
        let expects = |version| {
            let head = format!("POST / HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n");
            judge(head.as_bytes(), |_| {}).unwrap().expects
        };
        assert!(expects("1.1") && !expects("1.0"));
    }

    #[test]
    fn a_full_parser_takes_no_less_than_this_one() {
        let good = b"POST /chat?x=1 HTTP/1.1\r\nHost: a:1\r\nX-y_z: b\tc \r\nEmpty:\r\n\r\n";
        assert!(judge(good, |_| {}).is_ok());
        for at in 0..good.len() - 4 {
            for byte in 0..=255 {
                let mut head = good.to_vec();
                head[at] = byte;
                if end_of(&head, 0) == Ok(Some(head.len())) && judge(&head, |_| {}).is_ok() {
                    let mut fields = [httparse::EMPTY_HEADER; 8];
                    let mut parsed = httparse::Request::new(&mut fields);
                    assert!(parsed.parse(&head).is_ok_and(|status| status.is_complete()), "{at} {byte}");
                    let target = parsed.path.unwrap();
                    assert!(target.parse::<http::Uri>().is_ok(), "{target}");
                }
            }
        }
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
            "GET foo/bar HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:b:c/ HTTP/1.1\r\nHost: a:b:c\r\n\r\n",
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

//! Response bytes: heads and chunks as Go's server writes them.

use super::head::Head;
use crate::api::reply::Whole;
use crate::go::text::{http_date, since_epoch};
use crate::script::Script;
use std::io::Write as _;

/// Go's buffer: a whole answer beyond it is chunked.
const WHOLE: usize = 2_048;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// By the end of the connection: an HTTP/1.0 caller, and more than a buffer.
    Close,
    /// There is no body, and no word of it.
    Nothing,
}

/// Writes heads; keeps the text of the current second's date.
#[derive(Debug, Default)]
pub(super) struct Writer {
    second: u64,
    date: String,
}

impl Writer {
    /// A head with its empty line.
    pub(super) fn head<'a>(
        &mut self,
        out: &mut Vec<u8>,
        (status, framing): (u16, Framing),
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        (head, script): (&Head, &'a Script),
    ) {
        let version = if head.http10 { "1.0" } else { "1.1" };
        write!(out, "HTTP/{version} {status} {}\r\n", reason(status)).ok();
        let extra = script.extra_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut connection = false;
        for (name, value) in fields.chain(extra) {
            connection |= name == "Connection";
            out.extend([name, ": ", value, "\r\n"].iter().flat_map(|text| text.bytes()));
        }
        let now = since_epoch().as_secs();
        if now != self.second || self.date.is_empty() {
            (self.second, self.date) = (now, http_date(now));
        }
        write!(out, "Date: {}\r\n", self.date).ok();
        match framing {
            Framing::Length(length) => write!(out, "Content-Length: {length}\r\n").ok(),
            Framing::Chunked => write!(out, "Transfer-Encoding: chunked\r\n").ok(),
            Framing::Close | Framing::Nothing => None,
        };
        let closing = framing == Framing::Close || !head.keep_alive;
        match (connection, head.http10, closing) {
            (true, ..) | (false, true, true) | (false, false, false) => {}
            (false, true, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, false, true) => out.extend_from_slice(b"Connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A whole answer; says whether the connection may stay.
    pub(super) fn whole(&mut self, out: &mut Vec<u8>, whole: &Whole, head: &Head, script: &Script) -> bool {
        let length = whole.body.len();
        let framing = match (whole.bodiless, whole.chunked || length > WHOLE) {
            (true, _) => Framing::Nothing,
            (false, true) if head.method == "HEAD" => Framing::Nothing,
            (false, true) if head.http10 => Framing::Close,
            (false, true) => Framing::Chunked,
            (false, false) => Framing::Length(length),
        };
        let kind = whole.content_type.map(|kind| ("Content-Type", kind));
        let fields = whole.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        self.head(out, (whole.status, framing), kind.into_iter().chain(fields), (head, script));
        if head.method != "HEAD" {
            match framing {
                Framing::Chunked => {
                    chunk(out, &whole.body);
                    out.extend_from_slice(END);
                }
                _ => out.extend_from_slice(&whole.body),
            }
        }
        head.keep_alive
            && framing != Framing::Close
            && !whole.headers.iter().any(|(name, _)| name == "Connection")
    }
}

/// The end of the chunked coding.
pub(super) const END: &[u8] = b"0\r\n\r\n";

/// One chunk.
pub(super) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    write!(out, "{:x}\r\n", data.len()).ok();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Scripted",
    }
}

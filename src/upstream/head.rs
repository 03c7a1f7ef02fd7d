//! The head of an answer: strict, bounded, interim answers skipped.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::UpstreamError;
use super::body::Framing;
use crate::listen::scratch;

const MAX_HEAD: usize = 32 << 10;
const MAX_INTERIM: usize = 8;

/// What of an answer's head matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 200 to 599.
    pub status: u16,
    /// What the body is.
    pub media_type: MediaType,
}

/// The media types that an answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `application/json`: one object.
    Json,
    /// `application/x-ndjson`: one object a line.
    Ndjson,
    /// Anything else, or none.
    Other,
}

impl MediaType {
    /// Without its parameters, in any case (RFC 9110 section 8.3.1).
    fn of(value: &[u8]) -> Self {
        let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
        match value.get(..end).unwrap_or_default().trim_ascii() {
            essence if essence.eq_ignore_ascii_case(b"application/json") => Self::Json,
            essence if essence.eq_ignore_ascii_case(b"application/x-ndjson") => Self::Ndjson,
            _ => Self::Other,
        }
    }
}

/// A head and what came with it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) framing: Framing,
    /// Bytes behind the head.
    pub(super) rest: Vec<u8>,
    /// May the connection serve another request?
    pub(super) keep: bool,
}

/// Bytes of a head until it is whole. Most heads come in one piece, which is not copied.
#[derive(Debug, Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    interim: usize,
}

impl Reader {
    /// Reads until a final head is whole.
    pub(super) fn poll(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Found, UpstreamError>> {
        loop {
            let found =
                scratch::with(|mut buffer| match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                    Ok(()) => Poll::Ready(self.feed(buffer.filled())),
                    Err(error) if self.is_fresh() => Poll::Ready(Err(UpstreamError::Io(error))),
                    Err(_) => {
                        Poll::Ready(Err(UpstreamError::Protocol("the connection broke within the head")))
                    }
                });
            if let Some(found) = ready!(found)? {
                return Poll::Ready(Ok(found));
            }
        }
    }

    /// Has nothing come yet?
    const fn is_fresh(&self) -> bool {
        self.held.is_empty() && self.interim == 0
    }

    fn feed(&mut self, fresh: &[u8]) -> Result<Option<Found>, UpstreamError> {
        if fresh.is_empty() {
            // Whoever has said anything has seen the request, which must not be sent twice then.
            let within = UpstreamError::Protocol("it ended within the head");
            return Err(if self.is_fresh() { UpstreamError::Closed } else { within });
        }
        if self.held.is_empty() {
            return self.look(fresh);
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(fresh);
        self.look(&bytes)
    }

    fn look(&mut self, mut bytes: &[u8]) -> Result<Option<Found>, UpstreamError> {
        while let Some((found, used)) = parse(bytes)? {
            if used > MAX_HEAD {
                return Err(UpstreamError::Protocol("a head larger than 32 KiB"));
            }
            bytes = bytes.get(used..).unwrap_or_default();
            if let Some((head, framing, keep)) = found {
                return Ok(Some(Found { head, framing, rest: bytes.to_vec(), keep }));
            }
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(UpstreamError::Protocol("too many interim answers"));
            }
        }
        if bytes.len() > MAX_HEAD {
            return Err(UpstreamError::Protocol("a head larger than 32 KiB"));
        }
        self.held = bytes.to_vec();
        Ok(None)
    }
}

type Final = (Head, Framing, bool);

/// A head at the start of the bytes: `None` while it is not whole, `Some((None, _))` for an interim answer.
fn parse(bytes: &[u8]) -> Result<Option<(Option<Final>, usize)>, UpstreamError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut fields = [const { MaybeUninit::uninit() }; 64];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(used)) => used,
        Err(_) => return Err(UpstreamError::Protocol("a malformed head")),
    };
    let head = bytes.get(..used).unwrap_or_default();
    if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r')) {
        return Err(UpstreamError::Protocol("a bare line feed in the head"));
    }
    match response.code {
        Some(101) => Err(UpstreamError::Protocol("an upgrade that nobody asked for")),
        Some(100..=199) => Ok(Some((None, used))),
        Some(status @ 200..=599) => {
            let (framing, keep, media_type) =
                fields_of(response.headers, status, response.version == Some(1))?;
            Ok(Some((Some((Head { status, media_type }, framing, keep)), used)))
        }
        _ => Err(UpstreamError::Protocol("a status that does not exist")),
    }
}

fn fields_of(
    fields: &[httparse::Header<'_>],
    status: u16,
    modern: bool,
) -> Result<(Framing, bool, MediaType), UpstreamError> {
    let (mut length, mut chunked, mut keep, mut media_type) = (None, false, modern, MediaType::Other);
    for field in fields {
        let value = field.value.trim_ascii();
        if field.name.eq_ignore_ascii_case("content-length") {
            let number =
                std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let number = number.and_then(|text| text.parse::<u64>().ok()).filter(|&n| n < 1 << 62);
            match (number, length) {
                (Some(n), None) => length = Some(n),
                (Some(n), Some(before)) if n == before => {}
                _ => return Err(UpstreamError::Protocol("an odd Content-Length")),
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !modern || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(UpstreamError::Protocol("an odd Transfer-Encoding"));
            }
            chunked = true;
        } else if field.name.eq_ignore_ascii_case("content-encoding") {
            if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
                return Err(UpstreamError::Protocol("an encoding that nobody asked for"));
            }
        } else if field.name.eq_ignore_ascii_case("connection") {
            keep &= !String::from_utf8_lossy(value).to_ascii_lowercase().contains("close");
        } else if field.name.eq_ignore_ascii_case("content-type") {
            media_type = MediaType::of(value);
        }
    }
    let framing = match (length, chunked) {
        (Some(_), true) => return Err(UpstreamError::Protocol("both Content-Length and Transfer-Encoding")),
        _ if matches!(status, 204 | 304) => Framing::Length(0),
        (Some(n), false) => Framing::Length(n),
        (None, true) => Framing::Chunked,
        (None, false) => Framing::UntilClose,
    };
    Ok((framing, keep && framing != Framing::UntilClose, media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(head: &str) -> Result<Option<Final>, ()> {
        match parse(head.as_bytes()) {
            Ok(Some((found, _))) => Ok(found),
            Ok(None) => panic!("not whole: {head:?}"),
            Err(_) => Err(()),
        }
    }

    #[test]
    fn plain_heads() {
        let (head, framing, keep) = ask(
            "HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: 3\r\n\r\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            (head.status, head.media_type, framing, keep),
            (200, MediaType::Json, Framing::Length(3), true)
        );
        let (_, framing, keep) =
            ask("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n")
                .unwrap()
                .unwrap();
        assert_eq!((framing, keep), (Framing::Chunked, false));
        let (_, framing, keep) = ask("HTTP/1.0 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!((framing, keep), (Framing::UntilClose, false));
        assert_eq!(ask("HTTP/1.1 103 Early Hints\r\n\r\n"), Ok(None));
        assert!(parse(b"HTTP/1.1 200 OK\r\nConte").unwrap().is_none());
    }

    #[test]
    fn a_head_may_come_in_pieces_behind_interim_ones() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for n in 1..=bytes.len() {
            let mut reader = Reader::default();
            let found = bytes.chunks(n).find_map(|piece| reader.feed(piece).unwrap()).unwrap();
            assert_eq!((found.head.status, found.framing), (200, Framing::Length(5)), "pieces of {n}");
            assert!(b"hello".starts_with(&found.rest), "pieces of {n}");
        }
        let mut reader = Reader::default();
        assert!(matches!(reader.feed(b""), Err(UpstreamError::Closed)));
        assert!(reader.feed(b"HTTP/1.1 2").unwrap().is_none());
        assert!(matches!(reader.feed(b""), Err(UpstreamError::Protocol(_))));
        let mut reader = Reader::default();
        assert!(reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap().is_none());
        assert!(matches!(reader.feed(b""), Err(UpstreamError::Protocol(_))), "it has seen the request");
        let many = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
        assert!(Reader::default().feed(&many).is_err());
    }

    #[test]
    fn hostile_heads_are_refused() {
        for rest in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 2, 2",
            "Content-Length: -1",
            "Content-Length: +1",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Encoding: gzip",
            "X: a\r\n b",
            "Transfer-Encoding : chunked",
            "X: a\nY: b",
        ] {
            assert!(ask(&format!("HTTP/1.1 200 OK\r\n{rest}\r\n\r\n")).is_err(), "{rest:?}");
        }
        for head in [
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 999 X\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(ask(head).is_err(), "{head:?}");
        }
    }
}

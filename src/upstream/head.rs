//! The head of an answer: strict, bounded, interim answers skipped.

use std::mem::MaybeUninit;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::UpstreamError;
use super::body::Framing;

const MAX_HEAD: usize = 32 << 10;
const MAX_INTERIM: usize = 8;

/// What of an answer's head matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 200 to 599.
    pub status: u16,
    /// The media type, lower case, without parameters.
    pub media_type: String,
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

/// Reads until a final head is whole.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Found, UpstreamError> {
    let mut bytes = Vec::with_capacity(1024);
    let mut interim = 0;
    loop {
        if let Some((found, used)) = parse(&bytes)? {
            bytes.drain(..used);
            match found {
                None => {
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(UpstreamError::Protocol("too many interim answers"));
                    }
                    continue;
                }
                Some((head, framing, keep)) => return Ok(Found { head, framing, rest: bytes, keep }),
            }
        }
        if bytes.len() > MAX_HEAD {
            return Err(UpstreamError::Protocol("a head larger than 32 KiB"));
        }
        bytes.reserve(1024);
        match stream.read_buf(&mut bytes).await {
            Ok(0) if bytes.is_empty() => return Err(UpstreamError::Closed),
            Ok(0) => return Err(UpstreamError::Protocol("it ended within the head")),
            Ok(_) => {}
            Err(error) if bytes.is_empty() => return Err(UpstreamError::Io(error)),
            Err(_) => return Err(UpstreamError::Protocol("the connection broke within the head")),
        }
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
) -> Result<(Framing, bool, String), UpstreamError> {
    let (mut length, mut chunked, mut keep, mut media_type) = (None, false, modern, String::new());
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
            let text = String::from_utf8_lossy(value);
            media_type = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
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
            (head.status, head.media_type.as_str(), framing, keep),
            (200, "application/json", Framing::Length(3), true)
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

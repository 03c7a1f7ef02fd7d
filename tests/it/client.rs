//! A caller who sees every byte: raw HTTP/1.1, so that framing, timing and cuts can be asked about.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// The headers that may leave the gateway; anything else is a leak.
const ALLOWED: [&str; 28] = [
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "date",
    "x-request-id",
    "x-content-type-options",
    "cache-control",
    "x-portcullis-dropped",
    "retry-after",
    "allow",
    "www-authenticate",
    "vary",
    "location",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "content-security-policy",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
    "x-ratelimit-",
    "etag",
    "content-encoding",
    "x-accel-buffering",
];

#[derive(Debug, Default, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Did the framing end properly?
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn lines(&self) -> Vec<&[u8]> {
        self.body.split_inclusive(|&b| b == b'\n').collect()
    }
}

/// Whatever carries bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(crate) struct Conn {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

impl Conn {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A gateway that has refused already may have closed: the answer tells.
        self.stream.write_all(bytes).await.ok();
    }

    /// Does the gateway take these bytes?
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await;
        written.expect("the gateway takes nothing").is_ok()
    }

    /// A head without its length and final blank line, and a body.
    pub(crate) async fn request(&mut self, head: &str, body: &[u8]) {
        let length = if body.is_empty() && head.starts_with("GET") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        self.write(&[head.as_bytes(), length.as_bytes(), b"\r\n", body].concat()).await;
    }

    /// Reads more; `false` at the end.
    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the gateway fell silent"), Ok(1..))
    }

    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return Answer::default();
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        for (name, _) in &headers {
            assert!(
                ALLOWED.iter().any(|ok| name == ok || name.starts_with(ok)),
                "header {name} left the gateway"
            );
        }
        let answer = Answer { status, headers, ..Answer::default() };
        assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 16), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        answer
    }

    /// The next chunk of a chunked body; `None` at its end; panics where the coding breaks.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let size =
                    usize::from_str_radix(std::str::from_utf8(&self.buffer[..at]).unwrap(), 16).unwrap();
                if self.buffer.len() >= at + 2 + size + 2 {
                    let chunk = self.buffer[at + 2..at + 2 + size].to_vec();
                    assert_eq!(&self.buffer[at + 2 + size..at + 4 + size], b"\r\n");
                    self.buffer.drain(..at + 4 + size);
                    return (size > 0).then_some(chunk);
                }
            }
            assert!(self.more().await, "the connection ended within the chunked coding");
        }
    }

    /// The rest of an answer whose head was read.
    pub(crate) async fn rest(&mut self, mut answer: Answer) -> Answer {
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
            answer.whole = true;
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.more().await {}
            answer.whole = self.buffer.len() >= length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else {
            answer.whole = answer.status == 204;
        }
        answer
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        if head.status == 0 { head } else { self.rest(head).await }
    }

    /// Everything until the gateway closes.
    pub(crate) async fn until_end(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Does the gateway say that it ends (in TLS: `close_notify`)?
    pub(crate) async fn ends_well(&mut self) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        assert_eq!(read.expect("the connection stays open").expect("it was cut"), 0);
    }

    /// So many bytes, as they come.
    pub(crate) async fn first_bytes(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n && self.more().await {}
        self.buffer.drain(..n.min(self.buffer.len())).collect()
    }

    /// Leaves at once, as Ctrl-C does.
    pub(crate) fn leave(self) {
        drop(self.stream);
    }

    /// Does the gateway close within the patience?
    pub(crate) async fn assert_closed(&mut self) {
        let rest = tokio::time::timeout(PATIENCE, self.until_end()).await.expect("the connection stays open");
        assert!(rest.is_empty(), "unexpected bytes: {:?}", String::from_utf8_lossy(&rest));
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Within a second, as promised; generous to a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(3);

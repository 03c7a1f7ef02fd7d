//! Sends bytes, reads one answer.
//!
//! Strict about what the server writes: a chunk that is cut, or a length that does not come, is an error.

use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer, its coding undone.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status_line: String,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) interim: Vec<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("nothing whole within {0:?}")]
    Late(Duration),
    #[error("the connection ended within the answer")]
    Cut,
    #[error("not HTTP: {0}")]
    Head(#[from] httparse::Error),
    #[error("a broken chunk")]
    Chunk,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Sends the request; the sending side stays open, since Ollama takes its end for a caller who has left.
pub(super) async fn send(
    addr: SocketAddr,
    request: &[u8],
    method: &str,
    timeout: Duration,
) -> Result<Answer, Failed> {
    let exchange = async {
        let mut reader = Reader { stream: TcpStream::connect(addr).await?, buf: BytesMut::new() };
        // A server that refuses early may not read it all: what counts is its answer.
        if let Err(error) = reader.stream.write_all(request).await
            && reader.read_more().await.is_err()
        {
            return Err(error.into());
        }
        reader.answer(method).await
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Failed::Late(timeout)))
}

struct Reader {
    stream: TcpStream,
    buf: BytesMut,
}

impl Reader {
    async fn read_more(&mut self) -> Result<(), Failed> {
        match self.stream.read_buf(&mut self.buf).await? {
            0 => Err(Failed::Cut),
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, method: &str) -> Result<Answer, Failed> {
        let mut interim = Vec::new();
        loop {
            let mut answer = self.head().await?;
            if answer.status < 200 {
                interim.push(answer.status_line);
                continue;
            }
            if method != "HEAD" && answer.status != 204 {
                answer.body = self.body(&answer.headers).await?;
            }
            return Ok(Answer { interim, ..answer });
        }
    }

    async fn head(&mut self) -> Result<Answer, Failed> {
        loop {
            if let Some((answer, length)) = parse(&self.buf)? {
                drop(self.buf.split_to(length));
                return Ok(answer);
            }
            self.read_more().await?;
        }
    }

    async fn body(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, Failed> {
        if super::header(headers, "transfer-encoding").is_some() {
            return self.chunks().await;
        }
        let Some(length) = super::header(headers, "content-length") else {
            while self.read_more().await.is_ok() {}
            return Ok(self.buf.to_vec());
        };
        let length: usize = length.parse().map_err(|_| Failed::Chunk)?;
        self.take(length).await
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Failed> {
        while self.buf.len() < length {
            self.read_more().await?;
        }
        Ok(self.buf.split_to(length).to_vec())
    }

    async fn line(&mut self) -> Result<String, Failed> {
        loop {
            if let Some(at) = self.buf.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(at + 2).await?;
                return Ok(String::from_utf8_lossy(line.get(..at).unwrap_or_default()).into_owned());
            }
            self.read_more().await?;
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Failed> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await?, 16).map_err(|_| Failed::Chunk)?;
            body.extend(self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(Failed::Chunk);
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

fn parse(buf: &[u8]) -> Result<Option<(Answer, usize)>, Failed> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(buf)? else { return Ok(None) };
    let line = buf.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let answer = Answer {
        status_line: text(line),
        status: response.code.unwrap_or_default(),
        headers: response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect(),
        ..Answer::default()
    };
    Ok(Some((answer, length)))
}

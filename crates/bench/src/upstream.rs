//! A small, very fast stand-in for Ollama: keep-alive HTTP/1.1 on raw tokio TCP.
//!
//! Knows `alpha:latest`, answers chats whole or as NDJSON lines. A streamed answer is flat (each line its own write and chunk,
//! no gap) unless the word `paced` stands in the request: then a gap follows each line. For benches alone: it trusts its peer.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;

const MAX_REQUEST: usize = 1 << 20;
const TAGS: &str = r#"{"models":[{"name":"alpha:latest","model":"alpha:latest","modified_at":"2026-01-17T10:33:05Z","size":4109865159,"digest":"0000000000000000000000000000000000000000000000000000000000000000","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"7B","quantization_level":"Q4_0"}}]}"#;
const WHOLE: &str = r#"{"model":"alpha:latest","created_at":"2026-01-17T10:33:05.123456789Z","message":{"role":"assistant","content":"The gate is lowered on ropes and slides in two grooves of stone; its iron teeth close the way in."},"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":28,"eval_duration":4535599000}"#;
const LAST: &str = r#"{"model":"alpha:latest","created_at":"2026-01-17T10:33:05.123456789Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":200,"eval_duration":4535599000}"#;
const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Every answer, made once.
#[derive(Debug)]
struct Answers {
    version: Vec<u8>,
    tags: Vec<u8>,
    ps: Vec<u8>,
    whole: Vec<u8>,
    unknown: Vec<u8>,
    /// The lines of a streamed answer in their chunks; the end of the coding rides on the last.
    lines: Vec<Vec<u8>>,
    gap: Duration,
}

impl Answers {
    fn new(lines: u32, gap: Duration) -> Self {
        Self {
            version: json("200 OK", r#"{"version":"0.13.0"}"#),
            tags: json("200 OK", TAGS),
            ps: json("200 OK", r#"{"models":[]}"#),
            whole: json("200 OK", WHOLE),
            unknown: json("404 Not Found", r#"{"error":"not found"}"#),
            lines: (1..=lines).map(|n| chunk(n, n == lines)).collect(),
            gap,
        }
    }
}

fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn chunk(n: u32, last: bool) -> Vec<u8> {
    let line = if last {
        format!("{LAST}\n")
    } else {
        format!(
            "{{\"model\":\"alpha:latest\",\"created_at\":\"2026-01-17T10:33:05.{n:09}Z\",\
             \"message\":{{\"role\":\"assistant\",\"content\":\" token{n:04}\"}},\"done\":false}}\n"
        )
    };
    let end = if last { "0\r\n\r\n" } else { "" };
    format!("{:x}\r\n{line}\r\n{end}", line.len()).into_bytes()
}

/// Serves until killed; prints the address first.
pub(crate) async fn run(port: u16, lines: u32, gap: Duration) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let mut out = io::stdout();
    writeln!(out, "http://{}", listener.local_addr()?)?;
    out.flush()?;
    let answers = Arc::new(Answers::new(lines, gap));
    loop {
        // A connection that was gone before it was taken is nobody's loss.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            // The other side decides when it ends, and how is its business.
            let _ended = serve(stream, &answers).await;
        });
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Version,
    Tags,
    Ps,
    Whole,
    Flat,
    Paced,
    Unknown,
}

async fn serve(stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 16 << 10];
    let mut held = 0;
    loop {
        let (asked, used) = loop {
            if let Some(found) = parse(bytes.get(..held).unwrap_or_default())? {
                break found;
            }
            if held == bytes.len() {
                if held >= MAX_REQUEST {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                bytes.resize(held * 2, 0);
            }
            let n = read(&stream, bytes.get_mut(held..).unwrap_or_default()).await?;
            if n == 0 {
                return Ok(());
            }
            held += n;
        };
        bytes.copy_within(used..held, 0);
        held -= used;
        answer(&stream, answers, asked).await?;
    }
}

async fn answer(stream: &TcpStream, answers: &Answers, asked: Asked) -> io::Result<()> {
    let bytes = match asked {
        Asked::Version => &answers.version,
        Asked::Tags => &answers.tags,
        Asked::Ps => &answers.ps,
        Asked::Whole => &answers.whole,
        Asked::Unknown => &answers.unknown,
        Asked::Flat | Asked::Paced => {
            write_all(stream, STREAM_HEAD.as_bytes()).await?;
            for line in &answers.lines {
                if asked == Asked::Paced {
                    tokio::time::sleep(answers.gap).await;
                }
                write_all(stream, line).await?;
            }
            return Ok(());
        }
    };
    write_all(stream, bytes).await
}

/// A whole request at the start of the bytes: what it asks for, and how long it is.
fn parse(bytes: &[u8]) -> io::Result<Option<(Asked, usize)>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(status) = request.parse(bytes) else { return Err(broken()) };
    let httparse::Status::Complete(head) = status else { return Ok(None) };
    let length = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        None => 0,
        Some(field) => std::str::from_utf8(field.value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|&length| length <= MAX_REQUEST)
            .ok_or_else(broken)?,
    };
    let Some(body) = bytes.get(head..head + length) else { return Ok(None) };
    let asked = match request.path {
        Some("/api/version") => Asked::Version,
        Some("/api/tags") => Asked::Tags,
        Some("/api/ps") => Asked::Ps,
        Some("/api/chat") if has(body, b"\"stream\":false") => Asked::Whole,
        Some("/api/chat") if has(body, b"paced") => Asked::Paced,
        Some("/api/chat") => Asked::Flat,
        _ => Asked::Unknown,
    };
    Ok(Some((asked, head + length)))
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

/// Reads once; 0 is the end.
pub(crate) async fn read(stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes everything, without asking first whether it would fit.
pub(crate) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let ask = |path: &str, body: &str| {
            let text = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let (asked, used) = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(used, text.len());
            asked
        };
        assert_eq!(ask("/api/chat", r#"{"stream":false}"#), Asked::Whole);
        assert_eq!(ask("/api/chat", r#"{"stream":true,"m":"paced"}"#), Asked::Paced);
        assert_eq!(ask("/api/chat", "{}"), Asked::Flat);
        assert_eq!(ask("/nowhere", ""), Asked::Unknown);
        assert_eq!(parse(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").unwrap(), None);
        assert!(parse(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n").is_err());
    }

    #[test]
    fn lines_are_of_the_promised_length() {
        let line = chunk(7, false);
        assert!((120..150).contains(&line.len()), "{}", line.len());
        assert!(chunk(8, true).ends_with(b"\n\r\n0\r\n\r\n"));
    }
}

//! The generator's view of an answer: head, framing, payload, and whether it is whole.

use crate::Outcome;

const MAX_HEAD: usize = 64 << 10;
const MAX_PAYLOAD: usize = 64 << 20;

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes left.
    Length(usize),
    /// At a line with a chunk's size.
    Size,
    /// Bytes left of a chunk, its CRLF included.
    Data(usize),
    Ended,
}

/// Reads one answer after the other from the bytes of a connection.
#[derive(Debug)]
pub(crate) struct Reader {
    state: State,
    /// Bytes that came and are not judged yet.
    held: Vec<u8>,
    payload: Vec<u8>,
    status: u16,
    streamed: bool,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { state: State::Head, held: Vec::new(), payload: Vec::new(), status: 0, streamed: false }
    }

    /// Takes bytes; how many newlines of payload they brought.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Outcome<u64> {
        let before = self.payload.len();
        if self.held.is_empty() {
            let used = self.take(bytes)?;
            self.held.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.held.extend_from_slice(bytes);
            let held = std::mem::take(&mut self.held);
            let used = self.take(&held)?;
            self.held.extend_from_slice(held.get(used..).unwrap_or_default());
        }
        if self.payload.len() > MAX_PAYLOAD || self.held.len() > MAX_HEAD {
            return Err("an answer beyond all bounds".into());
        }
        Ok(newlines(self.payload.get(before..).unwrap_or_default()))
    }

    /// Has the answer ended?
    pub(crate) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Checks the answer that ended, and makes room for the next.
    pub(crate) fn finish(&mut self, stream: bool, lines: u32) -> Outcome {
        let result = self.check(stream, lines);
        self.state = State::Head;
        self.payload.clear();
        result
    }

    fn check(&self, stream: bool, lines: u32) -> Outcome {
        let text = String::from_utf8_lossy(&self.payload);
        let wrong = |what: &str| Err(format!("{what}; it began: {text:.200}").into());
        if self.status != 200 {
            return wrong(&format!("an answer with status {}", self.status));
        }
        if !self.held.is_empty() {
            return wrong("bytes behind the end of an answer");
        }
        if self.streamed != stream {
            return wrong("an answer in the other framing");
        }
        if stream && !self.payload.ends_with(b"\n") {
            return wrong("a stream cut within a line");
        }
        if stream && lines != 0 && newlines(&self.payload) != u64::from(lines) {
            return wrong(&format!("a stream of {} lines", newlines(&self.payload)));
        }
        let last = text.trim_end().lines().next_back().unwrap_or("");
        if !last.starts_with('{') || !last.ends_with('}') || !last.contains("\"done\":true") {
            return wrong("an answer without its final object");
        }
        Ok(())
    }

    /// Takes what can be taken; the bytes used.
    fn take(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let used = match self.state {
                State::Ended => return Ok(at),
                State::Length(0) => {
                    self.state = State::Ended;
                    return Ok(at);
                }
                _ if rest.is_empty() => return Ok(at),
                State::Head => self.head(rest)?,
                State::Length(left) => {
                    let n = left.min(rest.len());
                    self.payload.extend_from_slice(rest.get(..n).unwrap_or_default());
                    self.state = State::Length(left - n);
                    n
                }
                State::Size => self.size(rest)?,
                State::Data(left) => {
                    let n = left.min(rest.len());
                    let payload = left.saturating_sub(2).min(n);
                    self.payload.extend_from_slice(rest.get(..payload).unwrap_or_default());
                    self.state = if n == left { State::Size } else { State::Data(left - n) };
                    n
                }
            };
            if used == 0 {
                return Ok(at);
            }
            at += used;
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(used) = response.parse(bytes)? else { return Ok(0) };
        self.status = response.code.unwrap_or(0);
        let field = |name: &str| {
            let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()
        };
        let chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        self.streamed = chunked;
        self.state = if chunked {
            State::Size
        } else {
            let length = field("content-length").and_then(|value| value.parse().ok());
            State::Length(length.ok_or("an answer whose end nobody can see")?)
        };
        Ok(used)
    }

    /// A chunk's size; the empty chunk ends the answer (nobody here sends trailers).
    fn size(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(0) };
        let digits = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
        let size = usize::from_str_radix(digits, 16).ok().filter(|&size| size <= MAX_PAYLOAD);
        match size.ok_or("a chunk of no size")? {
            0 if bytes.len() < end + 4 => Ok(0),
            0 if bytes.get(end + 2..end + 4) != Some(b"\r\n") => Err("trailers behind an answer".into()),
            0 => {
                self.state = State::Ended;
                Ok(end + 4)
            }
            size => {
                self.state = State::Data(size + 2);
                Ok(end + 2)
            }
        }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        E\r\n{\"a\":1,\"b\":2}\n\r\nE\r\n{\"done\":true}\n\r\n0\r\n\r\n";

    fn read(bytes: &[u8], step: usize) -> (Reader, u64) {
        let (mut reader, mut lines) = (Reader::new(), 0);
        for piece in bytes.chunks(step) {
            lines += reader.feed(piece).unwrap();
        }
        (reader, lines)
    }

    #[test]
    fn any_split_reads_alike() {
        for step in 1..=STREAM.len() {
            let (mut reader, lines) = read(STREAM, step);
            assert!(reader.ended() && lines == 2, "{step}");
            reader.finish(true, 2).unwrap();
        }
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"done\":true}";
        for step in 1..=whole.len() {
            let (mut reader, _) = read(whole, step);
            assert!(reader.ended());
            reader.finish(false, 0).unwrap();
        }
    }

    #[test]
    fn what_is_not_whole_is_told() {
        let ask = |bytes: &[u8], stream, lines| read(bytes, 4096).0.finish(stream, lines).is_err();
        assert!(ask(STREAM, true, 3), "a line is missing");
        assert!(ask(STREAM, false, 0), "the other framing");
        assert!(ask(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n{}", false, 0));
        assert!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"done\":false}", false, 0));
        assert!(ask(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"done\":true}x", false, 0));
        assert!(!read(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"done\":", 99).0.ended());
        assert!(Reader::new().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Reader::new().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n").is_err());
    }
}

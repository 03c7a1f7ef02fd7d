//! Where one request ends and the next begins, in the bytes as they come.
//!
//! Holds a head back until it is whole and judged, so that hyper sees only heads that pass; follows the body only to find
//! its end. Bytes behind a request that is still being answered are refused: with them in its buffer hyper would no longer
//! notice that the caller has left (trust.md A43).

use http::StatusCode;

use super::head::{self, Framing, MAX_HEAD, Reject, bad};

/// Bytes of one connection, read in order.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    phase: Phase,
    held: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunk),
    Whole,
}

/// What of the chunked coding comes next (RFC 9112 section 7.1). Extensions are refused: nobody needs them.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Chunk {
    Size { size: u64, digits: u8 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line: u16, total: u16 },
}

/// What the new bytes amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing for hyper yet: the head is not whole.
    Hold,
    /// These bytes may go on: `Scanner::take_held` first, then the new bytes from this position.
    Pass {
        /// Bytes of the input that belong to the held head are passed from `held`.
        from: usize,
        /// Has the request ended with them?
        whole: bool,
    },
}

impl Scanner {
    /// Judges the next bytes.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<Step, Reject> {
        match self.phase {
            Phase::Head => self.head(input),
            Phase::Whole => Err(bad("bytes behind a request that is still being answered")),
            Phase::Length(_) | Phase::Chunked(_) => {
                let whole = self.body(input)?;
                Ok(Step::Pass { from: 0, whole })
            }
        }
    }

    /// The bytes of a head that came in pieces, now judged.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// The answer went out: a new head may come.
    pub(super) fn next_request(&mut self) {
        if self.phase == Phase::Whole {
            self.phase = Phase::Head;
        }
    }

    /// Has a request begun that is not whole yet?
    pub(super) fn is_inside(&self) -> bool {
        match self.phase {
            Phase::Head => !self.held.is_empty(),
            Phase::Length(_) | Phase::Chunked(_) => true,
            Phase::Whole => false,
        }
    }

    /// Is it a body that is coming?
    pub(super) fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Length(_) | Phase::Chunked(_))
    }

    fn head(&mut self, input: &[u8]) -> Result<Step, Reject> {
        if self.held.is_empty() {
            if let Some(end) = end_of_head(input, 0) {
                let (head, rest) = input.split_at(end);
                self.begin_body(head::judge(head)?);
                let whole = self.body(rest)?;
                return Ok(Step::Pass { from: 0, whole });
            }
            first_bytes(input)?;
        }
        let seen = self.held.len();
        self.held.extend_from_slice(input);
        let Some(end) = end_of_head(&self.held, seen.saturating_sub(3)) else {
            if self.held.len() > MAX_HEAD {
                return Err(Reject {
                    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    reason: "the request head is larger than 32 KiB",
                });
            }
            return Ok(Step::Hold);
        };
        let (head, _) = self.held.split_at(end);
        self.begin_body(head::judge(head)?);
        let rest = input.get(end.saturating_sub(seen)..).unwrap_or_default();
        let whole = self.body(rest)?;
        Ok(Step::Pass { from: input.len(), whole })
    }

    const fn begin_body(&mut self, framing: Framing) {
        self.phase = match framing {
            Framing::Length(0) => Phase::Whole,
            Framing::Length(n) => Phase::Length(n),
            Framing::Chunked => Phase::Chunked(Chunk::Size { size: 0, digits: 0 }),
        };
    }

    /// Follows the body; `true` when the request ended with these bytes.
    fn body(&mut self, input: &[u8]) -> Result<bool, Reject> {
        let mut rest = input;
        while !rest.is_empty() {
            match &mut self.phase {
                Phase::Length(left) => {
                    let n = (*left).min(rest.len() as u64);
                    *left -= n;
                    if *left == 0 {
                        self.phase = Phase::Whole;
                    }
                    rest = rest.get(usize::try_from(n).unwrap_or(usize::MAX)..).unwrap_or_default();
                }
                Phase::Chunked(chunk) => match chunk.step(rest)? {
                    (Some(next), used) => {
                        *chunk = next;
                        rest = rest.get(used..).unwrap_or_default();
                    }
                    (None, used) => {
                        self.phase = Phase::Whole;
                        rest = rest.get(used..).unwrap_or_default();
                    }
                },
                Phase::Head | Phase::Whole => return Err(bad("bytes behind the end of the request")),
            }
        }
        Ok(self.phase == Phase::Whole)
    }
}

impl Chunk {
    /// Reads one step; the next state (`None`: the body has ended) and the bytes used.
    fn step(self, input: &[u8]) -> Result<(Option<Self>, usize), Reject> {
        const BROKEN: Reject = bad("the chunked coding is broken");
        let Some(&byte) = input.first() else { return Ok((Some(self), 0)) };
        let next = match self {
            Self::Size { size, digits } => match char::from(byte).to_digit(16) {
                Some(_) if digits == 15 => return Err(BROKEN),
                Some(digit) => Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 },
                None if byte == b'\r' && digits > 0 => Self::SizeLf { size },
                None => return Err(BROKEN),
            },
            Self::SizeLf { size: 0 } if byte == b'\n' => Self::Trailer { line: 0, total: 0 },
            Self::SizeLf { size } if byte == b'\n' => Self::Data { left: size },
            Self::Data { left } => {
                let n = left.min(input.len() as u64);
                let next = if left == n { Self::DataCr } else { Self::Data { left: left - n } };
                return Ok((Some(next), usize::try_from(n).unwrap_or(usize::MAX)));
            }
            Self::DataCr if byte == b'\r' => Self::DataLf,
            Self::DataLf if byte == b'\n' => Self::Size { size: 0, digits: 0 },
            Self::Trailer { total, .. } if total >= 8192 => return Err(BROKEN),
            // `line` counts the bytes of the trailer line, its CR excluded; an empty line ends the body.
            Self::Trailer { line: 0, total } if byte == b'\r' => Self::Trailer { line: u16::MAX, total },
            Self::Trailer { line: u16::MAX, .. } if byte == b'\n' => return Ok((None, 1)),
            Self::Trailer { line, total } if byte == b'\n' && line != u16::MAX => {
                Self::Trailer { line: 0, total: total + 1 }
            }
            Self::Trailer { line, total } if line != u16::MAX => {
                Self::Trailer { line: line + 1, total: total + 1 }
            }
            _ => return Err(BROKEN),
        };
        Ok((Some(next), 1))
    }
}

/// The position behind the blank line.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let crlf = memchr::memmem::find(tail, b"\r\n\r\n");
    // A head with bare line feeds is found as well, to be refused at once and not after a timeout.
    let bare = memchr::memmem::find(tail.get(..crlf.unwrap_or(tail.len()))?, b"\n\n").map(|at| from + at + 2);
    bare.or(crlf.map(|at| from + at + 4))
}

/// A connection that does not begin like HTTP (TLS, SSH, a proxy preamble) is answered at once.
fn first_bytes(input: &[u8]) -> Result<(), Reject> {
    let line = input.split(|&b| b == b'\n').next().unwrap_or_default();
    if line.len() < input.len() && !line.ends_with(b"\r") {
        return Err(bad("a line of the head does not end with CRLF"));
    }
    let ended = line.len() < input.len();
    let looks = memchr::memmem::find(line, b" HTTP/").is_some() || !ended;
    if !looks || !line.iter().all(|&b| (0x20..0x7f).contains(&b) || b == b'\r') {
        return Err(bad("this is no HTTP request"));
    }
    if line.is_empty() || line.first() == Some(&b'\r') || line.first() == Some(&b' ') {
        return Err(bad("blank lines before the request"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str = "POST /chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Feeds the bytes in pieces of `n`; what hyper would see, and whether the request was whole at the end.
    fn run(input: &[u8], n: usize) -> Result<(Vec<u8>, bool), Reject> {
        let (mut scanner, mut seen, mut done) = (Scanner::default(), Vec::new(), false);
        for piece in input.chunks(n) {
            if let Step::Pass { from, whole } = scanner.feed(piece)? {
                seen.extend(scanner.take_held());
                seen.extend_from_slice(&piece[from..]);
                done = whole;
            }
        }
        Ok((seen, done))
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let chunked = format!("{CHUNKED}5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n");
        for request in [format!("{HEAD}hello"), chunked, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into()] {
            for n in 1..=request.len() {
                assert_eq!(
                    run(request.as_bytes(), n),
                    Ok((request.clone().into_bytes(), true)),
                    "pieces of {n}"
                );
            }
        }
    }

    #[test]
    fn bytes_behind_the_request_are_refused() {
        for request in
            [format!("{HEAD}helloG"), format!("{CHUNKED}0\r\n\r\nGET"), format!("{HEAD}hello{HEAD}")]
        {
            for n in 1..=request.len() {
                assert!(run(request.as_bytes(), n).is_err(), "{request:?} in pieces of {n}");
            }
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for body in [
            "5;x=1\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "\r\nhello",
            "5\r\nhelloX",
            "5\r\nhello\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\n",
            "5 \r\nhello\r\n",
            "0000000000000000000005\r\nhello\r\n",
        ] {
            for n in 1..=body.len() {
                assert!(run(format!("{CHUNKED}{body}").as_bytes(), n).is_err(), "{body:?}");
            }
        }
        let endless = format!("{CHUNKED}0\r\n{}", "X: y\r\n".repeat(3000));
        assert!(run(endless.as_bytes(), 1000).is_err());
    }

    #[test]
    fn what_is_no_http_is_answered_at_once() {
        for bytes in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"GET /\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n",
        ] {
            assert!(Scanner::default().feed(bytes).is_err(), "{bytes:?}");
        }
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed(b"GE"), Ok(Step::Hold));
        let long = vec![b'x'; MAX_HEAD + 1];
        assert_eq!(scanner.feed(&long).unwrap_err().status, 431);
    }
}

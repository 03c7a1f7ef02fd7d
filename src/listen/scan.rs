//! Where one request ends and the next begins, in the bytes as they come.
//!
//! Holds a head back until it is whole and judged, so that hyper sees only heads that pass, and gives the body to the inlet.
//! Bytes behind a request that is still being answered are refused: with them in its buffer hyper would no longer notice that
//! the caller has left (trust.md A43).

use super::chunked::Broken;
use super::head::{self, MAX_HEAD, Reject, TOO_LARGE, bad};
use super::inlet::Inlet;
use super::verb::Verb;

/// Bytes of one connection, read in order.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    phase: Phase,
    held: Vec<u8>,
    verb: Verb,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Phase {
    #[default]
    Head,
    Body,
    Whole,
}

impl Scanner {
    /// Judges the next bytes. Of a head that is whole with them, what is read behind the door goes to `pass`, piece by piece; what
    /// belongs to the body goes to the inlet. `true`: a head went out.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        inlet: &Inlet,
        pass: impl FnMut(&[u8]),
    ) -> Result<bool, Reject> {
        match self.phase {
            Phase::Head => self.head(input, inlet, pass),
            Phase::Whole => Err(bad("bytes behind a request that is still being answered")),
            Phase::Body => self.body(input, inlet).map(|()| false),
        }
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
            Phase::Body => true,
            Phase::Whole => false,
        }
    }

    /// Is it a body that is coming?
    pub(super) fn in_body(&self) -> bool {
        self.phase == Phase::Body
    }

    /// What is known of the method of the request that is coming, or being answered.
    pub(super) const fn verb(&self) -> Verb {
        self.verb
    }

    /// Has the request come to its end?
    pub(super) fn is_whole(&self) -> bool {
        self.phase == Phase::Whole
    }

    fn head(&mut self, input: &[u8], inlet: &Inlet, pass: impl FnMut(&[u8])) -> Result<bool, Reject> {
        let seen = self.held.len();
        if seen == 0 {
            self.verb = Verb::by(input);
            match head::end_of(input, 0)? {
                Some(end) => {
                    let (head, rest) = input.split_at(end);
                    self.begin(head, inlet, pass)?;
                    return self.body(rest, inlet).map(|()| true);
                }
                None => first_bytes(input)?,
            }
        }
        self.held.extend_from_slice(input);
        self.verb = Verb::by(&self.held);
        let Some(end) = head::end_of(&self.held, seen)? else {
            return if self.held.len() > MAX_HEAD { Err(TOO_LARGE) } else { Ok(false) };
        };
        let held = std::mem::take(&mut self.held);
        self.begin(held.get(..end).unwrap_or_default(), inlet, pass)?;
        self.body(held.get(end..).unwrap_or_default(), inlet).map(|()| true)
    }

    fn begin(&mut self, head: &[u8], inlet: &Inlet, pass: impl FnMut(&[u8])) -> Result<(), Reject> {
        let head::Head { framing, expects } = head::judge(head, pass)?;
        let ended = inlet.begin(framing, expects);
        self.phase = if ended { Phase::Whole } else { Phase::Body };
        Ok(())
    }

    fn body(&mut self, input: &[u8], inlet: &Inlet) -> Result<(), Reject> {
        if input.is_empty() {
            return Ok(());
        }
        let (used, ended) = if self.phase == Phase::Body { inlet.push(input) } else { Ok((0, true)) }
            .map_err(|Broken| bad("the chunked coding is broken"))?;
        if used < input.len() {
            return Err(bad("bytes behind the end of the request"));
        }
        if ended {
            self.phase = Phase::Whole;
        }
        Ok(())
    }
}

/// A connection that does not begin like HTTP (TLS, SSH, a proxy preamble) is answered at once.
fn first_bytes(input: &[u8]) -> Result<(), Reject> {
    let line = input.split(|&b| b == b'\n').next().unwrap_or_default();
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
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const HEAD: &str = "POST /chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str = "POST /chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const SEEN: &str = "POST /chat HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Feeds the bytes in pieces of `n`; the head that hyper would see, and the body once it is whole.
    fn run(input: &[u8], n: usize) -> Result<(String, Option<String>), Reject> {
        let (mut scanner, inlet, mut seen) = (Scanner::default(), Inlet::default(), Vec::new());
        for piece in input.chunks(n) {
            scanner.feed(piece, &inlet, |piece| seen.extend_from_slice(piece))?;
        }
        let body = match pin!(inlet.read(1 << 20, &mut crate::listen::Freely))
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(body) => Some(String::from_utf8(body.unwrap()).unwrap()),
            Poll::Pending => None,
        };
        assert_eq!(body.is_some(), scanner.is_whole());
        Ok((String::from_utf8(seen).unwrap(), body))
    }

    #[test]
    fn any_split_gives_the_same_request() {
        let chunked = format!("{CHUNKED}5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n");
        for (request, body) in
            [(format!("{HEAD}hello"), "hello"), (chunked, "hello0123456789"), (SEEN.into(), "")]
        {
            for n in 1..=request.len() {
                let expected = Ok((SEEN.to_owned(), Some(body.to_owned())));
                assert_eq!(run(request.as_bytes(), n), expected, "pieces of {n}");
            }
        }
        assert_eq!(run(format!("{HEAD}hell").as_bytes(), 7), Ok((SEEN.to_owned(), None)));
    }

    #[test]
    fn bytes_behind_the_request_are_refused() {
        for request in [
            format!("{HEAD}helloG"),
            format!("{CHUNKED}0\r\n\r\nGET"),
            format!("{HEAD}hello{HEAD}"),
            format!("{SEEN}G"),
        ] {
            for n in 1..=request.len() {
                assert!(run(request.as_bytes(), n).is_err(), "{request:?} in pieces of {n}");
            }
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for body in ["5;x=1\r\nhello\r\n0\r\n\r\n", "5\nhello", "5\r\nhelloX", "FFFFFFFFFFFFFFFFF\r\n"] {
            for n in 1..=body.len() {
                assert!(run(format!("{CHUNKED}{body}").as_bytes(), n).is_err(), "{body:?}");
            }
        }
    }

    #[test]
    fn what_is_no_http_is_answered_at_once() {
        let feed = |scanner: &mut Scanner, bytes: &[u8]| scanner.feed(bytes, &Inlet::default(), |_| {});
        for bytes in [
            &b"\x16\x03\x01\x02\x00"[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"GET /\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n",
            b"GET / HTTP/1.1\n",
        ] {
            assert!(feed(&mut Scanner::default(), bytes).is_err(), "{bytes:?}");
        }
        let mut scanner = Scanner::default();
        assert_eq!(feed(&mut scanner, b"GE"), Ok(false));
        let long = vec![b'x'; MAX_HEAD + 1];
        assert_eq!(feed(&mut scanner, &long).unwrap_err().status, 431);
    }
}

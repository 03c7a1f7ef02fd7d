//! Whole lines out of a byte stream: watched, not re-encoded.

use crate::dialect::ollama::answer::{self, Line};
use crate::dialect::ollama::fault;
use crate::record::Tokens;
use crate::respond::StreamFault;

/// What may go out now, and what the stream is at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// Nothing whole yet.
    None,
    /// These lines.
    Some(Vec<u8>),
    /// These lines, the last of them final.
    Done(Vec<u8>, Tokens),
    /// These lines (maybe none), then the fault.
    Fault(Vec<u8>, StreamFault),
}

/// Holds the beginning of a line until its newline comes.
#[derive(Debug)]
pub(super) struct Splitter {
    held: Vec<u8>,
    max_line: usize,
    parts: u64,
}

impl Splitter {
    pub(super) const fn new(max_line: usize) -> Self {
        Self { held: Vec::new(), max_line, parts: 0 }
    }

    /// Lines of the answer so far: a token each.
    pub(super) const fn parts(&self) -> u64 {
        self.parts
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, fresh: Vec<u8>) -> Lines {
        let Some(last) = memchr::memrchr(b'\n', &fresh) else {
            self.held.extend_from_slice(&fresh);
            return if self.held.len() > self.max_line {
                Lines::Fault(Vec::new(), StreamFault::LongLine)
            } else {
                Lines::None
            };
        };
        let mut lines = fresh;
        let tail = lines.split_off(last + 1);
        if !self.held.is_empty() {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(&lines);
            lines = joined;
        }
        self.held = tail;
        self.look(lines)
    }

    /// The upstream's last bytes, if they lack a newline.
    pub(super) fn finish(&mut self) -> Lines {
        if self.held.is_empty() {
            return Lines::None;
        }
        let mut line = std::mem::take(&mut self.held);
        match answer::judge(&line) {
            Line::Done(tokens) => {
                line.push(b'\n');
                Lines::Done(line, tokens)
            }
            Line::Error(text) => Lines::Fault(Vec::new(), said(&text)),
            // A line that was cut in the middle is dropped.
            Line::Part | Line::Broken => Lines::None,
        }
    }

    fn look(&mut self, mut lines: Vec<u8>) -> Lines {
        let judge = if std::str::from_utf8(&lines).is_ok() { answer::judge_text } else { answer::judge };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &lines) {
            let line = lines.get(start..end).unwrap_or_default();
            let fault = if line.len() > self.max_line {
                StreamFault::LongLine
            } else {
                match judge(line) {
                    Line::Part => {
                        start = end + 1;
                        self.parts += 1;
                        continue;
                    }
                    Line::Done(tokens) => {
                        // What stands behind the final object is nobody's.
                        lines.truncate(end + 1);
                        return Lines::Done(lines, tokens);
                    }
                    Line::Error(text) => said(&text),
                    Line::Broken => StreamFault::Malformed,
                }
            };
            lines.truncate(start);
            return Lines::Fault(lines, fault);
        }
        if self.held.len() > self.max_line {
            return Lines::Fault(lines, StreamFault::LongLine);
        }
        Lines::Some(lines)
    }
}

fn said(text: &str) -> StreamFault {
    StreamFault::Upstream(Box::new(fault::of_text(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"{\"response\":\"a\",\"done\":false}\n";
    const END: &[u8] = b"{\"done\":true,\"eval_count\":1}\n";

    #[test]
    fn any_split_gives_the_same_bytes() {
        let input = [A, A, END].concat();
        for n in 1..=input.len() {
            let (mut splitter, mut out, mut done) = (Splitter::new(1000), Vec::new(), false);
            for piece in input.chunks(n) {
                match splitter.push(piece.to_vec()) {
                    Lines::None => {}
                    Lines::Some(lines) => out.extend(lines),
                    Lines::Done(lines, _) => {
                        out.extend(lines);
                        done = true;
                    }
                    Lines::Fault(..) => panic!("a fault"),
                }
            }
            assert!(done);
            assert_eq!(out, input);
        }
    }

    #[test]
    fn what_follows_the_end_and_what_breaks_is_cut() {
        let push = |bytes: &[u8]| Splitter::new(64).push(bytes.to_vec());
        let tokens = Tokens { output: Some(1), ..Tokens::default() };
        assert_eq!(push(&[A, END, A].concat()), Lines::Done([A, END].concat(), tokens));
        assert_eq!(
            push(&[A, b"{\"error\":\"boom /usr\"}\n", A].concat()),
            Lines::Fault(A.to_vec(), said("boom /usr"))
        );
        assert_eq!(push(&[A, b"oops\n"].concat()), Lines::Fault(A.to_vec(), StreamFault::Malformed));
        assert_eq!(
            push(&[A, b"{\"a\":\"\xff\"}\n", A].concat()),
            Lines::Fault(A.to_vec(), StreamFault::Malformed)
        );
        assert_eq!(push(&[b'x'; 65]), Lines::Fault(vec![], StreamFault::LongLine));
        assert_eq!(push(&[A, &[b'x'; 65]].concat()), Lines::Fault(A.to_vec(), StreamFault::LongLine));
    }

    #[test]
    fn a_cut_line_is_dropped() {
        let mut splitter = Splitter::new(100);
        assert_eq!(splitter.push(b"{\"resp".to_vec()), Lines::None);
        assert_eq!(splitter.finish(), Lines::None);
        assert_eq!(splitter.push(END.strip_suffix(b"\n").unwrap().to_vec()), Lines::None);
        assert!(matches!(splitter.finish(), Lines::Done(line, _) if line == END));
    }
}

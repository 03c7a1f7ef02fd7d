//! From a token's bytes to text that may be sent.
//!
//! [`Utf8`] holds back a character until all its bytes are there; [`Stops`] holds back what may be the start of
//! a stop text. Together they promise that neither broken UTF-8 nor part of a stop text is ever sent.

/// Puts characters together from pieces of bytes.
#[derive(Debug, Default)]
pub struct Utf8 {
    held: Vec<u8>,
}

impl Utf8 {
    /// Adds bytes; returns what is whole by now. Bytes that can never become a character turn into U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut out = String::new();
        let mut used = 0;
        for chunk in self.held.utf8_chunks() {
            out.push_str(chunk.valid());
            used += chunk.valid().len();
            let bad = chunk.invalid();
            let is_last = used + bad.len() == self.held.len();
            if bad.is_empty() || (is_last && may_grow(bad)) {
                continue;
            }
            out.push(char::REPLACEMENT_CHARACTER);
            used += bad.len();
        }
        self.held.drain(..used);
        out
    }
}

/// Are these the first bytes of a longer character?
fn may_grow(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Looks for stop texts in what is generated.
#[derive(Debug)]
pub struct Stops {
    stops: Vec<String>,
    held: String,
}

/// What may be sent now.
#[derive(Debug, PartialEq, Eq)]
pub enum Checked {
    /// This much; go on.
    Send(String),
    /// This much, and then the answer ends.
    Stop(String),
}

impl Stops {
    /// Looks for these texts.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Is this text one of them?
    pub fn contains(&self, text: &str) -> bool {
        self.stops.iter().any(|stop| stop == text)
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) -> Checked {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Checked::Stop(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Checked::Send(std::mem::replace(&mut self.held, rest))
    }

    /// The answer ends for another reason: what was held back was no stop.
    pub fn finish(self) -> String {
        self.held
    }
}

/// How many bytes at the end of `text` are the beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    starts.filter(|at| stop.get(..*at).is_some_and(|start| text.ends_with(start))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_held_until_they_are_whole() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xf0\x9f"), "a");
        assert_eq!(utf8.push(b"\x98"), "");
        assert_eq!(utf8.push(b"\x80!"), "\u{1f600}!");
        assert_eq!(utf8.push("日本".as_bytes()), "日本");
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut utf8 = Utf8::default();
        assert_eq!(utf8.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(utf8.push(b"\xe6\x97"), "");
        assert_eq!(utf8.push(b"x"), "\u{fffd}x");
        assert_eq!(utf8.push(b"\xed\xa0\x80"), "\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn every_split_of_a_text_comes_out_the_same() {
        let text = "a😀日é§ÿ𝄞";
        for at in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(at);
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(first) + &utf8.push(second), text);
        }
    }

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut holder = Stops::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut sent = Vec::new();
        for piece in pieces {
            match holder.push(piece) {
                Checked::Send(text) => sent.push(text),
                Checked::Stop(text) => {
                    sent.push(text);
                    return (sent, true);
                }
            }
        }
        sent.push(holder.finish());
        (sent, false)
    }

    #[test]
    fn a_stop_over_several_pieces_is_never_sent() {
        assert_eq!(run(&["###END"], &["ab#", "##", "EN", "D more"]).0.concat(), "ab");
        assert_eq!(
            run(&["END"], &["aE", "N", "x"]),
            (vec!["a".into(), String::new(), "ENx".into(), String::new()], false)
        );
        assert_eq!(run(&["o"], &["hell", "o"]), (vec!["hell".into(), String::new()], true));
        assert_eq!(run(&["aab"], &["aa", "ab"]).0.concat(), "a");
        assert_eq!(run(&["b", "ab"], &["xab"]).0.concat(), "x");
        assert_eq!(run(&["é!"], &["é", "?"]).0.concat(), "é?");
        assert_eq!(run(&["stop"], &["st"]).0.concat(), "st");
        assert_eq!(run(&[], &["a", "b"]).0, ["a", "b", ""]);
    }
}

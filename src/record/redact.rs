//! What must not be written down or sent out: keys and more than a little in texts of callers (what has the form of a key everywhere, the
//! operator's own keys in logs and the audit alone); control bytes in log fields.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Range;

use arc_swap::ArcSwap;

/// Bytes of a caller's text that may stand in a log line, a row, an error.
const MOST: usize = 128;
/// So many bytes in a row that are as in a key of the operator's are a part of it.
const PART: usize = 8;
/// Longer than this no word is: letters and digits in one piece are a key, a token or a digest, whoever gave it out.
const WORD: usize = 32;
/// Of a key of our form: the public id.
const ID: usize = 8;

/// The operator's own keys, which may have any form, as far as it takes to find them in a text, whole or in part. Keys of our form need not
/// be known: they are found by it.
#[derive(Default)]
pub struct Secrets(ArcSwap<Parts>);

/// Prints nothing of what it holds.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

#[derive(Default)]
struct Parts {
    /// Each [`PART`] bytes in a row, sorted.
    windows: Vec<[u8; PART]>,
    /// Keys that are shorter, which count as a word alone.
    short: Vec<Vec<u8>>,
}

impl Secrets {
    /// Of these keys.
    pub fn of(keys: &[String]) -> Self {
        let secrets = Self::default();
        secrets.give(keys);
        secrets
    }

    /// Others, from now on.
    pub fn give(&self, keys: &[String]) {
        let mut parts = Parts::default();
        // A model's name is brought to lower case before it is shown.
        for key in keys.iter().map(|key| key.to_ascii_lowercase().into_bytes()) {
            if key.len() < PART {
                parts.short.push(key);
            } else {
                parts.windows.extend(key.windows(PART).filter_map(|part| <[u8; PART]>::try_from(part).ok()));
            }
        }
        parts.windows.sort_unstable();
        parts.windows.dedup();
        self.0.store(parts.into());
    }

    /// A text for logs and the audit, without what may be a key: `pc_<id>_…` for one of our form, `…` for what is in a key of the
    /// operator's, or for any other long piece of letters and digits. Never for an answer: whoever sees what is hidden in a text of
    /// their own could try keys by it.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        without(text, &self.0.load(), usize::MAX)
    }

    /// A caller's text as it may be written down: masked, escaped, cut.
    pub fn shown(&self, text: &str) -> String {
        cut(&without(text, &self.0.load(), MOST))
    }
}

/// A caller's text as an answer may repeat it: without what has the form of a key, whoever gave it out. Whether it *is* one of the
/// operator's makes no difference.
pub fn mask(text: &str) -> Cow<'_, str> {
    without(text, &Parts::default(), usize::MAX)
}

/// Hides keys in a text. Of a long one, only so many bytes as will be shown of it and some more are looked at, and returned: never does
/// the end of what is looked at part a key.
fn without<'t>(text: &'t str, parts: &Parts, most: usize) -> Cow<'t, str> {
    let (mut out, mut at) = (String::new(), 0);
    for range in hidden(text, parts, most) {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push('…');
        at = range.end;
    }
    // One more than is shown, so that a mark says that there was more.
    let end = text.ceil_char_boundary(at.saturating_add(most).saturating_add(1).min(text.len()));
    let rest = text.get(at..end).unwrap_or_default();
    if out.is_empty() {
        return Cow::Borrowed(rest);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Where keys are, in order and apart from each other, as long as no more than so many bytes stand outside of them. Each begins and ends
/// at a character.
fn hidden(text: &str, parts: &Parts, most: usize) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let is_word = |b: &u8| b.is_ascii_alphanumeric();
    let run = |at: usize, is: &dyn Fn(&u8) -> bool| bytes.iter().skip(at).take_while(|b| is(b)).count();
    let mut found: Vec<Range<usize>> = Vec::new();
    // Ends of the pieces in which `at` lies: each is measured once.
    let (mut word_end, mut name_end, mut plain) = (0, 0, 0);
    for (at, _) in bytes.iter().enumerate() {
        let begins = at >= word_end;
        if begins {
            word_end = at + run(at, &is_word);
        }
        if at >= name_end {
            name_end = at + run(at, &|b| is_word(b) || *b == b'_');
        }
        let covered = found.last().map_or(0, |last| last.end);
        if at >= covered {
            plain += 1;
            if plain > most {
                break;
            }
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let long = if begins && word_end - at >= WORD { word_end - at } else { 0 };
        let mut range = at..at + parts.length_at(rest, begins).max(long);
        if let Some(secret) = of_our_form(rest, name_end - at) {
            range = if range.is_empty() { at + secret } else { at }..name_end.max(range.end);
        }
        if range.is_empty() || range.end <= covered {
            continue;
        }
        let (start, end) = (text.floor_char_boundary(range.start), text.ceil_char_boundary(range.end));
        match found.last_mut() {
            // What touches is one piece.
            Some(last) if start <= last.end => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

/// Where the secret begins in a key of our form, whose piece of letters, digits and `_` is so long; `None` if it has another form.
fn of_our_form(rest: &[u8], length: usize) -> Option<usize> {
    let prefix = rest.first_chunk::<3>()?;
    let tail = rest.get(3..length)?;
    let ours = prefix.eq_ignore_ascii_case(b"pc_") && tail.len() > ID;
    let id = if tail.get(ID) == Some(&b'_') { ID + 1 } else { 0 };
    ours.then_some(3 + id)
}

impl Parts {
    /// Bytes of a key of the operator's that this begins with; 0 if it is in none. `begins`: this is not within a word.
    fn length_at(&self, rest: &[u8], begins: bool) -> usize {
        let window = rest.first_chunk::<PART>().map(|window| window.map(|b| b.to_ascii_lowercase()));
        if window.is_some_and(|window| self.windows.binary_search(&window).is_ok()) {
            return PART;
        }
        if !begins {
            return 0;
        }
        let is_key = |key: &&Vec<u8>| {
            let here = rest.get(..key.len()).is_some_and(|here| here.eq_ignore_ascii_case(key));
            here && !rest.get(key.len()).is_some_and(u8::is_ascii_alphanumeric)
        };
        self.short.iter().find(is_key).map_or(0, Vec::len)
    }
}

/// A caller's text as an answer may repeat it: [masked](mask), escaped, cut.
pub fn brief(text: &str) -> String {
    cut(&without(text, &Parts::default(), MOST))
}

/// A text escaped as one field of one line, of at most [`MOST`] bytes, with a mark where it was cut. Masked before: else a part of a key
/// could be left over at the cut, too short to be found.
fn cut(text: &str) -> String {
    const MARK: &str = "…";
    // Nothing is shorter escaped than it was.
    let mut end = text.len().min(MOST + 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    let mut out = escape(head).to_string();
    if out.len() <= MOST && end == text.len() {
        return out;
    }
    let mut end = MOST - MARK.len();
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out.push_str(MARK);
    out
}

/// A text of ours for a column or a field, without keys: its first 200 bytes.
pub(super) fn reason(secrets: &Secrets, text: &str) -> String {
    let mut reason = secrets.mask(text).into_owned();
    if let Some(end) = (0..=200).rev().find(|end| reason.is_char_boundary(*end)) {
        reason.truncate(end);
    }
    reason
}

/// A text as one field of one line: quotes, backslashes and every control or invisible character escaped.
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// See [`escape`].
#[derive(Debug)]
pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
            return f.write_str(self.0);
        }
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() || is_invisible(c) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write!(f, "\\u{unit:04x}")?;
                    }
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Line separators, bidirectional overrides, zero-width and tag characters.
pub(super) const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        let secrets = Secrets::of(&["My-Own/Key with:signs".into(), "pass1".into(), "ключ-от-ворот".into()]);
        let ours = "pc_abcdEFGH_0123456789012345678901234567890123456789012345678";
        for (text, masked) in [
            (ours, "pc_abcdEFGH_…"),
            (&ours.to_ascii_uppercase(), "PC_ABCDEFGH_…"),
            (&format!("/x{ours}/y"), "/xpc_abcdEFGH_…/y"),
            (ours.split_at(20).0, "pc_abcdEFGH_…"),
            ("pc_abcdefghijkl", "pc_…"),
            (ours.split_at(12).1, "…"),
            ("model 'my-own/key with:signs' not found", "model '…' not found"),
            ("xxMY-OWN/KEY WIxx", "xx…xx"),
            ("pc_abcdEFGH_…", "pc_abcdEFGH_…"),
            (&"pc_".repeat(40), "pc_pc_pc_pc_…"),
            ("a pass1, twice pass1", "a …, twice …"),
            ("ключ-от-ворот!", "…!"),
            ("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "sha256:…"),
        ] {
            assert_eq!(secrets.mask(text), masked, "{text}");
        }
        for plain in ["pc_model:7b", "compass1", "my-own", "hf.co/bartowski/qwen2.5-coder-gguf:q4_k_m", "é"]
        {
            assert!(matches!(secrets.mask(plain), Cow::Borrowed(_)), "{plain}");
        }
        for own in ["model 'my-own/key with:signs' not found", "a pass1", "ключ-от-ворот"] {
            assert!(matches!(mask(own), Cow::Borrowed(_)), "an answer tells no guess from another: {own}");
        }
        assert_eq!(mask(ours), "pc_abcdEFGH_…");
        assert!(!format!("{secrets:?}").contains("own"));
        secrets.give(&[]);
        assert_eq!(secrets.mask("my-own/key"), "my-own/key");
    }

    #[test]
    fn a_callers_text_is_short() {
        assert_eq!(brief(&"a-".repeat(64)), "a-".repeat(64));
        assert_eq!(brief(&"-a".repeat(65)), format!("{}-…", "-a".repeat(62)));
        for odd in ["\u{1}", "é", "\"", "\u{e0001}"] {
            let text = brief(&odd.repeat(10_000));
            assert!(text.len() <= 128 && text.ends_with('…'), "{text}");
        }
    }

    #[test]
    fn no_part_of_a_key_is_left_over_at_the_cut() {
        let secrets = Secrets::of(&["Operators-Own-Key-of-Summer".into()]);
        let ours = "pc_abcdEFGH_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ";
        for before in 0..140 {
            let before = "- ".repeat(before).get(..before).unwrap_or_default().to_owned();
            for (key, of_form) in [(ours, true), ("operators-own-key-of-summer", false)] {
                let text = format!("{before}{key}{}", " -".repeat(100));
                let brief = if of_form { brief(&text) } else { text.clone() };
                for shown in [secrets.shown(&text), brief] {
                    let secret = key.get(if of_form { 12 } else { 0 }..).unwrap_or_default();
                    let parted = of_form || shown.len() <= MOST;
                    assert!(!parted || !shown.contains(secret.get(..2).unwrap_or_default()), "{shown}");
                }
            }
        }
        // However many keys stand before it: what is looked at ends in none.
        let many = format!("{ours} ").repeat(1_000);
        assert!(!brief(&many).contains("012"), "{}", brief(&many));
        assert!(brief(&"a1".repeat(1_000_000)).len() < 8);
    }

    #[test]
    fn one_field_stays_one_field() {
        assert_eq!(escape("a\"\n\u{1b}\u{202e}\u{2028}é").to_string(), "a\\\"\\n\\u001b\\u202e\\u2028é");
    }
}

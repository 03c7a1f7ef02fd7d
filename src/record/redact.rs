//! What must not be written down or sent out: keys and more than a little in texts of callers; control bytes in log fields; addresses,
//! URLs and paths in upstream texts.

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

    /// A text without what may be a key: `pc_<id>_…` for one of our form, `…` for what is in a key of the operator's, or for any other
    /// long piece of letters and digits.
    pub fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let lower = text.to_ascii_lowercase();
        let hidden = hidden(lower.as_bytes(), &self.0.load());
        if hidden.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for range in hidden {
            // What touches is one piece.
            if range.start > at || at == 0 {
                out.push_str(text.get(at..range.start).unwrap_or_default());
                out.push('…');
            }
            at = range.end.max(at);
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(out)
    }

    /// A caller's text as it may be written down or sent out: masked, escaped, cut.
    pub fn shown(&self, text: &str) -> String {
        brief(&self.mask(text))
    }
}

/// Where keys are, in order; they may overlap. Each begins and ends at a character: keys are ASCII, or hidden whole.
fn hidden(text: &[u8], parts: &Parts) -> Vec<Range<usize>> {
    let is_word = |b: &u8| b.is_ascii_alphanumeric();
    let mut found: Vec<Range<usize>> = Vec::new();
    for at in 0..text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let after_word = at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(is_word);
        if let Some(tail) = rest.strip_prefix(b"pc_") {
            let length = tail.iter().take_while(|b| is_word(b) || **b == b'_').count();
            if length > ID {
                let id = if tail.get(ID) == Some(&b'_') { ID + 1 } else { 0 };
                found.push(at + 3 + id..at + 3 + length);
            }
        }
        let length = if after_word { 0 } else { rest.iter().take_while(|b| is_word(b)).count() };
        if length >= WORD {
            found.push(at..at + length);
        }
        let window = rest.first_chunk::<PART>();
        if window.is_some_and(|window| parts.windows.binary_search(window).is_ok()) {
            found.push(at..at + PART);
        }
        let ends = |key: &Vec<u8>| !rest.get(key.len()).is_some_and(is_word);
        let short = |key: &&Vec<u8>| !after_word && rest.starts_with(key) && ends(key);
        if let Some(key) = parts.short.iter().find(short) {
            found.push(at..at + key.len());
        }
    }
    found
}

/// A text escaped as one field of one line, of at most [`MOST`] bytes, with a mark where it was cut.
pub fn brief(text: &str) -> String {
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
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}')
}

/// An upstream's words without what they quote (a model's output may stand there) and without what tells about its machine:
/// cut at the first quote or brace and at 200 bytes; words that hold a slash, a digest, a dotted name, an address or a port
/// become `…`.
pub fn scrub(text: &str) -> String {
    let quoted = text.find(['"', '\'', '`', '{', '[', '=', '\u{201c}']).unwrap_or(text.len());
    let mut out = String::new();
    for word in text.get(..quoted).unwrap_or_default().split_whitespace() {
        if out.len() + word.len() > 200 {
            out.push_str(" …");
            return clean(&out);
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(if tells(word) { "…" } else { word });
    }
    if quoted < text.len() {
        out.push('…');
    }
    clean(&out)
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect()
}

fn tells(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.contains(['/', '\\', '@'])
        || bare.contains("sha256")
        || bare.contains('.')
        || bare.eq_ignore_ascii_case("localhost")
        || bare.matches(':').count() > 1
        || bare
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubbed_words_tell_nothing() {
        let text = "open /usr/share/ollama/x: no such file; see http://10.1.2.3:8080/t?token=a at 127.0.0.1:11434 sha256-6a07";
        let clean = scrub(text);
        for secret in ["/usr", "10.1.2.3", "token", "11434", "sha256"] {
            assert!(!clean.contains(secret), "{clean}");
        }
        assert!(clean.contains("no such file"));
        assert!(scrub(&"word ".repeat(1000)).len() < 300);
    }

    #[test]
    fn what_a_model_said_and_hosts_without_digits_go_too() {
        let text = r#"error parsing tool call: raw='{"city": "Paris"}', err=invalid"#;
        assert_eq!(scrub(text), "error parsing tool call: raw…");
        let clean = scrub("lookup ollama.internal.corp: no such host near 2001:db8:a:b:c:d:e:f");
        assert_eq!(clean, "lookup … no such host near …");
    }

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
        assert!(!format!("{secrets:?}").contains("own"));
        secrets.give(&[]);
        assert_eq!(secrets.mask("my-own/key"), "my-own/key");
    }

    #[test]
    fn a_callers_text_is_short() {
        assert_eq!(brief(&"a".repeat(128)), "a".repeat(128));
        assert_eq!(brief(&"a".repeat(129)), format!("{}…", "a".repeat(125)));
        for odd in ["\u{1}", "é", "\"", "\u{e0001}"] {
            let text = brief(&odd.repeat(10_000));
            assert!(text.len() <= 128 && text.ends_with('…'), "{text}");
        }
    }

    #[test]
    fn one_field_stays_one_field() {
        assert_eq!(escape("a\"\n\u{1b}\u{202e}\u{2028}é").to_string(), "a\\\"\\n\\u001b\\u202e\\u2028é");
    }
}

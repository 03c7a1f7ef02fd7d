//! The JSON guard: reads a body into a tree, or refuses it.
//!
//! Promises that any correct JSON parser, Go's lenient one included, reads the same value from what passed: UTF-8 without
//! a byte order mark, one object and nothing after it, no key twice in an object, no number beyond a 64-bit float. Half a
//! surrogate pair, which programs make when they cut a text between two units, becomes U+FFFD in a value, as Go reads it,
//! and its field is named; in a key it is refused, since two keys could become one. Bounds memory too: depth 32, 256 keys an
//! object, 262,144 values in all. Error texts are fixed words with a line and a column; of the content they show the name of
//! a duplicate key alone.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::{ValidateError, lexer, shown};

/// Objects and lists inside one another, the outermost counted.
pub const MAX_DEPTH: u8 = 32;
/// Keys of one object.
pub const MAX_KEYS: usize = 256;
/// Values in one body: a list of a million empty lists must not cost a hundred times its bytes.
pub const MAX_VALUES: u32 = 262_144;
/// Up to this many keys, comparing each with each is cheaper than hashing them.
const FEW_KEYS: usize = 16;

/// The entries of an object, in the order they came.
pub type Entries<'a> = [(Cow<'a, str>, Json<'a>)];

/// A JSON value that borrows its text where that held no escapes.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction or exponent that fits.
    Int(i64),
    /// One beyond `i64`, always greater than `i64::MAX`.
    UInt(u64),
    /// Any other number, finite.
    Float(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// A list.
    Arr(Vec<Self>),
    /// An object, no key twice.
    Obj(Vec<(Cow<'a, str>, Self)>),
}

impl Json<'_> {
    /// The type with its article, for error texts.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) | Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::Arr(_) => "a list",
            Self::Obj(_) => "an object",
        }
    }
}

/// A body as it was read.
#[derive(Debug)]
pub struct Document<'a> {
    /// The entries of the top level.
    pub top: Vec<(Cow<'a, str>, Json<'a>)>,
    /// Those of its keys whose values held half a surrogate pair, and hold U+FFFD in its place now.
    pub mended: Vec<Cow<'a, str>>,
}

/// Reads a body whose top level must be an object.
pub fn parse(body: &[u8]) -> Result<Document<'_>, ValidateError> {
    if body.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(ValidateError::Json("the request body is empty".into()));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(invalid("it starts with a byte order mark"));
    }
    let text = std::str::from_utf8(body)
        .map_err(|fault| invalid(&format!("no UTF-8 after byte {}", fault.valid_up_to())))?;
    let mut reader = Reader { text, bytes: body, at: 0, left: MAX_VALUES, half: 0, mended: Vec::new() };
    match reader.document() {
        Ok(Json::Obj(top)) => Ok(Document { top, mended: reader.mended }),
        Ok(other) => {
            Err(ValidateError::Json(format!("the body must be a JSON object, not {}", other.kind())))
        }
        Err(fault) => Err(reader.refusal(fault)),
    }
}

fn invalid(why: &str) -> ValidateError {
    ValidateError::Json(format!("the body is not valid JSON: {why}"))
}

/// Why the reader stopped; where is its position.
#[derive(Debug)]
enum Fault {
    /// No JSON.
    Syntax(&'static str),
    /// JSON, and refused.
    Policy(Box<str>),
}

/// Reads one document from its start to its end.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Values that may still come.
    left: u32,
    /// Behind the last text in which half a surrogate pair was replaced; 0: none since the last entry of the top level.
    half: usize,
    /// Keys of the top level in whose values that happened.
    mended: Vec<Cow<'a, str>>,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Json<'a>, Fault> {
        self.blank();
        let value = self.value(MAX_DEPTH)?;
        self.blank();
        if self.at == self.bytes.len() { Ok(value) } else { Err(Fault::Syntax("bytes behind its end")) }
    }

    fn blank(&mut self) {
        self.at = lexer::blank(self.bytes, self.at);
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Goes past this byte, if it is the next.
    fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: u8) -> Result<Json<'a>, Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(policy(format!("the JSON holds more than {MAX_VALUES} values")));
        };
        self.left = left;
        match self.peek() {
            Some(b'"') => self.string().map(Json::Str),
            Some(b'{') => self.inside(depth).and_then(|depth| self.object(depth)),
            Some(b'[') => self.inside(depth).and_then(|depth| self.list(depth)),
            Some(b't') => self.word(b"true", Json::Bool(true)),
            Some(b'f') => self.word(b"false", Json::Bool(false)),
            Some(b'n') => self.word(b"null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(Fault::Syntax("expected a value")),
            None => Err(CUT),
        }
    }

    /// Enters a container.
    fn inside(&mut self, depth: u8) -> Result<u8, Fault> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| policy(format!("the JSON is nested more than {MAX_DEPTH} levels deep")))?;
        self.at += 1;
        self.blank();
        Ok(depth)
    }

    fn word(&mut self, word: &'static [u8], value: Json<'a>) -> Result<Json<'a>, Fault> {
        self.at = lexer::literal(self.bytes, self.at, word).ok_or(Fault::Syntax("expected a value"))?;
        Ok(value)
    }

    fn number(&mut self) -> Result<Json<'a>, Fault> {
        let (end, whole) = lexer::number(self.bytes, self.at).ok_or(Fault::Syntax("an odd number"))?;
        let digits = self.text.get(self.at..end).unwrap_or_default();
        let value = match (whole, digits) {
            // Minus nought is no integer.
            (true, "-0") | (false, _) => None,
            (true, _) => digits.parse().map(Json::Int).or_else(|_| digits.parse().map(Json::UInt)).ok(),
        };
        let float = || digits.parse().ok().filter(|number: &f64| number.is_finite()).map(Json::Float);
        let value = value.or_else(float).ok_or(Fault::Syntax("a number out of range"))?;
        self.at = end;
        Ok(value)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        let from = self.at + 1;
        let Some((end, escaped)) = lexer::string(self.bytes, from) else {
            self.at = lexer::special(self.bytes, from);
            return Err(if self.peek().is_none() { CUT } else { Fault::Syntax("an odd string") });
        };
        let raw = self.text.get(from..end).unwrap_or_default();
        self.at = end + 1;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        let (text, halves) = lexer::unescape(raw).ok_or(Fault::Syntax("an odd string"))?;
        if halves {
            self.half = self.at;
        }
        Ok(Cow::Owned(text))
    }

    fn list(&mut self, depth: u8) -> Result<Json<'a>, Fault> {
        let mut items = Vec::new();
        if self.skip(b']') {
            return Ok(Json::Arr(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.blank();
            if self.skip(b']') {
                return Ok(Json::Arr(items));
            }
            if !self.skip(b',') {
                return Err(self.expected("expected a comma or the end of a list"));
            }
            self.blank();
        }
    }

    fn object(&mut self, depth: u8) -> Result<Json<'a>, Fault> {
        let mut entries: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        let mut seen = Seen::default();
        if self.skip(b'}') {
            return Ok(Json::Obj(entries));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("expected a key"));
            }
            let key_at = self.at;
            let key = self.string()?;
            if self.half > key_at {
                self.at = key_at;
                return Err(Fault::Syntax("half a surrogate pair in a key"));
            }
            if entries.len() == MAX_KEYS {
                return Err(policy(format!("an object has more than {MAX_KEYS} keys")));
            }
            if is_duplicate(key.as_ref(), &entries, &mut seen) {
                self.at = key_at;
                return Err(policy(format!("duplicate key {}", shown(&key))));
            }
            self.blank();
            if !self.skip(b':') {
                return Err(self.expected("expected a colon"));
            }
            self.blank();
            entries.push((key, self.value(depth)?));
            if self.half > 0 && depth == TOP {
                self.half = 0;
                self.mended.extend(entries.last().map(|(key, _)| key.clone()));
            }
            self.blank();
            if self.skip(b'}') {
                return Ok(Json::Obj(entries));
            }
            if !self.skip(b',') {
                return Err(self.expected("expected a comma or the end of an object"));
            }
            self.blank();
        }
    }

    fn expected(&self, what: &'static str) -> Fault {
        if self.peek().is_none() { CUT } else { Fault::Syntax(what) }
    }

    /// The fault with its line and column, from 1: nothing of the content.
    fn refusal(&self, fault: Fault) -> ValidateError {
        let before = self.bytes.get(..self.at.min(self.bytes.len())).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
        match fault {
            Fault::Syntax(what) => invalid(&format!("{what} at line {line} column {column}")),
            Fault::Policy(what) => ValidateError::Json(format!("{what} at line {line} column {column}")),
        }
    }
}

/// What is left of the depth inside the top level.
const TOP: u8 = MAX_DEPTH - 1;

const CUT: Fault = Fault::Syntax("it ends too early");

fn policy(words: String) -> Fault {
    Fault::Policy(words.into())
}

/// Does the key stand in the object already? `seen` serves objects with many keys: only where the hash of a key has been seen are
/// the keys themselves compared.
fn is_duplicate(key: &str, entries: &Entries<'_>, seen: &mut Seen) -> bool {
    if entries.len() >= FEW_KEYS {
        if seen.hashes.is_empty() {
            seen.hashes.extend(entries.iter().map(|(key, _)| seen.hasher.hash_one(key.as_ref())));
        }
        if seen.hashes.insert(seen.hasher.hash_one(key)) {
            return false;
        }
    }
    entries.iter().any(|(other, _)| other == key)
}

/// Hashes of the keys of one object.
#[derive(Default)]
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

#[cfg(test)]
mod tests;

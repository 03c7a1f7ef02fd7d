//! The JSON guard: reads a body into a tree, or refuses it.
//!
//! Promises that any correct JSON parser, Go's lenient one included, reads the same value from what passed: UTF-8 without
//! a byte order mark, one object and nothing after it, no key twice in an object, no lone surrogate, no number beyond a
//! 64-bit float. Bounds memory too: depth 32, 256 keys an object, 262,144 values in all. Error texts are fixed words
//! with a line and a column; of the content they show the name of a duplicate key alone.

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

/// Reads a body whose top level must be an object.
pub fn parse(body: &[u8]) -> Result<Vec<(Cow<'_, str>, Json<'_>)>, ValidateError> {
    if body.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(ValidateError::Json("the request body is empty".into()));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(invalid("it starts with a byte order mark"));
    }
    let text = std::str::from_utf8(body)
        .map_err(|fault| invalid(&format!("no UTF-8 after byte {}", fault.valid_up_to())))?;
    let mut reader = Reader { text, bytes: body, at: 0, left: MAX_VALUES };
    match reader.document() {
        Ok(Json::Obj(entries)) => Ok(entries),
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
        unescape(raw).map(Cow::Owned).ok_or(Fault::Syntax("half a surrogate pair in a string"))
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

/// The text of a string whose escapes the lexer has seen; `None` where a surrogate stands alone.
fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = escape.chars();
        match chars.next()? {
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'u' => {
                let unit = |at: usize| u32::from_str_radix(escape.get(at..at + 4)?, 16).ok();
                let high = unit(1)?;
                let pair = (0xd800..0xdc00).contains(&high) && escape.get(5..7) == Some("\\u");
                let point = if pair {
                    let low = unit(7).filter(|low| (0xdc00..0xe000).contains(low))?;
                    0x1_0000 + ((high & 0x3ff) << 10 | (low & 0x3ff))
                } else {
                    high
                };
                // Half a pair is no character.
                text.push(char::from_u32(point)?);
                rest = escape.get(if pair { 11 } else { 5 }..)?;
                continue;
            }
            // The quote, the backslash and the slash stand for themselves.
            other => text.push(other),
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::writer::Emit as _;
    use super::*;

    fn refused(body: impl AsRef<[u8]>) -> String {
        match parse(body.as_ref()) {
            Err(ValidateError::Json(text)) => text,
            other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(body.as_ref())),
        }
    }

    #[test]
    fn plain_json_is_read_and_borrowed() {
        let entries =
            parse(br#" {"mod\u0065l":"a","n":[1,-2,1.5,18446744073709551615,true,null],"-0":-0} "#).unwrap();
        assert_eq!(entries[0], ("model".into(), Json::Str("a".into())));
        let numbers = vec![
            Json::Int(1),
            Json::Int(-2),
            Json::Float(1.5),
            Json::UInt(u64::MAX),
            Json::Bool(true),
            Json::Null,
        ];
        assert_eq!(entries[1].1, Json::Arr(numbers));
        assert!(matches!(entries[0].1, Json::Str(Cow::Borrowed(_))));
    }

    #[test]
    fn keys_that_stand_twice_are_refused_at_every_depth() {
        let (key, other) = (r#"{"model":"a","model":"b"}"#, r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#);
        assert_eq!(refused(key), "duplicate key \"model\" at line 1 column 14");
        assert!(refused(other).starts_with("duplicate key \"c\""));
        let many = |last: &str| {
            let keys: Vec<_> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
            format!("{{{},\"{last}\":0}}", keys.join(","))
        };
        assert!(parse(many("fresh").as_bytes()).is_ok());
        assert!(refused(many("k17")).starts_with("duplicate key \"k17\""));
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        for body in [
            &b"{\"a\":1} {\"b\":2}"[..],
            b"{}x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\\udc00\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{\"\xff\":1}",
            b"{\"a\":NaN}",
            b"{\"a\":Infinity}",
            b"{\"a\":1e400}",
            b"{\"a\":01}",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"{\"a\":1}//",
            b"{a:1}",
            b"{\"a\":\"\n\"}",
            b"\xff\xfe{\0}\0",
            b"{",
            b"{\"a\":",
            b"{\"a\":1}\0",
            b"{\"a\":+1}",
            b"{\"a\":.5}",
            b"{\"\\udfff\":1}",
        ] {
            assert!(refused(body).starts_with("the body is not valid JSON: "), "{body:?}");
        }
        for body in ["", " \r\n\t "] {
            assert_eq!(refused(body), "the request body is empty");
        }
        for (body, kind) in [("[]", "a list"), ("\"a\"", "a string"), ("null", "null"), ("7", "a number")] {
            assert_eq!(refused(body), format!("the body must be a JSON object, not {kind}"));
        }
    }

    #[test]
    fn texts_show_nothing_of_the_content() {
        let text = refused("{\"prompt\":\"a canary sings\", canary}");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.ends_with("at line 1 column 29"), "{text}");
    }

    #[test]
    fn depth_is_bounded() {
        let nested =
            |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        for levels in [31, 32] {
            assert!(parse(nested(levels).as_bytes()).is_ok(), "{levels}");
        }
        for levels in [33, 127, 10_000] {
            assert!(refused(nested(levels)).contains("more than 32 levels"), "{levels}");
        }
    }

    #[test]
    fn keys_and_values_are_bounded() {
        let keys = |n: usize| {
            let keys: Vec<_> = (0..n).map(|n| format!("\"k{n}\":0")).collect();
            format!("{{{}}}", keys.join(","))
        };
        assert!(parse(keys(255).as_bytes()).is_ok() && parse(keys(256).as_bytes()).is_ok());
        assert!(refused(keys(257)).contains("more than 256 keys"));
        let values = |n: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(n - 3));
        let most = MAX_VALUES as usize;
        assert!(parse(values(most - 1).as_bytes()).is_ok() && parse(values(most).as_bytes()).is_ok());
        assert!(refused(values(most + 1)).contains("values"));
        assert!(refused(format!("{{\"a\":{}}}", "9".repeat(1_000_000))).contains("out of range"));
    }

    fn written(tree: &Json<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        tree.emit(&mut out);
        out
    }

    /// As `serde_json` reads it: the numbers, the escapes, and what is refused.
    fn full(body: &[u8]) -> Option<serde_json::Value> {
        serde_json::from_slice(body).ok().filter(serde_json::Value::is_object)
    }

    /// `serde_json`'s floats may be off by a bit; ours are exact.
    fn alike(own: &serde_json::Value, full: &serde_json::Value) -> bool {
        use serde_json::Value::{Array, Number, Object};
        match (own, full) {
            (Number(a), Number(b)) if a.is_f64() => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= a.abs() * 1e-14
            }
            (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
            (Object(a), Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
            }
            _ => own == full,
        }
    }

    #[test]
    fn agrees_with_a_full_parser_on_every_damaged_body() {
        let bodies = [
            r#"{"a":"say \"x\" \\ \u00e9 \ud83d\ude00","b":[1,-2.5e+3,0,-0.1E9,[],{}],"c":{"d":null,"e":true,"f":false}}"#,
            " {\n\t\"n\" : [ 9223372036854775807 , 9223372036854775808, -9223372036854775809 , -0 , 1e22 ] } ",
        ];
        for body in bodies {
            for at in 0..body.len() {
                for byte in *b",:{}[]\"x1 0.-e\\u\n\x1f\x7f\xc3d8" {
                    let (before, rest) = body.as_bytes().split_at(at);
                    for damaged in [
                        [before, &[byte], rest].concat(),
                        [before, &[byte], &rest[1..]].concat(),
                        [before, &rest[1..]].concat(),
                    ] {
                        let shown = String::from_utf8_lossy(&damaged);
                        match (parse(&damaged), full(&damaged)) {
                            (Ok(entries), Some(value)) => {
                                let own = full(&written(&Json::Obj(entries))).unwrap();
                                assert!(alike(&own, &value), "{own} and {value}: {shown}");
                            }
                            (Err(error), Some(_)) => {
                                assert!(error.to_string().starts_with("duplicate key"), "{error}: {shown}");
                            }
                            (Ok(_), None) => panic!("passed: {shown}"),
                            (Err(_), None) => {}
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_tree_is_written_as_it_was_read() {
        let body = r#"{"a":[1,-2,1.5,1e300,{"b":null,"c":"\u0000\"\\é\ud83d\ude00"}],"d":true}"#;
        let tree = Json::Obj(parse(body.as_bytes()).unwrap());
        let again = written(&tree);
        assert_eq!(full(&again), full(body.as_bytes()));
        assert_eq!(Json::Obj(parse(&again).unwrap()), tree);
    }
}

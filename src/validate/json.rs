//! The JSON guard: reads a body into a tree, or refuses it.
//!
//! Promises that any correct JSON parser, Go's lenient one included, reads the same value from what passed: UTF-8 without
//! a byte order mark, one object and nothing after it, no key twice in an object, no lone surrogate, no number beyond a
//! 64-bit float. Bounds memory too: depth 32, 256 keys an object, 262,144 values in all. Error texts are fixed words
//! with a line and a column; of the content they show the name of a duplicate key alone.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{ValidateError, shown};

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
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Guard { depth: MAX_DEPTH, left: &left }.deserialize(&mut reader).map_err(|e| refusal(&e))?;
    reader.end().map_err(|e| refusal(&e))?;
    match value {
        Json::Obj(entries) => Ok(entries),
        other => Err(ValidateError::Json(format!("the body must be a JSON object, not {}", other.kind()))),
    }
}

fn invalid(why: &str) -> ValidateError {
    ValidateError::Json(format!("the body is not valid JSON: {why}"))
}

fn refusal(error: &serde_json::Error) -> ValidateError {
    // A "data" error is one of the guard's own; the rest are serde_json's fixed words.
    if error.is_data() { ValidateError::Json(error.to_string()) } else { invalid(&error.to_string()) }
}

/// Reads one value, at most `depth` levels of containers deep.
#[derive(Clone, Copy)]
struct Guard<'g> {
    depth: u8,
    left: &'g Cell<u32>,
}

impl Guard<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("the JSON is nested more than {MAX_DEPTH} levels deep")))?;
        Ok(Self { depth, ..self })
    }

    fn count<E: Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(
            left.ok_or_else(|| E::custom(format_args!("the JSON holds more than {MAX_VALUES} values")))?,
        );
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Guard<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Guard<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.count().map(|()| i64::try_from(value).map_or(Json::UInt(value), Json::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Str(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.count().map(|()| Json::Str(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        self.count()?;
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Arr(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        self.count()?;
        let inner = self.deeper()?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            if entries.len() == MAX_KEYS {
                return Err(A::Error::custom(format_args!("an object has more than {MAX_KEYS} keys")));
            }
            entries.push((key, map.next_value_seed(inner)?));
        }
        match duplicate(&entries) {
            Some(key) => Err(A::Error::custom(format_args!("duplicate key {}", shown(key)))),
            None => Ok(Json::Obj(entries)),
        }
    }
}

/// A key that stands twice in an object.
fn duplicate<'e>(entries: &'e Entries<'_>) -> Option<&'e str> {
    let mut keys = entries.iter().map(|(key, _)| key.as_ref());
    if entries.len() > FEW_KEYS {
        let mut seen = HashSet::with_capacity(entries.len());
        return keys.find(|key| !seen.insert(*key));
    }
    let mut before = 0..;
    keys.find(|key| entries.iter().take(before.next().unwrap_or_default()).any(|(other, _)| other == key))
}

/// Reads a key.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(value) => serializer.serialize_str(value),
            Self::Arr(items) => serializer.collect_seq(items),
            Self::Obj(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key.as_ref(), value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(refused(key), "duplicate key \"model\" at line 1 column 25");
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

    #[test]
    fn a_tree_is_written_as_it_was_read() {
        let body = r#"{"a":[1,-2,1.5,1e300,{"b":null,"c":"\u0000\"\\é\ud83d\ude00"}],"d":true}"#;
        let tree = Json::Obj(parse(body.as_bytes()).unwrap());
        let again = serde_json::to_vec(&tree).unwrap();
        assert_eq!(Json::Obj(parse(&again).unwrap()), tree);
    }
}

//! The rebuilt body: strict JSON, written straight into one buffer.
//!
//! Takes values that were judged; promises that commas, quotes and escapes are right. Keys are constants of ours.

use std::borrow::Cow;

use super::json::Json;
use super::lexer;

/// What can stand as a value.
pub trait Emit {
    /// Appends it as JSON.
    fn emit(&self, out: &mut Vec<u8>);
}

impl Emit for str {
    fn emit(&self, out: &mut Vec<u8>) {
        let bytes = self.as_bytes();
        if lexer::special(bytes, 0) == bytes.len() {
            out.reserve(bytes.len() + 2);
            out.push(b'"');
            out.extend_from_slice(bytes);
            out.push(b'"');
        } else {
            by_serde(self, out);
        }
    }
}

impl Emit for Cow<'_, str> {
    fn emit(&self, out: &mut Vec<u8>) {
        self.as_ref().emit(out);
    }
}

impl Emit for bool {
    fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Emit for i64 {
    fn emit(&self, out: &mut Vec<u8>) {
        by_serde(self, out);
    }
}

impl Emit for u64 {
    fn emit(&self, out: &mut Vec<u8>) {
        by_serde(self, out);
    }
}

impl Emit for u32 {
    fn emit(&self, out: &mut Vec<u8>) {
        by_serde(self, out);
    }
}

impl<T: Emit + ?Sized> Emit for &T {
    fn emit(&self, out: &mut Vec<u8>) {
        (**self).emit(out);
    }
}

impl Emit for Json<'_> {
    fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => value.emit(out),
            Self::Int(value) => value.emit(out),
            Self::UInt(value) => value.emit(out),
            Self::Float(value) => by_serde(value, out),
            Self::Str(text) => text.emit(out),
            Self::Arr(items) => {
                out.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    item.emit(out);
                }
                out.push(b']');
            }
            Self::Obj(entries) => {
                out.push(b'{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    key.emit(out);
                    out.push(b':');
                    value.emit(out);
                }
                out.push(b'}');
            }
        }
    }
}

fn by_serde<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "memory takes every byte, and text and finite numbers are always JSON");
}

/// A JSON document on its way.
#[derive(Debug)]
pub struct Body(Vec<u8>);

impl Body {
    /// An open top-level object with room for `bytes`.
    pub fn object(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self(out)
    }

    /// Bytes so far: a place to [`rewind`](Self::rewind) to.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is nothing written? Never so: an object is open from the start.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes back what was written since the buffer had this length.
    pub fn rewind(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Opens an object (`{`) or a list (`[`).
    pub fn open(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// Closes one.
    pub fn close(&mut self, bracket: u8) {
        self.0.push(bracket);
    }

    /// Begins a member; its value must follow.
    pub fn key(&mut self, name: &'static str) {
        self.item();
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Begins an item of a list; its value must follow.
    pub fn item(&mut self) {
        // No value ends in an opening bracket, so the last byte tells whether one stands before.
        if !matches!(self.0.last(), Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    /// A value: text, number, boolean or a whole tree.
    pub fn value<T: Emit + ?Sized>(&mut self, value: &T) {
        value.emit(&mut self.0);
    }

    /// A string of which is known that it needs no escapes.
    pub fn plain(&mut self, text: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    /// A member with its value.
    pub fn member<T: Emit + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.key(name);
        self.value(value);
    }

    /// Closes the top-level object.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_escapes_are_right() {
        let mut body = Body::object(16);
        body.member("a", "x\"\\\n{");
        body.key("b");
        body.open(b'[');
        for n in 0..2_i32 {
            body.item();
            body.value(&i64::from(n));
        }
        body.close(b']');
        body.key("c");
        body.open(b'{');
        body.close(b'}');
        let mark = body.len();
        body.member("gone", &true);
        body.rewind(mark);
        body.key("d");
        body.plain("ab+/");
        assert_eq!(body.finish(), br#"{"a":"x\"\\\n{","b":[0,1],"c":{},"d":"ab+/"}"#);
    }
}

//! The rebuilt body: strict JSON, written straight into one buffer.
//!
//! Takes values that were judged; promises that commas, quotes and escapes are right. Keys are constants of ours.

use serde::Serialize;

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
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        let written = serde_json::to_writer(&mut self.0, value);
        debug_assert!(
            written.is_ok(),
            "memory takes every byte, and only keys that are no strings could fail"
        );
    }

    /// A string of which is known that it needs no escapes.
    pub fn plain(&mut self, text: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    /// A member with its value.
    pub fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
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
        for n in 0..2 {
            body.item();
            body.value(&n);
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

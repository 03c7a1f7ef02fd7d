//! Finds the first JSON value of a body, as Go's scanner does, and names the byte at which it gives up.
//!
//! Iterative, so ten thousand levels cost no stack. Where the first value is an object, the places of its members are
//! kept, so that the caller decodes only what it knows.

use super::text::quote_byte;
use std::ops::Range;

/// Go refuses more nesting than this.
const MAX_DEPTH: usize = 10_000;

/// Why a body is not JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing but white space.
    Empty,
    /// The value does not end.
    Cut,
    /// A byte that may not stand there, and Go's words for the place.
    Bad(u8, &'static str),
}

impl Fault {
    /// Go's text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Empty => "missing request body".to_owned(),
            Self::Cut => "unexpected EOF".to_owned(),
            Self::Bad(byte, place) => format!("invalid character {} {place}", quote_byte(*byte)),
        }
    }
}

/// One member of the outermost object: where its key (quotes included) and its value stand.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// The first value of a body.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) members: Vec<Member>,
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<u8>,
    key: Range<usize>,
    value_start: usize,
    found: Found,
}

/// Reads one value; what follows it is not looked at.
pub(crate) fn scan(bytes: &[u8]) -> Result<Found, Fault> {
    let mut scanner =
        Scanner { bytes, at: 0, open: Vec::new(), key: 0..0, value_start: 0, found: Found::default() };
    scanner.skip_space();
    if scanner.peek().is_none() {
        return Err(Fault::Empty);
    }
    scanner.found.start = scanner.at;
    scanner.value()?;
    scanner.found.end = scanner.at;
    Ok(scanner.found)
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn need(&self) -> Result<u8, Fault> {
        self.peek().ok_or(Fault::Cut)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A whole value: opens containers until a scalar or an empty container ends, then climbs out as far as commas allow.
    fn value(&mut self) -> Result<(), Fault> {
        loop {
            self.skip_space();
            if self.open.len() == 1 {
                self.value_start = self.at;
            }
            let mut ended = match self.need()? {
                byte @ (b'{' | b'[') => self.enter(byte)?,
                b'"' => self.string().map(|()| true)?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'-' | b'0'..=b'9' => self.number().map(|()| true)?,
                other => return Err(Fault::Bad(other, "looking for beginning of value")),
            };
            while ended {
                if self.open.len() == 1 && self.open.first() == Some(&b'{') {
                    let member = Member { key: self.key.clone(), value: self.value_start..self.at };
                    self.found.members.push(member);
                }
                let Some(container) = self.open.last().copied() else { return Ok(()) };
                ended = self.after_element(container)?;
            }
        }
    }

    /// Opens a container; true if it was closed at once.
    fn enter(&mut self, byte: u8) -> Result<bool, Fault> {
        self.at += 1;
        self.open.push(byte);
        if self.open.len() > MAX_DEPTH {
            return Err(Fault::Bad(byte, "exceeded max depth"));
        }
        self.skip_space();
        let next = self.need()?;
        if (byte, next) == (b'{', b'}') || (byte, next) == (b'[', b']') {
            self.at += 1;
            self.open.pop();
            return Ok(true);
        }
        if byte == b'{' {
            self.key()?;
        }
        Ok(false)
    }

    /// After an element: true if the container ended with it, false if another element follows.
    fn after_element(&mut self, container: u8) -> Result<bool, Fault> {
        self.skip_space();
        let byte = self.need()?;
        self.at += 1;
        match (container, byte) {
            (b'{', b'}') | (b'[', b']') => {
                self.open.pop();
                Ok(true)
            }
            (b'{', b',') => {
                self.skip_space();
                self.need()?;
                self.key().map(|()| false)
            }
            (b'[', b',') => Ok(false),
            (b'{', other) => Err(Fault::Bad(other, "after object key:value pair")),
            (_, other) => Err(Fault::Bad(other, "after array element")),
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        let byte = self.need()?;
        if byte != b'"' {
            return Err(Fault::Bad(byte, "looking for beginning of object key string"));
        }
        let start = self.at;
        self.string()?;
        if self.open.len() == 1 {
            self.key = start..self.at;
        }
        self.skip_space();
        match self.need()? {
            b':' => self.at += 1,
            other => return Err(Fault::Bad(other, "after object key")),
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.need()? {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                low @ 0..=0x1f => return Err(Fault::Bad(low, "in string literal")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let byte = self.need()?;
        self.at += 1;
        match byte {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let digit = self.need()?;
                    if !digit.is_ascii_hexdigit() {
                        return Err(Fault::Bad(digit, "in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
                Ok(())
            }
            other => Err(Fault::Bad(other, "in string escape code")),
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<bool, Fault> {
        for expected in word.bytes() {
            let byte = self.need()?;
            if byte != expected {
                return Err(Fault::Bad(byte, expecting(word, expected)));
            }
            self.at += 1;
        }
        Ok(true)
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn digits_after(&mut self, place: &'static str) -> Result<(), Fault> {
        match self.need()? {
            b'0'..=b'9' => self.digits(),
            other => return Err(Fault::Bad(other, place)),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.need()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            other => return Err(Fault::Bad(other, "in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits_after("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits_after("in exponent of numeric literal")?;
        }
        Ok(())
    }
}

/// Go names the literal and the byte that it wanted.
fn expecting(word: &str, byte: u8) -> &'static str {
    match (word, byte) {
        ("true", b'r') => "in literal true (expecting 'r')",
        ("true", b'u') => "in literal true (expecting 'u')",
        ("true", _) => "in literal true (expecting 'e')",
        ("false", b'a') => "in literal false (expecting 'a')",
        ("false", b'l') => "in literal false (expecting 'l')",
        ("false", b's') => "in literal false (expecting 's')",
        ("false", _) => "in literal false (expecting 'e')",
        (_, b'u') => "in literal null (expecting 'u')",
        _ => "in literal null (expecting 'l')",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        scan(text.as_bytes()).expect_err("a fault").text()
    }

    #[test]
    fn says_what_go_says() {
        assert_eq!(fault("  "), "missing request body");
        assert_eq!(fault("{\"a\":"), "unexpected EOF");
        assert_eq!(fault("{\"a\":1,}"), "invalid character '}' looking for beginning of object key string");
        assert_eq!(fault("{\"a\" 1}"), "invalid character '1' after object key");
        assert_eq!(fault("[1 2]"), "invalid character '2' after array element");
        assert_eq!(fault("nul!"), "invalid character '!' in literal null (expecting 'l')");
        assert_eq!(fault("-x"), "invalid character 'x' in numeric literal");
    }

    #[test]
    fn keeps_the_members_of_the_outermost_object_only() {
        let text = b" {\"a\": {\"b\": [1, 2]}, \"c\" : -1.5e3 } rest";
        let found = scan(text).expect("valid");
        let parts: Vec<_> =
            found.members.iter().map(|m| (&text[m.key.clone()], &text[m.value.clone()])).collect();
        assert_eq!(parts, [(&b"\"a\""[..], &b"{\"b\": [1, 2]}"[..]), (&b"\"c\""[..], &b"-1.5e3"[..])]);
        assert_eq!(&text[found.end..], b" rest");
    }

    #[test]
    fn depth_is_bounded_as_in_go() {
        assert!(scan("[".repeat(9_999).as_bytes()).is_err_and(|fault| fault == Fault::Cut));
        assert_eq!(fault(&"[".repeat(10_001)), "invalid character '[' exceeded max depth");
    }
}

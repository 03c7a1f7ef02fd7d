//! The header fields that anything behind the door reads. The others are checked for their form, and not passed on: hyper spends
//! on each of them, and no stage can come to depend on a field that nobody listed.

use super::head::{Reject, bad};

/// A field that means one thing only when it stands once and in ASCII.
const ONCE: bool = true;
const OFTEN: bool = false;

const HOST: u8 = 0;
const LENGTH: u8 = 1;
const CODING: u8 = 2;
const EXPECT: u8 = 3;

/// The number of a field that is read, and how often it may stand. By length first, so that a name is compared with one or two.
fn place(name: &[u8]) -> Option<(u8, bool)> {
    Some(match name.len() {
        4 if is(name, b"host") => (HOST, ONCE),
        6 if is(name, b"expect") => (EXPECT, ONCE),
        6 if is(name, b"origin") => (4, ONCE),
        9 if is(name, b"x-api-key") => (5, ONCE),
        10 if is(name, b"connection") => (6, OFTEN),
        12 if is(name, b"content-type") => (7, ONCE),
        13 if is(name, b"authorization") => (8, ONCE),
        13 if is(name, b"if-none-match") => (9, OFTEN),
        14 if is(name, b"content-length") => (LENGTH, ONCE),
        14 if is(name, b"sec-fetch-site") => (10, ONCE),
        15 if is(name, b"accept-encoding") => (11, OFTEN),
        15 if is(name, b"x-forwarded-for") => (12, OFTEN),
        16 if is(name, b"content-encoding") => (13, ONCE),
        16 if is(name, b"cf-connecting-ip") => (14, ONCE),
        17 if is(name, b"transfer-encoding") => (CODING, ONCE),
        19 if is(name, b"x-portcullis-phases") => (15, ONCE),
        23 if is(name, b"cf-access-jwt-assertion") => (16, ONCE),
        29 if is(name, b"access-control-request-method") => (17, ONCE),
        30 if is(name, b"access-control-request-headers") => (18, OFTEN),
        _ => return None,
    })
}

/// Is it this name, but for capitals? The names above hold lower-case letters and hyphens: of all token bytes, only a letter's capital
/// differs by this bit alone.
fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    <&[u8; N]>::try_from(name)
        .is_ok_and(|name| known.iter().zip(name).fold(0, |all, (own, b)| all | (own ^ (b | 0x20))) == 0)
}

/// What the door itself has to know, and which of the others have stood already.
#[derive(Debug, Default)]
pub(super) struct Known<'h> {
    pub(super) host: Option<&'h [u8]>,
    pub(super) length: Option<&'h [u8]>,
    pub(super) coding: Option<&'h [u8]>,
    pub(super) expect: Option<&'h [u8]>,
    seen: u32,
}

impl<'h> Known<'h> {
    /// Judges one field's line, without its CRLF; `true` if it is to be passed on. The framing is not: the body is decoded here.
    pub(super) fn judge(&mut self, line: &'h [u8]) -> Result<bool, Reject> {
        const MALFORMED: Reject = bad("the request head is malformed");
        let (name, value) = split(line).ok_or(MALFORMED)?;
        let Some((at, once)) = place(name) else {
            return if is_name(name) { Ok(false) } else { Err(MALFORMED) };
        };
        if once == ONCE && self.seen >> at & 1 == 1 {
            return Err(bad("a header field that may stand only once is repeated"));
        }
        if once == ONCE && !value.is_ascii() {
            return Err(bad("a header field that is read here holds bytes beyond ASCII"));
        }
        self.seen |= 1 << at;
        match at {
            HOST => self.host = Some(value),
            LENGTH => self.length = Some(value),
            CODING => self.coding = Some(value),
            EXPECT => self.expect = Some(value),
            _ => {}
        }
        Ok(!matches!(at, LENGTH | CODING | EXPECT))
    }
}

/// A field's name and its value without the white space around it (RFC 9110 section 5.5).
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = find(b':', line, 0)?;
    Some((line.get(..colon)?, line.get(colon + 1..)?.trim_ascii()))
}

/// Where the byte stands, from `from` on. Eight bytes at a time: the pieces of a head are too short for a vector search to pay.
pub(super) fn find(byte: u8, bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let rest = bytes.get(from..)?;
    let words = rest.chunks_exact(8);
    let tail = rest.len() - words.remainder().len();
    for (n, word) in words.enumerate() {
        // Zero where the byte stands; of the marks that this finds, the lowest is true.
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default()) ^ (ONES * u64::from(byte));
        let marked = word.wrapping_sub(ONES) & !word & (ONES * 0x80);
        if marked != 0 {
            return Some(from + 8 * n + (marked.trailing_zeros() / 8) as usize);
        }
    }
    rest.get(tail..)?.iter().position(|&b| b == byte).map(|n| from + tail + n)
}

/// Is it a name at all? A line that begins with white space, which once continued the one before, has none.
fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_byte(b))
}

/// RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within the length above")]
            {
                table[byte as usize] = byte.is_ascii_alphanumeric()
                    || matches!(
                        byte,
                        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
                    );
            }
            byte += 1;
        }
        table
    };
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_is_read_has_its_place() {
        let names = [
            "host",
            "content-length",
            "transfer-encoding",
            "expect",
            "origin",
            "x-api-key",
            "connection",
            "content-type",
            "authorization",
            "if-none-match",
            "sec-fetch-site",
            "accept-encoding",
            "x-forwarded-for",
            "content-encoding",
            "cf-connecting-ip",
            "x-portcullis-phases",
            "cf-access-jwt-assertion",
            "access-control-request-method",
            "access-control-request-headers",
        ];
        let mut places: Vec<u8> = Vec::new();
        for name in names {
            let (lower, upper) = (place(name.as_bytes()), place(name.to_ascii_uppercase().as_bytes()));
            assert!(lower.is_some() && lower == upper, "{name}");
            places.extend(lower.map(|(at, _)| at));
        }
        places.sort_unstable();
        assert!(places.iter().copied().eq(0..19), "each has a number of its own: {places:?}");
        for byte in (0..=255).filter(|&byte| is_token_byte(byte) && !byte.eq_ignore_ascii_case(&b'h')) {
            assert_eq!(place(&[byte, b'o', b's', b't']), None, "{byte}");
        }
        assert_eq!(place(b"user-agent"), None);
        assert_eq!(place(&[b'x'; 100]), None);
    }

    #[test]
    fn the_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            let plain: Vec<u8> = (0..length).map(|n| [b';', b'9', 0xba, 0, 0xff][n % 5]).collect();
            assert_eq!(find(b':', &plain, 0), None);
            for at in 0..length {
                let mut text = plain.clone();
                text[at] = b':';
                assert_eq!((find(b':', &text, 0), find(b':', &text, at)), (Some(at), Some(at)));
                assert_eq!(find(b':', &text, at + 1), None);
            }
        }
    }

    #[test]
    fn tokens_are_those_of_the_standard() {
        for byte in 0..=255_u8 {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token_byte(byte), token, "{byte}");
        }
    }

    #[test]
    fn what_nobody_reads_is_not_passed_on() {
        let mut known = Known::default();
        assert_eq!(known.judge(b"Host: a"), Ok(true));
        assert_eq!(known.judge(b"User-Agent: x"), Ok(false));
        assert_eq!(known.judge(b"Content-Length:5"), Ok(false));
        assert_eq!(known.judge(b"X-Forwarded-For: a"), Ok(true));
        assert_eq!(known.judge(b"X-Forwarded-For: b"), Ok(true));
        assert!(known.judge(b"HOST: b").is_err());
        assert_eq!((known.host, known.length), (Some(&b"a"[..]), Some(&b"5"[..])));
    }
}

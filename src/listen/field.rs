//! The header fields that anything behind the door reads. The others are checked for their form, and not passed on: hyper spends
//! on each of them, and no stage can come to depend on a field that nobody listed.

use super::head::{Reject, bad};

/// A field that means one thing only when it stands once and in ASCII.
const ONCE: bool = true;
const OFTEN: bool = false;

/// By name; the first ones have a place in [`Known`].
const READ: [(&str, bool); 19] = [
    ("host", ONCE),
    ("content-length", ONCE),
    ("transfer-encoding", ONCE),
    ("expect", ONCE),
    ("content-type", ONCE),
    ("content-encoding", ONCE),
    ("authorization", ONCE),
    ("x-api-key", ONCE),
    ("cf-connecting-ip", ONCE),
    ("cf-access-jwt-assertion", ONCE),
    ("origin", ONCE),
    ("x-forwarded-for", OFTEN),
    ("connection", OFTEN),
    ("access-control-request-method", ONCE),
    ("accept-encoding", OFTEN),
    ("if-none-match", OFTEN),
    ("x-portcullis-phases", ONCE),
    ("access-control-request-headers", OFTEN),
    ("sec-fetch-site", ONCE),
];
const HOST: usize = 0;
const LENGTH: usize = 1;
const CODING: usize = 2;
const EXPECT: usize = 3;

/// The end of a list of places.
const NONE: u8 = u8::MAX;

/// For each length, the first name above that has it; and for each name, the next one of its length.
const BY_LENGTH: ([u8; 64], [u8; READ.len()]) = {
    let (mut first, mut next, mut at) = ([NONE; 64], [NONE; READ.len()], READ.len());
    while at > 0 {
        at -= 1;
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "evaluated by the compiler, within the lengths above"
        )]
        {
            let length = READ[at].0.len();
            next[at] = first[length];
            first[length] = at as u8;
        }
    }
    (first, next)
};

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

fn place(name: &[u8]) -> Option<(usize, bool)> {
    let (first, next) = &BY_LENGTH;
    let mut at = *first.get(name.len())?;
    loop {
        // Past the end of the list there is no name either.
        let (known, once) = READ.get(usize::from(at))?;
        if is_same(known.as_bytes(), name) {
            return Some((usize::from(at), *once));
        }
        at = next.get(usize::from(at)).copied().unwrap_or(NONE);
    }
}

/// Are these of the same length the same, but for capitals? The known ones hold lower-case letters and hyphens: of all token bytes, only
/// a letter's capital differs by this bit alone. Eight bytes at a time.
fn is_same(known: &[u8], name: &[u8]) -> bool {
    const SMALL: u64 = 0x2020_2020_2020_2020;
    let ((known, rest_known), (name, rest)) = (known.as_chunks::<8>(), name.as_chunks::<8>());
    let words = known
        .iter()
        .zip(name)
        .fold(0, |all, (own, other)| all | (u64::from_ne_bytes(*own) ^ (u64::from_ne_bytes(*other) | SMALL)));
    let bytes = rest_known.iter().zip(rest).fold(0, |all, (own, b)| all | (own ^ (b | 0x20)));
    words == 0 && bytes == 0
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
        for (at, (name, once)) in READ.iter().enumerate() {
            assert_eq!(place(name.to_ascii_uppercase().as_bytes()), Some((at, *once)), "{name}");
        }
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

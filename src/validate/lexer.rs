//! JSON's tokens (RFC 8259), found without copying: shared by the guard of requests and by the look at answers.
//!
//! Every function takes the whole text and a position in it, and returns the position behind what it found; `None` where there is
//! no such thing.

const ONES: u64 = 0x0101_0101_0101_0101;

/// Behind white space.
#[inline]
pub(crate) fn blank(text: &[u8], at: usize) -> usize {
    // Programs write none.
    if text.get(at).is_some_and(|&b| b > b' ') { at } else { behind_blank(text, at) }
}

fn behind_blank(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// At the closing quote of the string whose opening quote is just before `at`, and whether the string holds escapes. Control
/// bytes and escapes that JSON does not know are refused; surrogates are not paired here.
#[inline]
pub(crate) fn string(text: &[u8], from: usize) -> Option<(usize, bool)> {
    let at = special(text, from);
    if text.get(at) == Some(&b'"') { Some((at, false)) } else { escaped_string(text, at) }
}

fn escaped_string(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        at = special(text, at);
        match text.get(at)? {
            b'"' => return Some((at, escaped)),
            b'\\' => {
                escaped = true;
                at += match text.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                    b'u' if text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                    _ => return None,
                };
            }
            _ => return None,
        }
    }
}

/// The text of a string whose escapes [`string`] has seen, and whether a surrogate stood alone in it: each becomes U+FFFD by
/// itself, and what follows it is read anew, as Go does.
pub(crate) fn unescape(raw: &str) -> Option<(String, bool)> {
    let mut text = String::with_capacity(raw.len());
    let (mut rest, mut halves) = (raw, false);
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
                let low = if pair { unit(7).filter(|low| (0xdc00..0xe000).contains(low)) } else { None };
                let point = low.map_or(high, |low| 0x1_0000 + ((high & 0x3ff) << 10 | (low & 0x3ff)));
                let character = char::from_u32(point);
                halves |= character.is_none();
                text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = escape.get(if low.is_some() { 11 } else { 5 }..)?;
                continue;
            }
            // The quote, the backslash and the slash stand for themselves.
            other => text.push(other),
        }
        rest = chars.as_str();
    }
    text.push_str(rest);
    Some((text, halves))
}

/// Behind a number, and whether it has neither fraction nor exponent.
pub(crate) fn number(text: &[u8], from: usize) -> Option<(usize, bool)> {
    let digits = |mut at: usize| {
        let from = at;
        while matches!(text.get(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        (at > from).then_some(at)
    };
    let first = from + usize::from(text.get(from) == Some(&b'-'));
    let mut at = digits(first)?;
    if text.get(first) == Some(&b'0') && at > first + 1 {
        return None;
    }
    let whole = at;
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at = digits(at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-'))))?;
    }
    Some((at, at == whole))
}

/// Behind `true`, `false` or `null`.
pub(crate) fn literal(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..at + word.len()).filter(|found| *found == word).map(|_| at + word.len())
}

/// Behind any value with at most so many levels of containers.
pub(crate) fn value(text: &[u8], at: usize, depth: u8) -> Option<usize> {
    match text.get(at)? {
        b'"' => string(text, at + 1).map(|(end, _)| end + 1),
        b't' => literal(text, at, b"true"),
        b'f' => literal(text, at, b"false"),
        b'n' => literal(text, at, b"null"),
        b'[' => list(text, at, depth.checked_sub(1)?),
        b'{' => object(text, at, depth.checked_sub(1)?, |_, _| {}),
        _ => number(text, at).map(|(end, _)| end),
    }
}

fn list(text: &[u8], at: usize, depth: u8) -> Option<usize> {
    let mut at = blank(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = blank(text, value(text, at, depth)?);
        match text.get(at)? {
            b',' => at = blank(text, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Behind the object that opens at `at`; `see` gets the key (`None` where it is written with escapes) and the raw value of each
/// of its members.
pub(crate) fn object<'t>(
    text: &'t [u8],
    at: usize,
    depth: u8,
    mut see: impl FnMut(Option<&'t [u8]>, &'t [u8]),
) -> Option<usize> {
    let mut at = blank(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        if text.get(at) != Some(&b'"') {
            return None;
        }
        let (key_end, escaped) = string(text, at + 1)?;
        let key = text.get(at + 1..key_end).filter(|_| !escaped);
        at = blank(text, key_end + 1);
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = blank(text, at + 1);
        let end = value(text, at, depth)?;
        see(key, text.get(at..end)?);
        at = blank(text, end);
        match text.get(at)? {
            b',' => at = blank(text, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Where the plain part of a string ends: at a quote, a backslash, a control byte, or with the text.
#[inline]
pub(crate) fn special(text: &[u8], from: usize) -> usize {
    // Most strings are keys, which one word holds.
    match word(text, from).map(marks) {
        Some(0) => further(text, from + 8),
        Some(marked) => from + first(marked),
        None => rest(text, from),
    }
}

#[inline(never)]
fn further(text: &[u8], from: usize) -> usize {
    let near = text.get(from..).unwrap_or_default();
    let mut at = from;
    for word in near.chunks_exact(8).take(8) {
        let marked = marks(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        if marked != 0 {
            return at + first(marked);
        }
        at += 8;
    }
    // Images have megabytes. Without an early exit inside a chunk the compiler compares many bytes at once.
    let plain = |chunk: &&[u8]| chunk.iter().fold(0, |any, &b| any | is_special(b)) == 0;
    at += 32 * text.get(at..).unwrap_or_default().chunks_exact(32).take_while(plain).count();
    rest(text, at)
}

fn rest(text: &[u8], from: usize) -> usize {
    let tail = text.get(from..).unwrap_or_default();
    tail.iter().position(|&b| is_special(b) != 0).map_or(text.len(), |n| from + n)
}

/// 1 or 0: in numbers, since a match is compiled to a jump for each byte.
fn is_special(byte: u8) -> u8 {
    u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\')
}

fn word(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..at + 8).and_then(|word| <[u8; 8]>::try_from(word).ok()).map(u64::from_le_bytes)
}

/// The high bit of each byte that is special. A borrow can mark a byte above a marked one, never one below it, so the lowest
/// mark is true.
const fn marks(word: u64) -> u64 {
    // With its second bit turned, the quote follows the controls directly (and the space does not): both are below 0x21.
    let turned = word ^ (ONES * 2);
    let slash = word ^ (ONES * 0x5c);
    let low = turned.wrapping_sub(ONES * 0x21) & !turned;
    (low | (slash.wrapping_sub(ONES) & !slash)) & (ONES * 0x80)
}

const fn first(marked: u64) -> usize {
    (marked.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_byte_is_found_wherever_it_stands() {
        for length in 0..300 {
            let plain: Vec<u8> =
                (0..length).map(|n| [b'a', 0x7f, 0x80, 0xff, b'!', b'#', b' '][n % 7]).collect();
            assert_eq!(special(&plain, 0), length);
            for at in 0..length {
                let mut text = plain.clone();
                text[at] = [b'"', b'\\', 0, 0x1f][at % 4];
                assert_eq!(special(&text, 0), at, "of {length}");
                assert_eq!(special(&text, at / 2), at);
                assert_eq!(special(&text, at + 1), length);
            }
        }
    }

    #[test]
    fn agrees_with_a_full_parser_on_every_damaged_text() {
        let texts = [
            r#"{"a":"say \"x\" \\ \u00e9","b":[1,-2.5e+3,0,-0.1E9,[],{}],"c":{"d":null,"e":true,"f":false}}"#,
            r#" [ 10 , "a" , { "b" : [ ] } ] "#,
            "\"0123456789012345678901234567890123456789\\n01234567890123456789012345678901234567890123456789\"",
        ];
        for text in texts {
            for at in 0..text.len() {
                for byte in *b",:{}[]\"x1 0.-e\\u\n\x1f\x7f" {
                    let inserted = [&text.as_bytes()[..at], &[byte], &text.as_bytes()[at..]].concat();
                    let replaced = [&text.as_bytes()[..at], &[byte], &text.as_bytes()[at + 1..]].concat();
                    let removed = [&text.as_bytes()[..at], &text.as_bytes()[at + 1..]].concat();
                    for damaged in [inserted, replaced, removed] {
                        let full = serde_json::from_slice::<serde::de::IgnoredAny>(&damaged).is_ok();
                        let end = value(&damaged, blank(&damaged, 0), 64);
                        let own = end.is_some_and(|end| blank(&damaged, end) == damaged.len());
                        assert_eq!(own, full, "{}", String::from_utf8_lossy(&damaged));
                    }
                }
            }
        }
        let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(value(&deep(64), 0, 64).is_some() && value(&deep(65), 0, 64).is_none());
    }
}

//! One pass over a line of an answer: is it one whole JSON object, and what do four of its own fields say?
//!
//! Every line of every stream goes through here, so it keeps nothing and copies nothing. It takes the grammar of RFC 8259
//! (but does not look into strings and exponents: the line is passed on as it is); nested objects are skipped, so that a
//! tool call's arguments may hold the same words.

/// What the top level says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Glance<'l> {
    /// `"done": true`.
    pub(super) done: bool,
    /// The raw value of `error`.
    pub(super) error: Option<&'l [u8]>,
    /// `prompt_eval_count`.
    pub(super) prompt: Option<u64>,
    /// `eval_count`.
    pub(super) output: Option<u64>,
}

/// Deeper than any answer: bounds the recursion.
const DEPTH: u8 = 64;

/// Reads a line, its newline included or not; `None` when it is not one JSON object.
pub(super) fn glance(line: &[u8]) -> Option<Glance<'_>> {
    let mut found = Glance::default();
    let start = blank(line, 0);
    if line.get(start) != Some(&b'{') {
        return None;
    }
    let end = members(line, start, |key, value| match key {
        b"done" => found.done = value == b"true",
        b"error" => found.error = Some(value),
        b"prompt_eval_count" => found.prompt = number(value),
        b"eval_count" => found.output = number(value),
        _ => {}
    })?;
    (blank(line, end) == line.len()).then_some(found)
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn blank(line: &[u8], mut at: usize) -> usize {
    while matches!(line.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Walks the members of the object at `at`; the position behind it.
fn members<'l>(line: &'l [u8], at: usize, mut see: impl FnMut(&'l [u8], &'l [u8])) -> Option<usize> {
    let mut at = blank(line, at + 1);
    if line.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        let key_end = string(line, at)?;
        // A key written with an escape could hide one of ours; Ollama writes none.
        let key = line.get(at + 1..key_end - 1).filter(|key| !key.contains(&b'\\'))?;
        at = blank(line, key_end);
        if line.get(at) != Some(&b':') {
            return None;
        }
        at = blank(line, at + 1);
        let end = value(line, at, DEPTH)?;
        see(key, line.get(at..end)?);
        at = blank(line, end);
        match line.get(at)? {
            b',' => at = blank(line, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Skips the value at `at`; the position behind it.
fn value(line: &[u8], at: usize, depth: u8) -> Option<usize> {
    match line.get(at)? {
        b'"' => string(line, at),
        b't' => literal(line, at, b"true"),
        b'f' => literal(line, at, b"false"),
        b'n' => literal(line, at, b"null"),
        b'-' | b'0'..=b'9' => digits(line, at),
        b'[' if depth > 0 => elements(line, at, depth - 1),
        b'{' if depth > 0 => nested(line, at, depth - 1),
        _ => None,
    }
}

fn nested(line: &[u8], at: usize, depth: u8) -> Option<usize> {
    let mut at = blank(line, at + 1);
    if line.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        at = blank(line, string(line, at)?);
        if line.get(at) != Some(&b':') {
            return None;
        }
        at = blank(line, value(line, blank(line, at + 1), depth)?);
        match line.get(at)? {
            b',' => at = blank(line, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn elements(line: &[u8], at: usize, depth: u8) -> Option<usize> {
    let mut at = blank(line, at + 1);
    if line.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = blank(line, value(line, at, depth)?);
        match line.get(at)? {
            b',' => at = blank(line, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Behind the closing quote of the string at `at`.
fn string(line: &[u8], at: usize) -> Option<usize> {
    if line.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', line.get(at..)?)?;
        if line.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

fn literal(line: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    line.get(at..at + word.len()).filter(|found| *found == word).map(|_| at + word.len())
}

fn digits(line: &[u8], at: usize) -> Option<usize> {
    let rest = line.get(at..)?;
    let n = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    let n = n.unwrap_or(rest.len());
    // A sign alone is no number, and none ends in anything but a digit.
    rest.get(..n)?.last().filter(|last| last.is_ascii_digit()).map(|_| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_full_parser_on_every_damaged_line() {
        let lines = [
            r#"{"model":"a","created_at":"x","message":{"role":"assistant","content":"say \"done\":true \\"},"done":false}"#,
            r#"{"message":{"tool_calls":[{"function":{"arguments":{"done":true,"error":"x"}}}]},"done":false}"#,
            r#" { "a" : [ 1 , -2.5e3 , [] , {} , null , true ] , "done" : true , "eval_count" : 7 } "#,
        ];
        for line in lines {
            for at in 0..line.len() {
                for byte in *br#",:{}[]"x1 "# {
                    for damaged in [
                        [&line.as_bytes()[..at], &line.as_bytes()[at + 1..]].concat(),
                        [&line.as_bytes()[..at], &[byte], &line.as_bytes()[at..]].concat(),
                    ] {
                        let full =
                            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&damaged);
                        let seen = glance(&damaged);
                        let text = String::from_utf8_lossy(&damaged);
                        if let Ok(map) = &full {
                            let seen = seen.unwrap_or_else(|| panic!("refused: {text}"));
                            assert_eq!(seen.done, map.get("done") == Some(&true.into()), "{text}");
                            assert_eq!(seen.error.is_some(), map.contains_key("error"), "{text}");
                        } else if seen.is_some() {
                            // What it lets pass is inside a string or a number, where it does not look.
                            assert!(text.contains('\\') || text.contains('1'), "passed: {text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn reads_the_counts() {
        let found = glance(b"{\"done\":true,\"prompt_eval_count\":12,\"eval_count\":0}\r\n").unwrap();
        assert_eq!((found.done, found.prompt, found.output), (true, Some(12), Some(0)));
        assert_eq!(glance(b"{\"error\":\"boom\"}").unwrap().error, Some(&b"\"boom\""[..]));
        for bad in [
            &b"{}{}"[..],
            b"",
            b"[]",
            b"{\"a\"}",
            b"{\"a\":1,}",
            b"{\"x\":1,,}",
            b"{\"a\":tru}",
            b"{\"a\":-}",
            b"{\"a\":\"b",
        ] {
            assert_eq!(glance(bad), None, "{bad:?}");
        }
        let deep = [vec![b'['; 100], vec![b']'; 100]].concat();
        assert_eq!(glance(&[b"{\"a\":", &deep[..], b"}"].concat()), None);
    }
}

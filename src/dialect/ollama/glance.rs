//! One pass over a line of an answer: is it one whole JSON object, and what do six of its own fields say?
//!
//! Every line of every stream goes through here, so it keeps nothing and copies nothing. Nested objects are skipped, so that a
//! tool call's arguments may hold the same words.

use crate::validate::lexer::{blank, object};

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
    /// `prompt_eval_duration` and `eval_duration` together, in nanoseconds.
    pub(super) worked: Option<u64>,
}

/// Tokens of one answer, far beyond any.
const MOST_TOKENS: u64 = 1_000_000_000;
/// Eleven days.
const MOST_NANOS: u64 = 1_000_000_000_000_000;
/// Deeper than any answer: bounds the recursion.
const DEPTH: u8 = 64;

/// Reads a line, its newline included or not; `None` when it is not one JSON object.
pub(super) fn glance(line: &[u8]) -> Option<Glance<'_>> {
    let mut found = Glance::default();
    let start = blank(line, 0);
    if line.get(start) != Some(&b'{') {
        return None;
    }
    let mut odd = false;
    let end = object(line, start, DEPTH, |key, value| match key {
        Some(b"done") => found.done = value == b"true",
        // Twice, or in other letters, readers would differ on whether it failed.
        Some(b"error") => odd |= found.error.replace(value).is_some(),
        Some(key) if key.eq_ignore_ascii_case(b"error") => odd = true,
        Some(b"prompt_eval_count") => found.prompt = number(value, MOST_TOKENS),
        Some(b"eval_count") => found.output = number(value, MOST_TOKENS),
        Some(b"prompt_eval_duration" | b"eval_duration") => {
            let nanos = number(value, MOST_NANOS);
            found.worked = nanos.map(|nanos| found.worked.unwrap_or(0).saturating_add(nanos));
        }
        Some(_) => {}
        // It could hide one of ours; Ollama writes no such keys.
        None => odd = true,
    })?;
    (!odd && blank(line, end) == line.len()).then_some(found)
}

/// A count, brought down to what one answer could have: sums of absurd ones would leave the range of whatever adds them.
fn number(value: &[u8], most: u64) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let exact = value.iter().try_fold(0_u64, |number, &b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    Some(exact.unwrap_or(most).min(most))
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
                        } else {
                            assert_eq!(seen, None, "{text}");
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
        let absurd =
            glance(b"{\"done\":true,\"eval_count\":99999999999999999999999,\"prompt_eval_count\":-1}")
                .unwrap();
        assert_eq!((absurd.output, absurd.prompt), (Some(MOST_TOKENS), None));
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
            b"{\"Error\":\"x\"}",
            b"{\"error\":\"x\",\"error\":null}",
        ] {
            assert_eq!(glance(bad), None, "{bad:?}");
        }
        let deep = [vec![b'['; 100], vec![b']'; 100]].concat();
        assert_eq!(glance(&[b"{\"a\":", &deep[..], b"}"].concat()), None);
    }
}

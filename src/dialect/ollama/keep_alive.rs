//! `keep_alive`: how long a model stays after the answer, as seconds or as Go writes durations.
//!
//! The last caller sets it for everybody, so it is brought within the operator's bound: longer and negative ("for ever")
//! become the longest allowed, 0 ("unload now") is dropped. 0 with nothing to answer is a plain unload, and refused.

use std::time::Duration;

use super::draft::Draft;
use crate::validate::bounds::At;
use crate::validate::json::Json;
use crate::validate::{ValidateError, shown};

/// The longest where the operator set no bound.
const LONGEST: Duration = Duration::from_hours(24);
/// Go counts nanoseconds: anything less is its zero.
const NANOSECOND: f64 = 1e-9;
/// Bytes of a duration: `2562047h47m16.854775807s` is the longest that makes sense.
const MAX_TEXT: usize = 64;

/// Judges and writes `keep_alive`.
pub(super) fn write(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let longest = draft.rules.options.max_keep_alive.filter(|most| !most.is_zero()).unwrap_or(LONGEST);
    let seconds = seconds(value).ok_or_else(|| {
        let got = if let Json::Str(text) = value { shown(text) } else { value.kind().to_owned() };
        at.refuse(format!("must be a number of seconds or a duration like \"5m\", not {got}"))
    })?;
    if seconds.abs() < NANOSECOND {
        if draft.idle && draft.caps.unload {
            draft.body.member("keep_alive", &0_i64);
            return Ok(());
        }
        if draft.idle {
            return Err(ValidateError::Unload);
        }
        draft.dropped.note("", "keep_alive");
    } else if seconds < 0.0 || seconds > longest.as_secs_f64() {
        draft.dropped.note("", "keep_alive");
        // Never 0, which would unload.
        draft.body.member("keep_alive", &longest.as_secs().max(1));
    } else if seconds < 1.0 {
        let got = if let Json::Str(text) = value { shown(text) } else { format!("{seconds} s") };
        return Err(at.refuse(format!("must be from 1 s to {} s, not {got}", longest.as_secs())));
    } else {
        draft.body.member("keep_alive", value);
    }
    Ok(())
}

fn seconds(value: &Json<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "what is rounded lies far beyond the longest")]
    match value {
        Json::Int(seconds) => Some(*seconds as f64),
        Json::UInt(seconds) => Some(*seconds as f64),
        Json::Float(seconds) => Some(*seconds),
        Json::Str(text) => duration(text),
        _ => None,
    }
}

/// Go's `time.ParseDuration`, and a bare negative number: people write `"-1"` for ever.
fn duration(text: &str) -> Option<f64> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    if sign < 0.0 && !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
        return rest.parse().ok().map(|seconds: f64| -seconds);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let (amount, after) = cut(rest, |c| c.is_ascii_digit() || c == '.')?;
        let (unit, after) = cut(after, |c| !c.is_ascii_digit() && c != '.')?;
        // Rust reads `1.` and `.5` as Go does, and refuses `.` and `1.2.3`.
        total += amount.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after;
    }
    Some(sign * total)
}

fn cut(text: &str, inside: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let end = text.find(|c| !inside(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(head, _)| !head.is_empty())
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{no, ok, rules, sent, under};
    use super::*;
    use crate::endpoint::Proxied::{self, Chat, ChatApi, Embed, Embeddings, Generate};

    fn with(value: &str) -> String {
        format!("{{\"prompt\":\"p\",\"keep_alive\":{value}}}")
    }

    #[test]
    fn durations_read_as_go_reads_them() {
        for (text, seconds) in [
            ("5m", 300.0),
            ("1h30m", 5_400.0),
            ("1.5h", 5_400.0),
            ("+.5m", 30.0),
            ("1.s", 1.0),
            ("-1", -1.0),
            ("-5m", -300.0),
            ("0", 0.0),
            ("-0", 0.0),
            ("0s", 0.0),
            ("1h1m1s", 3_661.0),
            ("1500ms", 1.5),
            ("2000000µs", 2.0),
            ("1e", f64::NAN),
            ("", f64::NAN),
            ("-", f64::NAN),
            ("5", f64::NAN),
            ("m", f64::NAN),
            ("5 m", f64::NAN),
            (".s", f64::NAN),
            ("1.2.3s", f64::NAN),
            ("5d", f64::NAN),
            ("5M", f64::NAN),
            ("--5m", f64::NAN),
            ("forever", f64::NAN),
            ("5m3", f64::NAN),
        ] {
            let got = duration(text).unwrap_or(f64::NAN);
            assert!((got - seconds).abs() < 1e-9 || got.is_nan() && seconds.is_nan(), "{text}: {got}");
        }
        assert_eq!(duration(&"1".repeat(65)), None);
    }

    #[test]
    fn within_bounds_it_passes_as_it_came() {
        for value in ["1", "1.5", "300", "86399", "86400", "\"1s\"", "\"1h30m\"", "\"24h\""] {
            let call = ok(Generate, &with(value));
            assert_eq!((sent(&call)["keep_alive"].to_string().as_str(), call.dropped.len()), (value, 0));
        }
    }

    #[test]
    fn beyond_them_it_is_brought_down_or_refused() {
        for value in [
            "86401",
            "-1",
            "-0.5",
            "1e300",
            "18446744073709551615",
            "\"-1\"",
            "\"-5m\"",
            "\"24h1s\"",
            "\"99999999h\"",
        ] {
            let call = ok(Generate, &with(value));
            assert_eq!(
                (&sent(&call)["keep_alive"], &*call.dropped.concat()),
                (&86_400.into(), "keep_alive"),
                "{value}"
            );
        }
        for value in ["0.5", "\"500ms\"", "0.999"] {
            assert!(
                no(Generate, &with(value)).starts_with("keep_alive: must be from 1 s to 86400 s, not "),
                "{value}"
            );
        }
        for value in ["true", "\"\"", "\"soon\"", "[]", "{}", "\"5\""] {
            assert!(
                no(Generate, &with(value)).starts_with("keep_alive: must be a number of seconds"),
                "{value}"
            );
        }
        let mut rules = rules();
        for (longest, sent_on) in
            [(None, 86_400), (Some(Duration::from_mins(1)), 60), (Some(Duration::from_millis(10)), 1)]
        {
            rules.options.max_keep_alive = longest;
            assert_eq!(sent(&under(Generate, &with("-1"), &rules).unwrap())["keep_alive"], sent_on);
        }
    }

    #[test]
    fn zero_is_dropped_and_an_unload_refused() {
        for zero in ["0", "-0.0", "0.0", "1e-10", "\"0\"", "\"0s\"", "\"0h0m\""] {
            for route in [Generate, ChatApi, Embeddings] {
                let call = ok(route, &with(zero));
                assert_eq!((sent(&call).get("keep_alive"), &*call.dropped.concat()), (None, "keep_alive"));
            }
            let refused = |route: Proxied, rest: &str| {
                let body = format!("{{\"keep_alive\":{zero}{rest}}}");
                assert_eq!(under(route, &body, &rules()).unwrap_err(), ValidateError::Unload, "{body}");
            };
            refused(Chat, "");
            refused(Chat, ",\"messages\":[]");
            refused(Chat, ",\"messages\":null");
            refused(Generate, "");
            refused(Generate, ",\"prompt\":\"\",\"images\":[\"AAAA\"]");
            refused(Embed, ",\"input\":[]");
            refused(Embeddings, ",\"prompt\":\"\"");
        }
        assert_eq!(ok(Chat, r#"{"messages":[{}],"keep_alive":0}"#).dropped, ["keep_alive"]);
    }
}

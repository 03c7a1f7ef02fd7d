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
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
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
        if draft.idle {
            return Err(ValidateError::Unload);
        }
        draft.dropped.note("", "keep_alive");
    } else if seconds < 0.0 || seconds > longest.as_secs_f64() {
        draft.dropped.note("", "keep_alive");
        draft.body.member("keep_alive", &longest.as_secs());
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
    let mut total = 0.0;
    while !rest.is_empty() || total == 0.0 && text.len() < 2 {
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

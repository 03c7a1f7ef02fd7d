//! Go durations and `keep_alive`.
//!
//! Takes a number of seconds or text such as `5m`, `1h30m`, `-1s`, `1.5h`; refuses what Go refuses, in its words.

use std::time::Duration;

use serde_json::Value;

use super::Refusal;

/// How long a model stays in memory after its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; zero is not at all.
    For(Duration),
    /// Until the server ends.
    Forever,
}

impl KeepAlive {
    /// Ollama's default.
    pub const DEFAULT: Self = Self::For(Duration::from_mins(5));

    /// Reads the field of a request; `null` is absent.
    pub fn of_field(value: &Value) -> Result<Option<Self>, Refusal> {
        match value {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(Some(Self::of_seconds(number.as_f64().unwrap_or(-1.0)))),
            Value::String(text) => Self::of_text(text).map(Some).map_err(|text| Refusal::new(400, text)),
            Value::Bool(_) => Err(Refusal::new(400, "Unsupported type: 'bool'")),
            Value::Array(_) => Err(Refusal::new(400, "Unsupported type: '[]interface {}'")),
            Value::Object(_) => Err(Refusal::new(400, "Unsupported type: 'map[string]interface {}'")),
        }
    }

    /// Reads text: a duration, or a bare number of seconds.
    pub fn of_text(text: &str) -> Result<Self, String> {
        parse(text).map(Self::of_seconds)
    }

    fn of_seconds(seconds: f64) -> Self {
        if seconds < 0.0 {
            return Self::Forever;
        }
        Duration::try_from_secs_f64(seconds).map_or(Self::Forever, Self::For)
    }
}

/// Seconds of a Go duration; may be negative.
pub fn parse(text: &str) -> Result<f64, String> {
    let fault = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(fault());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| fault())?;
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        seconds += number * unit_seconds(unit, text)?;
        rest = tail;
    }
    Ok(sign * seconds)
}

fn unit_seconds(unit: &str, whole: &str) -> Result<f64, String> {
    Ok(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" => return Err(format!("time: missing unit in duration {whole:?}")),
        _ => return Err(format!("time: unknown unit {unit:?} in duration {whole:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_of_go_are_read() {
        for (text, seconds) in
            [("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("-1s", -1.0), ("0", 0.0), ("300ms", 0.3)]
        {
            assert!((parse(text).unwrap() - seconds).abs() < 1e-9, "{text}");
        }
        assert_eq!(parse("soon").unwrap_err(), "time: invalid duration \"soon\"");
        assert_eq!(parse("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(parse("5x").unwrap_err(), "time: unknown unit \"x\" in duration \"5x\"");
        for text in ["", "-", ".", "m", "1..2s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keep_alive_is_a_number_or_a_duration() {
        let read = |value| KeepAlive::of_field(&value);
        assert_eq!(read(json!(null)), Ok(None));
        assert_eq!(read(json!(0)), Ok(Some(KeepAlive::For(Duration::ZERO))));
        assert_eq!(read(json!(30)), Ok(Some(KeepAlive::For(Duration::from_secs(30)))));
        assert_eq!(read(json!("10m")), Ok(Some(KeepAlive::For(Duration::from_mins(10)))));
        assert_eq!(read(json!(-1)), Ok(Some(KeepAlive::Forever)));
        assert_eq!(read(json!("-5m")), Ok(Some(KeepAlive::Forever)));
        assert_eq!(read(json!(1e300)), Ok(Some(KeepAlive::Forever)));
        assert_eq!(read(json!(true)), Err(Refusal::new(400, "Unsupported type: 'bool'")));
    }
}

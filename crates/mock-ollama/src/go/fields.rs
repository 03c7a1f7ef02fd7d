//! The known fields of a request, read as Go reads them into a struct.
//!
//! Takes a body and the route's [`Shape`]; gives the fields that were set, or Go's text for the first fault. Keys fold
//! as in Go, the last duplicate wins, two `options` merge, `null` is unset, unknown keys are skipped unread.

use super::scan::{self, Found};
use serde_json::Value;
use std::borrow::Cow;

/// What Go wants in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Flag,
    Int,
    Ints,
    Options,
    Messages,
    Tools,
    Images,
    KeepAlive,
    Think,
    /// Anything: checked later, or never.
    Any,
}

/// The struct that a route decodes into: its Go name, and its fields.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [(&'static str, Kind)],
}

/// The fields that were set.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The model of the request; `name` is the older spelling of some routes.
    pub(crate) fn model(&self) -> &str {
        let model = self.text("model");
        if model.is_empty() { self.text("name") } else { model }
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Value::as_bool)
    }

    pub(crate) fn list(&self, name: &str) -> &[Value] {
        self.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn set(&mut self, name: &'static str, value: Value) {
        let slot = self.0.iter_mut().find(|(known, _)| *known == name);
        match (slot, value) {
            // Go keeps the map that is there already, and adds to it.
            (Some((_, Value::Object(old))), Value::Object(new)) if name == "options" => old.extend(new),
            (Some((_, old)), new) => *old = new,
            (None, value) => self.0.push((name, value)),
        }
    }
}

/// Reads the body.
pub(crate) fn read(body: &[u8], shape: &Shape) -> Result<Fields, String> {
    let found = scan::scan(body).map_err(|fault| fault.text())?;
    let mut fields = Fields::default();
    match body.get(found.start) {
        Some(b'{' | b'n') => {}
        Some(first) => {
            let kind = kind_name(*first);
            return Err(format!("json: cannot unmarshal {kind} into Go value of type api.{}", shape.name));
        }
        None => return Ok(fields),
    }
    let mut first_fault = None;
    for (key, raw) in members(body, &found) {
        let Some((name, kind)) = shape.fields.iter().find(|(name, _)| folds_to(&key, name)) else { continue };
        let raw = readable(raw);
        let value = serde_json::from_slice(&raw).map_err(|_| String::from_utf8_lossy(&raw).into_owned());
        match value.map_err(|raw| unreadable(&raw, shape, name)).and_then(|value| {
            kind.check(&value, shape, name)?;
            Ok(value)
        }) {
            Ok(Value::Null) => {}
            Ok(value) => fields.set(name, value),
            Err(fault) => first_fault = first_fault.or(Some(fault)),
        }
    }
    first_fault.map_or(Ok(fields), Err)
}

fn members<'a>(body: &'a [u8], found: &Found) -> impl Iterator<Item = (Cow<'a, str>, &'a [u8])> {
    let pairs = found.members.iter().map(|member| {
        let inner = body.get(member.key.start + 1..member.key.end.saturating_sub(1)).unwrap_or_default();
        let value = body.get(member.value.clone()).unwrap_or_default();
        (unescaped(inner), value)
    });
    pairs.collect::<Vec<_>>().into_iter()
}

fn unescaped(key: &[u8]) -> Cow<'_, str> {
    if !key.contains(&b'\\') {
        return String::from_utf8_lossy(key);
    }
    let quoted = [b"\"", &*readable(key), b"\""].concat();
    Cow::Owned(serde_json::from_slice(&quoted).unwrap_or_default())
}

/// Go folds ASCII case, and the two letters outside ASCII that fold into it.
fn folds_to(key: &str, name: &str) -> bool {
    key == name
        || key
            .chars()
            .map(|character| match character {
                'ſ' => 's',
                '\u{212a}' => 'k',
                other => other.to_ascii_lowercase(),
            })
            .eq(name.chars())
}

/// Makes bytes that Go takes into bytes that `serde_json` takes: bad UTF-8 and lone surrogates become U+FFFD.
fn readable(raw: &[u8]) -> Cow<'_, [u8]> {
    let escaped = raw.windows(3).any(|three| three == b"\\ud" || three == b"\\uD");
    match std::str::from_utf8(raw) {
        Ok(_) if !escaped => Cow::Borrowed(raw),
        _ => Cow::Owned(without_lone_surrogates(&String::from_utf8_lossy(raw)).into_bytes()),
    }
}

fn without_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let unit = |text: &str| {
            let digits = text.strip_prefix('u').and_then(|text| text.get(..4))?;
            u16::from_str_radix(digits, 16).ok()
        };
        let low = || after.get(5..).and_then(|text| text.strip_prefix('\\')).and_then(unit);
        let pair = low().is_some_and(|low| (0xdc00..0xe000).contains(&low));
        // How much of the text after the backslash is settled now: an escaped backslash must not start another escape.
        let taken = match unit(after) {
            Some(0xd800..=0xdbff) if pair => 11,
            Some(0xd800..=0xdfff) => {
                out.push_str("\\ufffd");
                rest = after.get(5..).unwrap_or_default();
                continue;
            }
            Some(_) => 5,
            None => after.chars().next().map_or(0, char::len_utf8),
        };
        out.push('\\');
        out.push_str(after.get(..taken).unwrap_or_default());
        rest = after.get(taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// What the scanner took and `serde_json` did not is a number beyond `f64`.
fn unreadable(raw: &str, shape: &Shape, name: &str) -> String {
    format!("json: cannot unmarshal number {raw} into Go struct field {}.{name} of type float64", shape.name)
}

fn kind_name(first: u8) -> &'static str {
    match first {
        b'[' => "array",
        b'{' => "object",
        b'"' => "string",
        b't' | b'f' => "bool",
        _ => "number",
    }
}

fn value_name(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Null => "null",
    }
}

fn mismatch(value: &Value, shape: &Shape, path: &str, wanted: &str) -> Result<(), String> {
    let (kind, name) = (value_name(value), shape.name);
    Err(format!("json: cannot unmarshal {kind} into Go struct field {name}.{path} of type {wanted}"))
}

impl Kind {
    fn check(self, value: &Value, shape: &Shape, name: &str) -> Result<(), String> {
        match (self, value) {
            (_, Value::Null)
            | (Self::Any, _)
            | (Self::Text, Value::String(_))
            | (Self::Flag, Value::Bool(_))
            | (Self::Options, Value::Object(_))
            | (Self::Tools, Value::Array(_)) => Ok(()),
            (Self::Text, _) => mismatch(value, shape, name, "string"),
            (Self::Flag, _) => mismatch(value, shape, name, "bool"),
            (Self::Options, _) => mismatch(value, shape, name, "map[string]interface {}"),
            (Self::Int, _) => check_int(value, shape, name),
            (Self::Ints, Value::Array(items)) => {
                items.iter().try_for_each(|item| check_int(item, shape, name))
            }
            (Self::Ints, _) => mismatch(value, shape, name, "[]int"),
            (Self::Messages, Value::Array(items)) => {
                items.iter().try_for_each(|message| check_message(message, shape, name))
            }
            (Self::Messages, _) => mismatch(value, shape, name, "[]api.Message"),
            (Self::Tools, _) => mismatch(value, shape, name, "api.Tools"),
            (Self::Images, Value::Array(items)) => items.iter().try_for_each(check_image),
            (Self::Images, _) => mismatch(value, shape, name, "[]api.ImageData"),
            (Self::KeepAlive, _) => check_keep_alive(value),
            (Self::Think, _) => check_think(value),
        }
    }
}

fn check_int(value: &Value, shape: &Shape, name: &str) -> Result<(), String> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(()),
        Value::Number(number) => Err(format!(
            "json: cannot unmarshal number {number} into Go struct field {}.{name} of type int",
            shape.name
        )),
        _ => mismatch(value, shape, name, "int"),
    }
}

fn check_message(message: &Value, shape: &Shape, name: &str) -> Result<(), String> {
    let Value::Object(members) = message else {
        return mismatch(message, shape, name, "api.Message");
    };
    for (key, value) in members {
        let path = |field: &str| format!("{name}.{field}");
        match key.to_ascii_lowercase().as_str() {
            field @ ("role" | "content" | "thinking" | "tool_name") => {
                Kind::Text.check(value, shape, &path(field))?;
            }
            "images" => Kind::Images.check(value, shape, &path("images"))?,
            _ => {}
        }
    }
    Ok(())
}

fn check_image(value: &Value) -> Result<(), String> {
    let text = value.as_str().unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    match text.bytes().position(|byte| !good(byte)) {
        Some(at) => Err(format!("illegal base64 data at input byte {at}")),
        None if text.len().is_multiple_of(4) => Ok(()),
        None => Err(format!("illegal base64 data at input byte {}", text.len() - text.len() % 4)),
    }
}

fn check_keep_alive(value: &Value) -> Result<(), String> {
    match value {
        Value::Null | Value::Number(_) => Ok(()),
        Value::String(text) if duration_seconds(text).is_some() => Ok(()),
        Value::String(text) => Err(format!("time: invalid duration {}", super::text::json_string(text))),
        Value::Bool(_) => Err("Unsupported type: 'bool'".to_owned()),
        Value::Array(_) => Err("Unsupported type: '[]interface {}'".to_owned()),
        Value::Object(_) => Err("Unsupported type: 'map[string]interface {}'".to_owned()),
    }
}

/// A Go duration (`1h30m`, `-1s`) in seconds.
pub(crate) fn duration_seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut total = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        if next.is_empty() {
            return Some(sign * total);
        }
        rest = next;
    }
}

fn check_think(value: &Value) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(word) if matches!(word.as_str(), "high" | "medium" | "low" | "max") => Ok(()),
        Value::String(word) => Err(format!(
            "invalid think value: {} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)",
            super::text::json_string(word)
        )),
        _ => {
            Err("think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        name: "ChatRequest",
        fields: &[("model", Kind::Text), ("stream", Kind::Flag), ("options", Kind::Options)],
    };

    #[test]
    fn folds_merges_and_ignores_as_go_does() {
        let body = r#"{"MODEL":"a","Model":"b","ſtream":false,"options":{"x":1},"options":{"y":2},"zz":[}"#;
        assert!(read(body.as_bytes(), &SHAPE).is_err());
        let body = body.replace("[}", "[]} trailing");
        let fields = read(body.as_bytes(), &SHAPE).expect("valid");
        assert_eq!(fields.text("model"), "b");
        assert_eq!(fields.flag("stream"), Some(false));
        assert_eq!(fields.get("options").map(ToString::to_string), Some("{\"x\":1,\"y\":2}".to_owned()));
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        let fields = read(br#"{"model":"\ud800 \ud83d\ude00 \\ud800"}"#, &SHAPE).expect("valid");
        assert_eq!(fields.text("model"), "\u{fffd} 😀 \\ud800");
    }

    #[test]
    fn durations() {
        assert_eq!(duration_seconds("1h30m"), Some(5_400.0));
        assert_eq!(duration_seconds("-1.5s"), Some(-1.5));
        assert_eq!(duration_seconds("soon"), None);
    }
}

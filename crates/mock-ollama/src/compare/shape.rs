//! The shape of a JSON value: keys and types, without what it says.

use super::Difference;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Keys that may be missing on either side.
pub const OPTIONAL_KEYS: &[&str] = &[
    // Go leaves a number out where it is zero.
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
    // Only models of the cloud have them.
    "remote_model",
    "remote_host",
];

/// A shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Null,
    Bool,
    Number,
    Text,
    /// The distinct shapes of its elements.
    List(BTreeSet<Self>),
    Object(BTreeMap<String, Self>),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Number => f.write_str("number"),
            Self::Text => f.write_str("string"),
            Self::List(elements) => {
                let elements: Vec<_> = elements.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", elements.join(" | "))
            }
            Self::Object(members) => {
                let members: Vec<_> = members.iter().map(|(key, shape)| format!("{key}: {shape}")).collect();
                write!(f, "{{{}}}", members.join(", "))
            }
        }
    }
}

impl Shape {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(members) => {
                Self::Object(members.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
            }
        }
    }

    fn fits(&self, got: &Self) -> bool {
        let mut found = Vec::new();
        self.compare(got, "", &mut found);
        found.is_empty()
    }

    /// Adds what differs, with the path to it.
    pub(super) fn compare(&self, got: &Self, at: &str, found: &mut Vec<Difference>) {
        match (self, got) {
            (Self::List(recorded), Self::List(got)) => compare_sets(recorded, got, &format!("{at}[]"), found),
            (Self::Object(recorded), Self::Object(got)) => {
                let optional = |key: &String| OPTIONAL_KEYS.contains(&key.as_str());
                for (key, shape) in recorded {
                    match got.get(key) {
                        Some(other) => shape.compare(other, &format!("{at}.{key}"), found),
                        None if optional(key) => {}
                        None => found.push(Difference::new(
                            format!("{at}.{key}"),
                            shape.to_string(),
                            "no such key",
                        )),
                    }
                }
                for (key, shape) in
                    got.iter().filter(|(key, _)| !recorded.contains_key(*key) && !optional(key))
                {
                    found.push(Difference::new(format!("{at}.{key}"), "no such key", shape.to_string()));
                }
            }
            (recorded, got) if recorded == got => {}
            (recorded, got) => found.push(Difference::new(at, recorded.to_string(), got.to_string())),
        }
    }

    /// A token and nothing else.
    fn is_plain_token(&self) -> bool {
        let Self::Object(members) = self else { return false };
        members
            .keys()
            .all(|key| matches!(key.as_str(), "model" | "created_at" | "response" | "done" | "message"))
            && match members.get("message") {
                Some(Self::Object(message)) => message.keys().all(|key| key == "role" || key == "content"),
                Some(_) => false,
                None => members.contains_key("response"),
            }
    }
}

/// Each shape of one side must have its like on the other; an empty side says nothing.
fn compare_sets(recorded: &BTreeSet<Shape>, got: &BTreeSet<Shape>, at: &str, found: &mut Vec<Difference>) {
    if recorded.is_empty() || got.is_empty() {
        return;
    }
    if let (1, Some(recorded), Some(got)) = (recorded.len().max(got.len()), recorded.first(), got.first()) {
        return recorded.compare(got, at, found);
    }
    for shape in recorded.iter().filter(|shape| !got.iter().any(|got| shape.fits(got))) {
        found.push(Difference::new(at, shape.to_string(), "none of that shape"));
    }
    for shape in got.iter().filter(|shape| !recorded.iter().any(|recorded| recorded.fits(shape))) {
        found.push(Difference::new(at, "none of that shape", shape.to_string()));
    }
}

/// Compares streams of lines: the last with the last, the others as sets.
pub(super) fn line_differences(recorded: &[u8], got: &[u8]) -> Vec<Difference> {
    if !got.ends_with(b"\n") {
        return vec![Difference::new("stream", "whole lines", "a line without its end")];
    }
    let (recorded, got) = match (lines(recorded), lines(got)) {
        (Ok(recorded), Ok(got)) => (recorded, got),
        (_, Err(line)) => return vec![Difference::new("stream", "JSON", line)],
        (Err(_), Ok(_)) => return Vec::new(),
    };
    let (Some((last, rest)), Some((got_last, got_rest))) = (recorded.split_last(), got.split_last()) else {
        return vec![Difference::new("stream", format!("{} lines", recorded.len()), "none")];
    };
    let mut found = Vec::new();
    last.compare(got_last, "last line", &mut found);
    let set = |lines: &[Shape]| lines.iter().cloned().collect::<BTreeSet<_>>();
    let (recorded, mut got) = (set(rest), set(got_rest));
    // What a model says is its own business: it may say something where the recorded one thought, called, or fell silent.
    got.retain(|shape| !shape.is_plain_token() || recorded.iter().any(Shape::is_plain_token));
    if got.is_empty() && !recorded.is_empty() {
        found.push(Difference::new("lines", "some before the last", "none of those shapes"));
    }
    if recorded.is_empty() && !got.is_empty() {
        found.push(Difference::new("lines", "none but the last", "others"));
    }
    compare_sets(&recorded, &got, "line", &mut found);
    found
}

fn lines(body: &[u8]) -> Result<Vec<Shape>, String> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let value: Result<Value, _> = serde_json::from_slice(line);
            value.map(|value| Shape::of(&value)).map_err(|error| error.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_lines_may_differ_but_shapes_may_not() {
        let token = "{\"response\":\"a\",\"done\":false}\n";
        let last = "{\"response\":\"\",\"done\":true,\"eval_count\":3}\n";
        let (one, three) = (format!("{token}{last}"), format!("{token}{token}{token}{last}"));
        assert_eq!(line_differences(one.as_bytes(), three.as_bytes()), []);
        assert_eq!(line_differences(one.as_bytes(), last.as_bytes()).len(), 1);
        assert_eq!(line_differences(one.as_bytes(), token.as_bytes()).len(), 1);
        let odd = three.replacen("\"a\"", "7", 1);
        assert_eq!(line_differences(one.as_bytes(), odd.as_bytes()).len(), 1);
    }

    #[test]
    fn optional_keys_and_empty_lists_are_tolerated() {
        let shape = |text: &str| Shape::of(&serde_json::from_str(text).expect("JSON"));
        assert!(shape(r#"{"a":[],"load_duration":1}"#).fits(&shape(r#"{"a":[{"b":1}]}"#)));
        assert!(!shape(r#"{"a":[{"b":1}]}"#).fits(&shape(r#"{"a":[{"b":"1"}]}"#)));
        assert!(!shape(r#"{"a":1}"#).fits(&shape(r#"{"a":1,"b":1}"#)));
    }
}

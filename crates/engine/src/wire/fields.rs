//! A request body as Go's decoder reads it: typed fields with its leniency and its words.
//!
//! Takes bytes and promises one JSON object with lower-case keys (the last of several wins, what follows the
//! first value is ignored, `null` is absent). It refuses what is no JSON, no object, or of the wrong type.

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Refusal;

/// The fields of one object.
#[derive(Debug)]
pub struct Fields {
    /// The Go struct's name, then the path to this object: for the words of a refusal.
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a body; `kind` is the name of Go's struct, `ChatRequest` for instance.
    pub fn of_body(body: &[u8], kind: &str) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Err(Refusal::new(400, "missing request body"));
        }
        let text = String::from_utf8_lossy(body);
        let mut reader = serde_json::Deserializer::from_str(&text);
        match Value::deserialize(&mut reader) {
            Ok(Value::Object(map)) => Ok(Self::of_map(kind.to_owned(), map)),
            Ok(Value::Null) => Ok(Self::of_map(kind.to_owned(), Map::new())),
            Ok(other) => {
                let text =
                    format!("json: cannot unmarshal {} into Go value of type api.{kind}", name(&other));
                Err(Refusal::new(400, text))
            }
            Err(error) => Err(Refusal::new(400, words(&error, &text))),
        }
    }

    fn of_map(path: String, map: Map<String, Value>) -> Self {
        let map = map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_lowercase(), v)).collect();
        Self { path, map }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Refusal {
        let (path, kind) = (&self.path, name(value));
        Refusal::new(
            400,
            format!("json: cannot unmarshal {kind} into Go struct field {path}.{key} of type {wanted}"),
        )
    }

    /// The raw value of a field.
    pub fn raw(&self, key: &str) -> &Value {
        self.map.get(key).unwrap_or(&Value::Null)
    }

    /// A text; empty where it is absent.
    pub fn text(&self, key: &str) -> Result<String, Refusal> {
        match self.raw(key) {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(key, other, "string")),
        }
    }

    /// A truth value.
    pub fn truth(&self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.raw(key) {
            Value::Null => Ok(None),
            Value::Bool(truth) => Ok(Some(*truth)),
            other => Err(self.wrong(key, other, "bool")),
        }
    }

    /// A whole number.
    pub fn int(&self, key: &str) -> Result<Option<i64>, Refusal> {
        match self.raw(key) {
            Value::Null => Ok(None),
            value => value.as_i64().map(Some).ok_or_else(|| self.wrong(key, value, "int")),
        }
    }

    /// A map of anything.
    pub fn map(&self, key: &str) -> Result<Map<String, Value>, Refusal> {
        match self.raw(key) {
            Value::Null => Ok(Map::new()),
            Value::Object(map) => Ok(map.clone()),
            other => Err(self.wrong(key, other, "map[string]interface {}")),
        }
    }

    /// A list of anything; `wanted` is Go's type, for a refusal.
    pub fn list(&self, key: &str, wanted: &str) -> Result<&[Value], Refusal> {
        match self.raw(key) {
            Value::Null => Ok(&[]),
            Value::Array(list) => Ok(list),
            other => Err(self.wrong(key, other, wanted)),
        }
    }

    /// A list of objects; `wanted` is Go's type of one of them.
    pub fn objects(&self, key: &str, wanted: &str) -> Result<Vec<Self>, Refusal> {
        let path = format!("{}.{key}", self.path);
        let one = |value: &Value| match value {
            Value::Object(map) => Ok(Self::of_map(path.clone(), map.clone())),
            Value::Null => Ok(Self::of_map(path.clone(), Map::new())),
            other => Err(self.wrong(key, other, wanted)),
        };
        self.list(key, &format!("[]{wanted}"))?.iter().map(one).collect()
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Refusal> {
        let one = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(key, other, "string")),
        };
        self.list(key, "[]string")?.iter().map(one).collect()
    }
}

/// What Go calls the type of a JSON value.
pub fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's words for text that is no JSON, as near as the other parser's position allows.
fn words(error: &serde_json::Error, text: &str) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default().as_bytes();
    let at = line.get(error.column().saturating_sub(1)).or_else(|| line.first());
    let at = at.map_or('?', |byte| char::from(*byte));
    format!("invalid character {at:?} looking for beginning of value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Result<Fields, String> {
        Fields::of_body(body.as_bytes(), "ChatRequest").map_err(|r| r.text)
    }

    #[test]
    fn keys_of_any_case_are_read_and_trailing_text_is_not() {
        let fields = chat(r#"{"MODEL":"a","Stream":null} trailing"#).unwrap();
        assert_eq!(fields.text("model"), Ok("a".to_owned()));
        assert_eq!(fields.truth("stream"), Ok(None));
    }

    #[test]
    fn wrong_types_are_refused_in_the_words_of_go() {
        let fields = chat(r#"{"model":5,"stream":"x","options":[],"messages":[{"content":[]}]}"#).unwrap();
        let words = |refusal: Refusal| refusal.text;
        assert_eq!(
            fields.text("model").map_err(words),
            Err("json: cannot unmarshal number into Go struct field ChatRequest.model of type string".into())
        );
        assert_eq!(
            fields.map("options").map_err(words),
            Err("json: cannot unmarshal array into Go struct field ChatRequest.options of type map[string]interface {}".into())
        );
        let message = &fields.objects("messages", "api.Message").unwrap()[0];
        assert_eq!(
            message.text("content").map_err(words),
            Err("json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string".into())
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(chat("").unwrap_err(), "missing request body");
        assert_eq!(chat(r#"{"model":"#).unwrap_err(), "unexpected EOF");
        assert_eq!(chat("hello").unwrap_err(), "invalid character 'h' looking for beginning of value");
        assert_eq!(
            chat("[]").unwrap_err(),
            "json: cannot unmarshal array into Go value of type api.ChatRequest"
        );
        assert!(chat("null").is_ok());
    }
}

//! `format` of a request: plain text, any JSON object, or a JSON schema.
//!
//! Takes the field and refuses what is neither `"json"` nor an object, in Ollama's words.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Refusal;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// What this JSON schema allows; its text as it was sent, for the order of its properties.
    Schema(String),
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

impl Format {
    /// Reads the field; `body` is the whole request.
    pub fn read(value: &Value, body: &[u8]) -> Result<Self, Refusal> {
        match value {
            Value::Null => Ok(Self::Text),
            Value::String(text) if text.is_empty() => Ok(Self::Text),
            Value::String(text) if text == "json" => Ok(Self::Json),
            Value::Object(_) => {
                let sent = serde_json::Deserializer::from_slice(body).into_iter::<Raw<'_>>().next();
                let sent = sent.and_then(Result::ok).and_then(|raw| raw.format.map(|f| f.get().to_owned()));
                Ok(Self::Schema(sent.unwrap_or_else(|| value.to_string())))
            }
            other => {
                let shown = other.to_string();
                let text =
                    format!("invalid format: {shown:?}; expected \"json\" or a valid JSON Schema object");
                Err(Refusal::new(500, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Format, Refusal> {
        let value: Value = serde_json::from_str(body).unwrap();
        Format::read(&value["format"], body.as_bytes())
    }

    #[test]
    fn formats_are_told_apart() {
        assert_eq!(read("{}"), Ok(Format::Text));
        assert_eq!(read(r#"{"format":""}"#), Ok(Format::Text));
        assert_eq!(read(r#"{"format":"json"}"#), Ok(Format::Json));
        assert_eq!(read(r#"{"x":1,"format":{"b":1,"a":2}}"#), Ok(Format::Schema(r#"{"b":1,"a":2}"#.into())));
        let refusal = read(r#"{"format":"xml"}"#).unwrap_err();
        assert_eq!(
            refusal.text,
            r#"invalid format: "\"xml\""; expected "json" or a valid JSON Schema object"#
        );
        assert_eq!(read(r#"{"format":["json"]}"#).unwrap_err().status, 500);
    }
}

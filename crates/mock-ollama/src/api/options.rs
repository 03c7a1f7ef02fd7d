//! The `options` object: types, and the values that the server itself refuses.
//!
//! Keys are matched exactly and unknown ones skipped, as in Ollama.

use super::reply::Refusal;
use serde_json::{Map, Value};

const INTEGERS: &[&str] = &[
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
    "num_predict",
    "num_keep",
    "seed",
    "top_k",
    "repeat_last_n",
];
const FLOATS: &[&str] = &[
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

/// What the answer depends on.
#[derive(Debug, Default, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the names of the wire")]
pub(super) struct Options {
    pub(super) num_predict: Option<i64>,
    pub(super) num_ctx: Option<i64>,
    pub(super) num_keep: Option<i64>,
}

impl Options {
    /// Reads the object; a wrong type is status 500, since Ollama only notices when it schedules.
    pub(super) fn read(options: Option<&Value>) -> Result<Self, Refusal> {
        let Some(Value::Object(options)) = options else { return Ok(Self::default()) };
        check_types(options)?;
        let whole = |key: &str| {
            let value = options.get(key)?;
            // A fraction is cut off, as by Go's conversion.
            value.as_i64().or_else(|| value.to_string().split('.').next().and_then(|text| text.parse().ok()))
        };
        Ok(Self { num_predict: whole("num_predict"), num_ctx: whole("num_ctx"), num_keep: whole("num_keep") })
    }

    /// What the runner refuses.
    pub(super) fn check(self) -> Result<(), Refusal> {
        match self.num_keep {
            Some(keep) if keep < -1 => Err(runner(
                400,
                "invalid_request_error",
                &format!("Field 'n_keep': Value must be between -1 <= value <= 2147483647, but got {keep}"),
            )),
            _ => Ok(()),
        }
    }
}

fn check_types(options: &Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        let known = |list: &[&str]| list.contains(&key.as_str());
        let wanted = match value {
            Value::Number(_) => continue,
            _ if known(INTEGERS) => "integer",
            _ if known(FLOATS) => "float32",
            Value::Bool(_) => continue,
            _ if key == "use_mmap" => "boolean",
            Value::Array(_) => continue,
            _ if key == "stop" => "array",
            _ => continue,
        };
        return Err(Refusal::new(500, format!("option \"{key}\" must be of type {wanted}")));
    }
    Ok(())
}

/// A refusal of the model's own process: its JSON, whole, as the text.
pub(super) fn runner(status: u16, kind: &str, message: &str) -> Refusal {
    let message = Value::String(message.to_owned());
    Refusal::new(
        status,
        format!("{{\"error\":{{\"code\":{status},\"message\":{message},\"type\":\"{kind}\"}}}}"),
    )
}

/// The `format` field: nothing, `"json"`, or a schema that converts.
pub(super) fn check_format(format: Option<&Value>) -> Result<(), Refusal> {
    const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "null", "array", "object"];
    let refused = |what: String| {
        let text = format!("Field 'json_schema': \"json_schema\": JSON schema conversion failed:\n{what}");
        Err(runner(400, "invalid_request_error", &text))
    };
    match format {
        None => Ok(()),
        Some(Value::String(word)) if word.is_empty() || word == "json" => Ok(()),
        Some(Value::Object(schema)) => {
            let text = Value::Object(schema.clone());
            if let Some(path) = schema.get("$ref").and_then(Value::as_str)
                && text.pointer(path.trim_start_matches('#')).is_none()
            {
                let last = path.rsplit('/').next().unwrap_or_default();
                return refused(format!("Error resolving ref {path}: {last} not in {text}"));
            }
            match schema.get("type") {
                Some(Value::String(kind)) if !TYPES.contains(&kind.as_str()) => {
                    refused(format!("Unrecognized schema: {text}"))
                }
                _ => Ok(()),
            }
        }
        Some(other) => {
            let text = crate::go::text::json_string(&other.to_string());
            Err(Refusal::new(
                500,
                format!("invalid format: {text}; expected \"json\" or a valid JSON Schema object"),
            ))
        }
    }
}

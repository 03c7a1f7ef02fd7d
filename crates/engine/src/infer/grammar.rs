//! From `format` to a grammar that llama.cpp can hold a model to.
//!
//! Takes a format and promises GBNF text, or none. It refuses a schema that llama.cpp cannot convert, in the
//! shape in which Ollama passes such refusals on.

use crate::wire::Refusal;
use crate::wire::format::Format;

/// The grammar of a format.
pub fn of_format(format: &Format) -> Result<Option<String>, Refusal> {
    let schema = match format {
        Format::Text => return Ok(None),
        Format::Json => r#"{"type":"object"}"#,
        Format::Schema(schema) => schema,
    };
    // The wrapper keeps llama.cpp's reason to itself, so the words end with the schema.
    llama_cpp_2::json_schema_to_grammar(schema).map(Some).map_err(|_| {
        let shown: String = schema.chars().take(200).collect();
        refusal(&format!("JSON schema conversion failed:\nUnrecognized schema: {shown}"))
    })
}

/// The refusal of a schema, for a reason.
pub fn refusal(reason: &str) -> Refusal {
    let text = format!("Field 'json_schema': \"json_schema\": {reason}");
    Refusal::nested(400, "invalid_request_error", &text)
}

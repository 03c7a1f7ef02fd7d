//! `tools` and `tool_calls`: the envelopes are rebuilt, schemas and arguments pass as they are.
//!
//! Of a schema Ollama itself reads a part, into types of its own; what does not fit them is refused here by name, since it would
//! answer for the whole request in words about its own structures.

use super::draft::Draft;
use super::grammar;
use super::knobs::MAX_SCHEMA;
use super::messages::MAX_WORD;
use crate::validate::ValidateError;
use crate::validate::bounds::{self, At};
use crate::validate::json::{Entries, Json};
use crate::validate::object::{self, get};

/// Functions that a model may call, and calls in one turn.
const MAX_TOOLS: usize = 128;

const TOOL: [&str; 3] = ["type", "items", "function"];
const FUNCTION: [&str; 3] = ["name", "description", "parameters"];
/// What Ollama reads of a schema's top level; its keys differ by case only if somebody wants to be misread.
const PARAMETERS: [&str; 5] = ["type", "$defs", "items", "required", "properties"];
const CALL: [&str; 3] = ["id", "type", "function"];
const CALLED: [&str; 3] = ["index", "name", "arguments"];

/// Writes `tools`.
pub(super) fn write(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let list = bounds::list(at, value, MAX_TOOLS)?;
    draft.body.key("tools");
    draft.body.open(b'[');
    for (index, tool) in list.iter().enumerate() {
        draft.body.item();
        self::tool(draft, at.item(index), tool)?;
    }
    draft.body.close(b']');
    Ok(())
}

fn tool(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let entries = bounds::object(at, value)?;
    object::vet("tools", entries, |key| TOOL.contains(&key), &TOOL, &mut draft.dropped)?;
    draft.body.open(b'{');
    if let Some(value) = get(entries, "type") {
        draft.body.member("type", bounds::short_text(at.field("type"), value, MAX_WORD)?);
    }
    if let Some(value) = get(entries, "items") {
        grammar::vet(draft, at.field("items"), value)?;
        draft.body.key("items");
        draft.free(at.field("items"), value, MAX_SCHEMA)?;
    }
    let function = get(entries, "function").ok_or_else(|| at.field("function").refuse("is required"))?;
    draft.body.key("function");
    self::function(draft, at.field("function"), function)?;
    draft.body.close(b'}');
    Ok(())
}

fn function(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let entries = bounds::object(at, value)?;
    object::vet("tools.function", entries, |key| FUNCTION.contains(&key), &FUNCTION, &mut draft.dropped)?;
    let name = get(entries, "name").ok_or_else(|| at.field("name").refuse("is required"))?;
    draft.body.open(b'{');
    draft.body.member("name", bounds::short_text(at.field("name"), name, MAX_WORD)?);
    if let Some(value) = get(entries, "description") {
        draft.body.member("description", bounds::short_text(at.field("description"), value, MAX_SCHEMA)?);
    }
    if let Some(value) = get(entries, "parameters") {
        let at = at.field("parameters");
        // Every key passes here, so none is dropped: only case variants matter.
        let known = |key: &str| !PARAMETERS.iter().any(|name| name.eq_ignore_ascii_case(key) && *name != key);
        let entries = bounds::object(at, value)?;
        object::vet("", entries, known, &PARAMETERS, &mut draft.dropped)?;
        parameters(at, entries)?;
        grammar::vet(draft, at, value)?;
        draft.body.key("parameters");
        draft.free(at, value, MAX_SCHEMA)?;
    }
    draft.body.close(b'}');
    Ok(())
}

/// The types that Ollama reads the top of a schema into; `null` is absent everywhere.
fn parameters(at: At<'_>, entries: &Entries<'_>) -> Result<(), ValidateError> {
    if let Some(value) = get(entries, "type") {
        bounds::text(at.field("type"), value)?;
    }
    if let Some(value) = get(entries, "required") {
        words(at.field("required"), value)?;
    }
    properties(at, entries)
}

fn properties(at: At<'_>, entries: &Entries<'_>) -> Result<(), ValidateError> {
    let Some(value) = get(entries, "properties") else { return Ok(()) };
    let at = at.field("properties");
    for (name, value) in bounds::object(at, value)? {
        property(at.key(name), value)?;
    }
    Ok(())
}

fn property(at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    if *value == Json::Null {
        return Ok(());
    }
    let entries = bounds::object(at, value)?;
    match get(entries, "type") {
        None | Some(Json::Str(_)) => {}
        Some(list @ Json::Arr(_)) => words(at.field("type"), list)?,
        Some(other) => {
            let words = format!("must be a string or a list of strings, not {}", other.kind());
            return Err(at.field("type").refuse(words));
        }
    }
    if let Some(value) = get(entries, "description") {
        bounds::text(at.field("description"), value)?;
    }
    if let Some(value) = get(entries, "enum") {
        bounds::list(at.field("enum"), value, usize::MAX)?;
    }
    if let Some(value) = get(entries, "anyOf") {
        let at = at.field("anyOf");
        for (index, value) in bounds::list(at, value, usize::MAX)?.iter().enumerate() {
            property(at.item(index), value)?;
        }
    }
    properties(at, entries)
}

/// A list of strings.
fn words(at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    for (index, item) in bounds::list(at, value, usize::MAX)?.iter().enumerate() {
        if *item != Json::Null {
            bounds::text(at.item(index), item)?;
        }
    }
    Ok(())
}

/// Writes the `tool_calls` of a turn.
pub(super) fn calls(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let list = bounds::list(at, value, MAX_TOOLS)?;
    draft.body.key("tool_calls");
    draft.body.open(b'[');
    for (index, call) in list.iter().enumerate() {
        let at = at.item(index);
        let entries = bounds::object(at, call)?;
        object::vet("messages.tool_calls", entries, |key| CALL.contains(&key), &CALL, &mut draft.dropped)?;
        draft.body.item();
        draft.body.open(b'{');
        for name in ["id", "type"] {
            if let Some(value) = get(entries, name) {
                draft.body.member(name, bounds::short_text(at.field(name), value, MAX_WORD)?);
            }
        }
        let function = get(entries, "function").ok_or_else(|| at.field("function").refuse("is required"))?;
        draft.body.key("function");
        called(draft, at.field("function"), function)?;
        draft.body.close(b'}');
    }
    draft.body.close(b']');
    Ok(())
}

fn called(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let entries = bounds::object(at, value)?;
    let scope = "messages.tool_calls.function";
    object::vet(scope, entries, |key| CALLED.contains(&key), &CALLED, &mut draft.dropped)?;
    let name = get(entries, "name").ok_or_else(|| at.field("name").refuse("is required"))?;
    draft.body.open(b'{');
    if let Some(value) = get(entries, "index") {
        draft.body.member("index", &bounds::integer(at.field("index"), value, 0, 1_000_000)?);
    }
    draft.body.member("name", bounds::short_text(at.field("name"), name, MAX_WORD)?);
    if let Some(value) = get(entries, "arguments") {
        let at = at.field("arguments");
        if matches!(value, Json::Str(_)) {
            return Err(at.refuse("must be an object, not a string of JSON as in OpenAI's API"));
        }
        bounds::object(at, value)?;
        draft.body.member("arguments", value);
    }
    draft.body.close(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{no, ok, sent};
    use crate::endpoint::Proxied::Chat;

    #[test]
    fn tools_pass_with_their_schemas() {
        let parameters =
            json!({"type": "object", "properties": {"a": {"type": "string"}, "A": {"x": [1.5, null]}}});
        let tool = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}});
        let call = ok(Chat, &json!({"tools": [tool]}).to_string());
        assert_eq!((sent(&call)["tools"][0].clone(), call.dropped.len()), (tool, 0));
        let call = ok(Chat, r#"{"tools":[{"function":{"name":"f","strict":true},"x":1}]}"#);
        assert_eq!(sent(&call)["tools"], json!([{"function": {"name": "f"}}]));
        assert_eq!(call.dropped, ["tools.x", "tools.function.strict"]);
    }

    #[test]
    fn wrong_tools_are_refused_by_name() {
        for (tools, text) in [
            ("{}", "tools: must be a list, not an object"),
            ("[1]", "tools[0]: must be an object, not a number"),
            ("[{}]", "tools[0].function: is required"),
            (r#"[{"function":{}}]"#, "tools[0].function.name: is required"),
            (
                r#"[{"function":{"name":"f","parameters":[]}}]"#,
                "tools[0].function.parameters: must be an object, not a list",
            ),
            (r#"[{"function":{"name":"f","Name":"g"}}]"#, "key \"Name\" differs from \"name\" only by case"),
            (
                r#"[{"function":{"name":"f","parameters":{"TYPE":"x"}}}]"#,
                "key \"TYPE\" differs from \"type\" only by case",
            ),
        ] {
            assert_eq!(no(Chat, &format!("{{\"tools\":{tools}}}")), text);
        }
        let tools = |n: usize| format!("{{\"tools\":[{}{F}]}}", format!("{F},").repeat(n - 1));
        ok(Chat, &tools(127));
        ok(Chat, &tools(128));
        assert!(no(Chat, &tools(129)).starts_with("tools: must have at most 128 items"));
        let schema = |n: usize| {
            format!(
                "{{\"tools\":[{{\"function\":{{\"name\":\"f\",\"parameters\":{{\"a\":\"{}\"}}}}}}]}}",
                "x".repeat(n - 8)
            )
        };
        ok(Chat, &schema(65_536));
        assert!(no(Chat, &schema(65_537)).contains("at most 65536 bytes"));
    }

    #[test]
    fn schemas_that_ollama_cannot_read_are_refused_by_name() {
        for (parameters, text) in [
            (json!({"properties": []}), "properties: must be an object, not a list"),
            (json!({"properties": "x"}), "properties: must be an object, not a string"),
            (json!({"type": ["object", "null"]}), "type: must be a string, not a list"),
            (json!({"required": true}), "required: must be a list, not a boolean"),
            (json!({"required": {"a": 1}}), "required: must be a list, not an object"),
            (json!({"required": ["a", 1]}), "required[1]: must be a string, not a number"),
            (json!({"properties": {"a": true}}), "properties.a: must be an object, not a boolean"),
            (json!({"properties": {"a": []}}), "properties.a: must be an object, not a list"),
            (
                json!({"properties": {"a": {"type": 1}}}),
                "properties.a.type: must be a string or a list of strings, not a number",
            ),
            (
                json!({"properties": {"a": {"type": ["x", 1]}}}),
                "properties.a.type[1]: must be a string, not a number",
            ),
            (
                json!({"properties": {"a": {"description": ["x"]}}}),
                "properties.a.description: must be a string, not a list",
            ),
            (json!({"properties": {"a": {"enum": "x"}}}), "properties.a.enum: must be a list, not a string"),
            (
                json!({"properties": {"a": {"anyOf": {}}}}),
                "properties.a.anyOf: must be a list, not an object",
            ),
            (
                json!({"properties": {"a": {"anyOf": [{}, 1]}}}),
                "properties.a.anyOf[1]: must be an object, not a number",
            ),
            (
                json!({"properties": {"a": {"properties": []}}}),
                "properties.a.properties: must be an object, not a list",
            ),
            (json!({"properties": {"a b": 1}}), "properties.\"a b\": must be an object, not a number"),
        ] {
            let body = json!({"tools": [{"function": {"name": "f", "parameters": parameters}}]});
            assert_eq!(no(Chat, &body.to_string()), format!("tools[0].function.parameters.{text}"));
        }
        let odd = json!({
            "type": null, "required": null, "additionalProperties": false, "$schema": 1, "items": 7, "properties": {
                "a": null,
                "b": {"type": ["string", "null"], "enum": [1, null, {}], "required": true, "items": true, "default": []},
                "c": {"anyOf": [{"type": "string"}, null, {"properties": {"d": {}}}], "description": null, "properties": null},
            },
        });
        let tool = json!({"function": {"name": "f", "parameters": odd}});
        let call = ok(Chat, &json!({"tools": [tool]}).to_string());
        assert_eq!((sent(&call)["tools"][0].clone(), call.dropped.len()), (tool, 0));
    }

    const F: &str = r#"{"function":{"name":"f"}}"#;

    #[test]
    fn calls_of_earlier_turns_pass() {
        let calls = json!([{"id": "c", "type": "function", "function": {"index": 0, "name": "f", "arguments": {"Q": {"q": [1]}, "q": 2}}}]);
        let call = ok(Chat, &json!({"messages": [{"role": "assistant", "tool_calls": calls}]}).to_string());
        assert_eq!(sent(&call)["messages"][0]["tool_calls"], calls);
        for (call, text) in [
            (
                r#"{"function":{"name":"f","arguments":"{}"}}"#,
                "messages[0].tool_calls[0].function.arguments: must be an object, not a string of JSON as in OpenAI's API",
            ),
            (
                r#"{"function":{"name":"f","index":-1}}"#,
                "messages[0].tool_calls[0].function.index: must be a whole number from 0 to 1000000, not -1",
            ),
            (
                r#"{"function":{"name":"f","ARGUMENTS":{}}}"#,
                "key \"ARGUMENTS\" differs from \"arguments\" only by case",
            ),
            ("{}", "messages[0].tool_calls[0].function: is required"),
        ] {
            assert_eq!(no(Chat, &format!("{{\"messages\":[{{\"tool_calls\":[{call}]}}]}}")), text);
        }
    }
}

//! `tools` and `tool_calls`: the envelopes are rebuilt, schemas and arguments pass as they are.

use super::draft::Draft;
use super::knobs::MAX_SCHEMA;
use super::messages::MAX_WORD;
use crate::validate::ValidateError;
use crate::validate::bounds::{self, At};
use crate::validate::json::Json;
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
        object::vet("", bounds::object(at, value)?, known, &PARAMETERS, &mut draft.dropped)?;
        draft.body.key("parameters");
        draft.free(at, value, MAX_SCHEMA)?;
    }
    draft.body.close(b'}');
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
        bounds::object(at.field("arguments"), value)?;
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

    const F: &str = r#"{"function":{"name":"f"}}"#;

    #[test]
    fn calls_of_earlier_turns_pass() {
        let calls = json!([{"id": "c", "type": "function", "function": {"index": 0, "name": "f", "arguments": {"Q": {"q": [1]}, "q": 2}}}]);
        let call = ok(Chat, &json!({"messages": [{"role": "assistant", "tool_calls": calls}]}).to_string());
        assert_eq!(sent(&call)["messages"][0]["tool_calls"], calls);
        for (call, text) in [
            (
                r#"{"function":{"name":"f","arguments":"{}"}}"#,
                "messages[0].tool_calls[0].function.arguments: must be an object, not a string",
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

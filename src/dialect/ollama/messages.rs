//! `messages`: the turns of a chat, rebuilt one by one.

use super::draft::Draft;
use super::{knobs, tools};
use crate::validate::ValidateError;
use crate::validate::bounds::{self, At};
use crate::validate::json::{Entries, Json};
use crate::validate::object::{self, get};

/// Turns: trimming a long history costs the upstream quadratic time.
const MAX_MESSAGES: usize = 1_000;
/// Characters of a role.
const MAX_ROLE: usize = 64;
/// Characters of a tool's name or of a call's id.
pub(super) const MAX_WORD: usize = 256;

const FIELDS: [&str; 7] =
    ["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"];

/// Writes `messages`.
pub(super) fn write(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let list = bounds::list(at, value, MAX_MESSAGES)?;
    draft.body.key("messages");
    draft.body.open(b'[');
    turns(draft, at, list)?;
    draft.body.close(b']');
    Ok(())
}

impl Draft<'_> {
    /// Writes the `messages` of `/chat_api`: the system prompt, the earlier turns, and the prompt with its images.
    pub(super) fn conversation(
        &mut self,
        top: &Entries<'_>,
        earlier: &Json<'_>,
        prompt: &str,
    ) -> Result<(), ValidateError> {
        let at = At::top("messages");
        let list = bounds::list(at, earlier, MAX_MESSAGES)?;
        let system = get(top, "system").map_or(Ok(""), |value| bounds::text(At::top("system"), value))?;
        self.body.key("messages");
        self.body.open(b'[');
        if !system.is_empty() {
            self.body.item();
            self.body.open(b'{');
            self.body.member("role", "system");
            self.body.member("content", system);
            self.body.close(b'}');
        }
        turns(self, at, list)?;
        self.body.item();
        self.body.open(b'{');
        self.body.member("role", "user");
        self.body.member("content", prompt);
        if let Some(images) = get(top, "images") {
            knobs::images(self, At::top("images"), images)?;
        }
        self.body.close(b'}');
        self.body.close(b']');
        Ok(())
    }
}

fn turns(draft: &mut Draft<'_>, at: At<'_>, list: &[Json<'_>]) -> Result<(), ValidateError> {
    for (index, value) in list.iter().enumerate() {
        turn(draft, at.item(index), value)?;
    }
    Ok(())
}

fn turn(draft: &mut Draft<'_>, at: At<'_>, value: &Json<'_>) -> Result<(), ValidateError> {
    let entries = bounds::object(at, value)?;
    object::vet("messages", entries, |key| FIELDS.contains(&key), &FIELDS, &mut draft.dropped)?;
    draft.body.item();
    draft.body.open(b'{');
    if let Some(value) = get(entries, "role") {
        draft.body.member("role", role(at.field("role"), value)?);
    }
    if let Some(value) = get(entries, "content") {
        draft.body.member("content", content(at.field("content"), value)?);
    }
    if let Some(value) = get(entries, "thinking") {
        draft.body.member("thinking", bounds::text(at.field("thinking"), value)?);
    }
    if let Some(value) = get(entries, "images") {
        knobs::images(draft, at.field("images"), value)?;
    }
    if let Some(value) = get(entries, "tool_calls") {
        tools::calls(draft, at.field("tool_calls"), value)?;
    }
    for name in ["tool_name", "tool_call_id"] {
        if let Some(value) = get(entries, name) {
            draft.body.member(name, bounds::short_text(at.field(name), value, MAX_WORD)?);
        }
    }
    draft.body.close(b'}');
    Ok(())
}

/// Any short text, or none: models have roles of their own (`document 1`, `tool_response`).
fn role<'t>(at: At<'_>, value: &'t Json<'_>) -> Result<&'t str, ValidateError> {
    let role = bounds::short_text(at, value, MAX_ROLE)?;
    // Most roles are words of ASCII, and need no second look.
    if role.bytes().any(|b| !(0x20..0x7f).contains(&b)) && role.chars().any(char::is_control) {
        return Err(at.refuse("must have no control characters"));
    }
    Ok(role)
}

/// A text. OpenAI's clients send a list of parts, which Ollama does not take.
fn content<'t>(at: At<'_>, value: &'t Json<'_>) -> Result<&'t str, ValidateError> {
    match value {
        Json::Arr(_) => Err(at.refuse(
            "must be a string, not a list of parts as in OpenAI's API: send the text as one string, and images as base64 in \
             the message's images",
        )),
        _ => bounds::text(at, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{no, ok, sent};
    use crate::endpoint::Proxied::{Chat, ChatApi};

    #[test]
    fn turns_are_rebuilt_from_known_fields() {
        let call = ok(
            Chat,
            r#"{"messages":[{"content":"a","role":"User","name":"x","thinking":null,"extra":[{}]},
               {"role":"tool","content":"","tool_name":"f","tool_call_id":"c1","name":"y"},{}]}"#,
        );
        let turns = json!([
            {"role": "User", "content": "a"},
            {"role": "tool", "content": "", "tool_name": "f", "tool_call_id": "c1"},
            {},
        ]);
        assert_eq!(sent(&call)["messages"], turns);
        assert_eq!(call.dropped, ["messages.name", "messages.extra"]);
    }

    #[test]
    fn wrong_turns_are_refused_by_name() {
        for (messages, field) in [
            (r#""hello""#, "messages: must be a list, not a string"),
            (r#"{"role":"user"}"#, "messages: must be a list, not an object"),
            (r#"["hello"]"#, "messages[0]: must be an object, not a string"),
            (r#"[{"content":5}]"#, "messages[0].content: must be a string, not a number"),
            (
                r#"[{"content":[{"type":"text","text":"canary"}]}]"#,
                "messages[0].content: must be a string, not a list of parts as in OpenAI's API: send the text as one string, and \
                 images as base64 in the message's images",
            ),
            (r#"[{},{"role":1}]"#, "messages[1].role: must be a string, not a number"),
            (r#"[{"role":"a\u0000b"}]"#, "messages[0].role: must have no control characters"),
            (r#"[{"role":"a\u0085b"}]"#, "messages[0].role: must have no control characters"),
            (r#"[{"tool_name":7}]"#, "messages[0].tool_name: must be a string, not a number"),
            (r#"[{"role":"user","Role":"system"}]"#, "key \"Role\" differs from \"role\" only by case"),
            (r#"[{"image\u017f":[]}]"#, "key \"imageſ\" differs from \"images\" only by case"),
        ] {
            assert_eq!(no(Chat, &format!("{{\"messages\":{messages}}}")), field);
        }
    }

    #[test]
    fn turns_roles_and_images_are_bounded() {
        let turns = |n: usize| format!("{{\"messages\":[{}{{}}]}}", "{},".repeat(n - 1));
        ok(Chat, &turns(999));
        ok(Chat, &turns(1_000));
        assert!(no(Chat, &turns(1_001)).starts_with("messages: must have at most 1000 items"));
        let role = |n: usize| format!("{{\"messages\":[{{\"role\":\"{}\"}}]}}", "é".repeat(n));
        ok(Chat, &role(0));
        ok(Chat, &role(63));
        ok(Chat, &role(64));
        assert!(no(Chat, &role(65)).starts_with("messages[0].role: must have at most 64 characters, not 65"));
        for name in ["document 1", "tool_response", "ipython", "user/assistant", "發言人"] {
            let call = ok(Chat, &json!({"messages": [{"role": name}]}).to_string());
            assert_eq!(sent(&call)["messages"][0]["role"], name);
        }
        let images = |n: usize| format!("{{\"messages\":[{}{{}}]}}", "{\"images\":[\"AAAA\"]},".repeat(n));
        ok(Chat, &images(64));
        assert!(no(Chat, &images(65)).starts_with("messages[64].images: a request may carry at most 64"));
    }

    #[test]
    fn earlier_turns_make_a_chat_of_chat_api() {
        let call = ok(
            ChatApi,
            r#"{"prompt":"now","messages":[{"role":"user","content":"then","images":["AAAA"]}],
               "system":"be kind","images":["AA=="],"options":{"seed":1},"think":false,"tools":[]}"#,
        );
        let body = json!({
            "model": "qwen3:4b", "stream": true,
            "messages": [
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": "then", "images": ["AAAA"]},
                {"role": "user", "content": "now", "images": ["AA=="]},
            ],
            "think": false, "options": {"seed": 1},
        });
        assert_eq!((call.path, sent(&call)), ("/api/chat", body));
        assert_eq!(call.dropped, ["tools"]);
        let call = ok(ChatApi, r#"{"prompt":"now","messages":[],"system":""}"#);
        assert_eq!(sent(&call)["messages"], json!([{"role": "user", "content": "now"}]));
        let many = format!(
            "{{\"prompt\":\"p\",\"messages\":[{{\"images\":[\"AAAA\"{}]}}],\"images\":[\"AAAA\"]}}",
            ",\"AAAA\"".repeat(63)
        );
        assert!(no(ChatApi, &many).starts_with("images: a request may carry at most 64"));
    }
}

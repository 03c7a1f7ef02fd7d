//! `/api/chat` and `/api/generate`: what Ollama checks, in its order, and the answer that comes of it.
//!
//! Takes a decoded request; gives a refusal, a load or unload notice, or an [`Answer`]. Of the prompt, only the number of words
//! matters (and the words themselves where the script echoes).

use super::answer::{Answer, Dialect, Words};
use super::catalog::{Capability, Entry};
use super::names::Name;
use super::options::{self, Options};
use super::reply::{Refusal, Reply, Whole, go_json};
use super::{Ask, NO_CLOUD, World};
use crate::go::fields::{self, Fields, Kind, Shape, duration_seconds};
use crate::go::text::{rfc3339, since_epoch};
use crate::script::Script;
use serde_json::{Map, Value, json};

/// What a model says where no script counts.
const TOKENS: usize = 24;
/// How long a model thinks before it answers.
const THOUGHTS: usize = 16;

const CHAT: Shape = Shape {
    name: "ChatRequest",
    fields: &[
        ("model", Kind::Text),
        ("messages", Kind::Messages),
        ("stream", Kind::Flag),
        ("format", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("tools", Kind::Tools),
        ("options", Kind::Options),
        ("think", Kind::Think),
        ("truncate", Kind::Flag),
        ("shift", Kind::Flag),
        ("_debug_render_only", Kind::Flag),
        ("logprobs", Kind::Flag),
        ("top_logprobs", Kind::Int),
    ],
};

const GENERATE: Shape = Shape {
    name: "GenerateRequest",
    fields: &[
        ("model", Kind::Text),
        ("prompt", Kind::Text),
        ("suffix", Kind::Text),
        ("system", Kind::Text),
        ("template", Kind::Text),
        ("context", Kind::Ints),
        ("stream", Kind::Flag),
        ("raw", Kind::Flag),
        ("format", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("images", Kind::Images),
        ("options", Kind::Options),
        ("think", Kind::Think),
        ("truncate", Kind::Flag),
        ("shift", Kind::Flag),
        ("_debug_render_only", Kind::Flag),
        ("logprobs", Kind::Flag),
        ("top_logprobs", Kind::Int),
    ],
};

fn missing(text: &str) -> impl Fn(&Name) -> Refusal {
    let text = format!("model '{text}' not found");
    move |_| Refusal::new(404, text.clone())
}

/// `POST /api/chat`.
pub(super) fn chat(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = fields::read(ask.body, &CHAT).map_err(|text| Refusal::new(400, text))?;
    let model = fields.text("model");
    if model.is_empty() {
        return Err(Refusal::new(400, "model is required"));
    }
    let entry = world.find(model, NO_CLOUD, missing(model))?;
    check_logprobs(&fields)?;
    if !entry.model.can(Capability::Completion) {
        return Err(Refusal::new(400, format!("{model:?} does not support chat")));
    }
    let messages = fields.list("messages");
    if messages.is_empty() {
        return Ok(residency(&entry, &fields, Dialect::Chat));
    }
    check_think(&entry, &fields)?;
    if !fields.list("tools").is_empty() && !entry.model.can(Capability::Tools) {
        return Err(lacks(&entry, "tools"));
    }
    let text = messages.iter().filter_map(|message| message.get("content")?.as_str());
    let images = messages.iter().any(|message| message.get("images").is_some_and(|images| !images.is_null()));
    let job = Job { entry: &entry, fields: &fields, dialect: Dialect::Chat, text: text.collect(), images };
    job.reply(ask.script)
}

/// `POST /api/generate`.
pub(super) fn generate(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = fields::read(ask.body, &GENERATE).map_err(|text| Refusal::new(400, text))?;
    let model = fields.text("model");
    if model.trim().is_empty() {
        return Err(missing(model)(&Name::parse("none").ok_or_else(|| Refusal::new(500, "no name"))?));
    }
    let entry = world.find(model, NO_CLOUD, missing(model))?;
    check_logprobs(&fields)?;
    if fields.flag("raw") == Some(true)
        && ["template", "system", "context"].iter().any(|key| given(&fields, key))
    {
        return Err(Refusal::new(400, "raw mode does not support template, system, or context"));
    }
    if !entry.model.can(Capability::Completion) {
        return Err(Refusal::new(400, format!("{model:?} does not support generate")));
    }
    if fields.text("prompt").is_empty() && fields.list("images").is_empty() {
        return Ok(residency(&entry, &fields, Dialect::Generate));
    }
    if !fields.text("suffix").is_empty() && !entry.model.can(Capability::Insert) {
        return Err(lacks(&entry, "insert"));
    }
    check_think(&entry, &fields)?;
    check_template(fields.text("template"))?;
    check_context(fields.list("context"))?;
    let text = vec![fields.text("system"), fields.text("prompt"), fields.text("suffix")];
    let images = !fields.list("images").is_empty();
    Job { entry: &entry, fields: &fields, dialect: Dialect::Generate, text, images }.reply(ask.script)
}

fn given(fields: &Fields, key: &str) -> bool {
    fields.get(key).is_some_and(|value| value.as_str() != Some(""))
}

fn lacks(entry: &Entry, what: &str) -> Refusal {
    let full = Name::parse(&entry.model.name).map_or_else(String::new, |name| name.full());
    Refusal::new(400, format!("{full} does not support {what}"))
}

fn check_logprobs(fields: &Fields) -> Result<(), Refusal> {
    match fields.get("top_logprobs").and_then(Value::as_i64) {
        Some(0..=20) | None => Ok(()),
        Some(_) => Err(Refusal::new(400, "top_logprobs must be between 0 and 20")),
    }
}

/// Whether the caller wants thoughts: `None` if it did not say.
fn thinks(fields: &Fields) -> Option<bool> {
    fields.get("think").map(|think| think.as_bool().unwrap_or(true))
}

fn check_think(entry: &Entry, fields: &Fields) -> Result<(), Refusal> {
    if thinks(fields) == Some(true) && !entry.model.can(Capability::Thinking) {
        return Err(Refusal::new(400, format!("{:?} does not support thinking", fields.text("model"))));
    }
    Ok(())
}

fn check_template(template: &str) -> Result<(), Refusal> {
    if template.matches("{{").count() > template.matches("}}").count() {
        return Err(Refusal::new(500, "template: :1: unclosed action"));
    }
    Ok(())
}

/// Token numbers that the vocabulary does not have.
fn check_context(context: &[Value]) -> Result<(), Refusal> {
    const VOCABULARY: i64 = 49_152;
    let odd = context.iter().filter_map(Value::as_i64).find(|id| !(0..VOCABULARY).contains(id));
    odd.map_or(Ok(()), |id| {
        let unsigned = u64::from_ne_bytes(id.to_ne_bytes());
        let text = format!(
            "vector::_M_range_check: __n (which is {unsigned}) >= this->size() (which is {VOCABULARY})"
        );
        let Refusal(status, text) = options::runner(500, "server_error", &text);
        Err(Refusal(status, format!("detokenize error: {text}")))
    })
}

/// Until when the model stays loaded after this request: seconds since 1970, 0 for not at all.
fn loaded_until(fields: &Fields) -> u64 {
    let now = since_epoch();
    let seconds = match fields.get("keep_alive") {
        Some(Value::String(text)) => duration_seconds(text),
        Some(value) => value.as_f64(),
        None => None,
    };
    match seconds.map(std::time::Duration::try_from_secs_f64) {
        None => now.as_secs() + 300,
        Some(Ok(keep)) if keep.is_zero() => 0,
        Some(Ok(keep)) => now.saturating_add(keep).as_secs(),
        // Negative: for ever, which Ollama shows as three hundred years.
        Some(Err(_)) => now.as_secs() + 9_223_372_036,
    }
}

/// Nothing to say: the model is loaded or unloaded, always in one object.
fn residency(entry: &Entry, fields: &Fields, dialect: Dialect) -> Reply {
    let until = loaded_until(fields);
    entry.keep_until(until);
    let reason = if until == 0 { "unload" } else { "load" };
    object(fields.text("model"), dialect, "assistant", |members| {
        members.insert("done".to_owned(), json!(true));
        members.insert("done_reason".to_owned(), json!(reason));
    })
}

/// An empty answer with more members.
fn object(model: &str, dialect: Dialect, role: &str, more: impl FnOnce(&mut Map<String, Value>)) -> Reply {
    let mut members = Map::new();
    members.insert("model".to_owned(), json!(model));
    members.insert("created_at".to_owned(), json!(rfc3339(since_epoch())));
    match dialect {
        Dialect::Chat => members.insert("message".to_owned(), json!({ "role": role, "content": "" })),
        Dialect::Generate => members.insert("response".to_owned(), json!("")),
    };
    more(&mut members);
    Whole::json(200, go_json(&Value::Object(members))).into()
}

/// A request that passed the checks of its own route.
struct Job<'a> {
    entry: &'a Entry,
    fields: &'a Fields,
    dialect: Dialect,
    text: Vec<&'a str>,
    images: bool,
}

impl Job<'_> {
    fn reply(&self, script: &Script) -> Result<Reply, Refusal> {
        let options = Options::read(self.fields.get("options"))?;
        if self.fields.flag("_debug_render_only") == Some(true) {
            return Ok(self.rendered());
        }
        options::check_format(self.fields.get("format"))?;
        if self.images && !self.entry.model.can(Capability::Vision) {
            let text = "Multimodal data provided, but model does not support multimodal requests.";
            return Err(options::runner(400, "invalid_request_error", text));
        }
        options.check()?;
        let prompt_tokens = 10 + self.text.iter().map(|text| text.split_whitespace().count()).sum::<usize>();
        let context =
            options.num_ctx.map_or(self.entry.model.context(), |n| usize::try_from(n).unwrap_or(4).max(4));
        if prompt_tokens > context && self.fields.flag("truncate") == Some(false) {
            return Err(too_long(prompt_tokens, context));
        }
        let cold = !self.entry.keep_until(loaded_until(self.fields));
        Ok(Reply::Model(Box::new(self.answer(script, options, prompt_tokens.min(context), cold))))
    }

    fn answer(&self, script: &Script, options: Options, prompt_tokens: usize, cold: bool) -> Answer {
        let fields = self.fields;
        let words = self.words(script);
        let said = match &words {
            Words::Said(words) => words.len() + script.thoughts.unwrap_or(0),
            _ => TOKENS,
        };
        let wanted = script.tokens.unwrap_or(said);
        // 0 and less mean no limit; the model then stops by itself.
        let limit =
            options.num_predict.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        let tokens =
            if script.endless { usize::MAX } else { limit.map_or(wanted, |limit| limit.min(wanted)) };
        let done_reason = if limit.is_some_and(|limit| limit <= wanted) { "length" } else { "stop" };
        let tool_call = fields.list("tools").first().map(tool_call);
        let thinking = self.entry.model.can(Capability::Thinking) && thinks(fields) != Some(false);
        Answer {
            dialect: self.dialect,
            stream: fields.flag("stream") != Some(false),
            model: fields.text("model").to_owned(),
            remote: self.entry.model.remote.clone(),
            tokens,
            thoughts: script.thoughts.unwrap_or(if thinking { THOUGHTS } else { 0 }).min(tokens),
            words,
            done_reason: if tool_call.is_some() { "stop" } else { done_reason },
            tool_call,
            logprobs: (fields.flag("logprobs") == Some(true)).then(|| {
                let most = fields.get("top_logprobs").and_then(Value::as_u64).unwrap_or(0);
                usize::try_from(most).unwrap_or(0)
            }),
            context: fields.flag("raw") != Some(true),
            prompt_tokens,
            cold,
        }
    }

    /// The prompt, or the last turn of a user.
    fn asked(&self) -> &str {
        let user = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some("user");
        let turn = self.fields.list("messages").iter().rev().find(user);
        let content = turn.and_then(|turn| turn.get("content")).and_then(Value::as_str);
        content.unwrap_or_else(|| self.fields.text("prompt"))
    }

    fn words(&self, script: &Script) -> Words {
        if let Some(text) = &script.text {
            let letters: Vec<char> = text.replace("{prompt}", self.asked()).chars().collect();
            let size = script.token_size.unwrap_or(5).max(1);
            return Words::Said(letters.chunks(size).map(|token| token.iter().collect()).collect());
        }
        if script.echo {
            let words = self.text.iter().flat_map(|text| text.split_inclusive(' ')).map(str::to_owned);
            return Words::Echo(words.collect());
        }
        match (&script.token, script.token_size) {
            (Some(token), _) => Words::Same(token.as_str().into()),
            (None, Some(size)) => Words::Same("x".repeat(size).into()),
            (None, None) => Words::Own,
        }
    }

    /// The undocumented switch: the prompt as the model would read it.
    fn rendered(&self) -> Reply {
        let template = self.fields.text("template");
        let text: String = if template.is_empty() {
            let turn = |text: &&str| format!("<|im_start|>user\n{text}<|im_end|>\n");
            self.text.iter().map(turn).chain(["<|im_start|>assistant\n".to_owned()]).collect()
        } else {
            self.text.concat()
        };
        object(self.fields.text("model"), self.dialect, "", |members| {
            members.insert("done".to_owned(), json!(false));
            members.insert("_debug_info".to_owned(), json!({ "rendered_template": text }));
        })
    }
}

fn too_long(tokens: usize, context: usize) -> Refusal {
    Refusal::new(
        400,
        format!(
            "{{\"error\":{{\"code\":400,\"message\":\"request ({tokens} tokens) exceeds the available context size \
             ({context} tokens), try increasing it\",\"type\":\"exceed_context_size_error\",\
             \"n_prompt_tokens\":{tokens},\"n_ctx\":{context}}}}}"
        ),
    )
}

/// A call of this tool: each property of its schema with a value of its type.
fn tool_call(tool: &Value) -> String {
    let name = tool.pointer("/function/name").and_then(Value::as_str).unwrap_or_default();
    let properties = tool.pointer("/function/parameters/properties").and_then(Value::as_object);
    let value = |schema: &Value| match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("Oslo"),
    };
    let arguments: Map<String, Value> =
        properties.into_iter().flatten().map(|(key, schema)| (key.clone(), value(schema))).collect();
    let call = json!({
        "id": "call_m0ck0001",
        "function": { "index": 0, "name": name, "arguments": arguments },
    });
    go_json(&call)
}

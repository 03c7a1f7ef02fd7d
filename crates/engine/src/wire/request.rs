//! The requests of the inference routes.
//!
//! Takes a body and promises a typed request whose model exists. It refuses, in Ollama's order and words, what
//! this engine's models cannot do: tools, thinking, images, inserting, custom templates.

use std::sync::Arc;

use serde_json::Value;

use super::Refusal;
use super::duration::KeepAlive;
use super::fields::Fields;
use super::format::Format;
use super::options::Options;
use crate::infer::job::{Embedding, Generation, Prompt, Task, Turn};
use crate::library::{Entry, Library};
use crate::names::NameFault;

/// What a route asks of the worker, and how the caller wants the answer.
#[derive(Debug)]
pub struct Wanted {
    /// The model as the caller wrote it; answers repeat it.
    pub asked: String,
    /// The model.
    pub entry: Arc<Entry>,
    /// `keep_alive` of the request.
    pub keep_alive: Option<KeepAlive>,
    /// `options.num_ctx` of the request.
    pub num_ctx: Option<i64>,
    /// Lines, or one whole answer.
    pub stream: bool,
    /// The work.
    pub task: Task,
}

/// Finds a model for an inference route.
fn find(library: &Library, asked: &str) -> Result<Arc<Entry>, Refusal> {
    match library.find(asked) {
        Ok(Some(entry)) => Ok(entry),
        Ok(None) => Err(Refusal::no_model(asked)),
        Err(NameFault::Malformed) => Err(Refusal::new(400, "invalid model name")),
        Err(NameFault::Cloud) => Err(cloud("remote model is unavailable")),
    }
}

/// Ollama's answer for a cloud model where the cloud is off; it always is here.
pub fn cloud(what: &str) -> Refusal {
    Refusal::new(403, format!("ollama cloud is disabled: {what}"))
}

/// Reads `POST /api/chat`.
pub fn chat(body: &[u8], library: &Library) -> Result<Wanted, Refusal> {
    let fields = Fields::of_body(body, "ChatRequest")?;
    let common = Common::read(&fields)?;
    let turns = turns(&fields)?;
    if common.asked.is_empty() {
        return Err(Refusal::new(400, "model is required"));
    }
    let logprobs = logprobs(&fields)?;
    let entry = find(library, &common.asked)?;
    if entry.gguf.is_embedding() {
        return Err(Refusal::new(400, format!("\"{}\" does not support chat", common.asked)));
    }
    if !fields.list("tools", "[]api.Tool")?.is_empty() {
        return Err(Refusal::new(400, format!("{} does not support tools", entry.name.full())));
    }
    think(&fields, &common.asked)?;
    if turns.is_empty() {
        return Ok(common.wanted(entry, None, Task::Load));
    }
    for message in fields.objects("messages", "api.Message")? {
        images(&message)?;
    }
    let generation = Generation {
        prompt: Prompt::Chat(turns),
        options: Options::read(&fields.map("options")?)?,
        format: Format::read(fields.raw("format"), body)?,
        truncate: fields.truth("truncate")?.unwrap_or(true),
        logprobs,
        context: None,
    };
    let num_ctx = generation.options.num_ctx;
    Ok(common.wanted(entry, num_ctx, Task::Generate(Box::new(generation))))
}

/// Reads `POST /api/generate`.
pub fn generate(body: &[u8], library: &Library) -> Result<Wanted, Refusal> {
    let fields = Fields::of_body(body, "GenerateRequest")?;
    let common = Common::read(&fields)?;
    let prompt = fields.text("prompt")?;
    let (system, template, suffix) =
        (fields.text("system")?, fields.text("template")?, fields.text("suffix")?);
    let context = context(&fields)?;
    let raw = fields.truth("raw")?.unwrap_or(false);
    let logprobs = logprobs(&fields)?;
    if common.asked.trim().is_empty() {
        return Err(Refusal::no_model(&common.asked));
    }
    let entry = find(library, &common.asked)?;
    if raw && !(template.is_empty() && system.is_empty() && context.is_empty()) {
        return Err(Refusal::new(400, "raw mode does not support template, system, or context"));
    }
    if entry.gguf.is_embedding() {
        return Err(Refusal::new(400, format!("\"{}\" does not support generate", common.asked)));
    }
    if !suffix.is_empty() {
        return Err(Refusal::new(400, format!("{} does not support insert", entry.name.full())));
    }
    think(&fields, &common.asked)?;
    images(&fields)?;
    if !template.is_empty() {
        return Err(Refusal::new(400, "this server does not support custom templates"));
    }
    if prompt.is_empty() {
        return Ok(common.wanted(entry, None, Task::Load));
    }
    let mut turns = Vec::new();
    if !system.is_empty() {
        turns.push(Turn { role: "system".into(), content: system });
    }
    let generation = Generation {
        prompt: if raw {
            Prompt::Raw(prompt)
        } else {
            turns.push(Turn { role: "user".into(), content: prompt });
            Prompt::Chat(turns)
        },
        options: Options::read(&fields.map("options")?)?,
        format: Format::read(fields.raw("format"), body)?,
        truncate: fields.truth("truncate")?.unwrap_or(true),
        logprobs,
        context: (!raw).then_some(context),
    };
    let num_ctx = generation.options.num_ctx;
    Ok(common.wanted(entry, num_ctx, Task::Generate(Box::new(generation))))
}

/// Reads `POST /api/embed`.
pub fn embed(body: &[u8], library: &Library) -> Result<Wanted, Refusal> {
    let fields = Fields::of_body(body, "EmbedRequest")?;
    let common = Common::read(&fields)?;
    let invalid = || Refusal::new(400, "invalid input type");
    let inputs = match fields.raw("input") {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list
            .iter()
            .map(|v| v.as_str().map(str::to_owned).ok_or_else(invalid))
            .collect::<Result<_, _>>()?,
        _ => return Err(invalid()),
    };
    let dimensions = fields.int("dimensions")?.and_then(|n| usize::try_from(n).ok());
    let truncate = fields.truth("truncate")?.unwrap_or(true);
    embedding(&fields, common, library, Embedding { inputs, dimensions, truncate })
}

/// Reads `POST /api/embeddings`, the older form of one text.
pub fn embeddings(body: &[u8], library: &Library) -> Result<Wanted, Refusal> {
    let fields = Fields::of_body(body, "EmbeddingRequest")?;
    let common = Common::read(&fields)?;
    let inputs = Some(fields.text("prompt")?).filter(|text| !text.is_empty()).into_iter().collect();
    embedding(&fields, common, library, Embedding { inputs, dimensions: None, truncate: true })
}

fn embedding(fields: &Fields, common: Common, library: &Library, work: Embedding) -> Result<Wanted, Refusal> {
    if common.asked.is_empty() {
        return Err(Refusal::no_model(&common.asked));
    }
    let entry = find(library, &common.asked).map_err(|refusal| match refusal.status {
        404 => Refusal::pull_first(&common.asked),
        _ => refusal,
    })?;
    let num_ctx = Options::read(&fields.map("options")?)?.num_ctx;
    let task = if work.inputs.is_empty() { Task::Load } else { Task::Embed(work) };
    Ok(Common { stream: false, ..common }.wanted(entry, num_ctx, task))
}

/// What all inference routes have.
struct Common {
    asked: String,
    stream: bool,
    keep_alive: Option<KeepAlive>,
}

impl Common {
    fn read(fields: &Fields) -> Result<Self, Refusal> {
        Ok(Self {
            asked: fields.text("model")?,
            stream: fields.truth("stream")?.unwrap_or(true),
            keep_alive: KeepAlive::of_field(fields.raw("keep_alive"))?,
        })
    }

    fn wanted(self, entry: Arc<Entry>, num_ctx: Option<i64>, task: Task) -> Wanted {
        let none = self.keep_alive == Some(KeepAlive::For(std::time::Duration::ZERO));
        // An empty request that wants nothing kept is how clients unload a model.
        let task = if none && matches!(task, Task::Load) { Task::Unload } else { task };
        let Self { asked, stream, keep_alive } = self;
        Wanted { asked, entry, keep_alive, num_ctx, stream, task }
    }
}

fn turns(fields: &Fields) -> Result<Vec<Turn>, Refusal> {
    let turn = |message: &Fields| {
        Ok(Turn { role: message.text("role")?.to_lowercase(), content: message.text("content")? })
    };
    fields.objects("messages", "api.Message")?.iter().map(turn).collect()
}

fn context(fields: &Fields) -> Result<Vec<i64>, Refusal> {
    let list = fields.list("context", "[]int")?;
    let wrong = || {
        Refusal::new(400, "json: cannot unmarshal into Go struct field GenerateRequest.context of type int")
    };
    list.iter().map(|id| id.as_i64().ok_or_else(wrong)).collect()
}

fn logprobs(fields: &Fields) -> Result<Option<usize>, Refusal> {
    let top = fields.int("top_logprobs")?.unwrap_or(0);
    let top = usize::try_from(top).ok().filter(|top| *top <= 20);
    let top = top.ok_or_else(|| Refusal::new(400, "top_logprobs must be between 0 and 20"))?;
    Ok(fields.truth("logprobs")?.unwrap_or(false).then_some(top))
}

fn think(fields: &Fields, asked: &str) -> Result<(), Refusal> {
    let wanted = match fields.raw("think") {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::String(level) if ["low", "medium", "high", "max"].contains(&level.as_str()) => true,
        Value::String(level) => {
            let words = "(must be \"high\", \"medium\", \"low\", \"max\", true, or false)";
            return Err(Refusal::new(400, format!("invalid think value: {level:?} {words}")));
        }
        _ => {
            return Err(Refusal::new(
                400,
                "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)",
            ));
        }
    };
    if wanted { Err(Refusal::new(400, format!("{asked:?} does not support thinking"))) } else { Ok(()) }
}

fn images(fields: &Fields) -> Result<(), Refusal> {
    let images = fields.texts("images")?;
    if let Some(at) = images.iter().find_map(|image| base64_fault(image)) {
        return Err(Refusal::new(400, format!("illegal base64 data at input byte {at}")));
    }
    if images.is_empty() {
        return Ok(());
    }
    let text = "Multimodal data provided, but model does not support multimodal requests.";
    Err(Refusal::nested(400, "invalid_request_error", text))
}

/// Where text stops being standard base64.
fn base64_fault(text: &str) -> Option<usize> {
    let padding = text.len() - text.trim_end_matches('=').len();
    let data = text.len() - padding;
    let bad = text.bytes().take(data).position(|b| !(b.is_ascii_alphanumeric() || b == b'+' || b == b'/'));
    bad.or_else(|| (!text.len().is_multiple_of(4) || padding > 2).then_some(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(read: impl Fn(&[u8], &Library) -> Result<Wanted, Refusal>, body: &str) -> (u16, String) {
        let refusal = read(body.as_bytes(), &Library::default()).unwrap_err();
        (refusal.status, refusal.text)
    }

    #[test]
    fn models_that_are_not_here_are_refused_in_each_routes_words() {
        assert_eq!(refused(chat, "{}"), (400, "model is required".into()));
        assert_eq!(refused(chat, r#"{"model":"nope"}"#), (404, "model 'nope' not found".into()));
        assert_eq!(refused(chat, r#"{"model":"a//b"}"#), (400, "invalid model name".into()));
        assert_eq!(refused(chat, r#"{"model":"x:cloud"}"#).0, 403);
        assert_eq!(refused(generate, r#"{"model":"  "}"#), (404, "model '  ' not found".into()));
        assert_eq!(refused(embed, r#"{"input":"a"}"#), (404, "model '' not found".into()));
        let words = "model \"nope\" not found, try pulling it first";
        assert_eq!(refused(embed, r#"{"model":"nope","input":"a"}"#), (404, words.into()));
        assert_eq!(refused(embeddings, r#"{"model":"nope","prompt":"a"}"#), (404, words.into()));
        assert_eq!(refused(embed, r#"{"model":"nope","input":[["a"]]}"#), (400, "invalid input type".into()));
    }

    #[test]
    fn base64_is_checked() {
        assert_eq!(base64_fault("iVBORw0KGgo="), None);
        assert_eq!(base64_fault("%%%"), Some(0));
        assert_eq!(base64_fault("abc"), Some(3));
        assert_eq!(base64_fault("ab=c"), Some(2));
    }
}

//! Ollama's native requests: which fields each route has, and the body that is rebuilt from them.
//!
//! Takes the whole body of a native inference request or of `/api/show`; promises a [`Call`] whose body holds only fields
//! that the tables in `schema` list, each judged by its rule. Refuses by [`ValidateError`].

pub mod answer;
mod draft;
pub mod fault;
mod glance;
mod grammar;
mod keep_alive;
mod knobs;
mod messages;
pub mod models;
mod options;
mod schema;
#[cfg(test)]
mod testing;
mod tools;

use crate::dialect::{Call, Shape};
use crate::endpoint::Proxied;
use crate::types::{Caps, ModelName};
use crate::validate::bounds::{self, At};
use crate::validate::json::{self, Entries, Json};
use crate::validate::object::get;
use crate::validate::{Rules, ValidateError};

use draft::{Draft, asks_stream};

/// Judges a body, by the rules and by what this caller may ask for, and rebuilds it for the upstream. `default` says which model a
/// request gets that names none.
pub fn parse(
    endpoint: Proxied,
    body: &[u8],
    rules: &Rules,
    caps: Caps,
    default: &dyn Fn() -> ModelName,
) -> Result<Call, ValidateError> {
    let json::Document { top, mended } = json::parse(body)?;
    let mut draft = Draft::new(rules, caps, default, body.len());
    for field in &mended {
        draft.dropped.note("", field);
    }
    match endpoint {
        Proxied::Chat => chat(draft, &top),
        Proxied::Generate => generate(draft, &top),
        Proxied::ChatApi => chat_api(draft, &top),
        Proxied::Embed => embed(draft, &top),
        Proxied::Embeddings => embeddings(draft, &top),
        Proxied::Show => show(draft, &top),
        Proxied::Tags | Proxied::Ps | Proxied::Version => {
            Err(ValidateError::Json("this route takes no request body".into()))
        }
    }
}

fn chat(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::CHAT)?;
    let model = draft.model(top)?;
    let stream = draft.stream(top)?;
    draft.idle = get(top, "messages").is_none_or(is_empty);
    draft.generates = true;
    draft.fields(top, schema::CHAT)?;
    Ok(draft.finish("/api/chat", Shape::Chat, model, stream))
}

fn generate(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::GENERATE)?;
    let model = draft.model(top)?;
    let stream = draft.stream(top)?;
    draft.idle = get(top, "prompt").is_none_or(is_empty);
    draft.generates = true;
    draft.fields(top, schema::GENERATE)?;
    Ok(draft.finish("/api/generate", Shape::Generate, model, stream))
}

/// `{model?, prompt}`: a prompt alone is generated from; with earlier turns it is the last turn of a chat.
fn chat_api(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::CHAT_API)?;
    let at = At::top("prompt");
    let prompt = get(top, "prompt").map_or(Ok(""), |value| bounds::text(at, value))?;
    if prompt.is_empty() {
        return Err(at.refuse("is required, and must not be empty"));
    }
    let model = draft.model(top)?;
    if !asks_stream(top)? {
        draft.dropped.note("", "stream");
    }
    draft.body.member("stream", &true);
    draft.generates = true;
    let (path, shape) = if let Some(earlier) = get(top, "messages") {
        draft.conversation(top, earlier, prompt)?;
        ("/api/chat", Shape::Chat)
    } else {
        draft.fields(top, schema::CHAT_API_PROMPT)?;
        ("/api/generate", Shape::Generate)
    };
    draft.fields(top, schema::CHAT_API_REST)?;
    Ok(draft.finish(path, shape, model, true))
}

fn embed(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::EMBED)?;
    let model = draft.model(top)?;
    asks_stream(top)?;
    draft.idle = get(top, "input").is_none_or(is_empty);
    draft.fields(top, schema::EMBED)?;
    Ok(draft.finish("/api/embed", Shape::Embed, model, false))
}

fn embeddings(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::EMBEDDINGS)?;
    let model = draft.model(top)?;
    asks_stream(top)?;
    draft.idle = get(top, "prompt").is_none_or(is_empty);
    draft.fields(top, schema::EMBEDDINGS)?;
    Ok(draft.finish("/api/embeddings", Shape::Embeddings, model, false))
}

fn show(mut draft: Draft<'_>, top: &Entries<'_>) -> Result<Call, ValidateError> {
    draft.vet(top, schema::SHOW)?;
    let model = draft.shown_model(top)?;
    asks_stream(top)?;
    draft.fields(top, schema::SHOW)?;
    Ok(draft.finish("/api/show", Shape::Show, model, false))
}

/// Is there nothing to answer, so that Ollama would only load the model?
fn is_empty(value: &Json<'_>) -> bool {
    match value {
        Json::Str(text) => text.is_empty(),
        Json::Arr(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

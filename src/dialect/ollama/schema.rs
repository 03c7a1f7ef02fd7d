//! The fields of every route, in the order they are sent, each with its rule. What is not listed is dropped.

/// How a field of the top level is judged and written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Any text.
    Text,
    /// Text, of which the empty one is absent.
    FilledText,
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds, both included.
    Int(i64, i64),
    /// `"json"` or a schema.
    Format,
    /// A boolean or a level.
    Think,
    /// Base64 data.
    Images,
    /// Token ids.
    Context,
    /// Texts to embed.
    Input,
    /// Turns of a chat.
    Messages,
    /// Functions that the model may call.
    Tools,
    /// Sampling and loading.
    Options,
    /// How long the model stays.
    KeepAlive,
    /// A boolean that makes the model load again: the operator's, unless opened.
    LoadFlag,
    /// Nobody may fill it in.
    Refused,
    /// Read elsewhere: by name, before the table's turn.
    Elsewhere,
}

/// A field and its rule.
pub(super) type Field = (&'static str, Rule);

/// `POST /api/chat`.
pub(super) const CHAT: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("messages", Rule::Messages),
    ("tools", Rule::Tools),
    ("format", Rule::Format),
    ("think", Rule::Think),
    ("truncate", Rule::Flag),
    ("shift", Rule::LoadFlag),
    ("logprobs", Rule::Flag),
    ("top_logprobs", Rule::Int(0, 20)),
    ("template", Rule::Refused),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /api/generate`.
pub(super) const GENERATE: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("prompt", Rule::Text),
    ("suffix", Rule::FilledText),
    ("system", Rule::FilledText),
    ("template", Rule::Refused),
    ("images", Rule::Images),
    ("context", Rule::Context),
    ("raw", Rule::Flag),
    ("format", Rule::Format),
    ("think", Rule::Think),
    ("truncate", Rule::Flag),
    ("shift", Rule::LoadFlag),
    ("logprobs", Rule::Flag),
    ("top_logprobs", Rule::Int(0, 20)),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /chat_api`: what it knows in all.
pub(super) const CHAT_API: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("prompt", Rule::Text),
    ("messages", Rule::Messages),
    ("system", Rule::FilledText),
    ("images", Rule::Images),
    ("format", Rule::Format),
    ("think", Rule::Think),
    ("template", Rule::Refused),
    ("shift", Rule::LoadFlag),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /chat_api` without earlier turns: what of it `/api/generate` alone takes so.
pub(super) const CHAT_API_PROMPT: &[Field] =
    &[("prompt", Rule::Text), ("system", Rule::FilledText), ("images", Rule::Images)];

/// `POST /chat_api`: what passes both ways.
pub(super) const CHAT_API_REST: &[Field] = &[
    ("format", Rule::Format),
    ("think", Rule::Think),
    ("template", Rule::Refused),
    ("shift", Rule::LoadFlag),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /api/embed`.
pub(super) const EMBED: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("input", Rule::Input),
    ("truncate", Rule::Flag),
    ("dimensions", Rule::Int(1, 65_536)),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /api/embeddings`.
pub(super) const EMBEDDINGS: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("prompt", Rule::Text),
    ("options", Rule::Options),
    ("keep_alive", Rule::KeepAlive),
];

/// `POST /api/show`; `name` is the older spelling of `model`.
pub(super) const SHOW: &[Field] = &[
    ("model", Rule::Elsewhere),
    ("name", Rule::Elsewhere),
    ("stream", Rule::Elsewhere),
    ("verbose", Rule::Flag),
];

/// Every field of the top level that Ollama reads on any of these routes: a case variant of one is refused on each.
pub(super) const WATCHED: &[&str] = &[
    "model",
    "name",
    "stream",
    "prompt",
    "messages",
    "options",
    "keep_alive",
    "system",
    "suffix",
    "template",
    "images",
    "context",
    "raw",
    "format",
    "think",
    "tools",
    "truncate",
    "shift",
    "logprobs",
    "top_logprobs",
    "input",
    "dimensions",
    "verbose",
    "_debug_render_only",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_watched_and_lower_case() {
        let routes = [CHAT, GENERATE, CHAT_API, CHAT_API_PROMPT, CHAT_API_REST, EMBED, EMBEDDINGS, SHOW];
        for (name, _) in routes.into_iter().flatten() {
            assert!(WATCHED.contains(name), "{name}");
        }
        // `object::vet` folds the key, not the name.
        assert!(WATCHED.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn chat_api_reads_all_that_it_knows() {
        for (name, _) in CHAT_API {
            let elsewhere = ["model", "stream", "messages"].contains(name);
            let read = CHAT_API_PROMPT.iter().chain(CHAT_API_REST).any(|(other, _)| other == name);
            assert!(elsewhere || read, "{name}");
        }
    }
}

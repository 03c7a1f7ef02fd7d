//! Validate: what may be sent on.
//!
//! Takes the body of a request as it comes; promises values that were read strictly, each within its bound, and a writer for
//! the body that goes on, so that no byte of the caller's reaches an upstream. Refuses what two parsers could read differently.
//!
//! The rooms here know media types, JSON and bounds; which fields a route has, and so what a call is,
//! is the business of `dialect`.

pub mod bounds;
pub mod intake;
pub mod json;
pub(crate) mod lexer;
pub mod object;
pub mod writer;

use crate::config::{Config, Limits, Options};
use crate::record::mask;
use crate::types::ModelName;

/// What policy says about bodies. Built once from the configuration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The model of a request that names none.
    pub default_model: ModelName,
    /// Did somebody choose it? Otherwise another stands in where the upstream lacks it.
    pub default_chosen: bool,
    /// Bounds on context and output, in tokens.
    pub limits: Limits,
    /// Which options are the caller's to set.
    pub options: Options,
    /// May names of cloud models pass?
    pub cloud_models: bool,
}

impl Rules {
    /// From the configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            default_model: config.default_model.clone(),
            default_chosen: config.default_model_set,
            limits: config.limits,
            options: config.options,
            cloud_models: config.routes.cloud_models,
        }
    }
}

/// Why a body was refused. What it displays is the text for the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValidateError {
    /// 400: a key in the URL, where logs and histories keep it.
    #[error("a key belongs in the Authorization header, not in the URL: rotate it, since URLs are logged")]
    KeyInUrl,
    /// 415: not JSON in UTF-8 as it is.
    #[error("{0}")]
    MediaType(&'static str),
    /// 413: more bytes than a body may have.
    #[error("the body is larger than limits.body ({cap} bytes)")]
    TooLarge {
        /// The bound.
        cap: usize,
    },
    /// 400: no JSON that every parser reads alike.
    #[error("{0}")]
    Json(String),
    /// 400: a field of the wrong type or beyond its bound.
    #[error("{field}: {message}")]
    Field {
        /// Where it is: `options.top_k`, `messages[2].role`.
        field: String,
        /// So many bytes of it are our own words; a key that the caller chose may follow.
        ours: usize,
        /// The bound and what came instead; never the content of a prompt.
        message: String,
    },
    /// 403: the model would run on somebody else's machine, on the operator's account.
    #[error("cloud models are not served here")]
    CloudModel,
    /// 403: an empty prompt that unloads the model for everybody.
    #[error("unloading a model (keep_alive 0 without a prompt) needs an admin key")]
    Unload,
    /// 400: no model can have this name.
    #[error("{0}")]
    ModelName(String),
}

impl ValidateError {
    /// For logs: which rule and which field, never what was received. A prompt may stand in the wrong place.
    pub fn detail(&self) -> String {
        match self {
            Self::Field { field, ours, .. } => match field.split_at_checked(*ours) {
                Some((ours, "")) => format!("{ours} is refused"),
                _ => format!("{}… is refused", field.get(..*ours).unwrap_or_default()),
            },
            Self::Json(_) => "the body is not JSON that every parser reads alike".into(),
            Self::ModelName(_) => "the model's name is not valid".into(),
            other => other.to_string(),
        }
    }
}

/// Received text as an error may show it: without what has the form of a key, quoted, escaped, at most 40 characters and 100 bytes.
pub(crate) fn shown(text: &str) -> String {
    // Before it is cut: what is left over of a key is found no more.
    let text = &*mask(text);
    let mut bytes = 0;
    let fits = |(_, c): &(usize, char)| {
        bytes += c.escape_debug().count().max(c.len_utf8());
        bytes <= 100
    };
    let end = text.char_indices().take(40).take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    match text.get(..end) {
        Some(head) if head.len() < text.len() => format!("{head:?}…"),
        _ => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_text_is_escaped_and_cut() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert_eq!(shown(&"é".repeat(40)), format!("\"{}\"", "é".repeat(40)));
        assert_eq!(shown(&"é".repeat(41)), format!("\"{}\"…", "é".repeat(40)));
        assert!(shown(&"\u{1}".repeat(1_000)).len() < 128);
        assert_eq!(shown(""), "\"\"");
        let ours = format!("{}pc_abcdEFGH_{}", "-".repeat(20), "a1".repeat(30));
        assert_eq!(shown(&ours), format!("\"{}pc_abcdEFGH_…\"", "-".repeat(20)));
        assert_eq!(
            shown(&format!("{}{}", "-".repeat(20), "a1".repeat(30))),
            format!("\"{}…\"", "-".repeat(20))
        );
    }

    #[test]
    fn errors_speak_to_the_caller() {
        let field = ValidateError::Field {
            field: "options.top_k".into(),
            ours: 13,
            message: "must be a number".into(),
        };
        assert_eq!(field.to_string(), "options.top_k: must be a number");
        assert_eq!(ValidateError::Json("duplicate key \"a\"".into()).to_string(), "duplicate key \"a\"");
    }
}

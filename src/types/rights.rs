//! What a key may use, and how much: the models by glob, the limits by number.

use serde::{Deserialize, Serialize};

use super::ModelName;

/// Limits of one key. Absent: the configuration's; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLimits {
    /// Requests to models in a minute; a minute's allowance may be used at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Requests that run at once; what is beyond waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Tokens of prompts and answers in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Tokens in a month (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// Seconds of the model server's work in a day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_seconds_per_day: Option<u64>,
    /// Tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// Tokens of context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context: Option<u32>,
    /// Turns in the queue for each turn of a key with 1, from 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// What one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// The largest `num_ctx`.
    pub max_context: Option<u32>,
    /// The largest `num_predict`.
    pub max_output: Option<u32>,
    /// `num_predict` where the caller names none.
    pub fill_output: Option<u32>,
    /// May the caller unload a model?
    pub unload: bool,
}

/// A pattern over canonical model names, in which `*` stands for any text: `qwen3:*`, `team/*`, `alpha` (that is `alpha:latest`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelGlob(String);

/// No model's name can fit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no model's name can fit this pattern")]
pub struct InvalidGlob;

impl ModelGlob {
    /// Reads a pattern in any spelling that a model's name may have.
    pub fn parse(text: &str) -> Result<Self, InvalidGlob> {
        let text = text.trim();
        if !text.contains('*') {
            return ModelName::parse(text)
                .map(|name| Self(name.as_str().to_owned()))
                .map_err(|_| InvalidGlob);
        }
        let lower = text.to_ascii_lowercase();
        let rest =
            ["https://", "http://"].iter().find_map(|scheme| lower.strip_prefix(scheme)).unwrap_or(&lower);
        let rest = rest.strip_prefix("registry.ollama.ai/").unwrap_or(rest);
        let rest = rest.strip_prefix("library/").unwrap_or(rest);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"*_-.:/".contains(&b);
        // `library/*` means every model without another namespace, which no pattern here says.
        let widened = rest == "*" && lower != "*";
        if widened || rest.len() > 256 || !rest.bytes().all(fits) || rest.matches('*').count() > 8 {
            return Err(InvalidGlob);
        }
        Ok(Self(rest.to_owned()))
    }

    /// A pattern that was read before, as [`ModelGlob::as_str`] gave it.
    pub fn known(text: String) -> Self {
        Self(text)
    }

    /// The pattern as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does this name fit?
    pub fn fits(&self, name: &ModelName) -> bool {
        let mut rest = name.as_str();
        let mut parts = self.0.split('*');
        let Some(after) = parts.next().and_then(|first| rest.strip_prefix(first)) else { return false };
        if !self.0.contains('*') {
            return after.is_empty();
        }
        rest = after;
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            // The earliest place leaves the most for what follows.
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_canonical_names() {
        let fits =
            |glob: &str, name: &str| ModelGlob::parse(glob).unwrap().fits(&ModelName::parse(name).unwrap());
        for (glob, name) in [
            ("*", "team/alpha:v2"),
            ("alpha", "ALPHA:latest"),
            ("library/Alpha", "alpha"),
            ("qwen3:*", "qwen3:4b"),
            ("registry.ollama.ai/library/qwen3:*", "qwen3:4b"),
            ("team/*", "team/alpha:v2"),
            ("*:4b", "qwen3:4b"),
            ("q*3*b", "qwen3:4b"),
            ("alpha:latest*", "alpha"),
        ] {
            assert!(fits(glob, name), "{glob} {name}");
        }
        for (glob, name) in [
            ("alpha", "alpha:v2"),
            ("qwen3:*", "qwen3.5:4b"),
            ("team/*", "alpha:v2"),
            ("*:4b", "qwen3:14bb"),
            ("ab*ba", "aba:latest"),
            ("a*b*b", "ab:latest"),
        ] {
            assert!(!fits(glob, name), "{glob} {name}");
        }
        for bad in ["", "library/*", "registry.ollama.ai/*", "a b*", "*;", "a'*", "*********"] {
            assert_eq!(ModelGlob::parse(bad), Err(InvalidGlob), "{bad:?}");
        }
    }
}

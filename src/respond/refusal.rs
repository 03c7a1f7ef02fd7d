//! What a path that leads nowhere earns: a status, and words that say which end to mend.
//!
//! Every text is fixed: nothing of the caller's path comes back.

use http::StatusCode;

use super::Failure;
use crate::endpoint::{Refusal, Slip};

const ODD_PATH: &str =
    "the path holds an escape, an empty or dotted segment, or a byte that no path here has";
const CLOSED_LIST: &str = "Ollama's own lists (/api/tags, /api/ps, /api/version, /api/show) are closed here: GET /models lists the models; the operator can open them with routes.catalogue = true";
const CLOSED_MANAGEMENT: &str = "models are pulled, made and deleted at the model server itself: this route is closed here, and the operator's switch for it is routes.management";
const NOT_EXPOSED: &str = "this route is not exposed by this gateway";
const UNKNOWN: &str = "there is nothing at this path";

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::OddPath => Self::refused(StatusCode::BAD_REQUEST, ODD_PATH),
            Refusal::ClosedList => Self::refused(StatusCode::FORBIDDEN, CLOSED_LIST),
            Refusal::ClosedManagement => Self::refused(StatusCode::FORBIDDEN, CLOSED_MANAGEMENT),
            Refusal::NotExposed => Self::refused(StatusCode::FORBIDDEN, NOT_EXPOSED),
            Refusal::Unknown => Self::refused(StatusCode::NOT_FOUND, UNKNOWN),
            Refusal::WrongBase { slip, api } => {
                let status = match slip {
                    Slip::DoubledSlash => StatusCode::BAD_REQUEST,
                    _ if api => StatusCode::FORBIDDEN,
                    _ => StatusCode::NOT_FOUND,
                };
                Self::refused(status, words(slip))
            }
            Refusal::Method(allow) => Self::method(allow),
        }
    }
}

/// Which end of the base URL to mend. "The gateway's address alone" is what works for every client of Ollama's API.
const fn words(slip: Slip) -> &'static str {
    match slip {
        Slip::DoubledSlash => {
            "the path holds two slashes in a row: the client's base URL must not end in a slash (http://host:port)"
        }
        Slip::TrailingSlash => "this path has a slash too many at its end: send it without (as in /api/chat)",
        Slip::Prefixed => {
            "the client's base URL has a path that does not belong there: the paths here are /api/chat, /api/generate and so \
             on, so the base URL is the gateway's address alone (http://host:port, without /api or /v1)"
        }
        Slip::DoubledVersion => {
            "/v1 stands twice in this path: the client adds it by itself, so its base URL must not end in it"
        }
        Slip::OtherApi => {
            "OpenAI's and Anthropic's paths (/v1/...) are not served here: use Ollama's own API (/api/chat, /api/generate, \
             /api/embed) with the gateway's address alone (http://host:port) as base URL"
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::endpoint::{Switches, resolve};

    #[test]
    fn words_name_what_to_mend() {
        for (path, status, hint) in [
            ("//api/chat", 400, "must not end in a slash"),
            ("/api//chat", 400, "two slashes"),
            ("/api/./chat", 400, "dotted segment"),
            ("//api/%63hat", 400, "escape"),
            ("/api/chat/", 403, "slash too many"),
            ("/chat_api/", 404, "slash too many"),
            ("/models/", 404, "slash too many"),
            ("/api/tags/", 403, "slash too many"),
            ("/api/api/chat", 403, "without /api or /v1"),
            ("/v1/api/version", 403, "without /api or /v1"),
            ("/ollama/api/chat", 404, "http://host:port"),
            ("/chat/api/generate/", 404, "http://host:port"),
            ("/v1/v1/chat/completions", 403, "/v1 stands twice"),
            ("/v1/chat/completions", 403, "Ollama's own API"),
            ("/v1/anything", 403, "Ollama's own API"),
            ("/api/v1/models", 403, "Ollama's own API"),
            ("/openai/v1/models", 404, "Ollama's own API"),
            ("/chat/completions", 404, "/v1/..."),
            ("/responses", 404, "/v1/..."),
            ("/api/chat/completions", 403, "/v1/..."),
            ("/api/tags", 403, "routes.catalogue"),
            ("/api/show", 403, "GET /models"),
            ("/api/pull", 403, "at the model server"),
            ("/api/blobs/x", 403, "routes.management"),
            ("/api/me", 403, "not exposed"),
            ("/api/", 403, "not exposed"),
            ("/nothing", 404, "nothing at this path"),
            ("/ollama/api/nothing", 404, "nothing at this path"),
        ] {
            let refusal = resolve(&Method::POST, path, Switches::default()).unwrap_err();
            let failure = Failure::from(refusal);
            assert_eq!(failure.status.as_u16(), status, "{path}");
            assert!(failure.public.contains(hint), "{path}: {}", failure.public);
        }
    }
}

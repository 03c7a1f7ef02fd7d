//! Does the deployment answer what it must not? Ollama's management routes, its lists, what nobody listed, and odd spellings of them.
//!
//! Every question is one that does no harm where it gets through: names that no model can have, and GET where POST would act.

use super::Case;
use super::finding::Finding;
use crate::cli::http::{Answer, Ask};

const CHECK: &str = "paths";
/// No model can be called so, and nothing can be found, made or sent under it.
const NO_NAME: &str = r#"{"model":"","source":"","destination":"","stream":false}"#;

type Probe = (&'static str, &'static str, Option<&'static str>);

const PROBES: &[Probe] = &[
    ("GET", "/", None),
    ("GET", "/api/tags", None),
    ("GET", "/api/ps", None),
    ("GET", "/api/version", None),
    ("POST", "/api/show", Some(NO_NAME)),
    ("POST", "/api/pull", Some(NO_NAME)),
    ("POST", "/api/push", Some(NO_NAME)),
    ("POST", "/api/create", Some(NO_NAME)),
    ("POST", "/api/copy", Some(NO_NAME)),
    ("DELETE", "/api/delete", Some(NO_NAME)),
    ("GET", "/api/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000", None),
    // These act when they are posted to.
    ("GET", "/api/me", None),
    ("GET", "/api/signout", None),
    ("GET", "/api/experimental/web_search", None),
    ("GET", "/api/portcullis-doctor", None),
    ("GET", "/v1/portcullis-doctor", None),
    // What a proxy's rules and the server behind it may read differently.
    ("GET", "//api/tags", None),
    ("GET", "/api/%74ags", None),
    ("GET", "/chat/../api/tags", None),
    ("GET", "/api/tags/", None),
    // The operators' listener.
    ("GET", "/metrics", None),
    ("GET", "/admin/keys", None),
];

/// Answered with a key where `routes.catalogue` is on.
const CATALOGUE: [&str; 4] = ["/api/tags", "/api/ps", "/api/version", "/api/show"];

/// How one answer is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Refused,
    /// It does something.
    Open,
    /// The model server itself speaks.
    Ollama,
    /// A proxy could not reach what it leads to.
    Broken,
    /// Too many questions.
    Limited,
}

pub(super) fn check(case: &Case<'_>) -> Finding {
    let (has_key, catalogue) = (case.key == Ok(true), case.config.routes.catalogue);
    let (mut bad, mut odd, mut open) = (Vec::new(), Vec::new(), Vec::new());
    let (mut asked, mut silent) = (0_usize, 0_usize);
    for keyed in [false, true].into_iter().filter(|keyed| !keyed || has_key) {
        for (method, path, body) in PROBES.iter().copied() {
            // What is open to everybody is open with a key.
            if keyed && (open.contains(&path) || catalogue && CATALOGUE.contains(&path)) {
                continue;
            }
            asked += 1;
            let Ok(answer) = case.client.ask(Ask { method, path, keyed, body, headers: &[] }) else {
                silent += 1;
                continue;
            };
            let what = format!("{method} {path}{}", if keyed { " with the key" } else { "" });
            match judge(&answer) {
                Verdict::Refused => continue,
                Verdict::Open => bad.push(format!("{what} answers {}", answer.status)),
                Verdict::Ollama => bad.push(format!("{what} is answered by the model server")),
                Verdict::Broken => odd.push(format!("{what} answers {}", answer.status)),
                Verdict::Limited => odd.push(format!("{what} was limited")),
            }
            open.push(path);
        }
    }
    if !bad.is_empty() {
        return Finding::serious(
            CHECK,
            listed(&bad),
            "lead every path of this name to Portcullis and nothing else; routes.catalogue opens Ollama's lists to keys on purpose",
        );
    }
    if silent == asked {
        return Finding::not_run(
            CHECK,
            format!("none of {asked} questions was answered"),
            "run the doctor again",
        );
    }
    if !odd.is_empty() {
        return Finding::note(
            CHECK,
            listed(&odd),
            "see what stands behind these paths in the proxy's configuration",
        );
    }
    let keyed = if has_key { "with and without the key" } else { "without a key" };
    Finding::ok(
        CHECK,
        format!("{asked} questions to management, unlisted and oddly spelled paths are refused, {keyed}"),
    )
}

fn judge(answer: &Answer) -> Verdict {
    let ours = answer.id().is_some();
    let html = answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
    match answer.status {
        _ if !ours && is_ollama(answer) => Verdict::Ollama,
        429 => Verdict::Limited,
        // A login page in front, or a page for every path, opens nothing.
        200..=299 if ours || !html => Verdict::Open,
        500..=599 => Verdict::Broken,
        _ => Verdict::Refused,
    }
}

/// Does Ollama speak here? In its words, which the gateway never passes on.
pub(super) fn is_ollama(answer: &Answer) -> bool {
    let text = answer.text();
    if ["Ollama is running", "404 page not found", "405 method not allowed"].contains(&text.as_str()) {
        return true;
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
    let error = value.get("error").and_then(|error| error.as_str()).unwrap_or_default();
    ["invalid model name", "missing request body", "model is required"].contains(&error)
        || (error.ends_with(" is invalid") || (error.starts_with("model ") && error.ends_with(" not found")))
        || value.get("models").is_some_and(serde_json::Value::is_array)
        || (value.get("version").is_some_and(serde_json::Value::is_string)
            && value.as_object().is_some_and(|object| object.len() == 1))
}

/// The first ones by name, the rest by number.
pub(super) fn listed(all: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let mut answer = Answer { status, body: body.as_bytes().to_vec(), ..Answer::default() };
        for (name, value) in headers {
            answer.headers.insert(*name, value.parse().unwrap());
        }
        answer
    }

    #[test]
    fn the_model_servers_voice_is_told_from_a_proxys() {
        let ours = [("x-request-id", "0123456789abcdef")];
        let page = [("content-type", "text/html")];
        for (answer, verdict) in [
            (answer(404, &[], "404 page not found"), Verdict::Ollama),
            // As Go's own server says it, and so Traefik.
            (answer(404, &[], "404 page not found\n"), Verdict::Refused),
            (answer(200, &[], "Ollama is running"), Verdict::Ollama),
            (answer(400, &[], r#"{"error":"invalid model name"}"#), Verdict::Ollama),
            (answer(404, &ours, r#"{"error":"model 'x' not found"}"#), Verdict::Refused),
            (answer(200, &ours, r#"{"models":[]}"#), Verdict::Open),
            (answer(200, &[], r#"{"models":[]}"#), Verdict::Ollama),
            (answer(200, &[], "# HELP go_gc"), Verdict::Open),
            (answer(200, &page, "<html>sign in"), Verdict::Refused),
            (answer(403, &page, "<html>403"), Verdict::Refused),
            (answer(502, &page, "<html>502"), Verdict::Broken),
            (answer(429, &ours, "{}"), Verdict::Limited),
            (answer(307, &ours, ""), Verdict::Refused),
        ] {
            assert_eq!(judge(&answer), verdict, "{answer:?}");
        }
    }
}

//! Ollama's checks of `Origin` and `Host`, in its order: CORS first.
//!
//! Takes the request's two headers; passes it on, with the header fields that its answer needs, or answers it.

use super::Ask;
use super::reply::{Field, Whole};
use std::borrow::Cow;
use std::net::IpAddr;

/// What became of the request.
pub(super) enum Verdict {
    Pass(Vec<Field>),
    Answered(Whole),
}

const HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,\
    X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,\
    X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,\
    X-Stainless-Runtime-Version,X-Stainless-Timeout";

/// Checks; `allow` is the list of methods where the path does not know the request's one.
pub(super) fn check(ask: &Ask<'_>, allow: Option<&str>) -> Verdict {
    let forbidden = || {
        let whole = Whole::empty(403);
        Verdict::Answered(match allow {
            Some(allow) => whole.with("Allow", allow.to_owned()),
            None => whole,
        })
    };
    let mut cors = Vec::new();
    if let Some(origin) = ask.origin.filter(|origin| !same_as_host(origin, ask.host)) {
        if !allowed_origin(origin) {
            return forbidden();
        }
        if ask.method == "OPTIONS" {
            return Verdict::Answered(preflight(origin, allow));
        }
        let owned = Cow::Owned(origin.to_owned());
        cors.push((Cow::Borrowed("Access-Control-Allow-Origin"), owned));
        cors.push((Cow::Borrowed("Vary"), Cow::Borrowed("Origin")));
    }
    if allowed_host(ask.host) { Verdict::Pass(cors) } else { forbidden() }
}

fn preflight(origin: &str, allow: Option<&str>) -> Whole {
    let whole = Whole { bodiless: true, ..Whole::empty(204) };
    let whole = whole
        .with("Access-Control-Allow-Headers", HEADERS)
        .with("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
        .with("Access-Control-Allow-Origin", origin.to_owned())
        .with("Access-Control-Max-Age", "43200")
        .with("Vary", "Origin")
        .with("Vary", "Access-Control-Request-Method")
        .with("Vary", "Access-Control-Request-Headers");
    match allow {
        Some(allow) => whole.with("Allow", allow.to_owned()),
        None => whole,
    }
}

fn same_as_host(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest == host)
}

fn allowed_origin(origin: &str) -> bool {
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    match scheme {
        "app" | "file" | "tauri" | "vscode-webview" | "vscode-file" => true,
        "http" | "https" => matches!(without_port(rest), "localhost" | "127.0.0.1" | "0.0.0.0"),
        _ => false,
    }
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn allowed_host(host: &str) -> bool {
    let name = without_port(host.trim()).to_ascii_lowercase();
    if let Ok(address) = name.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unspecified(),
        };
    }
    let ending = |end: &str| name.ends_with(end);
    name.is_empty() || name == "localhost" || ending(".localhost") || ending(".local") || ending(".internal")
}

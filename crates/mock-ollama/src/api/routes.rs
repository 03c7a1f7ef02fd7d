//! The router: cleaned paths, redirects, 404 and 405 as Go's and gin's.

use super::reply::{Abrupt, Refusal, Reply, TEXT, Whole};
use super::{Ask, World, embed, gate, infer, manage, pull};
use std::borrow::Cow;

type Handler = fn(&World, &Ask<'_>) -> Result<Reply, Refusal>;

struct Route {
    path: &'static str,
    methods: &'static [&'static str],
    handler: Handler,
}

const fn route(path: &'static str, methods: &'static [&'static str], handler: Handler) -> Route {
    Route { path, methods, handler }
}

const READ: &[&str] = &["HEAD", "GET"];
const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];

const ROUTES: &[Route] = &[
    route("/api/chat", POST, infer::chat),
    route("/api/generate", POST, infer::generate),
    route("/api/embed", POST, embed::embed),
    route("/api/embeddings", POST, embed::embeddings),
    route("/", READ, manage::root),
    route("/api/tags", READ, manage::tags),
    route("/api/ps", GET, manage::ps),
    route("/api/show", POST, manage::show),
    route("/api/version", READ, manage::version),
    route("/api/status", GET, manage::status),
    route("/api/copy", POST, manage::copy),
    route("/api/delete", &["DELETE"], manage::delete),
    route("/api/create", POST, pull::create),
    route("/api/pull", POST, pull::pull),
    route("/api/push", POST, pull::push),
];
const BLOBS: Route = route(BLOB_PREFIX, &["POST", "HEAD"], manage::blob);
pub(crate) const BLOB_PREFIX: &str = "/api/blobs/";

fn find(path: &str) -> Option<&'static Route> {
    let blob = || path.strip_prefix(BLOB_PREFIX).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    ROUTES.iter().find(|route| route.path == path).or_else(|| blob().then_some(&BLOBS))
}

pub(super) fn answer(world: &World, ask: &Ask<'_>) -> Reply {
    if ask.target == "*" {
        return Whole::empty(200).into();
    }
    let path = path(ask.target);
    // Go's own router compares the path as it was written.
    if let Some(clean) = cleaned(path) {
        return redirect(ask, 307, clean).into();
    }
    let Some(decoded) = decoded(path) else { return Reply::Abrupt(Abrupt::BAD_REQUEST) };
    let Some(route) = find(&decoded) else { return unknown(ask, &decoded) };
    let allowed = route.methods.contains(&ask.method);
    let allow = (!allowed).then(|| route.methods.join(", "));
    let verdict = gate::check(ask, allow.as_deref());
    let cors = match verdict {
        gate::Verdict::Pass(cors) => cors,
        gate::Verdict::Answered(whole) => return whole.into(),
    };
    if let Some(allow) = allow {
        return Whole::text(405, TEXT, "405 method not allowed").with("Allow", allow).into();
    }
    let ask = Ask { target: &decoded, ..*ask };
    let mut reply = (route.handler)(world, &ask).unwrap_or_else(Reply::from);
    if let Reply::Whole(whole) = &mut reply {
        whole.headers.extend(cors);
    }
    reply
}

fn unknown(ask: &Ask<'_>, decoded: &str) -> Reply {
    if let gate::Verdict::Answered(whole) = gate::check(ask, None) {
        return whole.into();
    }
    // gin sends the caller to the same path without its slash.
    match decoded.strip_suffix('/') {
        Some(shorter) if find(shorter).is_some() => {
            let status = if ask.method == "GET" { 301 } else { 307 };
            redirect(ask, status, shorter.to_owned()).into()
        }
        _ => Whole::text(404, TEXT, "404 page not found").into(),
    }
}

fn redirect(ask: &Ask<'_>, status: u16, mut to: String) -> Whole {
    if let Some((_, query)) = ask.target.split_once('?') {
        to.push('?');
        to.push_str(query);
    }
    let whole = if matches!(ask.method, "GET" | "HEAD") {
        let reason = if status == 301 { "Moved Permanently" } else { "Temporary Redirect" };
        let body = format!("<a href=\"{to}\">{reason}</a>.\n\n");
        Whole { content_type: Some("text/html; charset=utf-8"), body: body.into(), ..Whole::empty(status) }
    } else {
        Whole::empty(status)
    };
    whole.with("Location", to)
}

/// The path of a target, the absolute form included.
pub(crate) fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The host of a target in the absolute form.
pub(crate) fn authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    (!scheme.contains('/')).then(|| rest.split(['/', '?']).next().unwrap_or_default())
}

/// The path without empty and dot segments, if that makes a difference.
fn cleaned(path: &str) -> Option<String> {
    let dirty = path.contains("//") || path.split('/').any(|part| part == "." || part == "..");
    dirty.then(|| {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
        format!("/{}{slash}", parts.join("/"))
    })
}

/// The path with its escapes resolved; `None` if one is broken.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(path("http://h:1/api/tags?x"), "/api/tags");
        assert_eq!(path("/api/tags?u=http://x/y"), "/api/tags");
        assert_eq!(cleaned("//api/./x/../tags"), Some("/api/tags".to_owned()));
        assert_eq!(cleaned("/api/tags/"), None);
        assert_eq!(decoded("/%63hat").as_deref(), Some("/chat"));
        assert_eq!(decoded("/%zz"), None);
    }
}

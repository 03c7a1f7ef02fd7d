//! The path table: the first thing that a request meets, and the only place that decides what exists.
//!
//! Takes a method and the raw path, compared byte for byte. Promises one [`Endpoint`] or one [`Refusal`]; needs no key.
//! Refuses by default: what is not listed here is never forwarded (design.md section 3).

use http::Method;

use crate::types::Scope;

/// Which optional routes the operator opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// `routes.catalogue`: lists and facts about models under Ollama's own paths.
    pub catalogue: bool,
    /// `routes.management`: pull, push, create, copy, delete and blobs, for `admin` keys.
    pub management: bool,
}

/// Everything that this gateway answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// `GET /`: to the page.
    Root,
    /// `GET /chat`: the page.
    Page,
    /// `GET /static/...`.
    Asset,
    /// `GET /healthz`: alive.
    Health,
    /// `GET /readyz`: able to answer.
    Ready,
    /// `GET /models`: the models that the key may use.
    Models,
    /// `GET /usage`: what the key is, and what it may do.
    Usage,
    /// Something that the upstream answers.
    Proxied(Proxied),
    /// Pull, push, create, copy, delete, blobs: for `admin` keys, of which this version can make none.
    Managed,
}

/// A route with an upstream behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxied {
    /// `POST /chat` and `/api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
    /// `POST /chat_api`: generate or chat, always streamed.
    ChatApi,
    /// `POST /api/embed`.
    Embed,
    /// `POST /api/embeddings`, the older form.
    Embeddings,
    /// `GET /api/tags`.
    Tags,
    /// `GET /api/ps`.
    Ps,
    /// `GET /api/version`.
    Version,
    /// `POST /api/show`.
    Show,
}

/// What a caller must show for an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Any key.
    Key,
    /// A key with this scope.
    Scope(Scope),
}

impl Endpoint {
    /// What a caller must show.
    pub const fn needs(self) -> Needs {
        match self {
            Self::Root | Self::Page | Self::Asset | Self::Health | Self::Ready => Needs::Nothing,
            Self::Usage => Needs::Key,
            Self::Proxied(
                Proxied::Chat | Proxied::Generate | Proxied::ChatApi | Proxied::Embed | Proxied::Embeddings,
            ) => Needs::Scope(Scope::Inference),
            Self::Models | Self::Proxied(_) => Needs::Scope(Scope::Read),
            Self::Managed => Needs::Scope(Scope::Admin),
        }
    }

    /// The route's name in records and metrics: a constant, whatever was sent.
    pub const fn route(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Page => "/chat (page)",
            Self::Asset => "/static",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Models => "/models",
            Self::Usage => "/usage",
            Self::Proxied(proxied) => proxied.route(),
            Self::Managed => "/api (management)",
        }
    }

    /// The path that was asked for, as a constant: of what is behind a prefix, the prefix.
    pub fn path(self, asked: &str) -> &'static str {
        match self {
            Self::Page => "/chat",
            Self::Managed => "/api/-",
            Self::Proxied(Proxied::Chat) if asked == "/chat" => "/chat",
            other => other.route(),
        }
    }

    /// Asked for by the dozen, and of no interest to whoever reads the log.
    pub const fn is_minor(self) -> bool {
        matches!(self, Self::Asset | Self::Health | Self::Ready)
    }
}

impl Proxied {
    const fn route(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::ChatApi => "/chat_api",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
            Self::Tags => "/api/tags",
            Self::Ps => "/api/ps",
            Self::Version => "/api/version",
            Self::Show => "/api/show",
        }
    }
}

/// Why a request got no endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The path holds what only an attacker or a broken client sends.
    OddPath,
    /// Ollama's lists, which the operator has not opened: 403.
    ClosedList,
    /// Pull, create and the like: 403.
    ClosedManagement,
    /// Another upstream route that is not exposed: 403, whatever the method.
    NotExposed,
    /// A client whose base URL is wrong, as far as the path tells: refused like any other such path, in words that help.
    WrongBase {
        /// What is wrong with it.
        slip: Slip,
        /// Does the path begin as an API's does (403), or as nothing of ours (404)?
        api: bool,
    },
    /// Nothing of ours: 404.
    Unknown,
    /// Ours, but not with this method: 405 with `Allow`.
    Method(&'static str),
}

/// How a base URL goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slip {
    /// `//api/chat`: it ends in a slash. 400, as odd paths are.
    DoubledSlash,
    /// `/api/chat/`
    TrailingSlash,
    /// `/ollama/api/chat`, `/api/api/chat`, `/v1/api/chat`: it has a path of its own.
    Prefixed,
    /// `/v1/v1/…`
    DoubledVersion,
    /// `/v1/…` or its routes without that: a client of another API.
    OtherApi,
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// Finds the endpoint for a method and a raw path (no query).
pub fn resolve(method: &Method, path: &str, on: Switches) -> Result<Endpoint, Refusal> {
    if is_odd(path) {
        return Err(odd(path));
    }
    let rows = rows(path, on).ok_or_else(|| unlisted(path))?;
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    // HEAD goes where GET does, but for blobs, which have a HEAD of their own.
    rows.iter()
        .find(|row| row.0 == method.as_str() || row.0 == asked.as_str())
        .map(|row| row.1)
        .ok_or_else(|| Refusal::Method(allow(rows)))
}

/// The methods of a path's rows, as `Allow` and a preflight name them.
pub fn methods(path: &str, on: Switches) -> Option<&'static str> {
    if is_odd(path) { None } else { rows(path, on).map(allow) }
}

type Row = (&'static str, Endpoint);

fn rows(path: &str, on: Switches) -> Option<&'static [Row]> {
    use Endpoint as E;
    use Proxied as P;
    const CHAT: &[Row] = &[("GET", E::Page), ("POST", E::Proxied(P::Chat))];
    Some(match path {
        "/" => &[("GET", E::Root)],
        "/chat" => CHAT,
        "/healthz" => &[("GET", E::Health)],
        "/readyz" => &[("GET", E::Ready)],
        "/models" => &[("GET", E::Models)],
        "/usage" => &[("GET", E::Usage)],
        "/chat_api" => &[("POST", E::Proxied(P::ChatApi))],
        "/api/chat" => &[("POST", E::Proxied(P::Chat))],
        "/api/generate" => &[("POST", E::Proxied(P::Generate))],
        "/api/embed" => &[("POST", E::Proxied(P::Embed))],
        "/api/embeddings" => &[("POST", E::Proxied(P::Embeddings))],
        "/api/tags" if on.catalogue => &[("GET", E::Proxied(P::Tags))],
        "/api/ps" if on.catalogue => &[("GET", E::Proxied(P::Ps))],
        "/api/version" if on.catalogue => &[("GET", E::Proxied(P::Version))],
        "/api/show" if on.catalogue => &[("POST", E::Proxied(P::Show))],
        "/api/pull" | "/api/push" | "/api/create" | "/api/copy" if on.management => &[("POST", E::Managed)],
        "/api/delete" if on.management => &[("DELETE", E::Managed)],
        _ if on.management && is_blob(path) => &[("HEAD", E::Managed), ("POST", E::Managed)],
        _ if path.starts_with("/static/") => &[("GET", E::Asset)],
        _ => return None,
    })
}

/// Why there is no such path, as helpfully as it can be told. Rare, so nothing here has to be quick.
fn unlisted(path: &str) -> Refusal {
    const OPEN: Switches = Switches { catalogue: true, management: true };
    // Their routes as they look behind a base URL without /v1.
    const OTHERS: [&str; 5] = ["/chat/completions", "/completions", "/embeddings", "/responses", "/messages"];
    let api = path.starts_with("/api/") || path.starts_with("/v1/");
    let known = |path: &str| rows(path, OPEN).is_some();
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let slip = if known(path) {
        return if is_list(path) { Refusal::ClosedList } else { Refusal::ClosedManagement };
    } else if path.starts_with("/api/blobs/") {
        return Refusal::ClosedManagement;
    } else if known(trimmed) {
        Slip::TrailingSlash
    } else if trimmed.rfind("/api/").and_then(|at| trimmed.get(at..)).is_some_and(known) {
        Slip::Prefixed
    } else if path.starts_with("/v1/v1/") {
        Slip::DoubledVersion
    } else if path.contains("/v1/") || OTHERS.contains(&trimmed) || trimmed.ends_with("/chat/completions") {
        Slip::OtherApi
    } else {
        return if api { Refusal::NotExposed } else { Refusal::Unknown };
    };
    Refusal::WrongBase { slip, api }
}

fn is_list(path: &str) -> bool {
    matches!(path, "/api/tags" | "/api/ps" | "/api/version" | "/api/show")
}

/// An odd path that is odd by doubled slashes alone shows whose base URL ends in one.
fn odd(path: &str) -> Refusal {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let single = format!("/{}", segments.join("/"));
    if path.starts_with('/') && !is_odd(&single) {
        Refusal::WrongBase { slip: Slip::DoubledSlash, api: false }
    } else {
        Refusal::OddPath
    }
}

fn allow(rows: &[Row]) -> &'static str {
    match rows {
        [("GET", _), ("POST", _)] => "GET, HEAD, POST",
        [("HEAD", _), ("POST", _)] => "HEAD, POST",
        [("GET", _), ..] => GET,
        [("DELETE", _), ..] => "DELETE",
        _ => POST,
    }
}

/// Spellings that Go's router would decode, clean or redirect: refused before anybody can read them differently.
fn is_odd(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut last = 0;
    let odd = bytes.iter().any(|&b| {
        let doubled = b == b'/' && last == b'/';
        last = b;
        doubled || b <= b' ' || b >= 0x7f || matches!(b, b'%' | b';' | b'\\' | b'#')
    });
    odd || bytes.first() != Some(&b'/')
        || (bytes.contains(&b'.') && path.split('/').any(|segment| segment == "." || segment == ".."))
}

fn is_blob(path: &str) -> bool {
    path.strip_prefix("/api/blobs/sha256").and_then(|rest| rest.strip_prefix([':', '-'])).is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: Switches = Switches { catalogue: false, management: false };
    const OPEN: Switches = Switches { catalogue: true, management: true };

    #[test]
    fn only_the_table_exists() {
        let get = |path| resolve(&Method::GET, path, CLOSED);
        assert_eq!(get("/chat"), Ok(Endpoint::Page));
        assert_eq!(resolve(&Method::POST, "/chat", CLOSED), Ok(Endpoint::Proxied(Proxied::Chat)));
        assert_eq!(get("/api/tags"), Err(Refusal::ClosedList));
        assert_eq!(get("/api/pull"), Err(Refusal::ClosedManagement));
        assert_eq!(get("/api/me"), Err(Refusal::NotExposed));
        assert_eq!(get("/api/"), Err(Refusal::NotExposed));
        assert_eq!(get("/v1/models"), Err(Refusal::WrongBase { slip: Slip::OtherApi, api: true }));
        assert_eq!(get("/api"), Err(Refusal::Unknown));
        assert_eq!(get("/API/TAGS"), Err(Refusal::Unknown));
        assert_eq!(get("/chat/"), Err(Refusal::WrongBase { slip: Slip::TrailingSlash, api: false }));
        assert_eq!(get("/api/chat"), Err(Refusal::Method("POST")));
        assert_eq!(resolve(&Method::PUT, "/chat", CLOSED), Err(Refusal::Method("GET, HEAD, POST")));
        assert_eq!(resolve(&Method::HEAD, "/models", CLOSED), Ok(Endpoint::Models));
    }

    #[test]
    fn odd_spellings_are_refused_before_the_table() {
        for path in [
            "/api/%63hat",
            "//api/%63hat",
            "/api/./tags",
            "/api/../api/tags",
            "/api/tags;x=1",
            "/api\\tags",
            "/api/tags\u{7f}",
            "/café",
            "*",
            "",
            "/a/..",
            "/%zz",
            "/..",
        ] {
            assert_eq!(resolve(&Method::GET, path, OPEN), Err(Refusal::OddPath), "{path:?}");
        }
        for path in ["//api/chat", "/api//tags", "//", "/chat//"] {
            let doubled = Refusal::WrongBase { slip: Slip::DoubledSlash, api: false };
            assert_eq!(resolve(&Method::GET, path, OPEN), Err(doubled), "{path:?}");
        }
    }

    #[test]
    fn optional_routes_open_by_switch() {
        assert_eq!(resolve(&Method::GET, "/api/tags", OPEN), Ok(Endpoint::Proxied(Proxied::Tags)));
        assert_eq!(resolve(&Method::POST, "/api/tags", OPEN), Err(Refusal::Method("GET, HEAD")));
        assert_eq!(resolve(&Method::DELETE, "/api/delete", OPEN), Ok(Endpoint::Managed));
        let blob = format!("/api/blobs/sha256:{}", "a1".repeat(32));
        assert_eq!(resolve(&Method::HEAD, &blob, OPEN), Ok(Endpoint::Managed));
        assert_eq!(resolve(&Method::GET, &blob, OPEN), Err(Refusal::Method("HEAD, POST")));
        assert_eq!(resolve(&Method::HEAD, "/api/blobs/sha256:zz", OPEN), Err(Refusal::ClosedManagement));
    }
}

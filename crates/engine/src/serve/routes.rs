//! The path table, and what each route does.
//!
//! Takes a request and promises an answer; a streamed one begins with the worker's first word, so that what
//! fails before has its own status. It refuses other paths (404), other methods (405) and long bodies (413).

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

use super::Server;
use super::answer::{self, Answer, Lines};
use super::guard;
use crate::gguf::{Gguf, Lists};
use crate::infer::job::{Event, Job, Logprob, Summary, Task};
use crate::infer::outlet;
use crate::library::Library;
use crate::log;
use crate::names::{ModelName, NameFault};
use crate::wire::fields::Fields;
use crate::wire::reply::{self, Dialect, to_text};
use crate::wire::request::{self, Wanted};
use crate::wire::{Refusal, show};

/// The longest body that is read.
const LONGEST_BODY: usize = 64 << 20;

/// The version of Ollama whose API this is; clients and gateways compare it.
pub const API_VERSION: &str = "0.33.0";

type Read = fn(&[u8], &Library) -> Result<Wanted, Refusal>;

/// How the worker's words become an answer.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text(Dialect),
    Embed,
    Embedding,
}

enum Route {
    Root,
    Version,
    Status,
    Tags,
    Ps,
    Show,
    Stats,
    Infer(&'static str, Read, Shape),
}

/// The path table: the route, and the methods it knows.
fn find(path: &str) -> Option<(Route, &'static str)> {
    Some(match path {
        "/" => (Route::Root, "GET, HEAD"),
        "/api/version" => (Route::Version, "GET, HEAD"),
        "/api/status" => (Route::Status, "GET"),
        "/api/tags" => (Route::Tags, "GET, HEAD"),
        "/api/ps" => (Route::Ps, "GET"),
        "/api/show" => (Route::Show, "POST"),
        "/engine/stats" => (Route::Stats, "GET"),
        "/api/chat" => (Route::Infer("/api/chat", request::chat, Shape::Text(Dialect::Chat)), "POST"),
        "/api/generate" => {
            (Route::Infer("/api/generate", request::generate, Shape::Text(Dialect::Generate)), "POST")
        }
        "/api/embed" => (Route::Infer("/api/embed", request::embed, Shape::Embed), "POST"),
        "/api/embeddings" => (Route::Infer("/api/embeddings", request::embeddings, Shape::Embedding), "POST"),
        _ => return None,
    })
}

/// Answers one request.
pub async fn answer(server: &Server, request: Request<Incoming>) -> Response<Answer> {
    if !guard::allows(request.headers(), server.exposed) {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let Some((route, allow)) = find(request.uri().path()) else {
        return answer::whole(404, "text/plain", "404 page not found");
    };
    if !allow.split(", ").any(|method| method == request.method().as_str()) {
        let mut response = answer::whole(405, "text/plain", "405 method not allowed");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        return response;
    }
    let body = match request.method() {
        &Method::POST => body(request).await,
        _ => Ok(Bytes::new()),
    };
    match body {
        Ok(body) => routed(server, route, &body).await,
        Err(refusal) => answer::refused(&refusal),
    }
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), LONGEST_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(413, "request body too large"))
        }
        Err(error) => Err(Refusal::new(400, error.to_string())),
    }
}

async fn routed(server: &Server, route: Route, body: &[u8]) -> Response<Answer> {
    match route {
        Route::Root => answer::whole(200, "text/plain; charset=utf-8", "Ollama is running"),
        Route::Version => answer::json(format!(r#"{{"version":"{API_VERSION}"}}"#)),
        Route::Status => answer::json(r#"{"cloud":{"disabled":true,"source":"config"}}"#.into()),
        Route::Tags => answer::json(show::tags(server.library.entries().iter().map(AsRef::as_ref))),
        Route::Ps => answer::json(show::ps(server.engine.shared.resident().as_ref())),
        Route::Show => shown(&server.library, body).map_or_else(|r| answer::refused(&r), answer::json),
        Route::Stats => answer::json(to_text(&server.engine.shared.stats.read())),
        Route::Infer(path, read, shape) => {
            let answered = match read(body, &server.library) {
                Ok(wanted) => infer(server, path, shape, wanted).await,
                Err(refusal) => Err(refusal),
            };
            answered.unwrap_or_else(|refusal| {
                log::info(format_args!("route={path} ending=refused status={}", refusal.status));
                answer::refused(&refusal)
            })
        }
    }
}

fn shown(library: &Library, body: &[u8]) -> Result<String, Refusal> {
    let fields = Fields::of_body(body, "ShowRequest")?;
    let asked = Some(fields.text("model")?).filter(|text| !text.is_empty());
    let asked = asked.map_or_else(|| fields.text("name"), Ok)?;
    if asked.is_empty() {
        return Err(Refusal::new(400, "model is required"));
    }
    let entry = match library.find(&asked) {
        Ok(Some(entry)) => entry,
        Ok(None) => {
            let name = ModelName::parse(&asked).map_or(asked, |name| name.to_string());
            return Err(Refusal::no_model(&name));
        }
        Err(NameFault::Malformed) => return Err(Refusal::new(400, "invalid model name")),
        Err(NameFault::Cloud) => return Err(request::cloud("remote model details are unavailable")),
    };
    if fields.truth("verbose")? != Some(true) {
        return Ok(show::show(&entry, &entry.gguf));
    }
    let full = Gguf::read(&entry.path, Lists::Keep).map_err(|error| Refusal::new(500, error.to_string()))?;
    Ok(show::show(&entry, &full))
}

/// Has the worker do it, and answers with what it says.
async fn infer(
    server: &Server,
    route: &'static str,
    shape: Shape,
    wanted: Wanted,
) -> Result<Response<Answer>, Refusal> {
    let (outlet, mut events, guard) = outlet::channel();
    let Wanted { asked, entry, keep_alive, num_ctx, stream, task } = wanted;
    let stream = stream && matches!(task, Task::Generate(_));
    let id = server.engine.shared.stats.arrived();
    let model = asked.clone();
    let arrived = Instant::now();
    server.engine.submit(Job { id, route, asked, entry, keep_alive, num_ctx, task, arrived, outlet })?;
    if let (Shape::Text(dialect), true) = (shape, stream) {
        return match events.recv().await {
            Some(Event::Failed(refusal)) => Err(refusal),
            Some(first) => Ok(answer::lines(Lines::new(dialect, model, first, events, guard))),
            None => Err(ended_early()),
        };
    }
    let mut said = Said::default();
    // The guard lives until here: dropping this future, as hyper does when the caller leaves, stops the worker.
    let summary = loop {
        match events.recv().await {
            Some(Event::Piece(text, logprobs)) => said.add(&text, logprobs),
            Some(Event::Vectors(vectors)) => said.vectors = vectors,
            Some(Event::Done(summary)) => break summary,
            Some(Event::Failed(refusal)) => return Err(refusal),
            None => return Err(ended_early()),
        }
    };
    drop(guard);
    Ok(answer::json(said.whole(shape, &model, &summary)))
}

fn ended_early() -> Refusal {
    Refusal::new(500, "an error was encountered while running the model: unexpected EOF")
}

/// A whole answer that is being put together.
#[derive(Default)]
struct Said {
    text: String,
    logprobs: Vec<Logprob>,
    vectors: Vec<Vec<f32>>,
}

impl Said {
    fn add(&mut self, text: &str, logprobs: Vec<Logprob>) {
        self.text.push_str(text);
        self.logprobs.extend(logprobs);
    }

    fn whole(&self, shape: Shape, model: &str, summary: &Summary) -> String {
        match shape {
            Shape::Text(dialect) => reply::last(dialect, model, &self.text, &self.logprobs, summary),
            Shape::Embed => reply::embed(model, &self.vectors, summary),
            Shape::Embedding => reply::embedding(self.vectors.first().map_or(&[], Vec::as_slice)),
        }
    }
}

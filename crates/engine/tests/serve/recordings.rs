//! The exchanges recorded from a real Ollama, sent to the engine: same status, content type, header names and
//! shape of JSON, apart from a list of named differences.

use serde_json::Value;

use crate::client::Engine;

/// Parts of a request or names of recordings that are left out, and why.
const LEFT_OUT: [(&str, &str); 23] = [
    ("\"smol-", "another model"),
    ("\"all-minilm\"", "another model"),
    ("\"team/tuned:v2\"", "another model"),
    (" /v1/", "a route that the engine lacks"),
    (" /api/blobs", "a route that the engine lacks"),
    (" /api/copy", "a route that the engine lacks"),
    (" /api/create", "a route that the engine lacks"),
    (" /api/delete", "a route that the engine lacks"),
    (" /api/pull", "a route that the engine lacks"),
    (" /api/push", "a route that the engine lacks"),
    ("_debug_render_only", "undocumented, and not served"),
    ("\"template\": \"{{", "Ollama's template language is not spoken"),
    ("models/tags", "one model instead of six: a shorter answer is not chunked, and HEAD says its length"),
    ("models/ps-", "what is loaded depends on what came before"),
    ("chat/num-predict", "tens of thousands of tokens, or without an end"),
    ("chat/run-over", "the context is never shifted here"),
    ("chat/long-answer", "a minute of writing on a slow machine"),
    ("chat/long-prompt", "a minute of reading on a slow machine"),
    ("chat/too-long", "a minute of reading on a slow machine"),
    ("chat/options-null", "no bound on the answer"),
    ("embed/too-long", "the engine embeds with chat models"),
    ("embed/legacy", "the engine embeds with chat models, and folds the case of names"),
    ("embed/dimensions", "the engine embeds with chat models"),
];

/// Recordings whose status 501 is the point: the engine answers them.
const EMBEDS: [&str; 3] = ["embed/one", "embed/list", "embed/list-empty-string"];

#[test]
fn the_engine_answers_like_the_ollama_that_was_recorded() {
    let engine = Engine::start();
    let mut differences = Vec::new();
    let mut compared = 0;
    for group in ["root", "models", "generate", "chat", "embed"] {
        let path = format!("{}/../mock-ollama/recordings/{group}.jsonl", env!("CARGO_MANIFEST_DIR"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("recordings {path}: {error}"));
        for line in text.lines() {
            let recording: Value = serde_json::from_str(line).unwrap();
            let name = format!("{group}/{}", recording["name"].as_str().unwrap());
            let Some(request) = recording["request"].as_str() else { continue };
            let left_out = LEFT_OUT.iter().any(|(part, _)| request.contains(part) || name.starts_with(part));
            if left_out || EMBEDS.contains(&name.as_str()) {
                continue;
            }
            compared += 1;
            if let Some(difference) = compare(&engine, request, &recording["response"]) {
                differences.push(format!("{name}: {difference}"));
            }
        }
    }
    assert!(compared > 90, "only {compared} recordings were compared");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn compare(engine: &Engine, request: &str, recorded: &Value) -> Option<String> {
    let answer = engine.replay(request);
    let status: u16 = recorded["status"].as_str().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let named = |names: Vec<String>| {
        let mut names: Vec<_> =
            names.iter().map(|name| name.to_lowercase()).filter(|n| n != "connection").collect();
        names.sort();
        names
    };
    let headers = recorded["headers"].as_array().unwrap();
    let theirs = named(headers.iter().map(|pair| pair[0].as_str().unwrap().to_owned()).collect());
    let ours = named(answer.heads.iter().map(|head| head.split(':').next().unwrap().to_owned()).collect());
    let kind =
        headers.iter().find(|pair| pair[0] == "Content-Type").map_or("", |pair| pair[1].as_str().unwrap());
    if (answer.status, answer.kind.as_str()) != (status, kind) || ours != theirs {
        return Some(format!("{} {} {ours:?}, not {status} {kind} {theirs:?}", answer.status, answer.kind));
    }
    let body = |recorded: &Value| match recorded["chunks"].as_array() {
        Some(chunks) => chunks.iter().map(|chunk| chunk["data"].as_str().unwrap()).collect::<String>(),
        None => recorded["body"].as_str().unwrap_or_default().to_owned(),
    };
    let said: String = answer.lines.iter().map(|(_, line)| line.as_str()).collect();
    let (ours, theirs) = (ends(&said), ends(&body(recorded)));
    (ours != theirs).then(|| format!("{ours:?}, not {theirs:?}"))
}

/// The shapes of the first and the last line; text that is no JSON stands for itself.
fn ends(text: &str) -> Vec<String> {
    let shape_of =
        |line: &str| serde_json::from_str::<Value>(line).map_or(line.to_owned(), |value| shape(&value));
    let lines: Vec<&str> = text.lines().collect();
    lines.first().into_iter().chain(lines.last()).map(|line| shape_of(line)).collect()
}

fn shape(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", shape(value))).collect();
            keys.sort();
            format!("{{{}}}", keys.join(","))
        }
        Value::Array(list) => format!("[{}]", list.first().map(shape).unwrap_or_default()),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null => "null".into(),
    }
}

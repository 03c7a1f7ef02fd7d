//! The exchanges recorded from a real Ollama, sent to the engine: same status, content type, header names and
//! shape of JSON, apart from a list of named differences.

use mock_ollama::compare::{self, Options, Verdict};
use mock_ollama::recordings;

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
    let address = engine.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut differences = Vec::new();
    let mut compared = 0;
    for group in ["root", "models", "generate", "chat", "embed"] {
        for recording in recordings::load(group) {
            let name = format!("{group}/{}", recording.name);
            let request = String::from_utf8_lossy(&recording.request);
            let left_out = LEFT_OUT.iter().any(|(part, _)| request.contains(part) || name.starts_with(part));
            if left_out || EMBEDS.contains(&name.as_str()) {
                continue;
            }
            compared += 1;
            match runtime.block_on(compare::exchange(address, &recording, &Options::default())) {
                Verdict::Same => {}
                Verdict::LeftOut(why) => differences.push(format!("{name}: not compared: {why}")),
                Verdict::Differs(found) => {
                    differences.extend(found.iter().map(|difference| format!("{name}: {difference}")));
                }
            }
        }
    }
    assert!(compared > 90, "only {compared} recordings were compared");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

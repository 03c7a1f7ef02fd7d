//! The real server with the real model. Where the model cannot be had, these tests fail and say so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails loudly; the lints know tests only by their attribute, not their helpers"
)]

mod client;
mod recordings;

use std::io::{BufRead, BufReader};
use std::time::Duration;

use client::Engine;
use serde_json::{Value, json};

const MODEL: &str = "smollm2:135m";

fn chat(content: &str, options: &Value) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": content}], "options": options, "stream": false})
}

fn content(answer: &Value) -> &str {
    answer["message"]["content"].as_str().unwrap()
}

#[test]
fn a_conversation_is_streamed_as_it_is_written() {
    let engine = Engine::start();
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Tell me about rivers."},
    ]);
    let options = json!({"seed": 1, "num_predict": 24});
    let answer = engine.post("/api/chat", &json!({"model": MODEL, "messages": messages, "options": options}));
    assert_eq!((answer.status, answer.kind.as_str()), (200, "application/x-ndjson"));
    let (first, last) = (answer.lines[0].0, answer.lines.last().unwrap().0);
    assert!(last > first, "all lines came at once");
    let values = answer.values();
    let (end, pieces) = values.split_last().unwrap();
    assert!(pieces.len() > 5 && pieces.iter().all(|line| line["done"] == false && !content(line).is_empty()));
    assert_eq!((&end["done"], end["eval_count"].as_u64() > Some(0)), (&json!(true), true));
    assert!(end["prompt_eval_count"].as_u64() > Some(30), "{end}");
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let engine = Engine::start();
    let ask = |seed: i64| {
        let options = json!({"seed": seed, "temperature": 1.2, "num_predict": 24});
        content(&engine.post("/api/chat", &chat("Write a poem about rivers.", &options)).json()).to_owned()
    };
    let first = ask(42);
    assert_ne!(ask(43), first);
    assert_eq!(ask(42), first);
}

#[test]
fn a_long_prompt_read_again_in_part_gives_the_same_text() {
    let engine = Engine::start();
    let prompt = "The river flows to the sea. ".repeat(60);
    let ask = || {
        content(
            &engine.post("/api/chat", &chat(&prompt, &json!({"temperature": 0, "num_predict": 12}))).json(),
        )
        .to_owned()
    };
    let first = ask();
    assert_eq!(ask(), first);
}

#[test]
fn formats_are_kept_to() {
    let engine = Engine::start();
    let mut body =
        chat("Give me a JSON object with a colour.", &json!({"temperature": 0, "num_predict": 80}));
    body["format"] = json!("json");
    let answer = engine.post("/api/chat", &body).json();
    // The model may run on until it is cut; what is whole must be an object.
    if answer["done_reason"] == "stop" {
        assert!(serde_json::from_str::<Value>(content(&answer)).unwrap().is_object());
    }
    assert!(content(&answer).starts_with('{'));
    let colour = json!({"type": "string", "enum": ["red", "blue"]});
    body["format"] = json!({"type": "object", "properties": {"colour": colour}, "required": ["colour"]});
    let answer = engine.post("/api/chat", &body).json();
    let said: Value = serde_json::from_str(content(&answer)).unwrap();
    assert!(said["colour"] == "red" || said["colour"] == "blue", "{said}");
    body["format"] = json!({"type": "banana"});
    let answer = engine.post("/api/chat", &body);
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"].as_str().unwrap().contains("JSON schema conversion failed"));
}

#[test]
fn stops_and_lengths_end_an_answer() {
    let engine = Engine::start();
    let stop = chat("Say hi", &json!({"temperature": 0, "num_predict": 40, "stop": ["d to make"]}));
    let answer = engine.post("/api/chat", &stop).json();
    assert_eq!((content(&answer), &answer["done_reason"]), ("I'm gla", &json!("stop")));
    let length = chat("Say hi", &json!({"temperature": 0, "num_predict": 3}));
    let answer = engine.post("/api/chat", &length).json();
    assert_eq!(
        (content(&answer), &answer["done_reason"], &answer["eval_count"]),
        ("I'm glad", &json!("length"), &json!(3))
    );
    // Without a number the context is the end.
    let body = json!({"model": MODEL, "prompt": "1 2 1 2 1 2 1 2", "raw": true, "stream": false,
        "options": {"temperature": 0, "num_ctx": 256, "num_predict": 0}});
    let answer = engine.post("/api/generate", &body).json();
    assert_eq!(answer["done_reason"], "length", "{answer}");
}

#[test]
fn a_caller_that_leaves_stops_the_generation() {
    let engine = Engine::start();
    let endless =
        json!({"model": MODEL, "prompt": "1 2 1 2 1 2 1 2", "raw": true, "options": {"temperature": 0}});
    let stream = engine.begin("/api/generate", &endless);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while !line.contains("\"response\"") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    // One that waits behind it and leaves never runs.
    let waiting = engine.begin("/api/generate", &endless);
    engine.stats_when(|stats| stats["waiting"] == 1);
    drop(waiting);
    drop((reader, stream));
    let stats = engine.stats_when(|stats| stats["cancelled"] == 2);
    assert_eq!(stats["generating"], 0);
    assert!(stats["tokens_generated"].as_u64().unwrap() < 4000, "{stats}");
    assert_eq!(stats["last_cancel"]["tokens"], 0, "the second one ran: {stats}");
    // Whole answers and prompts in evaluation stop as well.
    let long = "word ".repeat(3500);
    let stream = engine.begin("/api/chat", &chat(&long, &json!({})));
    engine.stats_when(|stats| stats["generating"] == 1);
    drop(stream);
    let stats = engine.stats_when(|stats| stats["cancelled"] == 3);
    let after = stats["last_cancel"]["after_ms"].as_f64().unwrap();
    assert!(after < Duration::from_secs(1).as_secs_f64() * 1e3 * slack(), "stopped after {after} ms");
    assert_eq!(stats["last_cancel"]["tokens"], 0, "it was still reading: {stats}");
}

/// A machine whose cores others use takes longer for a batch of the prompt.
fn slack() -> f64 {
    let cores =
        std::thread::available_parallelism().map_or(1.0, |n| f64::from(u32::try_from(n.get()).unwrap()));
    if cores < 4.0 { 4.0 } else { 1.0 }
}

#[test]
fn requests_at_once_are_all_answered() {
    let engine = Engine::start();
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let engine = &engine;
            scope.spawn(move || {
                let answer =
                    engine.post("/api/chat", &chat("Say hi", &json!({"seed": seed, "num_predict": 8})));
                assert_eq!((answer.status, &answer.json()["done"]), (200, &json!(true)));
            });
        }
    });
}

#[test]
fn models_are_loaded_and_unloaded() {
    let engine = Engine::start();
    let resident = || engine.get("/api/ps").json()["models"].as_array().unwrap().len();
    assert_eq!(resident(), 0);
    let answer = engine.post("/api/generate", &json!({"model": MODEL}));
    assert_eq!(
        (answer.kind.as_str(), &answer.json()["done_reason"]),
        ("application/json; charset=utf-8", &json!("load"))
    );
    assert_eq!(resident(), 1);
    let answer = engine.post("/api/chat", &json!({"model": MODEL, "messages": [], "keep_alive": 0})).json();
    assert_eq!(answer["done_reason"], "unload");
    assert_eq!(engine.get("/api/ps").json(), json!({"models": []}));
    let mut body = chat("Say hi", &json!({"num_predict": 2}));
    body["keep_alive"] = json!("0s");
    assert_eq!(engine.post("/api/chat", &body).status, 200);
    // The next request is answered after the model has gone.
    assert_eq!(engine.post("/api/generate", &json!({"model": MODEL, "keep_alive": 0})).status, 200);
    assert_eq!(resident(), 0);
}

#[test]
fn texts_become_vectors_of_length_one() {
    let engine = Engine::start();
    let input = ["a red apple", "a green apple", "quantum chromodynamics"];
    let answer = engine.post("/api/embed", &json!({"model": MODEL, "input": input})).json();
    let vectors: Vec<Vec<f64>> = serde_json::from_value(answer["embeddings"].clone()).unwrap();
    let dot = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f64>();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 576));
    assert!((dot(0, 0) - 1.0).abs() < 1e-3);
    assert!(dot(0, 1) > dot(0, 2), "{} {}", dot(0, 1), dot(0, 2));
    let cut = engine.post("/api/embed", &json!({"model": MODEL, "input": "x", "dimensions": 8})).json();
    assert_eq!(cut["embeddings"][0].as_array().unwrap().len(), 8);
    let old = engine.post("/api/embeddings", &json!({"model": MODEL, "prompt": "a red apple"})).json();
    assert_eq!(old["embedding"].as_array().unwrap().len(), 576);
}

#[test]
fn refusals_have_the_words_of_ollama() {
    let engine = Engine::start();
    let refused = |path: &str, body: &Value, status: u16, text: &str| {
        let answer = engine.post(path, body);
        assert_eq!((answer.status, answer.json()), (status, json!({"error": text})));
    };
    refused("/api/chat", &json!({"model": "nope", "messages": []}), 404, "model 'nope' not found");
    let mut body = chat("hi", &json!({}));
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    refused("/api/chat", &body, 400, "registry.ollama.ai/library/smollm2:135m does not support tools");
    let mut body = chat("hi", &json!({}));
    body["think"] = json!(true);
    refused("/api/chat", &body, 400, "\"smollm2:135m\" does not support thinking");
    assert_eq!(engine.get("/api/chat").status, 405);
    assert_eq!(engine.get("/metrics").status, 404);
    let shown = engine.post("/api/show", &json!({"model": MODEL}));
    assert!(!shown.json().to_string().contains("/portcullis/models"), "show tells where files are");
}

#[test]
fn a_signal_ends_it_cleanly_even_while_it_writes() {
    let engine = Engine::start();
    let endless =
        json!({"model": MODEL, "prompt": "1 2 1 2 1 2 1 2", "raw": true, "options": {"temperature": 0}});
    let _stream = engine.begin("/api/generate", &endless);
    engine.stats_when(|stats| stats["generating"] == 1);
    assert!(engine.terminate().success());
}

//! The model of a request that names none: somebody's choice, or what the upstream has.

use std::time::Duration;

use mock_ollama::{Capability, Mock, Model, On, Script};
use serde_json::{Value, json};

use crate::client::{Answer, Conn};
use crate::command::Running;
use crate::doors::Folder;
use crate::harness::{Gateway, KEY, assert_native_error, parsed, post};
use crate::keys::{json as keys_json, text};

const MAKES_VECTORS: &[Capability] = &[Capability::Embedding];

/// No `qwen3:4b`; the newest makes vectors, and only `/api/show` tells.
fn a_newcomers_models() -> Vec<Model> {
    vec![
        Model::plain("old:1b").modified("2026-01-01T00:00:00Z").tersely_listed(),
        Model::plain("new:1b").modified("2026-02-01T00:00:00+01:00").tersely_listed(),
        Model::plain("vectors:1b").modified("2026-03-01T00:00:00Z").with(MAKES_VECTORS).tersely_listed(),
        Model::plain("far:1b").modified("2026-04-01T00:00:00Z").remote("x", "https://ollama.com:443"),
    ]
}

/// Nobody chose a default: `OLLAMA_MODEL` is empty, which is unset.
async fn unchosen(settings: &[(&str, &str)]) -> Gateway {
    let mock = Mock::builder().models(a_newcomers_models()).start().await.unwrap();
    Gateway::before(mock, &[&[("OLLAMA_MODEL", "")][..], settings].concat())
}

async fn prompt(gate: &Gateway, more: &str) -> Answer {
    gate.post("/api/generate", &format!("{{\"prompt\":\"x\",\"stream\":false{more}}}")).await
}

/// The model that answered a prompt without one.
async fn answered(gate: &Gateway) -> String {
    let answer = prompt(gate, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    text(&parsed(&answer.body), "model")
}

/// The models that the list marks as the default.
fn marked(list: &[u8]) -> Vec<String> {
    let list = parsed(list);
    let models = list["models"].as_array().unwrap().iter();
    models.filter(|model| model["default"] == true).map(|model| text(model, "name")).collect()
}

/// Asks the upstream itself, as its owner does.
async fn owner(gate: &Gateway, method: &str, path: &str, body: &Value) {
    let mut conn = Conn::open(gate.mock.addr()).await;
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    conn.write(format!("{head}{body}").as_bytes()).await;
    let answer = String::from_utf8(conn.until_end().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
}

#[tokio::test]
async fn a_newcomer_gets_the_newest_that_can_chat_or_the_one_in_memory() {
    let gate = unchosen(&[]).await;
    assert_eq!(answered(&gate).await, "new:1b");
    let list = gate.get("/models").await;
    assert_eq!(marked(&list.body), ["new:1b"]);
    let list = parsed(&list.body);
    let of = |name: &str| list["models"].as_array().unwrap().iter().find(|model| model["name"] == name);
    assert_eq!(of("old:1b").unwrap()["context_length"], 8192, "/api/show told it");
    assert!(of("far:1b").is_none());
    let shown = gate.mock.probes().into_iter().filter(|seen| seen.target == "/api/show").count();
    assert_eq!(shown, 3, "each local model is asked about once");
    // The mock has the new one in memory now; unloaded, the other one is.
    owner(&gate, "POST", "/api/generate", &json!({"model": "new:1b", "keep_alive": 0})).await;
    assert_eq!(prompt(&gate, ",\"model\":\"old:1b\"").await.status, 200);
    assert_eq!(marked(&gate.get("/models").await.body), ["old:1b"]);
    assert_eq!(answered(&gate).await, "old:1b");
}

#[tokio::test]
async fn it_follows_what_is_pulled_and_deleted_without_a_restart() {
    let gate = unchosen(&[]).await;
    assert_eq!(answered(&gate).await, "new:1b");
    owner(&gate, "DELETE", "/api/delete", &json!({"model": "new:1b"})).await;
    assert_eq!(marked(&gate.get("/models").await.body), ["old:1b"]);
    assert_eq!(answered(&gate).await, "old:1b");
    // The usual default counts as soon as it is there, whatever is in memory.
    owner(&gate, "POST", "/api/copy", &json!({"source": "old:1b", "destination": "qwen3:4b"})).await;
    assert_eq!(marked(&gate.get("/models").await.body), ["qwen3:4b"]);
    assert_eq!(answered(&gate).await, "qwen3:4b");
    for name in ["qwen3:4b", "old:1b"] {
        owner(&gate, "DELETE", "/api/delete", &json!({"model": name})).await;
    }
    assert!(marked(&gate.get("/models").await.body).is_empty());
    let words = assert_native_error(&prompt(&gate, "").await.body);
    assert!(words.contains("ollama pull qwen3:4b"), "{words}");
}

#[tokio::test]
async fn a_key_gets_a_default_that_it_may_use() {
    let gate = unchosen(&[]).await;
    for (globs, expected) in [("*:1b", "new:1b"), ("old:*", "old:1b")] {
        let made =
            keys_json(&gate.folder, &["key", "create", "--name", "narrow", "--model", globs, "--json"]);
        let key = text(&made, "key");
        let ask = |path: &str| post(path).replace(KEY, &key);
        let begun = tokio::time::Instant::now();
        let answer = loop {
            let answer = gate.send(&ask("/api/generate"), br#"{"prompt":"x","stream":false}"#).await;
            if answer.status != 401 || begun.elapsed() > crate::harness::PATIENCE {
                break answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        assert_eq!(text(&parsed(&answer.body), "model"), expected, "{globs}");
        let list = gate.send(&ask("/models").replace("POST", "GET"), b"").await;
        assert_eq!(marked(&list.body), [expected], "{globs}");
        let (code, _, errors) = crate::keys::command(&gate.folder, &["key", "revoke", &text(&made, "id")]);
        assert_eq!(code, 0, "{errors}");
    }
}

#[tokio::test]
async fn a_default_that_somebody_chose_stands_and_its_absence_says_how_to_pull_it() {
    let gate = unchosen(&[("OLLAMA_MODEL", "chosen:1b")]).await;
    let answer = prompt(&gate, "").await;
    assert_eq!(answer.status, 404);
    let words = assert_native_error(&answer.body);
    assert!(words.contains("ollama pull chosen:1b") && words.contains("GET /models"), "{words}");
    assert!(marked(&gate.get("/models").await.body).is_empty());
    let named = assert_native_error(&prompt(&gate, ",\"model\":\"other:1b\"").await.body);
    assert_eq!(named, "model 'other:1b' not found", "who names one is told about that one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_says_which_model_answers_and_why() {
    let mock = Mock::builder().models(a_newcomers_models()).start().await.unwrap();
    let (url, folder) = (mock.url(), Folder::new("default-model"));
    let data = folder.file("data");
    let start = |more: &[(&str, &str)]| {
        let env = [
            ("OLLAMA_LOCAL_URL", url.as_str()),
            ("PORTCULLIS_DATA_DIR", &data),
            ("PORTCULLIS_OPS_PORT", "0"),
        ];
        let running = Running::start(&[&env[..], more].concat());
        let out = running.out.clone();
        let line = |name: &str| {
            let line = out.lines().find(|line| line.trim_start().starts_with(name));
            line.unwrap_or_else(|| panic!("no {name} in {out}")).to_owned()
        };
        (line("model"), line("try"), running.stop().1)
    };
    let (model, line, errors) = start(&[]);
    assert!(model.contains("new:1b") && model.contains("qwen3:4b is not there"), "{model}");
    assert!(model.contains("the newest that can chat"), "{model}");
    assert!(line.contains(r#""model":"new:1b""#), "{line}");
    assert!(!errors.contains("default model"), "nobody chose one, and one answers: {errors}");
    let (model, line, errors) = start(&[("OLLAMA_MODEL", "chosen:1b")]);
    assert!(model.contains("chosen:1b"), "{model}");
    assert!(line.contains(r#""model":"new:1b""#), "{line}");
    assert!(errors.contains("ollama pull chosen:1b") && errors.contains("OLLAMA_MODEL=new:1b"), "{errors}");
    let only_vectors = Mock::builder()
        .models(vec![Model::plain("vectors:1b").with(MAKES_VECTORS).tersely_listed()])
        .start()
        .await
        .unwrap();
    let (_, line, errors) = start(&[("OLLAMA_LOCAL_URL", &only_vectors.url())]);
    assert!(!line.contains("vectors"), "{line}");
    assert!(errors.contains("ollama pull qwen3:4b"), "{errors}");
}

/// A model server that never says what its models can do.
async fn silent_about_models(models: Vec<Model>) -> Mock {
    let mock = Mock::builder().models(models).start().await.unwrap();
    mock.script(On::path("/api/show"), Script { never: true, ..Script::default() });
    mock
}

fn asked(gate: &Gateway, path: &str) -> usize {
    gate.mock.probes().into_iter().filter(|seen| seen.target == path).count()
}

#[tokio::test]
async fn a_server_that_never_says_what_its_models_can_do_holds_up_nobody() {
    let mut models = a_newcomers_models();
    models.truncate(2);
    let gate = Gateway::before(silent_about_models(models).await, &[("OLLAMA_MODEL", "")]);
    let begun = tokio::time::Instant::now();
    let (one, two) = tokio::join!(answered(&gate), answered(&gate));
    assert_eq!((&*one, &*two), ("new:1b", "new:1b"), "names decide");
    for _ in 0..3 {
        assert_eq!(marked(&gate.get("/models").await.body), ["new:1b"]);
        assert_eq!(answered(&gate).await, "new:1b");
    }
    // One question of five seconds, for which somebody waits a second.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(asked(&gate, "/api/show"), 1, "a question without an answer is not put again at once");
}

#[tokio::test]
async fn where_the_usual_model_is_there_nobody_waits_for_a_look() {
    let mut models = a_newcomers_models();
    models.push(Model::plain("qwen3:4b").tersely_listed());
    let gate = Gateway::before(silent_about_models(models).await, &[("OLLAMA_MODEL", "")]);
    let begun = tokio::time::Instant::now();
    // For longer than what was heard counts as new.
    while begun.elapsed() < Duration::from_millis(1_300) {
        assert_eq!(answered(&gate).await, "qwen3:4b");
    }
    assert_eq!((asked(&gate, "/api/tags"), asked(&gate, "/api/show")), (1, 0));
    let begun = tokio::time::Instant::now();
    assert_eq!(marked(&gate.get("/models").await.body), ["qwen3:4b"]);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_names_the_model_though_the_server_says_nothing_about_it() {
    let mut models = a_newcomers_models();
    models.truncate(2);
    let (mock, folder) = (silent_about_models(models).await, Folder::new("default-silent"));
    let data = folder.file("data");
    let running = Running::start(&[
        ("OLLAMA_LOCAL_URL", mock.url().as_str()),
        ("PORTCULLIS_DATA_DIR", &data),
        ("PORTCULLIS_OPS_PORT", "0"),
    ]);
    let out = running.out.clone();
    let line = out.lines().find(|line| line.trim_start().starts_with("model"));
    assert!(line.is_some_and(|line| line.contains("new:1b")), "{out}");
    let (_, errors) = running.stop();
    assert!(!errors.contains("does not answer yet"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_nothing_is_asked_for_a_caller_before_their_begin_is_kept() {
    let gate = unchosen(&[("PORTCULLIS_AUDIT_MODE", "strict")]).await;
    let mut other = rusqlite::Connection::open(gate.folder.join("portcullis.db")).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    assert_eq!(prompt(&gate, "").await.status, 503);
    assert_eq!(gate.get("/models").await.status, 503);
    assert!(gate.mock.probes().is_empty(), "{:?}", gate.mock.probes());
    lock.rollback().unwrap();
}

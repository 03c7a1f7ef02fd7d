//! Keys made on the command line, and a gateway that follows: rights, changes within a second, and streams that end with their key.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mock_ollama::{Mock, Model, On, Script};
use serde_json::Value;

use tokio::time::Instant;

use crate::client::Answer;
use crate::harness::{Gateway, KEY, PATIENCE, chat, post};

/// Runs `portcullis key …` on the store of a folder.
pub(crate) fn command(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .env_clear()
        .env("HOME", folder)
        .env("PORTCULLIS_DATA_DIR", folder)
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub(crate) fn json(folder: &Path, args: &[&str]) -> Value {
    let (code, out, errors) = command(folder, args);
    assert_eq!(code, 0, "{args:?}: {errors}");
    serde_json::from_str(&out).unwrap()
}

pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

async fn ask(gate: &Gateway, key: &str, path: &str, body: &str) -> Answer {
    gate.send(&post(path).replace(KEY, key), body.as_bytes()).await
}

/// Asks until the key is one (or is none): a change acts within a second, so more is a fault. Asks seldom, since an address that
/// shows wrong keys is locked out.
async fn becomes(gate: &Gateway, key: &str, good: bool) {
    let begun = Instant::now();
    let get = format!("GET /models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    loop {
        let status = gate.send(&get, b"").await.status;
        if (status == 200) == good {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "still {status} after a second");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_follows_the_command_line_within_a_second() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "laptop", "--json"]);
    let (id, first) = (text(&made, "id"), text(&made, "key"));
    assert_eq!(
        (made["scopes"].clone(), made["models"].clone()),
        (serde_json::json!(["inference", "read"]), serde_json::json!(["*"]))
    );
    becomes(&gate, &first, true).await;
    let rotated = json(&gate.folder, &["key", "rotate", &id, "--overlap", "1h", "--json"]);
    let second = text(&rotated, "key");
    becomes(&gate, &second, true).await;
    becomes(&gate, &first, true).await;
    let third = text(&json(&gate.folder, &["key", "rotate", &id, "--overlap", "0", "--json"]), "key");
    becomes(&gate, &third, true).await;
    becomes(&gate, &second, false).await;
    becomes(&gate, &first, false).await;
    assert_eq!(command(&gate.folder, &["key", "revoke", &id]).0, 0);
    becomes(&gate, &third, false).await;
    becomes(&gate, KEY, true).await;
    let listed = json(&gate.folder, &["key", "list", "--json"]);
    assert_eq!((listed[0]["state"].clone(), listed[0].get("key")), ("revoked".into(), None));
    let all = command(&gate.folder, &["key", "show", &id]).1;
    assert!(!all.contains(&third) && all.contains("laptop"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_with_its_key() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "phone", "--json"]);
    let key = text(&made, "key");
    becomes(&gate, &key, true).await;
    gate.mock.clear();
    gate.mock.script(On::Any, Script { hold_after: Some(2), ..Script::default() });
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat").replace(KEY, &key), chat(true).as_bytes()).await;
    let head = conn.head().await;
    assert_eq!(head.status, 200);
    let mut whole = gate.connect().await;
    whole.request(&post("/api/chat").replace(KEY, &key), chat(false).as_bytes()).await;
    gate.mock.wait_seen(2, PATIENCE).await.unwrap();
    assert_eq!(command(&gate.folder, &["key", "revoke", &text(&made, "id")]).0, 0);
    gate.mock.wait_gone(2, Duration::from_secs(1)).await.unwrap();
    let body = conn.rest(head).await.text();
    assert!(body.ends_with("{\"error\":\"the API key was revoked or has expired\"}\n"), "{body}");
    assert_eq!(whole.answer().await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_when_its_key_expires() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "guest", "--expires", "3s", "--json"]);
    let key = text(&made, "key");
    becomes(&gate, &key, true).await;
    gate.mock.script(On::Any, Script { hold_after: Some(2), ..Script::default() });
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat").replace(KEY, &key), chat(true).as_bytes()).await;
    let head = conn.head().await;
    assert_eq!(head.status, 200);
    let body = conn.rest(head).await.text();
    assert!(body.ends_with("{\"error\":\"the API key was revoked or has expired\"}\n"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_rights_hold_in_every_route_and_spelling() {
    let mut models: Vec<_> = ["alpha", "beta:7b", "team/alpha:v2"].map(Model::plain).to_vec();
    models.push(Model::plain("vectors").with(&[mock_ollama::Capability::Embedding]));
    let mock = Mock::builder().models(models).start().await.unwrap();
    let gate = Gateway::before(mock, &[("PORTCULLIS_ROUTES_CATALOGUE", "true"), ("OLLAMA_MODEL", "alpha")]);
    let args = ["key", "create", "--name", "narrow", "--model", "BETA:*", "--model", "team/*", "--json"];
    let key = text(&json(&gate.folder, &args), "key");
    becomes(&gate, &key, true).await;
    for path in
        ["/chat", "/api/chat", "/api/generate", "/chat_api", "/api/embed", "/api/embeddings", "/api/show"]
    {
        for model in [
            "alpha",
            "ALPHA:latest",
            "library/alpha",
            "registry.ollama.ai/library/Alpha",
            "vectors",
            "nobody",
        ] {
            let body = format!(r#"{{"model":"{model}","prompt":"hi"}}"#);
            let answer = ask(&gate, &key, path, &body).await;
            assert_eq!(answer.status, 403, "{path} {model}: {}", answer.text());
            assert!(answer.text().contains("this key may not use the model"), "{}", answer.text());
        }
        if path != "/api/show" {
            let none = ask(&gate, &key, path, r#"{"prompt":"hi"}"#).await;
            assert_eq!(none.status, 403, "{path}: the default model is another one");
        }
    }
    gate.assert_nothing_upstream();
    for model in ["Beta:7B", "team/alpha:v2", "https://registry.ollama.ai/team/alpha:v2"] {
        let body = format!(r#"{{"model":"{model}","prompt":"hi"}}"#);
        assert_eq!(ask(&gate, &key, "/api/generate", &body).await.status, 200, "{model}");
    }
    let get = |path: &str, key: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n")
    };
    for path in ["/models", "/api/tags"] {
        let list: Value = serde_json::from_str(&gate.send(&get(path, &key), b"").await.text()).unwrap();
        let names: Vec<_> =
            list["models"].as_array().unwrap().iter().map(|model| text(model, "name")).collect();
        assert_eq!(names, ["beta:7b", "team/alpha:v2"], "{path}");
    }
    let usage: Value = serde_json::from_str(&gate.send(&get("/usage", &key), b"").await.text()).unwrap();
    assert_eq!(
        (usage["name"].clone(), usage["models"].clone()),
        ("narrow".into(), serde_json::json!(["beta:*", "team/*"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_and_expiry_hold() {
    let gate = Gateway::start().await;
    let make = |args: &[&str]| {
        let all = [&["key", "create", "--json", "--name", "k"][..], args].concat();
        text(&json(&gate.folder, &all), "key")
    };
    let (reader, short) = (make(&["--scope", "read"]), make(&["--expires", "1s"]));
    becomes(&gate, &reader, true).await;
    assert_eq!(ask(&gate, &reader, "/api/chat", &chat(false)).await.status, 403);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    becomes(&gate, &short, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_keeps_no_key_from_ending() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "a", "--json"]);
    json(&gate.folder, &["key", "create", "--name", "b", "--json"]);
    becomes(&gate, &text(&made, "key"), true).await;
    let db = rusqlite::Connection::open(gate.folder.join("portcullis.db")).unwrap();
    db.execute("UPDATE keys SET limits = '{\"of_a_later_version\":1}' WHERE name = 'b'", []).unwrap();
    assert_eq!(command(&gate.folder, &["key", "revoke", &text(&made, "id")]).0, 0);
    becomes(&gate, &text(&made, "key"), false).await;
    assert_eq!(json(&gate.folder, &["key", "list", "--json"]).as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_unloads_a_model() {
    let gate = Gateway::start().await;
    let args = ["key", "create", "--name", "boss", "--scope", "inference,admin", "--json"];
    let boss = text(&json(&gate.folder, &args), "key");
    let unload = r#"{"model":"alpha","keep_alive":0}"#;
    assert_eq!(gate.post("/api/generate", unload).await.status, 403);
    gate.assert_nothing_upstream();
    let begun = Instant::now();
    while ask(&gate, &boss, "/api/generate", unload).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(ask(&gate, &boss, "/api/pull", "{}").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_judged() {
    let gate = Gateway::start().await;
    let key = text(&json(&gate.folder, &["key", "create", "--name", "a", "--json"]), "key");
    let note = format!("instead of {key}, which is lost");
    for (args, words) in [
        (&["--name", ""][..], "name: is required"),
        (&["--name", "a\nb"], "one line"),
        (&["--name", "x", "--scope", "root"], "scope: must be inference, read or admin"),
        (&["--name", "x", "--model", "a b"], "model: \"a b\""),
        (&["--name", "x", "--expires", "soon"], "expires: \"soon\" is not a duration"),
        (&["--name", "x", "--expires", "0"], "expires: must lie ahead"),
        (&["--name", "x", "--weight", "1000"], "weight: must be"),
        (
            &["--name", "x", "--requests-per-minute", "60000001"],
            "requests_per_minute: must be at most 10000000",
        ),
        (&["--name", "x", "--note", &note], "note: holds a key"),
    ] {
        let (code, out, errors) = command(&gate.folder, &[&["key", "create"][..], args].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(errors.contains(words), "{words} in {errors}");
    }
    for args in [["key", "show", "nobody"], ["key", "revoke", "nobody"], ["key", "rotate", "AAAAAAAA"]] {
        assert_eq!(command(&gate.folder, &args).0, 1, "{args:?}");
    }
}

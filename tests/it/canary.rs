//! What callers put where it does not belong: keys and prompts in paths, methods, names, headers. Nothing of it is written down, and
//! answers repeat nothing that has the form of a key, and tell nobody which guess is one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mock_ollama::Mock;

use crate::audit::rows;
use crate::client::Conn;
use crate::command::Running;
use crate::doors::Folder;
use crate::harness::{Gateway, KEY, MODEL, PATIENCE};
use crate::keys::{json, text};

/// Of the operator's own making: one that could be a model's name, and one that could be nothing else.
const OWN: &str = "operators-own-key-of-summer-2019,Odd~Operator+Key=42/with:signs!";
const PROMPT: &str = "my hamster is ill and nobody must ever know what I did to it last summer at the lake, so tell me honestly \
    whether I should tell anybody about it or rather keep it to myself for the rest of my life";

/// Sends bytes on a connection of their own; all that comes back.
async fn raw(port: u16, bytes: &str) -> String {
    let mut conn = Conn::open(SocketAddr::from(([127, 0, 0, 1], port))).await;
    conn.write(bytes.as_bytes()).await;
    String::from_utf8_lossy(&conn.until_end().await).into_owned()
}

fn with(key: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Requests that hold `canary` in one place each.
fn requests(key: &str, canary: &str) -> Vec<String> {
    let quoted = serde_json::to_string(canary).unwrap();
    let (get, post) = (
        |path: &str, headers: &str| with(key, "GET", path, headers, ""),
        |path: &str, body: &str| with(key, "POST", path, "", body),
    );
    let bodies = [
        format!(r#"{{"model":"{MODEL}","messages":[],{quoted}:1,"options":{{{quoted}:1}}}}"#),
        format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"x",{quoted}:1}}],"stream":false}}"#
        ),
        format!(r#"{{"model":"{MODEL}",{quoted}:1,{quoted}:2}}"#),
        format!("{{{quoted}:"),
        format!(r#"{{"model":{quoted},"messages":[]}}"#),
        format!(r#"{{"model":"{MODEL}","stream":{quoted}}}"#),
        format!(r#"{{"model":"{MODEL}","messages":[],"format":{quoted}}}"#),
        format!(r#"{{"model":"{MODEL}","messages":[],"think":{quoted},"keep_alive":{quoted}}}"#),
        format!(r#"{{"model":"{MODEL}","messages":[],"keep_alive":{quoted}}}"#),
        format!(r#"{{"model":"{MODEL}","messages":[{{"role":{quoted},"content":"x"}}]}}"#),
        format!(r#"{{"model":"{MODEL}","messages":{quoted},"options":{{"top_k":{quoted}}}}}"#),
        format!(r#"{{"model":"{MODEL}","messages":[],"options":{{"top_k":{quoted}}}}}"#),
        format!(
            r#"{{"model":"{MODEL}","messages":[],"tools":[{{"type":{quoted},"function":{{"name":{quoted}}}}}]}}"#
        ),
    ];
    let mut all: Vec<String> = bodies.iter().map(|body| post("/api/chat", body)).collect();
    all.push(post("/api/show", &format!(r#"{{"model":{quoted}}}"#)));
    for header in
        ["Origin", "X-Forwarded-For", "Content-Type", "Accept", "Cookie", "Content-Encoding", canary]
    {
        all.push(get("/models", &format!("{header}: {canary}\r\n")));
        all.push(with(key, "POST", "/api/chat", &format!("{header}: {canary}\r\n"), "{}"));
    }
    let preflight = format!(
        "Origin: http://{canary}\r\nAccess-Control-Request-Method: {canary}\r\nAccess-Control-Request-Headers: {canary}\r\n"
    );
    all.push(with(key, "OPTIONS", "/api/chat", &preflight, ""));
    for (headers, host) in [("", canary), (&*format!("Authorization: Basic {canary}\r\n"), "localhost")] {
        all.push(format!("GET /models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"));
    }
    all.push(format!(
        "GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {canary} {canary}\r\n\r\n"
    ));
    if !canary.contains(' ') {
        for path in ["/", "/api/", "/v1/models/", "/static/", "/models/", "/admin/", "/chat/", "//api/chat/"]
        {
            all.push(get(&format!("{path}{canary}"), ""));
        }
        for query in ["?key=", "?", "?a=b&x="] {
            all.push(get(&format!("/models{query}{canary}"), ""));
        }
        all.push(get(&format!("http://{canary}@localhost/models"), ""));
        all.push(with(key, canary, "/api/chat", "", ""));
        all.push(with(key, canary, &format!("/{canary}"), "", ""));
    }
    all.push(format!("{canary}\r\n\r\n"));
    all
}

/// Pieces of a key: with any of them it is no secret any more.
fn pieces(key: &str) -> Vec<String> {
    let secret = key.strip_prefix("pc_").map_or(key, |key| key.split_at(9).1).to_ascii_lowercase();
    secret.as_bytes().windows(10).map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

fn assert_free(place: &str, bytes: &[u8], canaries: &[String]) {
    let lower = bytes.to_ascii_lowercase();
    for canary in canaries {
        let found = crate::client::find(&lower, canary.as_bytes());
        let around =
            found.map(|at| String::from_utf8_lossy(&lower[at.saturating_sub(80)..lower.len().min(at + 80)]));
        assert!(found.is_none(), "{canary} in {place}: {around:?}");
    }
}

fn assert_files_free(folder: &Path, canaries: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        // SQLite's own passing files go with their last connection.
        if let Ok(bytes) = std::fs::read(entry.path()) {
            assert_free(&entry.file_name().to_string_lossy(), &bytes, canaries);
        }
    }
}

async fn plant_everywhere(format: &str) {
    let mock = Mock::start().await.unwrap();
    let (url, folder) = (mock.url(), Folder::new(&format!("canary-{format}")));
    let data = folder.file("data");
    std::fs::create_dir_all(&data).unwrap();
    let made = json(Path::new(&data), &["key", "create", "--name", "planted", "--json"]);
    let stored = text(&made, "key");
    let made = json(Path::new(&data), &["key", "create", "--name", "ops", "--scope", "admin", "--json"]);
    let admin = text(&made, "key");
    let running = Running::start(&[
        ("OLLAMA_LOCAL_URL", url.as_str()),
        ("PORTCULLIS_DATA_DIR", &data),
        ("PORTCULLIS_OPS_PORT", "0"),
        ("PORTCULLIS_LOG_FORMAT", format),
        ("PORTCULLIS_LOG_LEVEL", "debug"),
        ("PORTCULLIS_ROUTES_CATALOGUE", "true"),
        ("OLLAMA_API_KEY", OWN),
    ]);
    let own: Vec<&str> = OWN.split(',').collect();
    let keys = [stored.as_str(), own[0], own[1]];
    let key_pieces: Vec<String> = keys.iter().flat_map(|key| pieces(key)).collect();
    // By its form alone: an answer that hid the operator's own keys would tell which guess is one.
    let of_form = pieces(&stored);
    let mut asked = 0;
    for canary in keys.into_iter().chain([PROMPT]) {
        for request in requests(own[0], canary) {
            let answer = raw(running.port, &request).await;
            assert!(answer.starts_with("HTTP/1.1 "), "{request}: {answer}");
            assert_free(&format!("the answer to {request}"), answer.as_bytes(), &of_form);
            assert!(!answer.contains(PROMPT.split_at(128).0), "{request}: {answer}");
            asked += 1;
        }
    }
    // A whole key where its id belongs, as somebody in a hurry pastes it.
    for canary in keys {
        for (method, path) in
            [("GET", "/admin/keys/"), ("DELETE", "/admin/keys/"), ("GET", "/admin/usage?since=")]
        {
            let request = with(&admin, method, &format!("{path}{canary}"), "", "");
            let answer = raw(running.ops(), &request).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{request}: {answer}");
            assert_free(&format!("the answer to {request}"), answer.as_bytes(), &of_form);
        }
    }
    // Refusals without a key are gathered in fewer rows.
    rows(Path::new(&data), asked / 3).await;
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let metrics = raw(running.ops(), metrics).await;
    assert!(metrics.contains("portcullis_requests"), "{metrics}");
    let canaries = [key_pieces, vec!["hamster".into(), "nobody must".into()]].concat();
    assert_files_free(Path::new(&data), &canaries);
    assert_free("the metrics", metrics.as_bytes(), &canaries);
    let (code, log) = running.stop();
    assert_eq!(code, 0);
    assert!(log.lines().count() > asked, "{log}");
    assert_free("the log", log.as_bytes(), &canaries);
    for line in log.lines() {
        assert!(line.len() <= 2_048, "{line}");
    }
    assert_files_free(Path::new(&data), &canaries);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_put_in_the_wrong_place_is_written_nowhere_as_text() {
    plant_everywhere("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_as_json() {
    plant_everywhere("json").await;
}

/// What an answer says, without what differs each time: of a success its head, which names what was dropped.
async fn said(gate: &Gateway, request: &str) -> String {
    let answer = raw(gate.address.port(), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let varies = ["x-request-id", "date", "content-length", "transfer-encoding", "x-ratelimit"];
    let mut said: Vec<&str> =
        head.lines().filter(|line| !varies.iter().any(|name| line.starts_with(name))).collect();
    if !answer.starts_with("HTTP/1.1 200") {
        said.push(body);
    }
    said.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_no_guess_at_a_key_from_another() {
    let own = format!("{KEY},ollama,hunter2,swordfish-of-the-operator");
    let gate = Gateway::with(&[("OLLAMA_API_KEY", own.as_str())]).await;
    let other = Gateway::start().await;
    // In our own words, which may hold a word that is a key.
    for path in ["/api/tags", "/api/pull", "/nothing", "/models"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(said(&gate, &request).await, said(&other, &request).await, "{path}");
    }
    for (guess, miss) in [
        ("ollama", "olmala"),
        ("hunter2", "hunter3"),
        ("swordfish", "swordfitt"),
        ("fish-of-the-op", "fish-of-the-ox"),
    ] {
        for (request, missed) in requests(KEY, guess).into_iter().zip(requests(KEY, miss)) {
            let (hit, missed) = (said(&gate, &request).await, said(&gate, &missed).await);
            assert_eq!(hit.replace(guess, miss), missed, "{request}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_text_in_a_row_is_short_and_ends_in_no_part_of_a_key() {
    let own = "Operators-Own-Key-of-Summer-2019";
    let gate = Gateway::with(&[("OLLAMA_API_KEY", own)]).await;
    let made = json(&gate.folder, &["key", "create", "--name", "narrow", "--model", "only:*", "--json"]);
    let narrow = text(&made, "key");
    let models = with(&narrow, "GET", "/models", "", "");
    let begun = tokio::time::Instant::now();
    while raw(gate.address.port(), &models).await.starts_with("HTTP/1.1 401") {
        assert!(begun.elapsed() < PATIENCE, "the new key is never known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let part = |n: usize| "zq-".repeat(n).get(..n).unwrap().trim_end_matches('-').to_owned();
    let key = own.to_ascii_lowercase();
    let mut asked = 0;
    for ahead in (105..129).step_by(3) {
        // A host, a namespace, a model, a tag: the key stands about where it is cut.
        let model = format!("{}/{}/{key}:{}", part(ahead / 2), part(ahead - ahead / 2 - 2), part(79));
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        for key in [own, &narrow] {
            let answer = raw(gate.address.port(), &with(key, "POST", "/api/chat", "", &body)).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            assert!(!answer.contains(&part(79)), "it is cut: {answer}");
            asked += 1;
        }
    }
    let mut seen = 0;
    for row in rows(&gate.folder, asked).await {
        seen += usize::from(row.model.is_some());
        for text in [row.model.as_deref(), row.reason.as_deref()].into_iter().flatten() {
            assert!(text.len() <= 128 && !text.contains("oper"), "{text}");
            assert!(!text.contains("zq") || row.model.as_deref() == Some(text), "{text}");
        }
    }
    assert!(seen >= asked / 2, "{seen} of {asked}");
}

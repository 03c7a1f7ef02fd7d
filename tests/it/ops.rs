//! The operators' listener: metrics that no caller can grow, and the admin API.

use serde_json::{Value, json};

use crate::client::{Answer, Conn};
use crate::harness::{Gateway, KEY, parsed};
use crate::keys::{self, text};

async fn ask(gate: &Gateway, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let mut conn = Conn::open(gate.ops).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    );
    conn.request(&head, body.as_bytes()).await;
    conn.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let gate = Gateway::start().await;
    assert_eq!(gate.chat(true).await.status, 200);
    assert_eq!(gate.post("/api/anything-at-all", "{}").await.status, 403);
    crate::audit::rows(&gate.folder, 2).await;
    let page = ask(&gate, "GET", "/metrics", KEY, "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    for line in [
        "portcullis_requests_total{route=\"/api/chat\",status=\"200\",ending=\"done\"} 1",
        "portcullis_requests_total{route=\"-\",status=\"403\",ending=\"refused\"} 1",
        "portcullis_tokens_total{kind=\"output\"} 24",
        "portcullis_first_byte_seconds_count 1",
        "portcullis_queue_wait_seconds_count 1",
        "portcullis_token_gap_seconds_count 1",
        "portcullis_upstream_up 1",
        "portcullis_upstream_slots 4",
        "portcullis_audit_failing 0",
        "portcullis_audit_rows_total 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("anything") && !text.contains("alpha") && !text.contains("env-1"), "{text}");
    assert_eq!(ask(&gate, "POST", "/metrics", KEY, "").await.status, 405);
    assert_eq!(ask(&gate, "GET", "/api/chat", KEY, "").await.status, 404, "no way to a model");
    assert_eq!(gate.get("/metrics").await.status, 404, "not on the public listener");
    let mut conn = Conn::open(gate.ops).await;
    conn.request("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n", b"").await;
    assert_eq!(conn.answer().await.status, 421, "a name that was made to lead here");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_makes_lists_rotates_and_ends_keys() {
    let gate = Gateway::start().await;
    let boss = text(
        &keys::json(&gate.folder, &["key", "create", "--name", "boss", "--scope", "admin", "--json"]),
        "key",
    );
    let begun = tokio::time::Instant::now();
    while ask(&gate, "GET", "/admin/keys", &boss, "").await.status != 200 {
        assert!(begun.elapsed().as_secs() < 2);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(
        ask(&gate, "GET", "/admin/keys", KEY, "").await.status,
        403,
        "the operator's own key is no admin"
    );
    assert_eq!(ask(&gate, "GET", "/admin/keys", "nobody", "").await.status, 401);
    let body = json!({"name": "phone", "models": ["alpha"], "limits": {"concurrent": 2}, "expires": "30d"});
    let made = ask(&gate, "POST", "/admin/keys", &boss, &body.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = parsed(&made.body);
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let get =
        |key: &str| format!("GET /usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    let usage: Value = parsed(&gate.send(&get(&key), b"").await.body);
    assert_eq!(
        (text(&usage, "name"), usage["limits"]["concurrent"].clone()),
        ("phone".into(), 2.into()),
        "at once, through the same process"
    );
    let rotated = parsed(
        &ask(&gate, "POST", &format!("/admin/keys/{id}/rotate"), &boss, r#"{"overlap":"0"}"#).await.body,
    );
    let second = text(&rotated, "key");
    assert_eq!(gate.send(&get(&key), b"").await.status, 401);
    assert_eq!(gate.send(&get(&second), b"").await.status, 200);
    let shown = ask(&gate, "GET", &format!("/admin/keys/{id}"), &boss, "").await;
    assert!(!shown.text().contains(&second) && shown.text().contains("phone"), "{}", shown.text());
    assert_eq!(ask(&gate, "DELETE", &format!("/admin/keys/{id}"), &boss, "").await.status, 200);
    assert_eq!(gate.send(&get(&second), b"").await.status, 401);
    for (method, path, body, status) in [
        ("POST", "/admin/keys", r#"{"name":""}"#, 400),
        ("POST", "/admin/keys", r#"{"name":"x","nmae":1}"#, 400),
        ("POST", "/admin/keys", r#"{"name":"x","scopes":["root"]}"#, 400),
        ("GET", "/admin/keys/nobody", "", 404),
        ("DELETE", "/admin/keys/nobody", "", 404),
        ("PUT", "/admin/keys", "", 405),
        ("GET", "/admin/audit?n=many", "", 400),
        ("GET", "/admin/nothing", "", 404),
    ] {
        assert_eq!(ask(&gate, method, path, &boss, body).await.status, status, "{method} {path} {body}");
    }
    crate::audit::rows(&gate.folder, 3).await;
    let rows = parsed(&ask(&gate, "GET", "/admin/audit?n=5", &boss, "").await.body);
    assert!(!rows["rows"].as_array().unwrap().is_empty());
    let usage = parsed(&ask(&gate, "GET", "/admin/usage", &boss, "").await.body);
    assert!(usage["usage"].as_array().unwrap().iter().any(|row| row["key_id"] == id));
}

/// The metrics are looked at when something is wrong: whoever holds connections open must not keep operators from looking.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_shut_operators_out() {
    let gate = Gateway::start().await;
    let mut silent = Vec::new();
    for n in 0..80 {
        let mut conn = Conn::open(gate.ops).await;
        match n % 3 {
            0 => {}
            // A head that does not end, and one whose body does not come.
            1 => conn.write(b"GET /metrics HT").await,
            _ => conn.write(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await,
        }
        silent.push(conn);
    }
    for _ in 0..3 {
        assert_eq!(ask(&gate, "GET", "/healthz", KEY, "").await.status, 200);
    }
    // The first of them had to go, though nothing was said.
    silent.remove(0).assert_closed().await;
}

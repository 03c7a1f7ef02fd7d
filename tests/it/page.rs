//! What the page asks of the gateway beyond the API: phases, and what a key may do.

use std::time::Duration;

use mock_ollama::{On, Script};
use serde_json::{Value, json};

use crate::client::Conn;
use crate::harness::{Gateway, KEY, MODEL, PATIENCE, assert_native_error, parsed, post};

async fn ask(gate: &Gateway, more: &str) -> Conn {
    let mut conn = gate.connect().await;
    let body = json!({"prompt": "hi", "model": MODEL}).to_string();
    conn.request(&format!("{}{more}", post("/chat_api")), body.as_bytes()).await;
    conn
}

async fn line(conn: &mut Conn) -> Value {
    let chunk = tokio::time::timeout(PATIENCE, conn.chunk()).await.expect("silence").expect("the end");
    parsed(&chunk)
}

#[tokio::test]
async fn whoever_asks_for_phases_hears_of_the_queue_and_the_prompt() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_SLOTS", "1")]).await;
    gate.assert_well().await;
    let endless = Script { endless: true, gap: Duration::from_millis(20), ..Script::default() };
    gate.mock.script(On::Any, endless);
    let mut first = ask(&gate, "").await;
    assert_eq!(first.head().await.status, 200);
    assert!(first.chunk().await.is_some());

    let mut second = ask(&gate, "X-Portcullis-Phases: 1\r\n").await;
    let head = second.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
    assert_eq!(line(&mut second).await, json!({"portcullis": {"phase": "queue", "position": 1}}));
    let mut third = ask(&gate, "X-Portcullis-Phases: 1\r\n").await;
    third.head().await;
    assert_eq!(line(&mut third).await["portcullis"]["position"], 2);
    // The one before leaves the line: the place is told anew, though nobody woke this one for it.
    second.leave();
    assert_eq!(line(&mut third).await, json!({"portcullis": {"phase": "queue", "position": 1}}));
    first.leave();
    let phase = line(&mut third).await["portcullis"]["phase"].clone();
    assert!(phase == "prompt" || phase == "loading", "{phase}");
    assert!(line(&mut third).await.get("portcullis").is_none(), "the answer itself");
}

#[tokio::test]
async fn nobody_else_hears_of_phases() {
    let gate = Gateway::start().await;
    let mut conn = ask(&gate, "").await;
    let answer = conn.answer().await;
    assert!(answer.whole && !answer.text().contains("portcullis"), "{}", answer.text());
    // On other routes the wish has no meaning.
    let head = format!("{}X-Portcullis-Phases: 1\r\n", post("/api/generate"));
    let body = json!({"model": MODEL, "prompt": "x"}).to_string();
    let answer = gate.send(&head, body.as_bytes()).await;
    assert!(answer.whole && !answer.text().contains("portcullis"), "{}", answer.text());
}

#[tokio::test]
async fn what_is_wrong_with_the_request_itself_keeps_its_status() {
    let gate = Gateway::start().await;
    let head = format!("{}X-Portcullis-Phases: 1\r\n", post("/chat_api"));
    for (body, status) in [(json!({}), 400), (json!({"prompt": "x", "model": "no-such-model"}), 404)] {
        let answer = gate.send(&head, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, status);
        assert_native_error(&answer.body);
    }
}

#[tokio::test]
async fn a_key_is_told_what_it_may_do() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "60")]).await;
    let answer = gate.get("/usage").await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-requests")), (200, Some("60")));
    let expected = json!({
        "id": "env-1", "name": "env-1", "scopes": ["inference", "read"], "models": ["*"], "expires_at": null,
        "limits": {"requests_per_minute": 60, "lists_per_minute": 1200},
        "requests": {"remaining": 60, "reset_seconds": 0}, "tokens": null,
        "used": {"tokens_today": 0, "tokens_this_month": 0, "gpu_seconds_today": 0},
    });
    assert_eq!(parsed(&answer.body), expected);
    assert!(!answer.text().contains(KEY));
    let nobody = gate.send("GET /usage HTTP/1.1\r\nHost: a\r\n", b"").await;
    assert_eq!(nobody.status, 401);
    assert_eq!(gate.post("/usage", "{}").await.status, 405);
}

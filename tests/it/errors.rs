//! Upstream down, slow, and back; a stop while streams run.

use tokio::time::Instant;

use mock_ollama::{On, Script};

use crate::client::SOON;
use crate::harness::{Gateway, PATIENCE, assert_native_error, chat, post};

#[tokio::test]
async fn down_is_a_502_without_an_address_and_back_is_back() {
    let gate = Gateway::start().await;
    gate.assert_well().await;
    gate.mock.stop_listening().await;
    for stream in [true, false] {
        let asked = Instant::now();
        let answer = gate.chat(stream).await;
        assert_eq!(answer.status, 502);
        assert!(asked.elapsed() < SOON);
        let text = assert_native_error(&answer.body);
        assert!(
            !text.contains("127.0.0.1") && !text.contains(&gate.mock.addr().port().to_string()),
            "{text}"
        );
    }
    gate.mock.listen_again().await.unwrap();
    gate.assert_well().await;
}

#[tokio::test]
async fn an_upstream_that_was_never_there_is_a_502_too() {
    let gate = Gateway::start().await;
    gate.mock.stop_listening().await;
    assert_eq!(gate.chat(false).await.status, 502);
    assert_eq!(gate.get("/models").await.status, 502);
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced() {
    let gate = Gateway::start().await;
    for _ in 0..5 {
        gate.assert_well().await;
        gate.mock.cut_connections();
    }
}

#[tokio::test]
async fn an_unknown_model_never_waits_for_a_turn() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_SLOTS", "1"), ("PORTCULLIS_QUEUE_LENGTH", "0")]).await;
    gate.mock
        .script(On::model("alpha"), Script { tokens: Some(3), hold_after: Some(1), ..Script::default() });
    let (_conn, _head) = gate.stream().await;
    let body = r#"{"model":"nope:1b","messages":[{"role":"user","content":"x"}]}"#;
    let answer = gate.post("/api/chat", body).await;
    assert_eq!(
        (answer.status, assert_native_error(&answer.body)),
        (404, "model 'nope:1b' not found".to_owned())
    );
}

#[tokio::test]
async fn a_stop_lets_streams_end_and_takes_nobody_new() {
    let mut gate = Gateway::start().await;
    let script = Script { tokens: Some(4), gap: std::time::Duration::from_millis(200), ..Script::default() };
    gate.mock.script(On::Any, script);
    let (mut conn, head) = gate.stream().await;
    let mut idle = gate.connect().await;
    let drained = gate.stop();
    let answer = conn.rest(head).await;
    assert!(answer.whole && answer.text().contains("\"done\":true"), "{}", answer.text());
    conn.assert_closed().await;
    idle.assert_closed().await;
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(gate.address).await.is_err());
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let gate = Gateway::start().await;
    let mut conn = gate.connect().await;
    for i in 0..20 {
        conn.request(&post("/api/chat"), chat(i % 2 == 0).as_bytes()).await;
        let answer = conn.answer().await;
        assert_eq!((answer.status, answer.whole), (200, true), "request {i}");
        if i == 10 {
            conn.request("GET /nothing HTTP/1.1\r\nHost: a\r\n", b"").await;
            assert_eq!(conn.answer().await.status, 404);
        }
    }
    let upstream: std::collections::HashSet<_> =
        gate.mock.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(upstream.len(), 1, "one upstream connection served them all");
}

#[tokio::test]
async fn a_stop_in_a_hurry_still_answers_whoever_waits() {
    let mut gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_SLOTS", "1")]).await;
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    let mut waiting = Vec::new();
    // One waits for the upstream, one for its turn.
    for stream in [false, true] {
        let mut conn = gate.connect().await;
        conn.request(&post("/api/chat"), chat(stream).as_bytes()).await;
        gate.mock.wait_seen(1, PATIENCE).await.unwrap();
        waiting.push(conn);
    }
    assert_eq!(gate.get("/healthz").await.status, 200, "both have been read by now");
    let stopped = gate.stop_now();
    for mut conn in waiting {
        let answer = conn.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{answer:?}");
        assert_native_error(&answer.body);
    }
    stopped.await.unwrap();
}

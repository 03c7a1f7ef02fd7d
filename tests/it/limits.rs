//! Rates, the queue, lock-out.

use mock_ollama::{On, Script};

use crate::harness::{Gateway, KEY, assert_native_error, chat, post};

#[tokio::test]
async fn a_rate_has_headers_and_an_exact_wait() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "3")]).await;
    for left in ["2", "1", "0"] {
        let answer = gate.chat(false).await;
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("3"));
        assert_eq!((answer.status, answer.header("x-ratelimit-remaining-requests")), (200, Some(left)));
    }
    gate.mock.clear();
    let answer = gate.chat(false).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("20")));
    assert!(assert_native_error(&answer.body).contains('3'));
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn beyond_the_slots_one_waits_and_beyond_the_queue_one_is_told() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_UPSTREAM_SLOTS", "1"),
        ("PORTCULLIS_QUEUE_LENGTH", "1"),
        ("PORTCULLIS_QUEUE_WAIT", "400ms"),
        ("PORTCULLIS_STREAM_HEARTBEAT", "0"),
    ])
    .await;
    gate.mock.script(On::Any, Script { tokens: Some(3), hold_after: Some(1), ..Script::default() });
    let (_running, _head) = gate.stream().await;
    let mut waiting = gate.connect().await;
    waiting.request(&post("/api/chat"), chat(true).as_bytes()).await;
    // One of the two waits out its time, the other finds the queue full: both are told when to come again.
    let other = gate.chat(true).await;
    let first = waiting.answer().await;
    for answer in [&other, &first] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
        assert_native_error(&answer.body);
    }
    assert_eq!(gate.mock.seen().len(), 1);
}

#[tokio::test]
async fn ten_wrong_keys_lock_the_address_but_not_a_strong_key() {
    let gate = Gateway::start().await;
    let ask = async |key: &str| gate.send(&post("/api/chat").replace(KEY, key), chat(false).as_bytes()).await;
    // The same one again and again, as an agent sends it that was forgotten, is one guess.
    for _ in 0..30 {
        assert_eq!(ask("an-old-key").await.status, 401);
    }
    let no_key = async || gate.send("GET /models HTTP/1.1\r\nHost: localhost\r\n", b"").await.status;
    for n in 0..9 {
        assert_eq!((ask(&format!("guess-{n}")).await.status, no_key().await), (401, 401));
    }
    let locked = ask("guess").await;
    assert_eq!(locked.status, 429);
    assert!(locked.header("retry-after").is_some());
    assert_eq!(ask(KEY).await.status, 200, "nobody guesses {} characters", KEY.len());
}

#[tokio::test]
async fn lists_have_an_allowance_of_their_own() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "2"),
        ("PORTCULLIS_LIMITS_LISTS_PER_MINUTE", "4"),
        ("PORTCULLIS_ROUTES_CATALOGUE", "true"),
    ])
    .await;
    let show = async || gate.post("/api/show", r#"{"model":"alpha"}"#).await.status;
    assert_eq!([show().await, show().await], [200, 200]);
    assert_eq!([gate.get("/models").await.status, gate.get("/usage").await.status], [200, 200]);
    let fifth = gate.get("/api/tags").await;
    assert_eq!((fifth.status, fifth.header("retry-after")), (429, Some("15")));
    assert!(assert_native_error(&fifth.body).contains("4 lists per minute"));
    assert_eq!([gate.chat(false).await.status, gate.chat(true).await.status], [200, 200]);
    assert_eq!(gate.chat(false).await.status, 429);
}

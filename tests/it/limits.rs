//! Rate, concurrency, queue, lock-out.

use mock_ollama::{On, Raw, Script, Then};

use crate::harness::{Gateway, KEY, PATIENCE, assert_native_error, chat, post};

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
async fn a_permit_rides_in_the_body_until_its_last_byte() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "1")]).await;
    gate.mock.script(On::Any, Script { tokens: Some(3), hold_after: Some(1), ..Script::default() });
    let (conn, _head) = gate.stream().await;
    let answer = gate.chat(false).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
    conn.leave();
    gate.mock.wait_disconnect(PATIENCE).await.unwrap();
    gate.mock.reset();
    // The upstream hears of it in the same moment as the count.
    let mut status = 0;
    for _ in 0..100 {
        status = gate.chat(false).await.status;
        if status == 200 {
            break;
        }
    }
    assert_eq!(status, 200);
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
    for _ in 0..10 {
        assert_eq!(ask("guess").await.status, 401);
    }
    let locked = ask("guess").await;
    assert_eq!(locked.status, 429);
    assert!(locked.header("retry-after").is_some());
    assert_eq!(ask(KEY).await.status, 200, "nobody guesses {} characters", KEY.len());
}

#[tokio::test]
async fn a_whole_answer_holds_its_permit_until_it_was_taken() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "1")]).await;
    gate.assert_well().await;
    // More than the sockets on both sides hold.
    let text = "x".repeat(24 << 20);
    let body = format!("{{\"model\":\"alpha\",\"message\":{{\"content\":\"{text}\"}},\"done\":true}}");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let raw = Raw::new(format!("{head}{body}"), Then::Keep);
    gate.mock.script(On::Any, Script { raw: Some(raw), ..Script::default() });
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat"), chat(false).as_bytes()).await;
    let head = conn.head().await;
    assert_eq!(head.status, 200);
    assert_eq!(gate.chat(false).await.status, 429, "the first is still being read");
    let answer = conn.rest(head).await;
    assert!(answer.whole && answer.body.len() == body.len());
    gate.assert_well().await;
}

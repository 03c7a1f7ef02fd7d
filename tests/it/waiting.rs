//! What exceeds a key's own turns waits in the fair queue, and fails in nobody's face.

use std::time::Duration;

use mock_ollama::{On, Raw, Script, Then};
use tokio::time::Instant;

use crate::client::Conn;
use crate::harness::{Gateway, KEY, PATIENCE, assert_native_error, chat, parsed, post};
use crate::keys::{json, text};

/// A line of the metrics, by its name and labels.
async fn metric(gate: &Gateway, name: &str) -> Option<u64> {
    let mut conn = Conn::open(gate.ops).await;
    conn.request("GET /metrics HTTP/1.1\r\nHost: localhost\r\n", b"").await;
    let page = conn.answer().await.text();
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn until_waiting(gate: &Gateway, wanted: u64) {
    let begun = Instant::now();
    while metric(gate, "portcullis_queue_waiting").await != Some(wanted) {
        assert!(begun.elapsed() < PATIENCE, "not {wanted} wait");
    }
}

fn held() -> Script {
    Script { tokens: Some(3), hold_after: Some(1), ..Script::default() }
}

async fn asks(gate: &Gateway) -> Conn {
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat"), chat(false).as_bytes()).await;
    conn
}

#[tokio::test]
async fn twenty_at_once_from_one_key_all_get_answers_and_few_run_at_once() {
    // With slots for all of them, without any bound of slots, and with fewer slots than the key may have turns.
    for (slots, most) in [("20", 3), ("0", 3), ("2", 2)] {
        let gate =
            Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "3"), ("PORTCULLIS_UPSTREAM_SLOTS", slots)])
                .await;
        gate.mock.script(On::Any, Script { head_delay: Duration::from_millis(50), ..Script::default() });
        let mut all = Vec::new();
        for _ in 0..20 {
            all.push(asks(&gate).await);
        }
        for conn in &mut all {
            assert_eq!(conn.answer().await.status, 200);
        }
        let seen = gate.mock.seen();
        assert_eq!(seen.len(), 20);
        for one in &seen {
            let at_once = seen.iter().filter(|other| {
                other.head_at <= one.head_at && other.finished_at.is_none_or(|end| end > one.head_at)
            });
            assert!(at_once.count() <= most, "more than {most} ran at once");
        }
    }
}

#[tokio::test]
async fn the_defaults_let_twenty_through() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_LIMITS_CONCURRENT", "8"),
        ("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "600"),
    ])
    .await;
    gate.mock.script(On::Any, Script { head_delay: Duration::from_millis(20), ..Script::default() });
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(asks(&gate).await);
    }
    for conn in &mut all {
        assert_eq!(conn.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_turn_rides_in_the_body_until_its_last_byte() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "1")]).await;
    gate.mock.script(On::Any, held());
    let (conn, _head) = gate.stream().await;
    let mut second = asks(&gate).await;
    until_waiting(&gate, 1).await;
    assert_eq!(gate.mock.seen().len(), 1, "slots are free, and it waits all the same");
    gate.mock.script(On::Any, Script::default());
    conn.leave();
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_pass_a_key_that_has_all_its_turns() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "1")]).await;
    let light = text(&json(&gate.folder, &["key", "create", "--name", "light", "--json"]), "key");
    gate.mock.script(On::path("/api/chat"), held());
    let (_conn, _head) = gate.stream().await;
    let _second = asks(&gate).await;
    until_waiting(&gate, 1).await;
    let begun = Instant::now();
    loop {
        let head = post("/api/generate").replace(KEY, &light);
        let answer = gate.send(&head, br#"{"model":"alpha","prompt":"hi","stream":false}"#).await;
        if answer.status == 200 {
            break;
        }
        assert!(answer.status == 401 && begun.elapsed() < PATIENCE, "{answer:?}");
    }
    until_waiting(&gate, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_light_key_waits_one_turn_at_most() {
    let gate =
        Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "2"), ("PORTCULLIS_UPSTREAM_SLOTS", "1")]).await;
    let light = text(&json(&gate.folder, &["key", "create", "--name", "light", "--json"]), "key");
    let begun = Instant::now();
    let get = format!("GET /usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {light}\r\n");
    while gate.send(&get, b"").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE);
    }
    gate.mock.script(On::Any, held());
    let (conn, _head) = gate.stream().await;
    let mut heavy = Vec::new();
    for _ in 0..10 {
        heavy.push(asks(&gate).await);
    }
    until_waiting(&gate, 10).await;
    let mut one = gate.connect().await;
    let body = br#"{"model":"alpha","prompt":"hi","stream":false}"#;
    one.request(&post("/api/generate").replace(KEY, &light), body).await;
    until_waiting(&gate, 11).await;
    gate.mock.script(On::Any, Script::default());
    conn.leave();
    assert_eq!(one.answer().await.status, 200);
    for conn in &mut heavy {
        assert_eq!(conn.answer().await.status, 200);
    }
    assert_eq!(gate.mock.seen()[1].target, "/api/generate", "it was next");
}

#[tokio::test]
async fn so_many_of_one_key_wait_and_one_more_is_told_which_bound_it_met() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_LIMITS_CONCURRENT", "1"),
        ("PORTCULLIS_QUEUE_PER_KEY", "2"),
        ("PORTCULLIS_STREAM_HEARTBEAT", "0"),
        ("PORTCULLIS_LIMITS_TOKENS_PER_DAY", "100000"),
    ])
    .await;
    gate.mock.script(On::Any, held());
    let (conn, _head) = gate.stream().await;
    let mut waiting = [asks(&gate).await, asks(&gate).await];
    until_waiting(&gate, 2).await;
    let left = async || parsed(&gate.get("/usage").await.body)["tokens"]["remaining"].as_u64().unwrap();
    let before = left().await;
    assert!(before < 90_000, "what runs and waits is reserved");
    for stream in [false, true] {
        let answer = gate.chat(stream).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
        assert!(assert_native_error(&answer.body).contains("queue.per_key"), "{}", answer.text());
    }
    assert_eq!(left().await, before, "what was refused gives back what it had reserved");
    let begun = Instant::now();
    while metric(&gate, "portcullis_limit_refusals_total{limit=\"queue_per_key\"}").await != Some(2) {
        assert!(begun.elapsed() < PATIENCE, "nobody counts it");
    }
    gate.mock.script(On::Any, Script::default());
    conn.leave();
    for conn in &mut waiting {
        assert_eq!(conn.answer().await.status, 200);
    }
}

#[tokio::test]
async fn what_waits_for_its_own_turn_hears_of_its_place_and_gets_heartbeats() {
    let gate =
        Gateway::with(&[("PORTCULLIS_LIMITS_CONCURRENT", "1"), ("PORTCULLIS_STREAM_HEARTBEAT", "200ms")])
            .await;
    gate.mock.script(On::Any, held());
    let (_conn, _head) = gate.stream().await;
    let mut page = gate.connect().await;
    let head = format!("{}X-Portcullis-Phases: 1\r\n", post("/chat_api"));
    page.request(&head, br#"{"prompt":"hi"}"#).await;
    assert_eq!(page.head().await.status, 200);
    let line = String::from_utf8(page.chunk().await.unwrap()).unwrap();
    assert!(line.contains("queue") && line.contains('1'), "{line}");
    let mut plain = gate.connect().await;
    plain.request(&post("/api/chat"), chat(true).as_bytes()).await;
    assert_eq!(plain.head().await.status, 200, "the head goes out with the first heartbeat");
    assert!(plain.chunk().await.is_some() && plain.chunk().await.is_some());
    assert_eq!(gate.mock.seen().len(), 1);
}

#[tokio::test]
async fn a_large_whole_answer_counts_until_it_was_taken() {
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
    let mut conn = asks(&gate).await;
    let head = conn.head().await;
    assert_eq!(head.status, 200);
    gate.mock.script(On::Any, Script::default());
    let mut second = asks(&gate).await;
    until_waiting(&gate, 1).await;
    assert_eq!(metric(&gate, "portcullis_upstream_running").await, Some(0), "its slot is free for others");
    let answer = conn.rest(head).await;
    assert!(answer.whole && answer.body.len() == body.len());
    assert_eq!(second.answer().await.status, 200);
}

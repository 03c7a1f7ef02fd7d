//! Bodies on their way: they shut nobody out, and there is an end to their number and their memory.

use portcullis::config::Config;
use portcullis::config::env::Env;

use crate::client::Conn;
use crate::harness::{Gateway, MODEL, PATIENCE, assert_native_error, post};

/// An upload of so many bytes that was admitted, and of which nothing came yet.
async fn begun(gate: &Gateway, length: usize) -> Conn {
    let mut conn = gate.connect().await;
    let head = format!("{}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n", post("/api/chat"));
    conn.write(head.as_bytes()).await;
    let interim = tokio::time::timeout(PATIENCE, conn.first_bytes(25)).await.expect("nobody asked for it");
    assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    conn
}

fn large(bytes: usize) -> String {
    let content = "It rains. ".repeat(bytes / 10);
    serde_json::json!({"model": MODEL, "stream": false, "messages": [{"role": "user", "content": content}]})
        .to_string()
}

#[tokio::test]
async fn unfinished_bodies_shut_nobody_out() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_LIMITS_CONCURRENT", "8"),
        ("PORTCULLIS_QUEUE_PER_KEY", "1"),
        ("PORTCULLIS_UPSTREAM_SLOTS", "1"),
    ])
    .await;
    let mut all = Vec::new();
    for n in 0..30 {
        let mut conn = begun(&gate, 10_000).await;
        conn.write(&b"{\"model\": "[..n % 10]).await;
        all.push(conn);
    }
    assert_eq!(gate.chat(false).await.status, 200);
    drop(all);
    assert_eq!(gate.chat(false).await.status, 200);
}

#[tokio::test]
async fn the_65th_upload_takes_the_place_of_the_slowest() {
    let gate = Gateway::start().await;
    let body = large(40_000);
    let mut all = Vec::new();
    for n in 0..64 {
        let mut conn = begun(&gate, body.len()).await;
        if n != 20 {
            conn.write(&body.as_bytes()[..30_000]).await;
        }
        all.push(conn);
        // What was written has been read when an answer comes back.
        assert_eq!(gate.get("/healthz").await.status, 200);
    }
    let mut last = begun(&gate, body.len()).await;
    let mut slow = all.remove(20);
    let answer = tokio::time::timeout(PATIENCE, slow.answer()).await.expect("nobody gives way");
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(assert_native_error(&answer.body).contains("64"), "{}", answer.text());
    last.write(body.as_bytes()).await;
    assert_eq!(last.answer().await.status, 200);
    for conn in &mut all {
        conn.write(&body.as_bytes()[30_000..]).await;
        assert_eq!(conn.answer().await.status, 200, "the others were left alone");
    }
}

#[tokio::test]
async fn bodies_together_have_an_end_and_small_ones_are_refused_last() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_BODY_MEMORY", "8MiB")]).await;
    gate.assert_well().await;
    let body = large(5 << 20);
    assert_eq!(gate.post("/api/chat", &body).await.status, 200, "alone it fits");
    // Announced alone takes nothing.
    let _announced = [begun(&gate, 20 << 20).await, begun(&gate, 20 << 20).await];
    assert_eq!(gate.post("/api/chat", &body).await.status, 200);
    let mut half = begun(&gate, 6 << 20).await;
    half.write(&vec![b' '; 3 << 20]).await;
    assert_eq!(gate.get("/healthz").await.status, 200);
    let answer = gate.post("/api/chat", &body).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text());
    assert!(assert_native_error(&answer.body).contains("limits.body_memory"));
    assert_eq!(gate.chat(false).await.status, 200, "a small one passes");
    half.leave();
    let free = async { while gate.post("/api/chat", &body).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, free).await.expect("the memory does not come back");
    let mut conn = Conn::open(gate.ops).await;
    conn.request("GET /metrics HTTP/1.1\r\nHost: localhost\r\n", b"").await;
    assert!(conn.answer().await.text().contains("\nportcullis_body_bytes 131072\n"), "those two alone");
}

#[tokio::test]
async fn who_leaves_within_the_body_leaves_nothing_behind() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_BODY_MEMORY", "1MiB")]).await;
    gate.assert_well().await;
    let body = large(500_000);
    for sent in [0, 10, 100_000, 400_000] {
        for _ in 0..4 {
            let mut conn = begun(&gate, body.len()).await;
            conn.write(&body.as_bytes()[..sent]).await;
            conn.leave();
        }
        let free = async { while gate.post("/api/chat", &body).await.status != 200 {} };
        tokio::time::timeout(PATIENCE, free).await.expect("something is lost");
    }
}

#[test]
fn memory_for_less_than_one_body_earns_a_warning() {
    let warned = |size: &str| {
        let env = Env([("PORTCULLIS_LIMITS_BODY_MEMORY".to_owned(), size.to_owned())].into());
        let config = Config::load(None, &env, |_, _| {}).unwrap();
        config.warnings.iter().any(|words| words.contains("limits.body_memory"))
    };
    assert_eq!(["1MiB", "20MiB", "0"].map(warned), [true, false, false]);
}

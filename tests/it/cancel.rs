//! A caller who leaves stops the upstream at once, in every phase.

use std::time::Duration;

use tokio::time::Instant;

use mock_ollama::{On, Script};

use crate::client::{Conn, SOON};
use crate::harness::{Gateway, PATIENCE, chat, post};

async fn leaves_and_upstream_hears(gate: &Gateway, conn: Conn) {
    let left = Instant::now();
    conn.leave();
    gate.mock.wait_disconnect(PATIENCE).await.expect("the upstream connection stays open");
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
}

async fn asked(gate: &Gateway, stream: bool) -> Conn {
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat"), chat(stream).as_bytes()).await;
    gate.mock.wait_seen(1, PATIENCE).await.unwrap();
    conn
}

#[tokio::test]
async fn before_the_head_and_while_a_whole_answer_is_written() {
    let gate = Gateway::start().await;
    for stream in [true, false] {
        gate.assert_well().await;
        gate.mock.script(On::Any, Script { never: true, ..Script::default() });
        let conn = asked(&gate, stream).await;
        leaves_and_upstream_hears(&gate, conn).await;
    }
}

#[tokio::test]
async fn in_the_middle_of_a_stream_and_in_its_silence() {
    let gate = Gateway::start().await;
    for script in [
        Script { endless: true, gap: Duration::from_millis(5), ..Script::default() },
        Script { tokens: Some(9), hold_after: Some(2), ..Script::default() },
    ] {
        gate.assert_well().await;
        gate.mock.script(On::Any, script);
        let (mut conn, _head) = gate.stream().await;
        assert!(conn.chunk().await.is_some());
        leaves_and_upstream_hears(&gate, conn).await;
    }
}

#[tokio::test]
async fn behind_a_heartbeat_whose_answer_never_came() {
    let gate = Gateway::with(&[("PORTCULLIS_STREAM_HEARTBEAT", "100ms")]).await;
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    let (mut conn, _head) = gate.stream().await;
    assert!(conn.chunk().await.is_some(), "a heartbeat");
    leaves_and_upstream_hears(&gate, conn).await;
}

#[tokio::test]
async fn whoever_leaves_the_queue_never_runs_and_blocks_nobody() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_SLOTS", "1")]).await;
    gate.mock.script(On::Any, Script { tokens: Some(3), hold_after: Some(1), ..Script::default() });
    let (first, _head) = gate.stream().await;
    let mut waiting = gate.connect().await;
    waiting.request(&post("/api/chat"), chat(true).as_bytes()).await;
    let mut last = gate.connect().await;
    last.request(&post("/api/generate"), b"{\"model\":\"beta:7b\",\"prompt\":\"x\",\"stream\":false}").await;
    // The last is in the queue when the table answers it: both have been read by then.
    assert_eq!(gate.get("/healthz").await.status, 200);
    waiting.leave();
    gate.mock.script(On::Any, Script::default());
    first.leave();
    assert_eq!(last.answer().await.status, 200);
    let seen = gate.mock.seen();
    assert_eq!(seen.iter().map(|s| s.target.as_str()).collect::<Vec<_>>(), ["/api/chat", "/api/generate"]);
}

#[tokio::test]
async fn a_slow_reader_holds_the_upstream_back() {
    let gate = Gateway::start().await;
    gate.mock.script(On::Any, Script { endless: true, token_size: Some(4000), ..Script::default() });
    let (conn, _head) = gate.stream().await;
    // Nobody reads: what the sockets on both sides hold is all that the upstream can get rid of.
    let mut before = 0;
    loop {
        let wait = gate.mock.wait_tokens(before + 1, Duration::from_secs(2)).await;
        match wait {
            Ok(seen) => before = seen.tokens_sent,
            Err(_) => break,
        }
        assert!(before < 20_000, "80 MB went into a caller that reads nothing");
    }
    leaves_and_upstream_hears(&gate, conn).await;
}

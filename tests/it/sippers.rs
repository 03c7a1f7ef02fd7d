//! Callers who read a little now and then: the gateway's buffers stay full, and nothing that ends an answer may wait for them.

use std::time::Duration;

use mock_ollama::{On, Script};
use portcullis::store::audit::AuditRow;
use tokio::net::TcpSocket;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::Conn;
use crate::doors::{Folder, certificate, tls_to};
use crate::harness::{Gateway, KEY, PATIENCE, chat, post};
use crate::keys::{command, json, text};

/// Asks for an answer, and takes its head.
async fn asks(mut conn: Conn, head: &str) -> Conn {
    conn.request(head, chat(true).as_bytes()).await;
    assert_eq!(conn.head().await.status, 200);
    conn
}

/// With room for little.
async fn narrow(gate: &Gateway) -> Conn {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    Conn::over(socket.connect(gate.address).await.unwrap())
}

fn every_now_and_then() -> tokio::time::Interval {
    let mut sip = tokio::time::interval(Duration::from_millis(250));
    sip.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sip
}

/// Asks for an answer without an end, and sips at it until the connection ends.
async fn sips(gate: &Gateway, conn: Conn, key: &str) -> tokio::task::JoinHandle<()> {
    gate.mock.script(On::Any, Script { endless: true, token_size: Some(4_000), ..Script::default() });
    let mut conn = asks(conn, &post("/api/chat").replace(KEY, key)).await;
    tokio::spawn(async move {
        let mut sip = every_now_and_then();
        while conn.first_bytes(1_024).await.len() == 1_024 {
            sip.tick().await;
        }
    })
}

/// Until everything between the model and the caller is full.
async fn until_full(gate: &Gateway) {
    let (begun, mut before) = (Instant::now(), 0);
    loop {
        let sent = gate.mock.seen().last().map_or(0, |seen| seen.tokens_sent);
        if sent > 0 && sent == before {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never full");
        before = sent;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The row of the answer, once its upstream connection is gone; by then it must have ended.
async fn row(gate: &Gateway, by: Duration) -> AuditRow {
    gate.mock.wait_gone(1, by).await.expect("the model works on");
    let begun = Instant::now();
    loop {
        let rows = crate::audit::rows(&gate.folder, 1).await;
        if let Some(row) = rows.into_iter().find(|row| row.upstream.is_some()) {
            return row;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_what_is_sipped() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "phone", "--json"]);
    let key = text(&made, "key");
    crate::budgets::known(&gate, &key).await;
    let caller = sips(&gate, narrow(&gate).await, &key).await;
    until_full(&gate).await;
    assert_eq!(command(&gate.folder, &["key", "revoke", &text(&made, "id")]).0, 0);
    // Within a second it acts, and within another the answer is over.
    let row = row(&gate, Duration::from_secs(3)).await;
    assert_eq!(
        (&*row.ending, row.reason.as_deref()),
        ("error", Some("the key was revoked or has expired")),
        "{row:?}"
    );
    assert!(row.estimated && row.output_tokens > Some(0) && row.gpu_ms > Some(0), "{row:?}");
    caller.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_model_time_ends_what_is_sipped() {
    let gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "k", "--json", "--gpu-seconds-per-day", "2"]);
    let key = text(&made, "key");
    crate::budgets::known(&gate, &key).await;
    let caller = sips(&gate, narrow(&gate).await, &key).await;
    let row = row(&gate, Duration::from_secs(5)).await;
    assert_eq!((&*row.ending, row.reason.as_deref()), ("error", Some("limit gpu")), "{row:?}");
    assert!(row.gpu_ms.is_some_and(|ms| (2_000..4_500).contains(&ms)), "{row:?}");
    caller.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_an_answer_ends_what_is_sipped() {
    let folder = Folder::new("sippers");
    let (cert, tls_key, trusted) = certificate(&folder, "a");
    let total = ("PORTCULLIS_UPSTREAM_TOTAL_TIMEOUT", "1s");
    let tls = [total, ("PORTCULLIS_LISTEN_TLS_CERTIFICATE", &cert), ("PORTCULLIS_LISTEN_TLS_KEY", &tls_key)];
    for settings in [&tls[..1], &tls] {
        let gate = Gateway::with(settings).await;
        let conn = if settings.len() == 1 {
            narrow(&gate).await
        } else {
            tls_to(gate.address, &trusted).await.unwrap()
        };
        let caller = sips(&gate, conn, KEY).await;
        let row = row(&gate, Duration::from_secs(4)).await;
        let ended = (&*row.ending, row.reason.as_deref());
        assert_eq!(ended, ("timeout", Some("upstream.total_timeout")), "{row:?}");
        caller.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_complete_may_be_sipped_to_its_end() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_TOTAL_TIMEOUT", "1s")]).await;
    // As much as the gateway holds of it.
    gate.mock.script(On::Any, Script { tokens: Some(14), token_size: Some(4_000), ..Script::default() });
    let mut conn = asks(narrow(&gate).await, &format!("{}Connection: close\r\n", post("/api/chat"))).await;
    let (mut sip, begun, mut taken) = (every_now_and_then(), Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_millis(2_500) {
        sip.tick().await;
        taken.extend(conn.first_bytes(1_024).await);
    }
    taken.extend(conn.until_end().await);
    assert!(taken.ends_with(b"}\n\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&taken));
    assert!(crate::client::find(&taken, b"\"done\":true").is_some() && taken.len() > 56_000);
}

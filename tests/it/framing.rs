//! Hostile framing on a raw socket (trust catalogue A and B): an answer, a close, nothing upstream, and the next good request
//! works.

use std::time::Duration;

use mock_ollama::{On, Script};

use crate::harness::{Gateway, KEY, PATIENCE, chat, post};

async fn refused(gate: &Gateway, bytes: &[u8], statuses: &[u16]) {
    let mut conn = gate.connect().await;
    conn.write(bytes).await;
    let answer = conn.answer().await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    assert!(statuses.contains(&answer.status), "{} for {shown:?}", answer.status);
    conn.assert_closed().await;
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn smuggled_lengths_and_odd_heads() {
    let gate = Gateway::start().await;
    gate.assert_well().await;
    let body = chat(false);
    let length = format!("Content-Length: {}", body.len());
    for field in [
        format!("{length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        format!("{length}\r\n{length}"),
        format!("{length}\r\nContent-Length: 0"),
        format!("Content-Length: 0{}", body.len()),
        "Content-Length: +5".into(),
        "Content-Length: 5, 5".into(),
        "Content-Length:".into(),
        "Transfer-Encoding: gzip, chunked".into(),
        "Transfer-Encoding: chunked, chunked".into(),
        "Transfer-Encoding: identity".into(),
        format!("{length}\r\nHost: b"),
        format!("{length}\r\nX: a\r\n b"),
        format!("{length}\r\nX : a"),
        format!("{length}\r\nX: a\nY: b"),
        format!("{length}\r\nContent-Type: text/plain"),
        format!("{length}\r\n: empty"),
    ] {
        refused(&gate, format!("{}{field}\r\n\r\n{body}", post("/api/chat")).as_bytes(), &[400]).await;
    }
    refused(&gate, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]).await;
    refused(&gate, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]).await;
    refused(&gate, b"GET /models HTTP/1.1\r\n\r\n", &[400]).await;
    refused(&gate, b"GET /<script> HTTP/1.1\r\nHost: a\r\n\r\n", &[400]).await;
    let large = format!("GET /models HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    refused(&gate, large.as_bytes(), &[431]).await;
    refused(
        &gate,
        format!("GET /models HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(120)).as_bytes(),
        &[431],
    )
    .await;
    refused(
        &gate,
        format!("GET /models HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(40_000)).as_bytes(),
        &[431],
    )
    .await;
    refused(&gate, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(9_000)).as_bytes(), &[414])
        .await;
    refused(
        &gate,
        format!("{}Content-Length: 5\r\nExpect: banana\r\n\r\n", post("/api/chat")).as_bytes(),
        &[417],
    )
    .await;
    for chunk in ["5;a=b\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "5\nhello\n0\n\n", "G\r\n"] {
        refused(
            &gate,
            format!("{}Transfer-Encoding: chunked\r\n\r\n{chunk}", post("/api/chat")).as_bytes(),
            &[400],
        )
        .await;
    }
    gate.assert_well().await;
}

#[tokio::test]
async fn a_second_request_behind_the_first_is_refused_before_either_runs() {
    let gate = Gateway::start().await;
    gate.assert_well().await;
    let body = chat(false);
    let one = format!("{}Content-Length: {}\r\n\r\n{body}", post("/api/chat"), body.len());
    refused(&gate, format!("{one}{one}").as_bytes(), &[400]).await;
    refused(&gate, format!("{one}\r\n").as_bytes(), &[400]).await;
    gate.assert_well().await;
}

/// With junk in its buffer hyper would no longer notice that the caller has left.
#[tokio::test]
async fn junk_during_a_stream_ends_it_and_stops_the_upstream() {
    let gate = Gateway::start().await;
    gate.mock.script(On::Any, Script { endless: true, gap: Duration::from_millis(5), ..Script::default() });
    let (mut conn, _head) = gate.stream().await;
    assert!(conn.chunk().await.is_some());
    conn.write(b"GET /models HTTP/1.1\r\n").await;
    gate.mock.wait_disconnect(PATIENCE).await.expect("the upstream goes on");
    // Nothing is written into the answer that was running.
    let tail = conn.until_end().await;
    assert!(crate::client::find(&tail, b"HTTP/1.1").is_none(), "{:?}", String::from_utf8_lossy(&tail));
}

#[tokio::test]
async fn a_refused_key_gets_no_hundred_continue() {
    let gate = Gateway::start().await;
    let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 50\r\n";
    let mut conn = gate.connect().await;
    conn.write(format!("{head}Authorization: Bearer wrong\r\n\r\n").as_bytes()).await;
    assert_eq!(conn.answer().await.status, 401);
    let mut conn = gate.connect().await;
    conn.write(format!("{head}Authorization: Bearer {KEY}\r\n\r\n").as_bytes()).await;
    let mut first = vec![0; 25];
    let reading = async {
        // 100 is an interim answer: it carries no headers of ours.
        let bytes = conn.first_bytes(first.len()).await;
        first.copy_from_slice(&bytes);
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("no interim answer");
    assert_eq!(first, b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Bounded in count: a caller that sends its head byte by byte is answered as any other.
#[tokio::test]
async fn a_head_in_single_bytes_is_still_a_head() {
    let gate = Gateway::start().await;
    let body = chat(false);
    let mut conn = gate.connect().await;
    for byte in format!("{}Content-Length: {}\r\n\r\n{body}", post("/api/chat"), body.len()).as_bytes() {
        conn.write(std::slice::from_ref(byte)).await;
    }
    assert_eq!(conn.answer().await.status, 200);
}

/// The refusal goes out while the body is still on its way: what comes then is no second request.
#[tokio::test]
async fn a_body_behind_an_early_refusal_confuses_nobody() {
    let gate = Gateway::start().await;
    let body = chat(false);
    for i in 0..40 {
        let mut conn = gate.connect().await;
        let head = post("/api/chat").replace(KEY, "wrong-but-long-enough-for-this-test");
        conn.write(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await;
        // Every second time the body overtakes the answer: then the connection may go on.
        if i % 2 == 0 {
            tokio::task::yield_now().await;
            conn.write(body.as_bytes()).await;
        }
        let refused = conn.answer().await;
        assert!(matches!(refused.status, 401 | 429), "{refused:?}");
        if i % 2 == 1 {
            conn.write(body.as_bytes()).await;
        }
        conn.request(&post("/api/chat"), body.as_bytes()).await;
        // Closed, or answered: never taken for something else.
        assert!(matches!(conn.answer().await.status, 0 | 200));
    }
}

/// RFC 9112 section 9.6: a connection that will not go on says so, or a pool reuses it and fails.
#[tokio::test]
async fn a_refusal_before_the_body_announces_the_close() {
    let gate = Gateway::start().await;
    for (path, key, status) in [("/api/chat", "wrong", 401), ("/nothing", KEY, 404), ("/api/pull", KEY, 403)]
    {
        let mut conn = gate.connect().await;
        conn.write(format!("{}Content-Length: 300000\r\n\r\n", post(path).replace(KEY, key)).as_bytes())
            .await;
        let answer = conn.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{path}");
        conn.assert_closed().await;
    }
    let kept = gate.post("/nothing", "{}").await;
    assert_eq!((kept.status, kept.header("connection")), (404, None), "all of it had come");
}

/// Nothing follows the head of an answer to `HEAD`, whatever is wrong with the request: whoever stands in front would take it for the next
/// answer's beginning.
#[tokio::test]
async fn no_answer_to_head_carries_a_body() {
    let gate = Gateway::with(&[("OLLAMA_ORIGINS", "https://app.example")]).await;
    let long = "y".repeat(40_000);
    for head in [
        "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.1\nHost: a\n\n",
        "HEAD / HTTP/2.0\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nExpect: banana\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /\r\n\r\n",
        "head / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        " HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        &format!("HEAD /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        &format!("HEAD / HTTP/1.1\r\nHost: a\r\nX: {long}"),
        // Not by the guard.
        "HEAD /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /%2f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /api/chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /api/tags HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        for n in [head.len(), 3] {
            let mut conn = gate.connect().await;
            for piece in head.as_bytes().chunks(n) {
                conn.write(piece).await;
                if n < 10 && head.len() < 1_000 {
                    tokio::task::yield_now().await;
                }
            }
            let said = String::from_utf8(conn.until_end().await).unwrap();
            let behind = said.split_once("\r\n\r\n").map(|(_, behind)| behind);
            let shown = head.get(..head.len().min(100));
            assert!(said.starts_with("HTTP/1.1 ") && behind == Some(""), "{shown:?}: {said}");
        }
    }
    // With the length that a GET would have had, and the same connection goes on.
    let mut conn = gate.connect().await;
    for _ in 0..2 {
        conn.write(b"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = conn.head().await;
        assert_eq!(answer.status, 404);
        assert!(answer.header("content-length").is_some_and(|length| length != "0"), "{answer:?}");
    }
    conn.write(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!conn.answer().await.body.is_empty());
}

#[tokio::test]
async fn a_stop_answers_head_without_a_body_too() {
    let mut gate = Gateway::start().await;
    gate.mock.script(On::path("/api/version"), Script { never: true, ..Script::default() });
    let mut conn = gate.connect().await;
    conn.write(b"HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let asked = async {
        while gate.mock.probes().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    let stopped = gate.stop_now();
    let said = String::from_utf8(conn.until_end().await).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("\r\n\r\n"), "{said}");
    stopped.await.unwrap();
}

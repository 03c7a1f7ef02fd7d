//! Request bodies on a real socket: large ones, slow ones, asked-for ones. hyper never sees them, so what brings them in is held
//! to here.

use std::time::Duration;

use mock_ollama::{On, Script};
use serde_json::json;

use crate::client::{Answer, Conn};
use crate::harness::{Gateway, KEY, MODEL, PATIENCE, chat, post};

/// A chat of about this many bytes.
fn large(bytes: usize) -> String {
    let content = "It rains. ".repeat(bytes / 10);
    json!({"model": MODEL, "stream": false, "messages": [{"role": "user", "content": content}]}).to_string()
}

async fn answered(conn: &mut Conn) -> Answer {
    tokio::time::timeout(PATIENCE, conn.answer()).await.expect("the body was never taken in")
}

#[tokio::test]
async fn a_large_body_arrives_whole_in_either_framing() {
    let gate = Gateway::start().await;
    gate.assert_well().await;
    let body = large(5 << 20);
    let mut conn = gate.connect().await;
    for chunked in [false, true, false] {
        if chunked {
            conn.write(format!("{}Transfer-Encoding: chunked\r\n\r\n", post("/api/chat")).as_bytes()).await;
        } else {
            conn.write(format!("{}Content-Length: {}\r\n\r\n", post("/api/chat"), body.len()).as_bytes())
                .await;
        }
        for piece in body.as_bytes().chunks(100_000) {
            if chunked {
                conn.write(format!("{:x}\r\n", piece.len()).as_bytes()).await;
            }
            conn.write(piece).await;
            if chunked {
                conn.write(b"\r\n").await;
            }
            tokio::task::yield_now().await;
        }
        if chunked {
            conn.write(b"0\r\n\r\n").await;
        }
        let answer = answered(&mut conn).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let lengths: Vec<_> = gate.mock.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths.len(), 3);
    // Rebuilt, so nearly as long as what was sent.
    assert!(lengths.iter().all(|length| length.abs_diff(body.len()) < 200), "{lengths:?}");
}

/// RFC 9110 section 10.1.1: the interim answer, then the body, then the answer; and the connection goes on.
#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_asked_for_once() {
    let gate = Gateway::start().await;
    for body in [chat(false), large(3 << 20)] {
        let mut conn = gate.connect().await;
        for _ in 0..2 {
            let head = format!(
                "{}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                post("/api/chat"),
                body.len()
            );
            conn.write(head.as_bytes()).await;
            let interim = tokio::time::timeout(PATIENCE, conn.first_bytes(25)).await.expect("nobody asked");
            assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n");
            conn.write(body.as_bytes()).await;
            assert_eq!(answered(&mut conn).await.status, 200);
        }
        // Sent at once, it need not be asked for.
        let head =
            format!("{}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", post("/api/chat"), body.len());
        conn.write([head.as_bytes(), body.as_bytes()].concat().as_slice()).await;
        let first = conn.first_bytes(12).await;
        assert!(
            first == b"HTTP/1.1 200" || first == b"HTTP/1.1 100",
            "{:?}",
            String::from_utf8_lossy(&first)
        );
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_body_that_does_not_come() {
    let mut gate = Gateway::start().await;
    gate.assert_well().await;
    let mut conn = gate.connect().await;
    conn.write(format!("{}Content-Length: 50\r\n\r\n{{", post("/api/chat")).as_bytes()).await;
    // Until it has been admitted, nobody would notice.
    assert_eq!(gate.chat(false).await.status, 200);
    let stopped = gate.stop_now();
    let answer = answered(&mut conn).await;
    assert!(matches!(answer.status, 0 | 503), "{answer:?}");
    tokio::time::timeout(PATIENCE, stopped).await.expect("it waits for ever").unwrap();
}

/// Many programs read an answer only once they have sent all: Node's `fetch`, Python's `http.client`. A reset would swallow it.
#[tokio::test]
async fn an_early_refusal_reaches_who_is_still_sending() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_BODY", "6MiB")]).await;
    let spent = Gateway::with(&[("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "1")]).await;
    assert_eq!(spent.chat(false).await.status, 200);
    let right = post("/api/chat");
    for (gate, head, size, status) in [
        (&gate, right.replace(KEY, "wrong-but-long-enough-for-a-key"), 5 << 20, 401),
        (&gate, right.replace("Authorization", "X-Nothing"), 5 << 20, 401),
        (&gate, post("/api/pull"), 5 << 20, 403),
        (&gate, right.clone(), 7 << 20, 413),
        (&gate, right.replace("application/json", "image/png"), 5 << 20, 415),
        (&spent, right.clone(), 8 << 20, 429),
    ] {
        let mut conn = gate.connect().await;
        conn.write(format!("{head}Content-Length: {size}\r\n\r\n").as_bytes()).await;
        // The answer waits while these are sent.
        for piece in vec![b' '; size].chunks(64 << 10) {
            assert!(conn.try_write(piece).await, "cut after {status} of {size} bytes");
            tokio::task::yield_now().await;
        }
        let answer = conn.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{answer:?}");
        conn.assert_closed().await;
    }
    gate.assert_nothing_upstream();
    // At once, too, for those who look while they send.
    let mut conn = gate.connect().await;
    conn.write(format!("{}Content-Length: 900000000\r\n\r\n ", post("/api/pull")).as_bytes()).await;
    assert_eq!(answered(&mut conn).await.status, 403);
}

/// Beyond the cap by its chunks alone: refused as soon as that is known, whatever else would come.
#[tokio::test]
async fn chunks_beyond_the_cap_are_refused_before_the_end() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_BODY", "100KiB")]).await;
    gate.assert_well().await;
    let mut conn = gate.connect().await;
    conn.write(format!("{}Transfer-Encoding: chunked\r\n\r\n", post("/api/chat")).as_bytes()).await;
    for _ in 0..3 {
        conn.write(&[b"c350\r\n", vec![b'x'; 50_000].as_slice(), b"\r\n"].concat()).await;
    }
    let answer = answered(&mut conn).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    gate.assert_nothing_upstream();
}

/// The upstream refuses by the head alone and reads no further: its answer is not waited for until a clock runs out.
#[tokio::test]
async fn an_upstream_that_answers_early_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_URL", &upstream)]).await;
    let answers = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let n = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap();
            let tags = head[..n].starts_with(b"GET");
            let answer = if tags {
                let list = json!({"models": [{"name": MODEL}]}).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{list}",
                    list.len()
                )
            } else {
                let text = r#"{"error":"too large"}"#;
                format!(
                    "HTTP/1.1 413 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                )
            };
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            // Neither read nor closed.
            open.push(stream);
        }
    });
    let answer =
        tokio::time::timeout(PATIENCE, gate.post("/api/chat", &large(15 << 20))).await.expect("not heard");
    assert_eq!(answer.status, 413, "{}", answer.text());
    answers.abort();
}

/// Anybody may ask, and an upstream that is slow to say so must not be asked by each in turn.
#[tokio::test]
async fn readiness_is_asked_once_for_all_who_wait() {
    let gate = Gateway::start().await;
    gate.assert_well().await;
    let slow = Script { head_delay: Duration::from_millis(400), ..Script::default() };
    gate.mock.script(On::path("/api/version"), slow);
    let ask = || gate.send("GET /readyz HTTP/1.1\r\nHost: a\r\n", b"");
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!([a.status, b.status, c.status, d.status], [200; 4]);
    let asked = gate.mock.probes().iter().filter(|seen| seen.target == "/api/version").count();
    // The one that the first started, and at most one that began behind it.
    assert!((1..=2).contains(&asked), "asked {asked} times");
}

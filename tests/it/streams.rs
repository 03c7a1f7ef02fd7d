//! Streams: unbuffered, watched, and never ended cleanly when they broke.

use std::time::Duration;

use tokio::time::Instant;

use mock_ollama::{End, On, Raw, Script, Then};

use crate::client::SOON;
use crate::harness::{Gateway, PATIENCE, assert_native_error};

fn script(script: Script) -> Script {
    Script { tokens: Some(5), ..script }
}

#[tokio::test]
async fn lines_come_as_they_are_written() {
    let gate = Gateway::start().await;
    gate.mock
        .script(On::Any, Script { tokens: Some(3), gap: Duration::from_millis(300), ..Script::default() });
    let (mut conn, head) = gate.stream().await;
    assert_eq!(head.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"), "or nginx holds all of it back");
    assert_eq!(head.header("content-length"), None);
    assert!(conn.chunk().await.is_some());
    // The first line is here while the model still writes.
    assert!(gate.mock.seen()[0].finished_at.is_none());
    let answer = conn.rest(head).await;
    assert!(answer.whole && answer.text().ends_with("}\n") && answer.text().contains("\"done\":true"));
}

#[tokio::test]
async fn whatever_breaks_a_stream_ends_it_with_one_error_line() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_MAX_LINE", "4096")]).await;
    for (name, broken) in [
        ("dies", Script { die_after: Some(2), ..Script::default() }),
        ("resets", Script { die_after: Some(2), die: End::Reset, ..Script::default() }),
        ("dies in a line", Script { die_after: Some(2), die_mid_line: true, ..Script::default() }),
        (
            "error line",
            Script {
                error_at: Some(2),
                error_text: Some("open /usr/share/x: 10.1.2.3".into()),
                ..Script::default()
            },
        ),
        ("malformed", Script { malformed_at: Some(2), ..Script::default() }),
        ("no end", Script { no_done: true, ..Script::default() }),
        ("long line", Script { token_size: Some(9000), ..Script::default() }),
    ] {
        gate.mock.script(On::Any, script(broken));
        let answer = gate.chat(true).await;
        assert_eq!((answer.status, answer.whole), (200, true), "{name}");
        let text = answer.text();
        assert!(!text.contains("\"done\":true"), "{name}: {text}");
        assert_eq!(text.matches("\"error\"").count(), 1, "{name}: {text}");
        let message = assert_native_error(answer.lines().last().unwrap());
        assert!(!message.contains("/usr") && !message.contains("10.1"), "{name}: {message}");
    }
    gate.assert_well().await;
}

#[tokio::test]
async fn nothing_follows_the_final_object() {
    let gate = Gateway::start().await;
    gate.mock.script(
        On::Any,
        script(Script { extra_line: Some("{\"model\":\"x\",\"done\":false}".into()), ..Script::default() }),
    );
    let answer = gate.chat(true).await;
    assert!(answer.text().trim_end().lines().last().unwrap().contains("\"done\":true"), "{}", answer.text());
    for split in [1, 7, 64] {
        gate.mock.script(On::Any, script(Script { split: Some(split), ..Script::default() }));
        assert_eq!(gate.chat(true).await.lines().len(), 6, "in segments of {split}");
    }
    gate.mock.script(On::Any, script(Script { glue: Some(3), ..Script::default() }));
    assert_eq!(gate.chat(true).await.lines().len(), 6);
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats_before_and_within_the_answer() {
    let gate = Gateway::with(&[("PORTCULLIS_STREAM_HEARTBEAT", "200ms")]).await;
    gate.mock.script(
        On::Any,
        Script {
            tokens: Some(2),
            head_delay: Duration::from_millis(900),
            gap: Duration::from_millis(700),
            ..Script::default()
        },
    );
    let answer = gate.chat(true).await;
    assert_eq!((answer.status, answer.whole), (200, true));
    let lines = answer.lines();
    let beats = lines
        .iter()
        .filter(|line| String::from_utf8_lossy(line).contains("\"content\":\"\"},\"done\":false"))
        .count();
    assert!(beats >= 3, "{}", answer.text());
    assert!(lines.iter().all(|line| line.starts_with(b"{") && line.ends_with(b"}\n")), "never a blank line");
    assert!(lines.last().unwrap().windows(11).any(|w| w == b"\"done\":true"));
    // A failure behind a heartbeat is the stream's last line.
    gate.mock.script(
        On::Any,
        Script { head_delay: Duration::from_millis(600), status: Some(500), ..Script::default() },
    );
    let answer = gate.chat(true).await;
    assert_eq!((answer.status, answer.whole), (200, true));
    assert_native_error(answer.lines().last().unwrap());
    // A whole answer keeps its status to the end.
    assert_eq!(gate.chat(false).await.status, 502);
}

#[tokio::test]
async fn the_clocks_end_what_is_silent() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_UPSTREAM_FIRST_BYTE_TIMEOUT", "500ms"),
        ("PORTCULLIS_UPSTREAM_IDLE_TIMEOUT", "500ms"),
        ("PORTCULLIS_STREAM_HEARTBEAT", "0"),
    ])
    .await;
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    for stream in [true, false] {
        let asked = Instant::now();
        assert_eq!(gate.chat(stream).await.status, 504);
        assert!(asked.elapsed() < SOON);
    }
    gate.mock.script(On::Any, Script { tokens: Some(9), hold_after: Some(2), ..Script::default() });
    let answer = gate.chat(true).await;
    assert_eq!(answer.lines().len(), 3, "{}", answer.text());
    assert_native_error(answer.lines()[2]);
    gate.mock.wait_disconnect(PATIENCE).await.unwrap();
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_TOTAL_TIMEOUT", "700ms")]).await;
    // In its silences, and where it is never silent.
    for gap in [Duration::from_millis(20), Duration::ZERO] {
        gate.mock.script(On::Any, Script { endless: true, gap, ..Script::default() });
        let answer = gate.chat(true).await;
        assert_native_error(answer.lines().last().unwrap());
    }
}

#[tokio::test]
async fn hostile_upstreams_get_a_502_and_poison_nobody() {
    let gate = Gateway::start().await;
    gate.chat(false).await;
    let ok = "{\"model\":\"alpha\",\"message\":{},\"done\":true}";
    for reply in [
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok.len()),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".into(),
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>".into(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n<html>".into(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}".into(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n".into(),
        "SSH-2.0-OpenSSH_9\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\nContent-Length: {}\n\n{ok}", ok.len()),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n".into(),
    ] {
        gate.mock.script(On::Any, Script { raw: Some(Raw::new(reply.clone(), Then::Close)), ..Script::default() });
        let answer = gate.chat(false).await;
        assert_eq!(answer.status, 502, "{reply:?}: {answer:?}");
        assert_native_error(&answer.body);
        assert_eq!(answer.header("location"), None);
    }
    // Bytes behind an answer must not become the next caller's.
    let poison = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ok}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        ok.len()
    );
    gate.mock.script(
        On::Any,
        Script { raw: Some(Raw::new(poison, Then::Keep)), times: Some(1), ..Script::default() },
    );
    assert_eq!(gate.chat(false).await.text(), ok);
    assert!(!gate.chat(false).await.text().contains("poison"));
    // Headers of the upstream stay there: the client of these tests refuses any that it does not know.
    let extra = ["Set-Cookie", "Server", "Access-Control-Allow-Origin", "Link", "Alt-Svc"]
        .map(|n| (n.to_owned(), "x".to_owned()));
    gate.mock.script(On::Any, Script { extra_headers: extra.to_vec(), ..Script::default() });
    let answer = gate.chat(false).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    gate.assert_well().await;
}

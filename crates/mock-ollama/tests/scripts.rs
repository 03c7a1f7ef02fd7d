//! Scripts do what they say, and the server tells what it saw. Nothing here sleeps: the tests wait for events.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

use mock_ollama::{Capability, End, Mock, Model, On, Phase, Raw, Script, Then, recordings};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(10);

fn chat(model: &str, more: &str) -> String {
    post(
        "/api/chat",
        &format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"one two"}}]{more}}}"#),
    )
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn ask(mock: &Mock, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(mock.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until `end` has come; what was read.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let read = async {
        while !text.windows(end.len()).any(|part| part == end.as_bytes()) {
            if stream.read_buf(&mut text).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("an answer");
    String::from_utf8(text).unwrap()
}

/// Reads to the end of the connection: what was read, and whether the end was a reset.
async fn to_the_end(stream: &mut TcpStream) -> (String, bool) {
    let mut text = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut text)).await.expect("an end");
    let reset = end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    (String::from_utf8(text).unwrap(), reset)
}

const END: &str = "\r\n0\r\n\r\n";

#[tokio::test]
async fn a_stream_has_one_line_a_chunk_and_ends_with_its_figures() {
    let mock = Mock::start().await.unwrap();
    let script = Script { tokens: Some(3), token: Some("é".into()), ..Script::default() };
    mock.script(On::model("ALPHA"), script);
    let text = until(&mut ask(&mock, &chat("alpha", "")).await, END).await;
    assert_eq!(text.matches("\"content\":\"é\"").count(), 3);
    assert_eq!(text.matches("}\n\r\n").count(), 4, "{text}");
    assert!(text.contains("\"done_reason\":\"stop\"") && text.contains("\"eval_count\":3"), "{text}");
    let seen = mock.wait_ended(1, SOON).await.unwrap();
    assert_eq!((seen[0].tokens_sent, seen[0].header("HOST")), (3, Some("localhost")));
    assert!(seen[0].body.starts_with(b"{\"model\":\"alpha\"") && seen[0].finished_at.is_some());
}

#[tokio::test]
async fn limits_echo_and_split_are_heeded() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::Any, Script { echo: true, split: Some(1), glue: Some(8), ..Script::default() });
    let request = chat("alpha", r#","options":{"num_predict":2}"#);
    let text = until(&mut ask(&mock, &request).await, END).await;
    assert!(text.contains("\"content\":\"one \"") && text.contains("\"content\":\"two\""), "{text}");
    assert!(text.contains("\"done_reason\":\"length\""));
    assert_eq!(text.matches("}\n\r\n").count(), 1, "glued: {text}");
}

#[tokio::test]
async fn streams_break_as_told() {
    let mock = Mock::start().await.unwrap();
    for (script, tail, reset) in [
        (Script { die_after: Some(2), ..Script::default() }, "\"done\":false}\n\r\n", false),
        (Script { die_after: Some(2), die: End::Reset, ..Script::default() }, "\"done\":false}\n\r\n", true),
        (Script { no_done: true, ..Script::default() }, END, false),
        (
            Script { extra_line: Some("{\"x\":1}".into()), ..Script::default() },
            "{\"x\":1}\n\r\n0\r\n\r\n",
            false,
        ),
        (
            Script { error_at: Some(2), error_text: Some("oh".into()), ..Script::default() },
            "{\"error\":\"oh\"}\n\r\n0\r\n\r\n",
            false,
        ),
    ] {
        mock.script(On::Any, script.clone());
        let request = chat("alpha", "").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let (text, was_reset) = to_the_end(&mut ask(&mock, &request).await).await;
        assert!(text.ends_with(tail), "{script:?}: {text}");
        assert_eq!(was_reset, reset, "{script:?}");
    }
    mock.script(On::Any, Script { die_after: Some(1), die_mid_line: true, ..Script::default() });
    let (text, _) = to_the_end(&mut ask(&mock, &chat("alpha", "")).await).await;
    assert!(text.contains("\"done\":false}\n\r\n") && !text.ends_with('\n'), "{text}");
    mock.script(On::Any, Script { malformed_at: Some(0), ..Script::default() });
    assert!(until(&mut ask(&mock, &chat("alpha", "")).await, END).await.contains(",,}\n"));
}

#[tokio::test]
async fn a_caller_who_leaves_is_seen_with_the_phase() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::model("alpha"), Script { never: true, ..Script::default() });
    mock.script(On::model("beta:7b"), Script { hold_after: Some(2), ..Script::default() });
    for stream in [", \"stream\":false", ""] {
        mock.clear();
        let caller = ask(&mock, &chat("alpha", stream)).await;
        mock.wait_seen(1, SOON).await.unwrap();
        drop(caller);
        let gone = mock.wait_disconnect(SOON).await.unwrap();
        assert_eq!((gone.phase, gone.tokens_sent), (Phase::BeforeHead, 0));
    }
    mock.clear();
    let caller = ask(&mock, &chat("beta:7b", "")).await;
    mock.wait_tokens(2, SOON).await.unwrap();
    drop(caller);
    let gone = mock.wait_disconnect(SOON).await.unwrap();
    assert_eq!((gone.phase, gone.tokens_sent), (Phase::Answering, 2));
    assert!(mock.seen()[0].finished_at.is_none());
    mock.clear();
    let half = chat("alpha", "");
    let caller = ask(&mock, half.get(..half.len() - 5).unwrap()).await;
    drop(caller);
    assert_eq!(mock.wait_disconnect(SOON).await.unwrap().phase, Phase::ReadingBody);
}

#[tokio::test]
async fn an_endless_stream_ends_with_its_caller() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::Any, Script { endless: true, ..Script::default() });
    let mut caller = ask(&mock, &chat("alpha", "")).await;
    let mut some = [0; 4_096];
    caller.read_exact(&mut some).await.unwrap();
    drop(caller);
    let gone = mock.wait_disconnect(SOON).await.unwrap();
    assert!(gone.tokens_sent > 10 && gone.phase == Phase::Answering);
}

#[tokio::test]
async fn half_closing_counts_as_leaving() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::Any, Script { head_delay: Duration::from_mins(1), ..Script::default() });
    let mut caller = ask(&mock, &chat("alpha", "")).await;
    mock.wait_seen(1, SOON).await.unwrap();
    caller.shutdown().await.unwrap();
    assert_eq!(mock.wait_disconnect(SOON).await.unwrap().phase, Phase::BeforeHead);
}

#[tokio::test]
async fn raw_replies_replay_a_recording_byte_for_byte() {
    let mock = Mock::start().await.unwrap();
    let recording = recordings::find("chat", "long-stream").expect("recorded");
    mock.script(On::Any, Script { raw: Some(Raw::new(recording.wire(), Then::Close)), ..Script::default() });
    let (text, _) = to_the_end(&mut ask(&mock, &chat("alpha", "")).await).await;
    assert_eq!(text.as_bytes(), recording.wire());
    let raw = Raw { pieces: recording.pieces(), then: Then::Reset };
    mock.script(On::Any, Script { raw: Some(raw), times: Some(1), ..Script::default() });
    let (text, reset) = to_the_end(&mut ask(&mock, &chat("alpha", "")).await).await;
    assert_eq!((text.as_bytes(), reset), (&*recording.wire(), true));
    let (_, reset) = to_the_end(&mut ask(&mock, &chat("alpha", "")).await).await;
    assert!(!reset, "the script held for one request");
}

#[tokio::test]
async fn refusals_and_pages_are_scripted_and_the_newest_of_the_most_particular_wins() {
    let mock = Mock::start().await.unwrap();
    let status =
        |status: u16| Script { status: Some(status), error_text: Some("no".into()), ..Script::default() };
    mock.script(On::model("alpha"), status(503));
    mock.script(On::path("/api/chat"), Script { html: true, ..Script::default() });
    mock.script(On::Any, Script { redirect: Some("http://evil.example/".into()), ..Script::default() });
    for (request, wanted) in [
        (chat("alpha", ""), "HTTP/1.1 503 Service Unavailable\r\n"),
        (chat("beta:7b", ""), "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n"),
        (
            post("/api/generate", r#"{"model":"beta:7b"}"#),
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://evil",
        ),
        ("GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "HTTP/1.1 200 OK\r\n"),
    ] {
        let text = until(&mut ask(&mock, &request).await, "\r\n\r\n").await;
        assert!(text.starts_with(wanted), "{text}");
    }
    let extra_headers = vec![("Set-Cookie".to_owned(), "a=b".to_owned())];
    mock.script(On::model("alpha"), Script { extra_headers, ..Script::default() });
    let text = until(&mut ask(&mock, &chat("alpha", "")).await, END).await;
    assert!(text.contains("\r\nSet-Cookie: a=b\r\n"), "{text}");
    assert_eq!((mock.seen().len(), mock.probes().len()), (4, 1));
    mock.reset();
    let text = until(&mut ask(&mock, &chat("beta:7b", "")).await, END).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && mock.seen().len() == 1);
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::Any, Script { hold_after: Some(1), ..Script::default() });
    let mut held = ask(&mock, &chat("alpha", "")).await;
    mock.wait_tokens(1, SOON).await.unwrap();
    mock.stop_listening().await;
    assert!(to_the_end(&mut held).await.0.contains("\"done\":false"));
    assert!(TcpStream::connect(mock.addr()).await.is_err());
    mock.listen_again().await.unwrap();
    mock.reset();
    let mut caller = ask(&mock, &chat("alpha", "")).await;
    until(&mut caller, END).await;
    mock.cut_connections();
    assert_eq!(to_the_end(&mut caller).await.0, "");
    let addr = mock.addr();
    mock.stop_listening().await;
    drop(mock);
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn connections_are_kept_and_numbered() {
    let mock = Mock::start().await.unwrap();
    let mut caller = ask(&mock, &chat("alpha", "")).await;
    until(&mut caller, END).await;
    caller.write_all(chat("alpha", ",\"stream\":false").as_bytes()).await.unwrap();
    until(&mut caller, "}").await;
    until(&mut ask(&mock, &chat("alpha", "")).await, END).await;
    let numbers: Vec<_> =
        mock.wait_ended(3, SOON).await.unwrap().iter().map(|seen| seen.connection).collect();
    assert_eq!(numbers, [1, 1, 2]);
    let late = mock.wait_seen(4, Duration::from_millis(1)).await.expect_err("too few");
    assert!(late.to_string().contains("4 requests; saw 3 requests, 3 finished"), "{late}");
}

#[tokio::test]
async fn models_can_be_chosen_and_the_cloud_opened() {
    let models = vec![
        Model::plain("near").with(&[Capability::Completion, Capability::Tools]),
        Model::plain("far").remote("big:1t", "https://ollama.com:443"),
    ];
    let mock =
        Mock::builder().models(models).cloud(true).pullable(["new:1b"]).record(false).start().await.unwrap();
    let tools = r#","tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"n":{"type":"integer"}}}}}]"#;
    let text = until(&mut ask(&mock, &chat("near", tools)).await, END).await;
    assert!(text.contains(r#""function":{"index":0,"name":"f","arguments":{"n":1}}"#), "{text}");
    let text = until(&mut ask(&mock, &chat("far", "")).await, END).await;
    assert!(text.contains(r#""remote_model":"big:1t","remote_host":"https://ollama.com:443""#), "{text}");
    let text = until(&mut ask(&mock, &post("/api/pull", r#"{"model":"new:1b"}"#)).await, END).await;
    assert!(text.ends_with("{\"status\":\"success\"}\n\r\n0\r\n\r\n"), "{text}");
    let text = until(&mut ask(&mock, &chat("new:1b", "")).await, END).await;
    assert!(text.contains("\"done\":true") && mock.seen().is_empty());
}

#[tokio::test]
async fn a_prompt_decides_what_is_said() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::Any, Script { text: Some("anything".into()), ..Script::default() });
    let said =
        Script { text: Some("asked {prompt}, and so on".into()), thoughts: Some(2), ..Script::default() };
    mock.script(On::prompt("two"), said);
    let text = until(&mut ask(&mock, &chat("alpha", "")).await, END).await;
    assert_eq!(text.matches("\"thinking\":").count(), 2);
    let parts: Vec<_> =
        text.split("\"content\":\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    assert_eq!(parts.concat(), "asked one two, and so on");
    assert!(parts.iter().all(|part| part.chars().count() <= 5), "{parts:?}");
    let other = post("/api/generate", r#"{"model":"alpha","prompt":"three"}"#);
    let text = until(&mut ask(&mock, &other).await, END).await;
    assert!(text.contains("\"response\":\"anyth\""), "{text}");
}

#[test]
fn a_test_in_another_language_drives_it() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_mock-ollama"))
        .args(["drive", "--few", "--model", "alpha", "--odd", "<b>"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut tell = |command: &str| {
        writeln!(input, "{command}").unwrap();
        output.next().unwrap().unwrap()
    };
    let url = tell(r#"{"do":"script","on":{"prompt":"x"},"script":{"gap":5}}"#);
    assert!(url.contains("http://127.0.0.1:"), "{url}");
    assert_eq!(tell(r#"{"do":"seen"}"#), "{}");
    assert_eq!(tell(r#"{"do":"script","on":"any","script":{"gpa":5}}"#), r#"{"seen":[]}"#);
    assert!(tell(r#"{"do":"dance"}"#).contains("unknown field `gpa`"));
    assert!(tell(r#"{"do":"wait_gone","count":0,"millis":1}"#).contains("unknown variant `dance`"));
    assert_eq!(tell(r#"{"do":"stop"}"#), r#"{"gone":true}"#);
    drop(input);
    assert!(child.wait().unwrap().success());
}

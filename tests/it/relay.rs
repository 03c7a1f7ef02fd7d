//! Recorded replies of a real Ollama, with their chunk borders, come out as the same bytes.

use bytes::Bytes;
use mock_ollama::{On, Raw, Script, Then, recordings};

use crate::harness::{Gateway, assert_native_error, post};

/// What the gateway's own rules change or refuse before the upstream sees it, so that its reply cannot be asked about here.
fn is_refused_here(name: &str, body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    name.contains("debug") || text.contains("-cloud")
}

#[tokio::test]
async fn every_recorded_answer_passes_byte_for_byte() {
    let gate = Gateway::start().await;
    let mut passed = 0;
    for group in ["chat", "generate", "embed", "json"] {
        for recording in recordings::load(group) {
            let Some(response) = &recording.response else { continue };
            if recording.method != "POST"
                || response.status != 200
                || is_refused_here(&recording.name, &recording.request_body)
            {
                continue;
            }
            gate.mock.reset();
            for pieces in [vec![recording.wire()], recording.pieces()] {
                gate.mock.script(
                    On::Any,
                    Script { raw: Some(Raw { pieces, then: Then::Keep }), ..Script::default() },
                );
                let answer = gate.send(&post(&recording.target), &recording.request_body).await;
                if answer.status == 400 || answer.status == 403 {
                    continue; // refused here, by a rule of ours
                }
                assert_eq!(answer.status, 200, "{group}/{}: {}", recording.name, answer.text());
                assert!(answer.whole, "{group}/{}", recording.name);
                assert_eq!(
                    answer.text(),
                    String::from_utf8_lossy(&recording.response_body()),
                    "{group}/{}",
                    recording.name
                );
                passed += 1;
            }
        }
    }
    assert!(passed > 120, "only {passed} replies were compared");
}

#[tokio::test]
async fn refusals_keep_their_meaning_and_lose_their_inner_workings() {
    const SECRETS: [&str; 7] =
        ["/usr/", "sha256-", "llama-server", "--embeddings", "registry.ollama.ai", "_M_range_check", "{\""];
    let gate = Gateway::start().await;
    for (group, name, status, words) in [
        ("chat", "tools-unsupported", 400, "does not support tools"),
        ("chat", "think-unsupported", 400, "does not support thinking"),
        ("chat", "images-unsupported", 400, "does not support images"),
        ("chat", "format-bad-schema", 400, "schema"),
        ("chat", "too-long-no-truncate", 400, "longer than the model's context"),
        ("chat", "model-unknown", 404, "not found"),
        ("generate", "suffix-unsupported", 400, "does not support insert"),
        ("embed", "one", 400, "does not support embeddings"),
        ("embed", "model-too-long-no-truncate", 400, "longer than the model's context"),
        ("embed", "chat-on-embedding-model", 400, "does not support chat"),
        ("loadfail", "truncated-chat-nostream", 502, "could not load"),
        ("loadfail", "no-runner-chat-nostream", 502, "the model server"),
        ("loadfail", "missing-chat-nostream", 404, "not found"),
        ("busy", "chat", 503, "busy"),
        ("death", "chat-stream-in-prompt", 502, "failed"),
        ("generate", "context-bad", 400, "context"),
    ] {
        let recording =
            recordings::find(group, name).unwrap_or_else(|| panic!("no recording {group}/{name}"));
        gate.mock.reset();
        gate.mock.script(
            On::Any,
            Script { raw: Some(Raw::new(recording.wire(), Then::Keep)), ..Script::default() },
        );
        let body = r#"{"model":"smollm2:135m","messages":[{"role":"user","content":"x"}],"stream":false}"#;
        let answer = gate.post("/api/chat", body).await;
        assert_eq!(answer.status, status, "{group}/{name}: {answer:?}");
        let text = assert_native_error(&answer.body);
        assert!(text.contains(words), "{group}/{name}: {text}");
        assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{group}/{name}: {text}");
    }
}

/// Texts that nobody recorded: of machines without memory, models with one eye, and grammars that are none.
#[tokio::test]
async fn an_upstreams_error_is_the_same_before_and_inside_an_answer() {
    let gate = Gateway::start().await;
    for (text, status, words) in [
        ("model requires more system memory (5.6 GiB) than is available (3.1 GiB)", 503, "memory"),
        ("llama runner process has terminated: CUDA error: out of memory at /usr/lib/x.cu:70", 503, "memory"),
        ("this model only supports one image while more than one image requested", 400, "one image"),
        ("model does not support multimodal requests", 400, "does not support images"),
        ("input after truncation exceeds maximum context length", 400, "longer than the model's context"),
        (
            "json: cannot unmarshal array into Go struct field .tools.function.parameters.properties of type x",
            400,
            "tools",
        ),
        ("failed to load model vocabulary required for format", 400, "schema in format"),
        ("timed out waiting for llama runner to start - progress 0.28 - ", 503, "too long to load"),
        ("unable to load model: /root/.ollama/models/blobs/sha256-1", 502, "could not load"),
        ("something new about /etc/canary", 502, "failed"),
    ] {
        let told = |answer: &crate::client::Answer, body: &[u8]| {
            let said = assert_native_error(body);
            assert!(said.contains(words), "{text}: {said}");
            assert!(
                ["CUDA", "/usr", "/root", "sha256", "canary", "Go struct"]
                    .iter()
                    .all(|word| !said.contains(word)),
                "{said}"
            );
            assert_eq!(answer.header("retry-after").is_some(), answer.status == 503, "{text}");
        };
        let script = Script { status: Some(500), error_text: Some(text.into()), ..Script::default() };
        gate.mock.script(On::Any, script);
        for stream in [false, true] {
            let answer = gate.chat(stream).await;
            assert_eq!(answer.status, status, "{text}");
            told(&answer, &answer.body);
        }
        // A stream that had begun: its last line.
        let script =
            Script { tokens: Some(5), error_at: Some(2), error_text: Some(text.into()), ..Script::default() };
        gate.mock.script(On::Any, script);
        let answer = gate.chat(true).await;
        assert_eq!((answer.status, answer.lines().len()), (200, 3), "{text}: {}", answer.text());
        told(&answer, answer.lines().last().unwrap());
        // One object with the status 200.
        let body = serde_json::json!({"error": text}).to_string();
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        gate.mock.script(On::Any, Script { raw: Some(Raw::new(reply, Then::Keep)), ..Script::default() });
        for stream in [false, true] {
            let answer = gate.chat(stream).await;
            assert_eq!(answer.status, status, "{text}");
            told(&answer, &answer.body);
        }
    }
    gate.assert_well().await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_names_its_bound() {
    let gate = Gateway::with(&[("PORTCULLIS_UPSTREAM_MAX_ANSWER", "1000")]).await;
    let reply = |bytes: usize| {
        let body = format!("{{\"a\":\"{}\",\"done\":true}}", "x".repeat(bytes - 20));
        assert_eq!(body.len(), bytes);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        Script {
            raw: Some(Raw::new(format!("{head} {bytes}\r\n\r\n{body}"), Then::Keep)),
            ..Script::default()
        }
    };
    let (chat, embed) = (
        r#"{"stream":false,"messages":[{"content":"x"}]}"#,
        r#"{"model":"all-minilm","input":"x","prompt":"x"}"#,
    );
    for (path, body, most) in [
        ("/api/chat", chat, 1_000),
        ("/api/generate", r#"{"prompt":"x","stream":false}"#, 1_000),
        ("/api/embed", embed, 4_000),
        ("/api/embeddings", embed, 4_000),
    ] {
        gate.mock.script(On::Any, reply(most));
        assert_eq!(gate.post(path, body).await.status, 200, "{path}");
        gate.mock.script(On::Any, reply(most + 1));
        let answer = gate.post(path, body).await;
        assert_eq!(answer.status, 502, "{path}");
        let text = assert_native_error(&answer.body);
        assert!(text.contains("upstream.max_answer") && text.contains(&most.to_string()), "{path}: {text}");
    }
    gate.assert_well().await;
}

/// A recorded stream, cut behind every byte: never a clean end, always one error line behind whole lines.
#[tokio::test]
async fn a_stream_cut_anywhere_never_looks_complete() {
    let gate = Gateway::start().await;
    let wire = recordings::find("chat", "stream").unwrap().wire();
    let head = crate::client::find(&wire, b"\r\n\r\n").unwrap() + 4;
    let last_line = wire.windows(11).rposition(|w| w == b"\"done\":true").unwrap();
    let complete = last_line + crate::client::find(&wire[last_line..], b"\n").unwrap() + 1;
    for cut in (head..complete).step_by(7) {
        let raw = Raw::new(Bytes::copy_from_slice(&wire[..cut]), Then::Close);
        gate.mock.script(On::Any, Script { raw: Some(raw), ..Script::default() });
        let answer = gate.chat(true).await;
        assert!(answer.whole, "cut at {cut}: the chunked coding is closed properly");
        if answer.status != 200 {
            assert!(answer.status == 502, "cut at {cut}: {answer:?}");
            continue;
        }
        let lines = answer.lines();
        assert!(!answer.text().contains("\"done\":true"), "cut at {cut}");
        assert_native_error(lines.last().unwrap());
        assert!(lines.iter().all(|line| line.ends_with(b"}\n")), "cut at {cut}");
    }
    gate.assert_well().await;
}

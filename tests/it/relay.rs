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
        ("loadfail", "truncated-chat-nostream", 502, "failed"),
        ("loadfail", "no-runner-chat-nostream", 502, "the model server"),
        ("loadfail", "missing-chat-nostream", 404, "not found"),
        ("busy", "chat", 503, "busy"),
        ("death", "chat-stream-in-prompt", 502, "failed"),
        ("generate", "context-bad", 502, "failed"),
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

//! Every recorded request on the routes that the server has is sent to it, and the answer compared, error texts included.

#![expect(clippy::expect_used, reason = "a test may fail loudly")]

use mock_ollama::compare::{self, Options, Verdict};
use mock_ollama::{Mock, On, Script, recordings};
use std::time::Duration;

/// What is not sent to a server in its normal state.
const LEFT_OUT: &[(&str, &str)] = &[
    ("openai/*", "no /v1 routes: the gateway does not forward them yet"),
    ("anthropic/*", "no /v1 routes: the gateway does not forward them yet"),
    ("embed/v1*", "no /v1 routes: the gateway does not forward them yet"),
    ("paths/v1-trailing", "no /v1 routes: the gateway does not forward them yet"),
    ("busy/v1-*", "no /v1 routes: the gateway does not forward them yet"),
    ("busy/chat", "needs a full queue: see `failures_are_scripted`"),
    ("loadfail/*", "needs a damaged model: see `failures_are_scripted`"),
    ("death/*", "needs a runner that dies: see `failures_are_scripted`"),
    ("chat/num-predict-0-endless", "nothing was answered when it was recorded"),
    ("framing/tls", "nothing was answered when it was recorded"),
];

#[tokio::test]
async fn answers_are_as_recorded() {
    let mock = Mock::start().await.unwrap();
    let options =
        Options { left_out: LEFT_OUT, exact: true, timeout: Duration::from_secs(10), ..Options::default() };
    let report = compare::run(mock.addr(), &options).await;
    assert!(report.is_clean(), "{report}");
    let (same, left_out) = (report.same(), report.left_out().count());
    assert_eq!((same, same + left_out), (336, 469), "same, and all that were recorded");
}

/// The server's state at each recorded failure, as a script.
fn failure(group: &str, name: &str) -> Script {
    let recording = recordings::find(group, name).expect("recorded");
    let status = recording.response.as_ref().map(|response| response.status);
    let body: serde_json::Value = serde_json::from_slice(&recording.response_body()).unwrap_or_default();
    let error_text = body.get("error").and_then(|text| text.as_str()).map(str::to_owned);
    match (group, name) {
        ("death", "after") => Script::default(),
        ("death", "chat-stream-in-prompt") => Script { error_at: Some(0), ..Script::default() },
        ("death", _) => Script { error_at: Some(5), ..Script::default() },
        _ => Script { status, error_text, ..Script::default() },
    }
}

#[tokio::test]
async fn failures_are_scripted() {
    let mock = Mock::start().await.unwrap();
    let mut compared = 0;
    for group in ["busy", "loadfail", "death"] {
        for recording in recordings::load(group) {
            if recording.target.starts_with("/v1/") {
                continue;
            }
            mock.reset();
            mock.script(On::Any, failure(group, &recording.name));
            let options = Options { exact: true, timeout: Duration::from_secs(10), ..Options::default() };
            let verdict = compare::exchange(mock.addr(), &recording, &options).await;
            assert_eq!(verdict, Verdict::Same, "{group}/{}", recording.name);
            compared += 1;
        }
    }
    assert_eq!(compared, 18);
}

#[tokio::test]
async fn a_difference_and_a_stale_name_are_reported() {
    let mock = Mock::start().await.unwrap();
    mock.script(On::path("/api/version"), Script { status: Some(503), ..Script::default() });
    let left_out = [("root/nothing", "a typing error")];
    let options = Options { groups: &["root"], left_out: &left_out, ..Options::default() };
    let report = compare::run(mock.addr(), &options).await;
    let names: Vec<_> = report.differing().map(|(name, _)| name).collect();
    assert_eq!(names, ["root/version-head", "root/version"]);
    assert_eq!(report.stale, ["root/nothing"]);
    assert!(report.to_string().contains("root/version: status: recorded 200, got 503"), "{report}");
}

//! Budgets of tokens: reserved before, settled after, exact about when to come back.

use mock_ollama::{On, Raw, Script, Then};
use portcullis::store::audit::AuditRow;
use serde_json::Value;

use crate::client::Answer;
use crate::harness::{Gateway, KEY, PATIENCE, post};
use crate::keys::{json, text};

const ASK: &str = r#"{"model":"alpha","prompt":"hi","stream":false"#;

fn key(gate: &Gateway, args: &[&str]) -> String {
    text(&json(&gate.folder, &[&["key", "create", "--json", "--name", "k"][..], args].concat()), "key")
}

pub(crate) async fn known(gate: &Gateway, key: &str) {
    let begun = tokio::time::Instant::now();
    while used(gate, key).await.is_none() {
        assert!(begun.elapsed().as_secs() < 2, "the key is not known");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Tokens of today.
async fn used(gate: &Gateway, key: &str) -> Option<u64> {
    let get = format!("GET /usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    let answer: Value = serde_json::from_str(&gate.send(&get, b"").await.text()).ok()?;
    answer["used"]["tokens_today"].as_u64()
}

async fn ask(gate: &Gateway, key: &str, more: &str) -> Answer {
    gate.send(&post("/api/generate").replace(KEY, key), format!("{ASK}{more}}}").as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_counted_from_the_final_object() {
    let gate = Gateway::start().await;
    let key = key(&gate, &["--tokens-per-day", "100"]);
    known(&gate, &key).await;
    let first = ask(&gate, &key, r#","options":{"num_predict":20}"#).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("100"));
    let body: Value = serde_json::from_str(&first.text()).unwrap();
    let took = body["prompt_eval_count"].as_u64().unwrap() + body["eval_count"].as_u64().unwrap();
    assert_eq!(used(&gate, &key).await, Some(took));
    let mut last = first.status;
    let mut sum = took;
    while last == 200 {
        let answer = ask(&gate, &key, r#","options":{"num_predict":20}"#).await;
        last = answer.status;
        if last == 200 {
            sum += took;
        } else {
            assert_eq!(last, 429, "{}", answer.text());
            assert!(
                answer.text().contains("more than 100 tokens per day; see Retry-After"),
                "{}",
                answer.text()
            );
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=86_400).contains(&seconds));
        }
    }
    assert!(sum <= 100, "{sum} tokens went through");
    assert_eq!(used(&gate, &key).await, Some(sum));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_side_by_side_cannot_pass_the_same_check_together() {
    let gate = Gateway::start().await;
    let key = key(&gate, &["--tokens-per-minute", "300"]);
    known(&gate, &key).await;
    gate.mock.script(On::Any, Script { hold_after: Some(1), tokens: Some(100), ..Script::default() });
    let mut admitted = Vec::new();
    let mut refused = 0;
    for _ in 0..8 {
        let mut conn = gate.connect().await;
        let body = r#"{"model":"alpha","prompt":"hi","options":{"num_predict":80}}"#;
        conn.request(&post("/api/generate").replace(KEY, &key), body.as_bytes()).await;
        let head = conn.head().await;
        if head.status == 429 {
            refused += 1;
            assert_eq!(head.header("x-ratelimit-limit-tokens"), Some("300"));
        } else {
            admitted.push(conn);
        }
    }
    assert_eq!((admitted.len(), refused), (3, 5), "80 tokens and a prompt each, of 300");
    gate.mock.clear();
    for conn in admitted {
        conn.leave();
    }
    gate.mock.reset();
    let begun = tokio::time::Instant::now();
    while ask(&gate, &key, r#","options":{"num_predict":20}"#).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "what was not used does not come back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_a_budget_gets_an_end_and_a_cut_one_counts_what_came() {
    let gate = Gateway::start().await;
    let key = key(&gate, &["--tokens-per-minute", "1000", "--max-output-tokens", "300"]);
    known(&gate, &key).await;
    assert_eq!(ask(&gate, &key, "").await.status, 200);
    let sent: Value = serde_json::from_slice(&gate.mock.seen().last().unwrap().body).unwrap();
    assert_eq!(sent["options"]["num_predict"], 300);
    let too_long = ask(&gate, &key, r#","options":{"num_predict":301}"#).await;
    assert_eq!(too_long.status, 400);
    assert!(too_long.text().contains("options.num_predict"), "{}", too_long.text());
    let before = used(&gate, &key).await.unwrap();
    gate.mock.clear();
    gate.mock.script(On::Any, Script { hold_after: Some(5), ..Script::default() });
    let mut conn = gate.connect().await;
    conn.request(&post("/api/generate").replace(KEY, &key), br#"{"model":"alpha","prompt":"hi"}"#).await;
    gate.mock.wait_tokens(5, PATIENCE).await.unwrap();
    let head = conn.head().await;
    assert_eq!(head.status, 200);
    let mut lines = 0;
    while lines < 5 {
        lines += String::from_utf8(conn.chunk().await.unwrap()).unwrap().lines().count();
    }
    conn.leave();
    gate.mock.wait_disconnect(PATIENCE).await.unwrap();
    let after = used(&gate, &key).await.unwrap();
    assert!((before + 5..before + 80).contains(&after), "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_own_limits_win_over_the_configurations() {
    let settings =
        [("PORTCULLIS_LIMITS_REQUESTS_PER_MINUTE", "2"), ("PORTCULLIS_LIMITS_MAX_CONTEXT", "4096")];
    let gate = Gateway::with(&settings).await;
    let free = key(&gate, &["--requests-per-minute", "0", "--max-context", "8192"]);
    let tight = key(&gate, &["--requests-per-minute", "1"]);
    let begun = tokio::time::Instant::now();
    while ask(&gate, &free, "").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    for _ in 0..5 {
        assert_eq!(ask(&gate, &free, r#","options":{"num_ctx":8192}"#).await.status, 200);
    }
    assert_eq!(ask(&gate, &tight, "").await.status, 200);
    let refused = ask(&gate, &tight, "").await;
    assert_eq!((refused.status, refused.header("x-ratelimit-limit-requests")), (429, Some("1")));
    let own = ask(&gate, KEY, r#","options":{"num_ctx":8192}"#).await;
    assert_eq!(own.status, 400, "the configuration's bound holds for the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_early_or_is_not_counted_pays_all_the_same() {
    let gate = Gateway::start().await;
    let key = key(&gate, &["--tokens-per-day", "100000", "--gpu-seconds-per-day", "1000"]);
    known(&gate, &key).await;
    let words = "word ".repeat(400);
    let body = format!(r#"{{"model":"all-minilm","prompt":"{words}"}}"#);
    let embeddings = gate.send(&post("/api/embeddings").replace(KEY, &key), body.as_bytes()).await;
    assert_eq!(embeddings.status, 200, "{}", embeddings.text());
    let before = used(&gate, &key).await.unwrap();
    assert!(before >= 400, "{before}: an answer without counts is estimated");
    gate.mock.clear();
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    for stream in ["false", "true"] {
        let body = format!(
            r#"{{"model":"alpha","prompt":"{words}","stream":{stream},"options":{{"num_predict":9}}}}"#
        );
        let mut conn = gate.connect().await;
        conn.request(&post("/api/generate").replace(KEY, &key), body.as_bytes()).await;
        gate.mock.wait_seen(1, PATIENCE).await.unwrap();
        conn.leave();
        gate.mock.wait_disconnect(PATIENCE).await.unwrap();
        gate.mock.clear();
    }
    let begun = tokio::time::Instant::now();
    while used(&gate, &key).await.unwrap() < before + 800 {
        assert!(begun.elapsed() < PATIENCE, "the prompts of those who left cost nothing");
    }
    let rows = crate::audit::rows(&gate.folder, 2).await;
    let gone: Vec<_> = rows.iter().filter(|row| row.ending == "client_gone").collect();
    assert!(gone.iter().all(|row| row.estimated && row.prompt_tokens >= Some(400)), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn model_time_ends_answers_that_run_and_is_gone_for_the_day() {
    let gate = Gateway::start().await;
    let keys = [(); 3].map(|()| key(&gate, &["--gpu-seconds-per-day", "2"]));
    for key in &keys {
        known(&gate, key).await;
    }
    gate.mock.script(On::Any, Script { hold_after: Some(1), tokens: Some(9), ..Script::default() });
    let begun = tokio::time::Instant::now();
    // A stream, and beside it one that the day has no room for.
    let mut stream = gate.connect().await;
    let body = br#"{"model":"alpha","prompt":"hi"}"#;
    stream.request(&post("/api/generate").replace(KEY, &keys[0]), body).await;
    let head = stream.head().await;
    assert_eq!(head.status, 200);
    let second = ask(&gate, &keys[0], "").await;
    assert_eq!(second.status, 429, "{}", second.text());
    assert!(second.text().contains("more than 2 seconds of the model server per day"), "{}", second.text());
    assert_eq!(second.header("retry-after"), Some("5"), "the first may leave something");
    // A whole answer, and a stream whose head waits for the first word.
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    let mut whole = gate.connect().await;
    whole.request(&post("/api/generate").replace(KEY, &keys[1]), format!("{ASK}}}").as_bytes()).await;
    let mut silent = gate.connect().await;
    silent.request(&post("/api/generate").replace(KEY, &keys[2]), body).await;

    let text = stream.rest(head).await.text();
    assert!(
        text.ends_with("{\"error\":\"the budget of model time is used up until midnight UTC\"}\n"),
        "{text}"
    );
    for conn in [&mut whole, &mut silent] {
        let answer = conn.answer().await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(
            answer.text().contains("the budget of model time is used up until midnight UTC"),
            "{}",
            answer.text()
        );
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 86_400);
    }
    let took = begun.elapsed();
    assert!((2.0..5.0).contains(&took.as_secs_f64()), "{took:?}");
    let begun = tokio::time::Instant::now();
    let ended = loop {
        let mut rows = crate::audit::rows(&gate.folder, 1).await;
        rows.retain(|row| row.reason.as_deref() == Some("limit gpu"));
        if rows.len() == 3 {
            break rows;
        }
        assert!(begun.elapsed() < PATIENCE, "{rows:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    for row in ended {
        assert_eq!(row.ending, "error");
        assert!(row.gpu_ms.is_some_and(|ms| (2_000..4_500).contains(&ms)), "{row:?}");
    }
    for key in &keys {
        let refused = ask(&gate, key, "").await;
        assert_eq!(refused.status, 429);
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&seconds), "until the day ends");
    }
    // Those without such a limit have nothing of it.
    gate.mock.script(On::Any, Script::default());
    assert_eq!(gate.chat(true).await.status, 200);
}

/// Of a request that brought no answer: its row, and the seconds of the model server that its key has used since.
async fn failed(gate: &Gateway, key: &str, stream: bool) -> (AuditRow, u64) {
    let sent = async || {
        let mut rows = crate::audit::rows(&gate.folder, 0).await;
        rows.retain(|row| row.upstream.is_some());
        rows
    };
    let before = sent().await.len();
    let body = format!(r#"{{"model":"alpha","prompt":"hi","stream":{stream}}}"#);
    gate.send(&post("/api/generate").replace(KEY, key), body.as_bytes()).await;
    let get = format!("GET /usage HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    let used: Value = serde_json::from_str(&gate.send(&get, b"").await.text()).unwrap();
    let begun = tokio::time::Instant::now();
    let row = loop {
        let mut rows = sent().await;
        if rows.len() > before {
            break rows.pop().unwrap();
        }
        assert!(begun.elapsed() < PATIENCE, "no row");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    (row, used["used"]["gpu_seconds_today"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_answer_fails_is_paid_for_and_a_refusal_is_not() {
    let settings = [("PORTCULLIS_UPSTREAM_MAX_ANSWER", "4KiB"), ("PORTCULLIS_STREAM_HEARTBEAT", "300ms")];
    let gate = Gateway::with(&settings).await;
    let worked = std::time::Duration::from_millis(1_100);
    let raw = |reply: &str, head_delay| Script {
        head_delay,
        raw: Some(Raw::new(reply.to_owned(), Then::Close)),
        ..Script::default()
    };
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{}",
        " ".repeat(9_000)
    );
    for (script, stream) in [
        // It works, and closes: before its head, and of a stream whose head is out.
        (raw("", worked), false),
        (raw("", worked), true),
        (raw(&long, worked), false),
        (Script { head_delay: worked, status: Some(500), ..Script::default() }, false),
    ] {
        let key = key(&gate, &["--gpu-seconds-per-day", "100", "--tokens-per-day", "100000"]);
        known(&gate, &key).await;
        gate.mock.script(On::Any, script);
        let (row, seconds) = failed(&gate, &key, stream).await;
        assert!(row.ending == "error" && row.gpu_ms >= Some(1_000), "{row:?}");
        assert!(row.estimated && row.prompt_tokens > Some(0), "{row:?}");
        assert_eq!((seconds, used(&gate, &key).await), (1, row.prompt_tokens), "{row:?}");
    }
    let key = key(&gate, &["--gpu-seconds-per-day", "100", "--tokens-per-day", "100000"]);
    known(&gate, &key).await;
    for stream in [false, true] {
        for status in [400, 404, 503, 0] {
            // Of a stream, whose head is out by then.
            let head_delay = if stream { worked / 2 } else { std::time::Duration::ZERO };
            let script = Script { head_delay, status: Some(status), ..Script::default() };
            gate.mock.script(On::Any, script);
            if status == 0 {
                gate.mock.stop_listening().await;
                gate.mock.cut_connections();
            }
            let (row, seconds) = failed(&gate, &key, stream).await;
            if status == 0 {
                gate.mock.listen_again().await.unwrap();
            }
            assert!(row.ending == "error" && row.gpu_ms.is_none() && !row.estimated, "{status}: {row:?}");
            assert_eq!((seconds, used(&gate, &key).await), (0, Some(0)), "{status}: {row:?}");
        }
    }
}

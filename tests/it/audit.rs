//! The record of requests: one row each, whatever happens, with nothing in it that is nobody's business.

use std::path::Path;
use std::time::Duration;

use mock_ollama::{Mock, On, Script};
use portcullis::store::Store;
use portcullis::store::audit::{AuditRow, ChainKey};
use serde_json::Value;

use tokio::time::Instant;

use crate::client::Conn;
use crate::command::Running;
use crate::harness::{Gateway, KEY, PATIENCE, chat, post};
use crate::keys::{command, json, text};

/// Rows of the store, once so many are there.
pub(crate) async fn rows(folder: &Path, count: usize) -> Vec<AuditRow> {
    let begun = Instant::now();
    loop {
        let rows = Store::read(folder).unwrap().tail(1_000, 0).unwrap();
        if rows.len() >= count {
            return rows.into_iter().map(|chained| chained.row).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{} rows of {count}: {rows:?}", rows.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn holds(folder: &Path) {
    let key = ChainKey::read(folder).unwrap().unwrap();
    let report = Store::read(folder).unwrap().verify(&key, &[], None).unwrap();
    assert_eq!(report.fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_leaves_one_row() {
    let gate = Gateway::start().await;
    assert_eq!(gate.chat(false).await.status, 200);
    assert_eq!(gate.chat(true).await.status, 200);
    assert_eq!(gate.post("/api/chat", "{").await.status, 400);
    assert_eq!(gate.post("/api/pull", "{}").await.status, 403);
    assert_eq!(gate.send("GET /models HTTP/1.1\r\nHost: localhost\r\n", b"").await.status, 401);
    gate.mock.script(On::Any, Script { hold_after: Some(3), ..Script::default() });
    let (conn, head) = gate.stream().await;
    gate.mock.wait_tokens(3, PATIENCE).await.unwrap();
    conn.leave();
    gate.mock.reset();
    gate.mock.script(On::Any, Script { die_after: Some(2), ..Script::default() });
    assert!(gate.chat(true).await.text().contains("broke off"));
    assert_eq!(gate.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"").await.status, 200);
    let rows = rows(&gate.folder, 7).await;
    let seen: Vec<_> = rows.iter().map(|row| (&*row.route, row.status, &*row.ending)).collect();
    let mut expected = vec![
        ("/api/chat", 200, "done"),
        ("/api/chat", 200, "done"),
        ("/api/chat", 400, "refused"),
        ("-", 403, "refused"),
        ("/models", 401, "refused"),
        ("/api/chat", 200, "client_gone"),
        ("/api/chat", 200, "error"),
    ];
    let mut sorted = seen.clone();
    expected.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let whole = rows.iter().find(|row| row.ending == "done" && !row.stream).unwrap();
    assert_eq!((whole.key_id.as_deref(), whole.model.as_deref()), (Some("env-1"), Some("alpha:latest")));
    assert_eq!((whole.prompt_tokens, whole.output_tokens, whole.estimated), (Some(12), Some(24), false));
    assert!(
        whole.bytes_in > 50 && whole.bytes_out > 100 && whole.gpu_ms.is_some() && whole.queue_ms.is_some()
    );
    let gone = rows.iter().find(|row| row.ending == "client_gone").unwrap();
    assert_eq!((gone.output_tokens, gone.estimated), (Some(3), true));
    assert!(gone.prompt_tokens.is_some_and(|tokens| (5..60).contains(&tokens)), "its prompt is estimated");
    assert_eq!(Some(format!("{:016x}", gone.request_id).as_str()), head.header("x-request-id"));
    let unknown = rows.iter().find(|row| row.status == 401).unwrap();
    assert_eq!((unknown.key_id.as_deref(), unknown.peer.map(|ip| ip.is_loopback())), (None, Some(true)));
    holds(&gate.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_prompt_and_no_key_is_in_any_file() {
    let mut gate = Gateway::start().await;
    let made = json(&gate.folder, &["key", "create", "--name", "canary", "--json"]);
    let body = chat(true).replace("Say hi", "a-canary-in-the-prompt");
    assert_eq!(gate.post("/api/chat", &body).await.status, 200);
    let bad = body.replace("\"stream\":true", "\"stream\":\"a-canary-in-the-prompt\"");
    assert_eq!(gate.post("/api/chat", &bad).await.status, 400);
    gate.stop().await.unwrap();
    for entry in std::fs::read_dir(&gate.folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        // SQLite's own passing files go with their last connection.
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        for canary in ["a-canary-in-the-prompt", KEY, &text(&made, "key"), &gate.mock.url()] {
            assert!(
                crate::client::find(&bytes, canary.as_bytes()).is_none(),
                "{canary} in {:?}",
                entry.file_name()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_the_begin_is_there_before_anything_goes_upstream() {
    let gate = Gateway::with(&[("PORTCULLIS_AUDIT_MODE", "strict")]).await;
    gate.mock.script(On::Any, Script { never: true, ..Script::default() });
    let mut conn = gate.connect().await;
    conn.request(&post("/api/chat"), chat(true).as_bytes()).await;
    gate.mock.wait_seen(1, PATIENCE).await.unwrap();
    let store = Store::read(&gate.folder).unwrap();
    let boots = store.begun_boots().unwrap();
    let key = ChainKey::read(&gate.folder).unwrap().unwrap();
    let (begins, _) = store.orphans(&key, &boots[0]).unwrap();
    assert_eq!((boots.len(), begins.len(), &*begins[0].route), (1, 1, "/api/chat"));
    conn.leave();
    let rows = rows(&gate.folder, 1).await;
    assert_eq!((&*rows[0].ending, rows[0].request_id), ("client_gone", begins[0].request_id));
    assert!(store.begun_boots().unwrap().is_empty(), "its begin went with its end");
    holds(&gate.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_keys_is_a_few_rows_with_a_count() {
    let mut gate = Gateway::start().await;
    let mut conn = gate.connect().await;
    for _ in 0..300 {
        conn.request(&post("/api/chat").replace(KEY, "wrong-key-of-somebody"), b"").await;
        conn.answer().await;
        conn = gate.connect().await;
    }
    gate.stop().await.unwrap();
    let rows = rows(&gate.folder, 3).await;
    let all: u64 = rows.iter().map(|row| row.count).sum();
    assert_eq!(all, 300, "nothing is lost");
    assert!(rows.len() <= 2 * 2 * 11, "{} rows", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reads_counts_and_verifies() {
    let mut gate = Gateway::start().await;
    for _ in 0..3 {
        assert_eq!(gate.chat(false).await.status, 200);
    }
    rows(&gate.folder, 3).await;
    let usage = json(&gate.folder, &["usage", "--json"]);
    assert_eq!(usage.as_array().unwrap().len(), 1);
    let row = &usage[0];
    assert_eq!((text(row, "key_id"), text(row, "model")), ("env-1".into(), "alpha:latest".into()));
    assert_eq!(
        (row["requests"].clone(), row["prompt_tokens"].clone(), row["output_tokens"].clone()),
        (3.into(), 36.into(), 72.into())
    );
    let (code, table, _) = command(&gate.folder, &["usage"]);
    assert!(code == 0 && table.lines().count() == 2 && table.contains("alpha:latest"), "{table}");
    let (_, tail, _) = command(&gate.folder, &["audit", "tail", "--json", "-n", "20"]);
    let lines: Vec<Value> = tail.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (requests, actions): (Vec<_>, Vec<_>) = lines.iter().partition(|row| row["action"].is_null());
    assert_eq!((requests.len(), text(requests[1], "route")), (3, "/api/chat".into()));
    assert!(actions.iter().all(|row| row["action"]["do"] == "usage.read"), "who looked is there too: {tail}");
    let (_, csv, _) = command(&gate.folder, &["audit", "export", "--format", "csv"]);
    assert_eq!(csv.lines().filter(|line| line.contains("/api/chat")).count(), 3, "{csv}");
    gate.stop().await.unwrap();
    let fine = json(&gate.folder, &["audit", "verify", "--json"]);
    assert_eq!(fine["ok"], true, "{fine}");
    // Those three, who looked at the usage, and who at the rows.
    assert!(fine["rows"].as_u64().is_some_and(|rows| (4..=6).contains(&rows)), "{fine}");
    let db = rusqlite::Connection::open(gate.folder.join("portcullis.db")).unwrap();
    db.execute("UPDATE audit SET status = 201 WHERE seq = 2", []).unwrap();
    let (code, _, errors) = command(&gate.folder, &["audit", "verify"]);
    assert_eq!(code, 1);
    assert!(errors.contains("row 2: changed"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_names_models_that_are_there_and_sums_the_others() {
    let mut gate = Gateway::start().await;
    assert_eq!(gate.chat(false).await.status, 200);
    for name in ["made-up:1b", "made-up:2b"] {
        assert_eq!(gate.post("/api/chat", &format!("{{\"model\":\"{name}\"}}")).await.status, 404);
    }
    gate.stop().await.unwrap();
    let usage = json(&gate.folder, &["usage", "--json"]);
    let mut sums: Vec<_> = usage
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(row, "model"), row["requests"].clone(), row["refused"].clone()))
        .collect();
    sums.sort_by(|one, other| one.0.cmp(&other.0));
    let expected =
        [("alpha:latest".to_owned(), 1.into(), 0.into()), ("other".to_owned(), 2.into(), 2.into())];
    assert_eq!(sums, expected, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_folder_keep_one_audit_that_holds() {
    let mut first = Gateway::start().await;
    let folder = first.folder.display().to_string();
    assert_eq!(first.chat(false).await.status, 200);
    let mut second = Gateway::with(&[("PORTCULLIS_DATA_DIR", folder.as_str())]).await;
    assert_eq!(second.chat(false).await.status, 200);
    assert_eq!(first.chat(false).await.status, 200);
    rows(&first.folder, 3).await;
    holds(&first.folder);
    first.stop().await.unwrap();
    assert_eq!(second.chat(false).await.status, 200);
    second.stop().await.unwrap();
    let fine = json(&first.folder, &["audit", "verify", "--json"]);
    assert_eq!((fine["ok"].clone(), fine["rows"].clone()), (true.into(), 4.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn absurd_counts_of_the_model_server_break_nothing() {
    let mut gate = Gateway::start().await;
    let body = r#"{"model":"alpha:latest","created_at":"x","message":{"role":"assistant","content":"a"},"done":true,"eval_count":18446744073709551615,"eval_duration":99999999999999999999}"#;
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let raw = mock_ollama::Raw::new(reply, mock_ollama::Then::Keep);
    gate.mock.script(On::Any, Script { raw: Some(raw), ..Script::default() });
    for _ in 0..3 {
        assert_eq!(gate.chat(false).await.status, 200);
    }
    assert_eq!(rows(&gate.folder, 3).await[2].output_tokens, Some(1_000_000_000));
    gate.stop().await.unwrap();
    assert_eq!(json(&gate.folder, &["usage", "--json"])[0]["output_tokens"], 3_000_000_000_u64);
    assert!(Store::read(&gate.folder).unwrap().spent("2026-01-01").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn off_keeps_sums_alone() {
    let mut gate = Gateway::with(&[("PORTCULLIS_AUDIT_MODE", "off")]).await;
    assert_eq!(gate.chat(false).await.status, 200);
    gate.stop().await.unwrap();
    assert!(Store::read(&gate.folder).unwrap().tail(10, 0).unwrap().is_empty());
    assert_eq!(json(&gate.folder, &["usage", "--json"])[0]["requests"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_locked_refuses_requests_and_comes_back() {
    let gate = Gateway::with(&[("PORTCULLIS_AUDIT_MODE", "strict")]).await;
    assert_eq!(gate.chat(false).await.status, 200);
    let mut other = rusqlite::Connection::open(gate.folder.join("portcullis.db")).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    gate.mock.clear();
    let refused = gate.chat(false).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{}", refused.text());
    assert!(refused.text().contains("cannot be recorded"), "{}", refused.text());
    gate.assert_nothing_upstream();
    let begun = Instant::now();
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n";
    while gate.send(ready, b"").await.status != 503 {
        assert!(begun.elapsed() < PATIENCE, "ready although nothing can be recorded");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.rollback().unwrap();
    let begun = Instant::now();
    while gate.chat(false).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gate.send(ready, b"").await.status, 200);
    holds(&gate.folder);
}

/// Whoever can write to the store, and to nothing else, puts it back to what it was a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_taken_off_the_end_are_missed_at_once_and_after_a_restart() {
    let place = crate::doors::Folder::new("rolled-back");
    let (data, mock) = (place.0.join("data"), Mock::start().await.unwrap());
    let url = mock.url();
    let env = [
        ("PORTCULLIS_DATA_DIR", data.to_str().unwrap()),
        ("OLLAMA_LOCAL_URL", &url),
        ("OLLAMA_MODEL", crate::harness::MODEL),
        ("OLLAMA_API_KEY", KEY),
        ("PORTCULLIS_OPS_PORT", "0"),
    ];
    let running = Running::start(&env);
    let ask = async || {
        let mut conn = Conn::open(([127, 0, 0, 1], running.port).into()).await;
        conn.request(&post("/api/chat"), chat(false).as_bytes()).await;
        assert_eq!(conn.answer().await.status, 200);
    };
    ask().await;
    rows(&data, 1).await;
    let (db, wal) = (data.join("portcullis.db"), data.join("portcullis.db-wal"));
    let before = (std::fs::read(&db).unwrap(), std::fs::read(&wal).unwrap());
    ask().await;
    ask().await;
    rows(&data, 3).await;
    // Killed: it says no last word.
    drop(running);
    let roll_back = || {
        std::fs::write(&db, &before.0).unwrap();
        std::fs::write(&wal, &before.1).unwrap();
        std::fs::remove_file(data.join("portcullis.db-shm")).ok();
    };
    roll_back();
    let missing = |when: &str| {
        let (code, _, errors) = command(&data, &["audit", "verify"]);
        assert!(code == 1 && errors.contains("rows 2 to 3 are missing"), "{when}: {errors}");
    };
    missing("at once");
    let again = Running::start(&env);
    missing("while the next one runs");
    let (code, errors) = again.stop();
    assert!(code == 0 && errors.contains("rows of the audit are missing from its end"), "{errors}");
    missing("after a restart");
}

/// A backup that came back is no attack, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_says_so_and_verifies() {
    let mut gate = Gateway::start().await;
    assert_eq!(gate.chat(false).await.status, 200);
    rows(&gate.folder, 1).await;
    let place = crate::doors::Folder::new("restored");
    let copy = place.file("copy");
    assert_eq!(command(&gate.folder, &["backup", &copy]).0, 0);
    assert_eq!(gate.chat(false).await.status, 200);
    gate.stop().await.unwrap();
    let heads = std::fs::read_to_string(gate.folder.join("audit.heads")).unwrap();
    let (code, out, errors) = command(&gate.folder, &["restore", &copy, "--replace"]);
    assert_eq!(code, 0, "{out}{errors}");
    let (code, out, errors) = command(&gate.folder, &["audit", "verify"]);
    assert!(code == 0 && out.contains("was restored from a backup at"), "{out}{errors}");
    // A head that somebody keeps elsewhere is from later: what is missing is named, and why.
    let kept = heads.lines().last().unwrap();
    let (code, _, errors) = command(&gate.folder, &["audit", "verify", "--head", kept]);
    assert!(
        code == 1 && errors.contains("missing") && errors.contains("was restored from a backup at"),
        "{errors}"
    );
}

/// Whatever the upstream is asked for a caller's sake, that caller's begin is on the disk before: where it cannot be written, nothing is
/// asked, lists and questions about models included.
#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_nothing_is_asked_of_the_upstream_without_a_begin() {
    let settings = [
        ("PORTCULLIS_AUDIT_MODE", "strict"),
        ("PORTCULLIS_ROUTES_CATALOGUE", "true"),
        ("OLLAMA_MODEL", ""),
        ("PORTCULLIS_QUEUE_WAIT", "1s"),
    ];
    let gate = Gateway::with(&settings).await;
    let phases = format!("{}x-portcullis-phases: 1\r\n", post("/chat_api"));
    let get = |path: &str| post(path).replace("POST", "GET");
    let asks = [
        (get("/models"), ""),
        (get("/api/tags"), ""),
        (get("/api/ps"), ""),
        (get("/api/version"), ""),
        (post("/api/show"), r#"{"model":"alpha"}"#),
        (post("/api/chat"), r#"{"model":"never-heard-of:1b"}"#),
        (post("/api/generate"), r#"{"prompt":"no model"}"#),
        (phases, r#"{"model":"alpha","prompt":"x"}"#),
    ];
    let mut other = rusqlite::Connection::open(gate.folder.join("portcullis.db")).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    for (head, body) in &asks {
        let answer = gate.send(head, body.as_bytes()).await;
        let recorded = answer.text().contains("cannot be recorded");
        assert!(recorded, "{head}: {} {}", answer.status, answer.text());
    }
    gate.assert_nothing_upstream();
    assert_eq!(gate.mock.probes().len(), 0, "{:?}", gate.mock.probes());
    lock.rollback().unwrap();
    let begun = Instant::now();
    while gate.chat(false).await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (head, body) in &asks {
        gate.mock.clear();
        let begun = Instant::now();
        // An unknown name asks once a second at most.
        while gate.mock.probes().len() + gate.mock.seen().len() == 0 {
            assert!(begun.elapsed() < PATIENCE, "{head} asks nobody: it proves nothing here");
            let status = gate.send(head, body.as_bytes()).await.status;
            assert!(matches!(status, 200 | 404), "{head}: {status}");
        }
    }
    holds(&gate.folder);
}

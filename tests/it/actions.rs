//! What operators do is in the record: who, what, on which key, and never a secret.

use std::path::Path;
use std::time::Duration;

use portcullis::store::Store;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Answer, Conn};
use crate::harness::{Gateway, KEY, PATIENCE, chat, parsed, post};
use crate::keys::{self, command, text};

async fn admin(gate: &Gateway, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let mut conn = Conn::open(gate.ops).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    );
    conn.request(&head, body.as_bytes()).await;
    conn.answer().await
}

/// An admin key that the running gateway knows.
async fn boss(gate: &Gateway) -> Value {
    let boss = keys::json(&gate.folder, &["key", "create", "--name", "boss", "--scope", "admin", "--json"]);
    let begun = Instant::now();
    while admin(gate, "GET", "/admin/keys", &text(&boss, "key"), "").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    boss
}

/// Actions in the chain, once so many are there.
async fn sealed(folder: &Path, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let rows = Store::read(folder).unwrap().tail(1_000, 0).unwrap();
        let actions: Vec<Value> = rows
            .iter()
            .filter_map(|row| row.row.action.as_deref())
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        if actions.len() >= count {
            return actions;
        }
        assert!(begun.elapsed() < PATIENCE, "{actions:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn said(action: &Value) -> (String, String, String, String) {
    let part = |name: &str| text(action, name);
    (part("via"), part("do"), part("target"), part("outcome"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_and_every_refused_attempt_is_a_row() {
    let gate = Gateway::start().await;
    let boss = boss(&gate).await;
    let (key, id) = (text(&boss, "key"), text(&boss, "id"));
    let made =
        parsed(&admin(&gate, "POST", "/admin/keys", &key, &json!({"name": "phone"}).to_string()).await.body);
    let phone = text(&made, "id");
    let rotated = admin(&gate, "POST", &format!("/admin/keys/{phone}/rotate"), &key, "{}").await;
    assert_eq!(rotated.status, 200);
    assert_eq!(admin(&gate, "DELETE", &format!("/admin/keys/{phone}"), &key, "").await.status, 200);
    // In the place of an id somebody pastes a whole key.
    let pasted = admin(&gate, "DELETE", &format!("/admin/keys/{key}"), &key, "").await;
    assert_eq!(pasted.status, 404);
    assert!(!pasted.text().contains(&key), "{}", pasted.text());
    assert_eq!(admin(&gate, "POST", "/admin/keys", &key, r#"{"name":""}"#).await.status, 400);
    for _ in 0..3 {
        assert_eq!(admin(&gate, "GET", "/admin/usage", &key, "").await.status, 200);
        assert_eq!(admin(&gate, "GET", "/admin/audit", &key, "").await.status, 200);
    }
    assert_eq!(
        command(&gate.folder, &["key", "revoke", &phone]).0,
        0,
        "it had ended before: nothing was done"
    );
    assert_eq!(command(&gate.folder, &["usage"]).0, 0);
    let actions = sealed(&gate.folder, 9).await;
    let uid =
        format!("cli:{}", std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()));
    let by = |action: &Value| text(action, "by");
    assert_eq!(by(&actions[0]), uid);
    assert!(actions[1..8].iter().all(|action| by(action) == id), "{actions:?}");
    let seen: Vec<_> = actions.iter().map(said).collect();
    let expected = [
        ("cli", "key.create", id.as_str(), "done"),
        ("api", "key.create", &phone, "done"),
        ("api", "key.rotate", &phone, "done"),
        ("api", "key.revoke", &phone, "done"),
        ("api", "key.revoke", "-", "refused: 404 Not Found"),
        ("api", "key.create", "-", "refused: 400 Bad Request"),
        ("api", "usage.read", "-", "done"),
        ("api", "audit.read", "-", "done"),
        ("cli", "usage.read", "-", "done"),
    ];
    let expected = expected.map(|(via, what, target, outcome)| {
        (via.to_owned(), what.to_owned(), target.to_owned(), outcome.to_owned())
    });
    assert_eq!(seen, expected);
    assert_eq!(actions[1]["after"]["name"], "phone");
    assert_eq!(
        (&actions[3]["before"]["state"], &actions[3]["after"]["state"]),
        (&json!("active"), &json!("revoked"))
    );
    let all = format!("{actions:?}");
    for secret in [&key, &text(&made, "key"), &text(&parsed(&rotated.body), "key")] {
        assert!(!all.contains(secret.as_str()));
    }
    let (code, out, errors) = command(&gate.folder, &["audit", "tail"]);
    assert!(
        code == 0 && out.contains("api key.revoke") && out.contains(&format!("{id} on {phone}")),
        "{out}{errors}"
    );
    assert_eq!(command(&gate.folder, &["audit", "verify"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_key_tries_on_the_admin_api_is_a_row_once_a_minute() {
    let gate = Gateway::start().await;
    for (method, path) in [("POST", "/admin/keys"), ("GET", "/admin/audit"), ("DELETE", "/admin/keys/x")] {
        let body = if method == "POST" { "{}" } else { "" };
        assert_eq!(admin(&gate, method, path, KEY, body).await.status, 403);
    }
    command(&gate.folder, &["key", "create", "--name", "last"]);
    let actions = sealed(&gate.folder, 2).await;
    let (by, refused) = (text(&actions[0], "by"), said(&actions[0]));
    assert_eq!((by.as_str(), refused.1.as_str()), ("env-1", "admin.refused"), "{actions:?}");
    assert_eq!((refused.3.as_str(), said(&actions[1]).1.as_str()), ("refused: 403 Forbidden", "key.create"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_without_a_gateway_waits_and_is_shown_as_such() {
    let place = crate::doors::Folder::new("actions-alone");
    let data = place.0.join("data");
    assert_eq!(command(&data, &["key", "create", "--name", "laptop"]).0, 0);
    let (_, out, _) = command(&data, &["audit", "tail"]);
    assert!(out.contains("cli key.create") && out.contains("not sealed yet"), "{out}");
    let (_, out, _) = command(&data, &["audit", "export"]);
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["action"]["do"], &first["seq"]), (&json!("key.create"), &Value::Null));
    // Without a record of requests, what operators do is recorded all the same.
    let folder = data.display().to_string();
    let gate = Gateway::with(&[("PORTCULLIS_DATA_DIR", &folder), ("PORTCULLIS_AUDIT_MODE", "off")]).await;
    assert_eq!(gate.chat(false).await.status, 200);
    assert!(!sealed(&data, 1).await.is_empty());
    let rows = Store::read(&data).unwrap().tail(100, 0).unwrap();
    assert!(rows.iter().all(|row| row.row.action.is_some()), "no request has a row");
    let (_, out, _) = command(&data, &["audit", "tail"]);
    assert!(!out.contains("not sealed yet") || out.contains("audit.read"), "{out}");
    assert_eq!(command(&data, &["audit", "verify"]).0, 0);
}

/// Answers that run with the old secret end with it; those of the new one go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_without_overlap_ends_what_runs_with_the_old_secret() {
    use mock_ollama::{On, Script};
    let gate = Gateway::start().await;
    let made = keys::json(&gate.folder, &["key", "create", "--name", "laptop", "--json"]);
    let (old, id) = (text(&made, "key"), text(&made, "id"));
    let rotated = keys::json(&gate.folder, &["key", "rotate", &id, "--overlap", "1h", "--json"]);
    let new = text(&rotated, "key");
    gate.mock.script(On::Any, Script { hold_after: Some(3), ..Script::default() });
    let mut streams = Vec::new();
    for key in [&old, &new] {
        let begun = Instant::now();
        loop {
            let mut conn = gate.connect().await;
            conn.request(&post("/api/chat").replace(crate::harness::KEY, key), chat(true).as_bytes()).await;
            let head = conn.head().await;
            if head.status == 200 {
                streams.push((conn, head));
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "{}", head.status);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    gate.mock.wait_tokens(3, PATIENCE).await.unwrap();
    let (mut second, head_of_second) = streams.pop().unwrap();
    let (mut first, head_of_first) = streams.pop().unwrap();
    let third = keys::json(&gate.folder, &["key", "rotate", &id, "--overlap", "0", "--json"]);
    assert_ne!(text(&third, "key"), new);
    for (conn, head) in [(&mut first, head_of_first), (&mut second, head_of_second)] {
        let answer = tokio::time::timeout(Duration::from_secs(2), conn.rest(head)).await.expect("it runs on");
        assert!(answer.text().contains("the API key was revoked"), "{}", answer.text());
    }
    // The key itself goes on under its new secret.
    gate.mock.reset();
    let (head, body) = (post("/api/chat").replace(crate::harness::KEY, &text(&third, "key")), chat(false));
    assert_eq!(gate.send(&head, body.as_bytes()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_reads_come_page_by_page() {
    let gate = Gateway::start().await;
    let boss = text(&boss(&gate).await, "key");
    for n in 0..5 {
        let body = json!({"name": format!("key-{n}")}).to_string();
        assert_eq!(admin(&gate, "POST", "/admin/keys", &boss, &body).await.status, 201);
    }
    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page =
            parsed(&admin(&gate, "GET", &format!("/admin/keys?limit=2{cursor}"), &boss, "").await.body);
        let items = page["keys"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|key| text(key, "name")));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    names.sort();
    assert_eq!((names.len(), pages), (6, 4), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), 6, "none twice");
    sealed(&gate.folder, 6).await;
    let newest = parsed(&admin(&gate, "GET", "/admin/audit?n=2", &boss, "").await.body);
    let next = text(&newest, "next");
    let older =
        parsed(&admin(&gate, "GET", &format!("/admin/audit?n=2&cursor={next}"), &boss, "").await.body);
    let seq = |page: &Value, at: usize| page["rows"][at]["seq"].as_i64().unwrap();
    assert!(seq(&older, 1) < seq(&newest, 0), "{older} {newest}");
    for wrong in
        ["/admin/keys?limit=0", "/admin/keys?limit=1001", "/admin/usage?cursor=zz", "/admin/audit?n=x"]
    {
        assert_eq!(admin(&gate, "GET", wrong, &boss, "").await.status, 400, "{wrong}");
    }
}

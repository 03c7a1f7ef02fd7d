//! One key a request, by whichever way it comes; and what a browser sends by itself.

use serde_json::json;

use crate::client::Conn;
use crate::harness::{Gateway, KEY, PATIENCE, assert_native_error, chat};
use crate::issuer::{Issuer, Signer, base64, now};
use crate::keys;

/// Standard base64, of which the tokens' kind lacks the padding.
fn basic(text: &str) -> String {
    let digits = base64(text.as_bytes()).replace('-', "+").replace('_', "/");
    format!("Authorization: Basic {digits}{}\r\n", "=".repeat((4 - digits.len() % 4) % 4))
}

const JSON: &str = "Content-Type: application/json\r\n";

/// The status of a chat with these header lines.
async fn chats(gate: &Gateway, lines: &str) -> u16 {
    let head = format!("POST /api/chat HTTP/1.1\r\nHost: gate.example:8000\r\n{lines}");
    gate.send(&head, chat(false).as_bytes()).await.status
}

#[tokio::test]
async fn the_password_of_basic_is_a_key() {
    let gate = Gateway::with(&[("OLLAMA_ORIGINS", "https://app.example")]).await;
    let (good, bearer) = (basic(&format!("any:{KEY}")), format!("Authorization: Bearer {KEY}\r\n"));
    for (lines, status) in [
        (format!("{good}{JSON}"), 200),
        (format!("{}{JSON}", basic(&format!(":{KEY}"))), 200),
        (format!("{}{JSON}", good.replace("Basic", "basic")), 200),
        (format!("{good}x-api-key: {KEY}\r\n{JSON}"), 200),
        // Which key is meant?
        (format!("{good}x-api-key: another\r\n{JSON}"), 400),
        (format!("{}x-api-key: {KEY}\r\n{JSON}", basic("any:another")), 400),
        (format!("{good}{bearer}{JSON}"), 400),
        (format!("{}{JSON}", good.replace("\r\n", &format!(", Bearer {KEY}\r\n"))), 400),
        (format!("{}{JSON}", bearer.replace("\r\n", &format!(",{KEY}\r\n"))), 400),
        (format!("x-api-key: {KEY}, {KEY}\r\n{JSON}"), 400),
        // No key of ours.
        (format!("{}{JSON}", basic("any:wrong")), 401),
        (format!("{}{JSON}", basic(&format!("{KEY}:"))), 401),
        (format!("{}{JSON}", basic(KEY)), 401),
        (format!("Authorization: Basic {KEY}\r\n{JSON}"), 401),
    ] {
        assert_eq!(chats(&gate, &lines).await, status, "{lines}");
    }
    let refused = gate.send(&format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{JSON}"), b"{}").await;
    let asked = refused.header("www-authenticate").unwrap();
    assert!(asked.starts_with("Bearer") && !asked.contains("Basic"), "a browser would ask its user: {asked}");
}

/// It is not the user who sends Basic but their browser, with whatever any page asks for.
#[tokio::test]
async fn basic_is_no_way_in_for_pages_of_others() {
    let gate = Gateway::with(&[("OLLAMA_ORIGINS", "https://app.example")]).await;
    let good = basic(&format!("any:{KEY}"));
    for (lines, status) in [
        // Without a preflight a foreign form or script can send these.
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("", 415),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin: http://gate.example:8001\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("Origin: https://app.example\r\n", 200),
        ("Origin: http://gate.example:8000\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ("Sec-Fetch-Site: none\r\n", 200),
    ] {
        let typed = if lines.is_empty() || lines.starts_with("Content") { "" } else { JSON };
        assert_eq!(chats(&gate, &format!("{good}{lines}{typed}")).await, status, "{lines}");
        if status == 403 {
            let bearer = format!("Authorization: Bearer {KEY}\r\n{lines}{JSON}");
            assert_eq!(chats(&gate, &bearer).await, 200, "a script had to know the key: {lines}");
        }
    }
    let head = format!("GET /models HTTP/1.1\r\nHost: a\r\n{good}Sec-Fetch-Site: cross-site\r\n");
    let refused = gate.send(&head, b"").await;
    assert_eq!(refused.status, 403);
    assert!(assert_native_error(&refused.body).contains("Authorization: Bearer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_listener_asks_the_same_of_basic() {
    let gate = Gateway::start().await;
    let made = keys::json(&gate.folder, &["key", "create", "--name", "boss", "--scope", "admin", "--json"]);
    let boss = basic(&format!("boss:{}", keys::text(&made, "key")));
    let admin = async |method: &str, lines: &str, body: &str| {
        let mut conn = Conn::open(gate.ops).await;
        let head = format!("{method} /admin/keys HTTP/1.1\r\nHost: localhost\r\n{boss}{lines}");
        conn.request(&head, body.as_bytes()).await;
        conn.answer().await.status
    };
    // Until the gateway has seen the new key.
    let known = async { while admin("GET", "", "").await != 200 {} };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
    for (lines, status) in [
        ("", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: application/json\r\nOrigin: https://evil.example\r\n", 403),
        ("Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("Content-Type: application/json\r\n", 201),
    ] {
        assert_eq!(admin("POST", lines, r#"{"name":"phone"}"#).await, status, "{lines}");
    }
}

#[tokio::test]
async fn an_address_counts_only_where_its_issuer_says_that_it_looked() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = Gateway::with(&[
        ("PORTCULLIS_OIDC_ISSUER", "https://idp.example"),
        ("PORTCULLIS_OIDC_AUDIENCE", "portcullis"),
        ("PORTCULLIS_OIDC_IDENTITY", "email"),
        ("PORTCULLIS_OIDC_JWKS_URL", &format!("{}/keys", issuer.url)),
    ])
    .await;
    let ask = async |verified: Option<serde_json::Value>| {
        let mut claims = json!({"iss": "https://idp.example", "aud": "portcullis", "email": "alice@example.com", "exp": now() + 300});
        if let Some(verified) = verified {
            claims["email_verified"] = verified;
        }
        let token = signer.token(&claims);
        loop {
            let status = chats(&gate, &format!("Authorization: Bearer {token}\r\n{JSON}")).await;
            // While the keys are fetched.
            if status != 503 {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    for (verified, status) in [
        (Some(json!(true)), 200),
        (Some(json!("true")), 200),
        (None, 401),
        (Some(json!(false)), 401),
        (Some(json!("false")), 401),
        (Some(json!(null)), 401),
        (Some(json!(1)), 401),
    ] {
        assert_eq!(ask(verified.clone()).await, status, "{verified:?}");
    }
}

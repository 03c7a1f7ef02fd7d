//! Signed identities: Cloudflare Access and `OpenID` Connect, with an issuer that rotates its keys, lies and dies.

use portcullis::store::actions::Actor;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::KeyPair as _;
use mock_ollama::{On, Script};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Answer;
use crate::harness::{Gateway, KEY, PATIENCE, chat, parsed};
use crate::issuer::{AUDIENCE, Issuer, Signer, base64, now};

/// Chats with these headers.
async fn ask(gate: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let mut head =
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".to_owned();
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    gate.send(&head, chat(false).as_bytes()).await
}

/// Asks again while the keys are on their way.
async fn settled(gate: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = ask(gate, headers).await;
        if answer.status != 503 {
            return answer;
        }
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(begun.elapsed() < PATIENCE, "the keys never came");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const ASSERTION: &str = "Cf-Access-Jwt-Assertion";

async fn behind_access(issuer: &Issuer, mode: &str) -> Gateway {
    behind_access_with(issuer, mode, KEY).await
}

async fn behind_access_with(issuer: &Issuer, mode: &str, key: &str) -> Gateway {
    Gateway::with(&[
        ("OLLAMA_API_KEY", key),
        ("PORTCULLIS_ACCESS_TEAM", &issuer.url),
        ("PORTCULLIS_ACCESS_AUDIENCE", AUDIENCE),
        ("PORTCULLIS_ACCESS_MODE", mode),
    ])
    .await
}

/// Who types commands.
fn operator() -> Actor {
    Actor { by: "cli:0".into(), via: "cli", peer: None, request_id: 0 }
}

#[tokio::test]
async fn access_is_asked_for_beside_the_key() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = behind_access(&issuer, "add").await;
    let token = signer.token(&issuer.claims());
    let bearer = ("Authorization", &*format!("Bearer {KEY}"));
    assert_eq!(settled(&gate, &[(ASSERTION, &token), bearer]).await.status, 200);
    let keyless = ask(&gate, &[(ASSERTION, &token)]).await;
    assert_eq!(keyless.status, 401, "an assertion is no key");
    assert_eq!(ask(&gate, &[bearer]).await.status, 401, "a key is no assertion");
    for beside in [
        ("Cf-Access-Authenticated-User-Email", "alice@example.com"),
        ("Cookie", &*format!("CF_Authorization={token}")),
    ] {
        assert_eq!(ask(&gate, &[bearer, beside]).await.status, 401, "{beside:?} proves nothing");
    }
    assert_eq!(ask(&gate, &[(ASSERTION, &token), (ASSERTION, &token), bearer]).await.status, 400);
    assert_eq!(gate.get("/api/tags").await.status, 403, "what is not listed stays so");
    assert_eq!(gate.get("/healthz").await.status, 200);
}

/// Tokens with one claim that differs from a good one's.
fn wrong_claims(signer: &Signer, good: &Value) -> Vec<(&'static str, String)> {
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        signer.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        signer.token(&claims)
    };
    vec![
        ("another audience", with("aud", json!(["other"]))),
        ("another audience as text", with("aud", json!("other"))),
        ("no audience", without("aud")),
        ("another issuer", with("iss", json!("https://evil.cloudflareaccess.com"))),
        ("two issuers", with("iss", json!([good["iss"], "https://evil.cloudflareaccess.com"]))),
        ("no issuer", without("iss")),
        ("expired", with("exp", json!(now() - 61))),
        ("no end", without("exp")),
        ("an end as text", with("exp", json!("9999999999"))),
        ("not yet", with("nbf", json!(now() + 3_600))),
        ("issued tomorrow", with("iat", json!(now() + 86_400))),
        ("nobody", without("email")),
        ("an address that nobody verified", with("email_verified", json!(false))),
        ("a name of two lines", with("email", json!("a\nb"))),
        ("a long name", with("email", json!("x".repeat(400)))),
        ("a long one", with("groups", json!("x".repeat(15_000)))),
    ]
}

/// Tokens with good claims and another signature or head.
fn wrong_signatures(signer: &Signer, good: &Value, url: &str) -> Vec<(&'static str, String)> {
    let stranger = Signer::new("one");
    let head = |head: Value| signer.sign(&head, good);
    let unsigned =
        |head: &str| format!("{}.{}", base64(head.as_bytes()), base64(good.to_string().as_bytes()));
    let keyed = {
        let public = signer.pair.public_key().as_der().unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_ref());
        let text = unsigned(r#"{"alg":"HS256","kid":"one"}"#);
        let signature = base64(aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref());
        format!("{text}.{signature}")
    };
    let (start, _) = signer.token(good).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let with_key = json!({"alg": "RS256", "kid": "one", "jwk": stranger.jwk()});
    vec![
        ("unsigned", unsigned(r#"{"alg":"none","kid":"one"}"#) + "."),
        ("no signature", start + "."),
        ("HS256 with the public key", keyed),
        ("a stranger's key of the same name", stranger.token(good)),
        ("a stranger's key in the token", stranger.sign(&with_key, good)),
        ("a stranger's key by URL", stranger.sign(&json!({"alg": "RS256", "kid": "one", "jku": url}), good)),
        ("another algorithm", head(json!({"alg": "RS512", "kid": "one"}))),
        ("no key's name", head(json!({"alg": "RS256"}))),
        ("an unknown extension", head(json!({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": false}))),
        ("no token", "eyJ".into()),
        ("dots", "..".into()),
    ]
}

#[tokio::test]
async fn forged_tokens_are_none() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = behind_access(&issuer, "identity").await;
    let good = issuer.claims();
    assert_eq!(settled(&gate, &[(ASSERTION, &signer.token(&good))]).await.status, 200);
    gate.mock.clear();
    let mut forged = wrong_claims(&signer, &good);
    forged.extend(wrong_signatures(&signer, &good, &issuer.url));
    for (what, token) in forged {
        let answer = ask(&gate, &[(ASSERTION, &token)]).await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert!(answer.header("www-authenticate").is_some(), "{what}: {answer:?}");
        assert!(!answer.text().contains(&issuer.url), "{what}: {}", answer.text());
    }
    gate.assert_nothing_upstream();
    let mut late = good.clone();
    late["exp"] = json!(now() - 30);
    late["iat"] = Value::from(f64::from(u32::try_from(now() - 300).unwrap()) + 0.5);
    assert_eq!(
        ask(&gate, &[(ASSERTION, &signer.token(&late))]).await.status,
        200,
        "clocks differ by a minute"
    );
}

#[tokio::test]
async fn an_identity_has_limits_of_its_own() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = behind_access(&issuer, "identity").await;
    let person = |email: &str| {
        let mut claims = issuer.claims();
        claims["email"] = email.into();
        signer.token(&claims)
    };
    let mut claims = issuer.claims();
    claims.as_object_mut().unwrap().remove("email");
    claims["common_name"] = "b3c9.access".into();
    claims["sub"] = "".into();
    let service = signer.token(&claims);
    let (alice, bob) = (person("alice@example.com"), person("bob@example.com"));
    for token in [&alice, &bob, &service] {
        assert_eq!(settled(&gate, &[(ASSERTION, token)]).await.status, 200);
    }
    // A key of the person's name holds their limits; revoked, it shuts them out.
    let mut store = portcullis::store::Store::open(&gate.folder).unwrap();
    let wish = |name: &str, rate| portcullis::identify::issue::Wish {
        name: name.into(),
        limits: portcullis::types::KeyLimits { requests_per_minute: Some(rate), ..Default::default() },
        ..Default::default()
    };
    let (row, _) =
        portcullis::identify::issue::create(&mut store, &wish("access:Alice@example.com", 2), &operator())
            .unwrap();
    let limit = async |token: &str| {
        ask(&gate, &[(ASSERTION, token)]).await.header("x-ratelimit-limit-requests").map(str::to_owned)
    };
    let begun = Instant::now();
    while limit(&alice).await.as_deref() != Some("2") {
        assert!(begun.elapsed() < PATIENCE, "the key's limits do not hold");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut last = 200;
    for _ in 0..3 {
        last = ask(&gate, &[(ASSERTION, &alice)]).await.status;
    }
    assert_eq!(last, 429, "two a minute");
    assert_eq!(limit(&bob).await, None);
    store.revoke_key(&row.id, now(), None).unwrap();
    let begun = Instant::now();
    while ask(&gate, &[(ASSERTION, &alice)]).await.status != 403 {
        assert!(begun.elapsed() < PATIENCE, "a revoked identity is let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(&gate, &[(ASSERTION, &bob)]).await.status, 200);
    // What a browser sends by itself is no sign that its user meant it: a form of a foreign page is refused.
    let form = gate
        .send(
            &format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n{ASSERTION}: {bob}\r\n"),
            chat(false).as_bytes(),
        )
        .await;
    assert_eq!(form.status, 415, "{form:?}");
    let usage =
        gate.send(&format!("GET /usage HTTP/1.1\r\nHost: localhost\r\n{ASSERTION}: {bob}\r\n"), b"").await;
    assert_eq!(usage.status, 200);
    assert!(!parsed(&usage.body).to_string().contains("bob"), "a name in {}", usage.text());
}

fn wish(name: &str) -> portcullis::identify::issue::Wish {
    portcullis::identify::issue::Wish { name: name.into(), ..Default::default() }
}

/// With no key of the operator's own: identities alone are let in, each within its limits.
#[tokio::test]
async fn an_empty_key_beside_an_issuer_is_no_public_mode() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = behind_access_with(&issuer, "identity", "").await;
    let token = signer.token(&issuer.claims());
    assert_eq!(
        settled(&gate, &[(ASSERTION, &token), ("Host", "gate.example")]).await.status,
        400,
        "two hosts"
    );
    assert_eq!(settled(&gate, &[(ASSERTION, &token)]).await.status, 200);
    assert_eq!(ask(&gate, &[]).await.status, 401);
    assert_eq!(
        ask(&gate, &[(ASSERTION, &token), ("x-api-key", "zz")]).await.status,
        401,
        "a wrong key is one"
    );
    let mut store = portcullis::store::Store::open(&gate.folder).unwrap();
    let (row, _) =
        portcullis::identify::issue::create(&mut store, &wish("access:alice@example.com"), &operator())
            .unwrap();
    let twice =
        portcullis::identify::issue::create(&mut store, &wish("access:Alice@example.com"), &operator());
    assert!(twice.is_err(), "one identity, one set of limits");
    store.revoke_key(&row.id, now(), None).unwrap();
    let begun = Instant::now();
    while ask(&gate, &[(ASSERTION, &token)]).await.status != 403 {
        assert!(begun.elapsed() < PATIENCE, "a revoked identity is let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_is_shut_out_is_so_with_any_key_and_in_the_middle_of_an_answer() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = behind_access(&issuer, "identity").await;
    let token = signer.token(&issuer.claims());
    assert_eq!(settled(&gate, &[(ASSERTION, &token)]).await.status, 200);
    // An answer runs for somebody who has no limits of their own.
    gate.mock.script(On::Any, Script { hold_after: Some(1), ..Script::default() });
    let mut conn = gate.connect().await;
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{ASSERTION}: {token}\r\n"
    );
    conn.request(&head, chat(true).as_bytes()).await;
    assert_eq!(conn.head().await.status, 200);
    conn.chunk().await.unwrap();
    let mut store = portcullis::store::Store::open(&gate.folder).unwrap();
    let (row, _) =
        portcullis::identify::issue::create(&mut store, &wish("access:alice@example.com"), &operator())
            .unwrap();
    store.revoke_key(&row.id, now(), None).unwrap();
    let ended = tokio::time::timeout(PATIENCE, async { while conn.chunk().await.is_some() {} }).await;
    ended.expect("an answer outlives its identity");
    gate.mock.reset();
    let bearer = format!("Bearer {KEY}");
    let answer = ask(&gate, &[(ASSERTION, &token), ("Authorization", &bearer)]).await;
    assert_eq!(answer.status, 403, "a key opens nothing for somebody who is shut out");
}

#[tokio::test]
async fn keys_rotate_and_an_issuer_lies_and_dies() {
    let (one, two, three) = (Signer::new("one"), Signer::new("two"), Signer::new("three"));
    let mut issuer = Issuer::publishing(&[&one]).await;
    let gate = behind_access(&issuer, "identity").await;
    let status = async |signer: &Signer| {
        let token = signer.token(&issuer.claims());
        settled(&gate, &[(ASSERTION, &token)]).await.status
    };
    assert_eq!((status(&one).await, issuer.asked()), (200, 1));
    issuer.publish(&[&one, &two]);
    assert_eq!((status(&two).await, issuer.asked()), (200, 2), "an unknown key is asked for");
    for _ in 0..50 {
        assert_eq!(status(&three).await, 401);
    }
    assert_eq!(issuer.asked(), 2, "and no flood of invented ones is passed on");
    for (what, body) in [("200 OK", "<html>sorry</html>"), ("302 Found", ""), ("500 Internal", "")] {
        issuer.say(what, body);
        assert_eq!((status(&one).await, status(&two).await), (200, 200));
    }
    let tokens = [one, two].map(|signer| signer.token(&issuer.claims()));
    issuer.die().await;
    for token in tokens {
        assert_eq!(
            ask(&gate, &[(ASSERTION, &token)]).await.status,
            200,
            "what was known outlives its issuer"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_comes_late_is_waited_for() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[]).await;
    for lie in [("200 OK", "{\"keys\":[]}"), ("302 Found", "")] {
        issuer.say(lie.0, lie.1);
        let gate = behind_access(&issuer, "identity").await;
        let token = signer.token(&issuer.claims());
        assert_eq!(ask(&gate, &[(ASSERTION, &token)]).await.status, 503, "nobody is let in on a guess");
        issuer.publish(&[&signer]);
        assert_eq!(settled(&gate, &[(ASSERTION, &token)]).await.status, 200);
    }
}

#[tokio::test]
async fn any_issuer_s_tokens_are_bearer_keys() {
    let signer = Signer::new("one");
    let issuer = Issuer::publishing(&[&signer]).await;
    let gate = Gateway::with(&[
        ("PORTCULLIS_OIDC_ISSUER", "https://idp.example/realms/a"),
        ("PORTCULLIS_OIDC_AUDIENCE", "portcullis"),
        ("PORTCULLIS_OIDC_JWKS_URL", &format!("{}/keys", issuer.url)),
    ])
    .await;
    let claims = |issuer: &str, audience: &str| json!({"iss": issuer, "aud": audience, "sub": "u-1", "iat": now(), "exp": now() + 300});
    let bearer = |issuer: &str, audience: &str| format!("Bearer {}", signer.token(&claims(issuer, audience)));
    let good = bearer("https://idp.example/realms/a", "portcullis");
    assert_eq!(settled(&gate, &[("Authorization", &good)]).await.status, 200);
    assert_eq!(
        ask(&gate, &[("Authorization", &bearer("https://idp.example/realms/b", "portcullis"))]).await.status,
        401
    );
    assert_eq!(
        ask(&gate, &[("Authorization", &bearer("https://idp.example/realms/a", "other"))]).await.status,
        401
    );
    assert_eq!(
        ask(&gate, &[("Authorization", &format!("Bearer {KEY}"))]).await.status,
        200,
        "keys stay keys"
    );
    assert_eq!(ask(&gate, &[]).await.status, 401);
}

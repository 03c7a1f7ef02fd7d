//! Who may call what (design section 3).

use serde_json::json;

use crate::harness::{Gateway, KEY, MODEL, PATIENCE, assert_native_error, chat, parsed, post};

#[tokio::test]
async fn every_inference_route_answers_from_its_upstream_route() {
    let gate = Gateway::start().await;
    let input = json!({"model": MODEL, "input": "x"}).to_string();
    let prompt = json!({"model": MODEL, "prompt": "x", "stream": false}).to_string();
    gate.mock.reset();
    for (path, body, upstream) in [
        ("/chat", chat(false), "/api/chat"),
        ("/api/chat", chat(true), "/api/chat"),
        ("/api/generate", prompt.clone(), "/api/generate"),
        ("/chat_api", json!({"prompt": "x"}).to_string(), "/api/generate"),
        (
            "/chat_api",
            json!({"prompt": "x", "messages": [{"role": "user", "content": "y"}]}).to_string(),
            "/api/chat",
        ),
    ] {
        gate.mock.clear();
        let answer = gate.post(path, &body).await;
        assert_eq!((answer.status, answer.whole), (200, true), "{path} {answer:?}");
        let seen = gate.mock.seen();
        assert_eq!(seen.len(), 1, "{path}");
        assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", upstream));
    }
    let embed = json!({"model": "all-minilm", "input": ["a", "b"]}).to_string();
    assert_eq!(
        parsed(&gate.post("/api/embed", &embed).await.body)["embeddings"].as_array().unwrap().len(),
        2
    );
    let legacy = json!({"model": "all-minilm", "prompt": "a"}).to_string();
    assert!(parsed(&gate.post("/api/embeddings", &legacy).await.body)["embedding"].is_array());
    assert_eq!(gate.post("/api/embed", &input).await.status, 400, "a chat model does not embed");
}

#[tokio::test]
async fn without_a_key_nothing_goes_upstream() {
    let gate = Gateway::start().await;
    for path in ["/chat", "/chat_api", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"] {
        for auth in
            ["", "Authorization: Bearer wrong\r\n", "Authorization: Bearer\r\n", "x-api-key: wrong\r\n"]
        {
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{auth}");
            let answer = gate.send(&head, b"{\"nope\":").await;
            if answer.status == 429 {
                continue; // the lock-out, which another test is about
            }
            assert_eq!(answer.status, 401, "{path} {auth:?}");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            assert_native_error(&answer.body);
        }
    }
    let answer = gate.send("GET /models HTTP/1.1\r\nHost: a\r\n", b"").await;
    assert_eq!(answer.status, 401);
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn the_credential_comes_one_way() {
    let gate = Gateway::start().await;
    let ask = async |auth: &str| {
        gate.send(&format!("GET /models HTTP/1.1\r\nHost: a\r\n{auth}\r\n"), b"").await.status
    };
    assert_eq!(ask(&format!("authorization: bEaReR {KEY}")).await, 200);
    assert_eq!(ask(&format!("X-Api-Key: {KEY}")).await, 200);
    assert_eq!(ask(&format!("X-Api-Key: {KEY}\r\nAuthorization: Bearer {KEY}")).await, 200);
    assert_eq!(ask(&format!("X-Api-Key: other\r\nAuthorization: Bearer {KEY}")).await, 400);
    assert_eq!(ask(&format!("Authorization: Bearer {KEY}\r\nAuthorization: Bearer {KEY}")).await, 400);
    assert_eq!(gate.get(&format!("/models?api_key={KEY}")).await.status, 400, "a key in a URL");
}

#[tokio::test]
async fn what_is_not_listed_is_refused_and_never_forwarded() {
    let gate = Gateway::start().await;
    for (method, path, status) in [
        ("GET", "/api/tags", 403),
        ("POST", "/api/pull", 403),
        ("DELETE", "/api/delete", 403),
        ("GET", "/api/ps", 403),
        ("POST", "/api/me", 403),
        ("POST", "/api/experimental/web_search", 403),
        ("POST", "/v1/chat/completions", 403),
        ("GET", "/api/%74ags", 400),
        ("GET", "//api/tags", 400),
        ("GET", "/api/../api/tags", 400),
        ("GET", "/api/tags;x", 400),
        ("GET", "/nothing", 404),
        ("GET", "/API/CHAT", 404),
        ("GET", "/chat/", 404),
        ("GET", "/metrics", 404),
        ("GET", "/api/chat", 405),
        ("PUT", "/chat", 405),
        ("FOO!", "/models", 405),
        ("TRACE", "/chat", 405),
    ] {
        let length = if matches!(method, "GET" | "TRACE") { "" } else { "Content-Length: 0\r\n" };
        let mut conn = gate.connect().await;
        conn.write(
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n{length}\r\n")
                .as_bytes(),
        )
        .await;
        let answer = conn.answer().await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
        assert_native_error(&answer.body);
    }
    gate.assert_nothing_upstream();
    assert!(gate.mock.probes().iter().all(|seen| seen.target != "/api/me"));
}

#[tokio::test]
async fn a_path_that_leads_nowhere_says_what_to_mend() {
    let gate = Gateway::start().await;
    for (path, status, words) in [
        ("/api/tags", 403, "routes.catalogue"),
        ("/api/ps", 403, "GET /models"),
        ("/api/version", 403, "routes.catalogue"),
        ("/api/show", 403, "routes.catalogue"),
        ("/api/pull", 403, "at the model server itself"),
        ("/api/delete", 403, "routes.management"),
        ("//api/chat", 400, "slash"),
        ("/api/chat/", 403, "slash"),
        ("/api/api/chat", 403, "http://host:port"),
        ("/v1/api/chat", 403, "/api/chat"),
        ("/canary/api/chat", 404, "/api/chat"),
        ("/chat/api/chat", 404, "/api/chat"),
        ("/v1/v1/chat/completions", 403, "twice"),
        ("/chat/completions", 404, "/v1/"),
    ] {
        // Needs no key, like every word about the path.
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n");
        let answer = gate.send(&head, b"").await;
        assert_eq!(answer.status, status, "{path}");
        let text = assert_native_error(&answer.body);
        assert!(text.contains(words) && !text.contains("canary"), "{path}: {text}");
    }
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn the_catalogue_opens_by_setting_and_hides_paths() {
    let gate =
        Gateway::with(&[("PORTCULLIS_ROUTES_CATALOGUE", "true"), ("PORTCULLIS_ROUTES_MANAGEMENT", "true")])
            .await;
    let names = |answer: &crate::client::Answer| parsed(&answer.body)["models"].to_string();
    assert!(names(&gate.get("/api/tags").await).contains("alpha:latest"));
    assert_eq!(gate.get("/api/ps").await.status, 200);
    assert!(parsed(&gate.get("/api/version").await.body)["version"].is_string());
    let show = gate.post("/api/show", &json!({"model": "smollm2:135m"}).to_string()).await;
    assert_eq!(show.status, 200);
    assert!(!show.text().contains("FROM /") && !show.text().contains("blobs"), "{}", show.text());
    let modelfile = parsed(&show.body)["modelfile"].as_str().unwrap().to_owned();
    assert!(modelfile.lines().any(|line| line == "FROM smollm2:135m"), "{modelfile}");
    assert_eq!(gate.post("/api/pull", "{}").await.status, 403, "no key has the scope admin");
}

#[tokio::test]
async fn models_are_listed_with_what_is_loaded_and_without_the_cloud() {
    let gate = Gateway::start().await;
    gate.chat(false).await;
    let list = parsed(&gate.get("/models").await.body);
    let entry = |name: &str| list["models"].as_array().unwrap().iter().find(|m| m["name"] == name).cloned();
    assert_eq!(entry(MODEL).unwrap()["loaded"], true);
    assert!(entry("beta:7b").unwrap().get("loaded").is_none());
    assert!(!list.to_string().contains("remote_host"), "{list}");
}

#[tokio::test]
async fn public_mode_asks_no_key_and_serves_only_its_own_names() {
    let gate = Gateway::with(&[("OLLAMA_API_KEY", ""), ("PORTCULLIS_LISTEN_HOSTS", "gate.example")]).await;
    let ask = async |host: &str| {
        let head = format!(
            "POST /chat HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAuthorization: Bearer any\r\n"
        );
        gate.send(&head, chat(false).as_bytes()).await.status
    };
    assert_eq!(ask("localhost:1").await, 200);
    assert_eq!(ask("gate.example").await, 200);
    assert_eq!(ask("evil.example").await, 421);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "text/json", "application/x-ndjson"] {
        let head = format!("POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n");
        let plain = gate.send(&head, chat(false).as_bytes()).await;
        assert_eq!(plain.status, 415, "a web page could send {kind} without a preflight");
    }
    let small =
        json!({"model": MODEL, "prompt": "x", "stream": false, "options": {"num_ctx": 128}}).to_string();
    let head = "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    assert_eq!(gate.send(head, small.as_bytes()).await.status, 200, "as Ollama's own tests ask");
    // Its `context-long-input`: more than the context holds, which the model server cuts.
    let long = "Oh, don't speak to me of Austria. ".repeat(20);
    let body = json!({"model": MODEL, "prompt": long, "stream": false, "options": {"num_ctx": 128, "temperature": 0, "seed": 123}});
    gate.mock.clear();
    let answer = gate.send(head, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = parsed(&gate.mock.seen()[0].body);
    assert_eq!((sent["prompt"].as_str(), &sent["options"]), (Some(&*long), &body["options"]));
    let none = gate.send("POST /chat HTTP/1.1\r\nHost: localhost\r\n", chat(false).as_bytes()).await;
    assert_eq!(none.status, 415);
}

#[tokio::test]
async fn pages_probes_and_the_redirect_need_no_key() {
    let gate = Gateway::start().await;
    let open = async |path: &str| gate.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n"), b"").await;
    let root = open("/").await;
    assert_eq!((root.status, root.header("location")), (307, Some("/chat")));
    let page = open("/chat").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = page.text();
    let assets: Vec<_> = text.split('"').filter(|part| part.starts_with("/static/")).collect();
    assert!(assets.len() > 10, "{text}");
    for asset in assets {
        let file = open(asset).await;
        assert_eq!(
            (file.status, file.header("cache-control")),
            (200, Some("public, max-age=31536000, immutable"))
        );
    }
    let tag = page.header("etag").unwrap();
    let again = gate.send(&format!("GET /chat HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n"), b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(open("/static/../Cargo.toml").await.status, 400);
    assert_eq!(open("/static/other").await.status, 404);
    assert_eq!(open("/healthz").await.status, 200);
    assert_eq!(open("/readyz").await.status, 200);
    gate.mock.stop_listening().await;
    // What it said to somebody a moment ago may be said again.
    let ended = async {
        let mut answer = open("/readyz").await;
        while answer.status != 503 {
            answer = open("/readyz").await;
        }
        assert_eq!(answer.header("retry-after"), Some("5"));
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("ready without an upstream");
    assert_eq!(open("/healthz").await.status, 200);
}

#[tokio::test]
async fn only_our_headers_reach_the_upstream() {
    let gate = Gateway::start().await;
    let head = post("/api/chat")
        + "Cookie: a=b\r\nOrigin: https://x\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\nTE: trailers\r\n\
           Connection: Authorization\r\nX-Request-Id: spoofed\r\nAccept-Encoding: gzip\r\nReferer: http://x/\r\nX_Api_Key: y\r\n";
    assert_eq!(gate.send(&head, chat(false).as_bytes()).await.status, 200);
    let seen = gate.mock.seen();
    let mut names: Vec<_> = seen[0].headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"]);
    assert_eq!(seen[0].header("host"), Some(gate.mock.addr().to_string().as_str()));
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn cross_origin_answers_are_ours() {
    let gate = Gateway::with(&[("OLLAMA_ORIGINS", "https://app.example")]).await;
    let ask = async |origin: &str, method: &str| {
        let head = format!(
            "{method} /models HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: Authorization,X-Stainless-OS,X-Evil\r\n\r\n"
        );
        let mut conn = gate.connect().await;
        conn.write(head.as_bytes()).await;
        conn.answer().await
    };
    let preflight = ask("https://app.example", "OPTIONS").await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (204, Some("https://app.example"))
    );
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("authorization, x-stainless-os"),
        "those that were asked for, and that we know"
    );
    let vary: Vec<_> = preflight.headers.iter().filter(|(name, _)| name == "vary").collect();
    assert!(vary.iter().any(|(_, value)| value == "Origin"), "{vary:?}");
    let refused = ask("https://app.example", "GET").await;
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("https://app.example"))
    );
    for evil in ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example"] {
        let refused = ask(evil, "OPTIONS").await;
        assert_eq!(
            (refused.status, refused.header("access-control-allow-origin"), refused.header("allow")),
            (405, None, Some("GET, HEAD")),
            "{evil}"
        );
        assert_eq!(ask(evil, "GET").await.header("access-control-allow-origin"), None, "{evil}");
    }
    let exposed = refused.header("access-control-expose-headers").unwrap();
    for name in ["x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "retry-after", "x-request-id"]
    {
        assert!(exposed.contains(name), "{exposed}");
    }
}

/// A preflight that fails hides the reason: the browser says "CORS", whatever is wrong.
#[tokio::test]
async fn a_preflight_passes_on_every_path_so_that_the_refusal_can_be_read() {
    let gate = Gateway::with(&[("OLLAMA_ORIGINS", "chrome-extension://*,http://localhost:*")]).await;
    let send = async |method: &str, path: &str, fields: &str| {
        let mut conn = gate.connect().await;
        conn.write(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).await;
        conn.answer().await
    };
    for origin in ["http://localhost:3000", "chrome-extension://abc"] {
        let asked = format!("Origin: {origin}\r\nAccess-Control-Request-Method: DELETE\r\n");
        for (path, status) in [
            ("/api/tags", 403),
            ("/api/pull", 403),
            ("/v1/nonesuch", 403),
            ("/nothing", 404),
            ("//api/chat", 400),
            ("/api/%63hat", 400),
            ("/chat", 405),
        ] {
            let preflight = send("OPTIONS", path, &asked).await;
            assert_eq!(
                (preflight.status, preflight.header("access-control-allow-origin")),
                (204, Some(origin))
            );
            assert!(preflight.header("access-control-allow-methods").unwrap().contains("DELETE"));
            let real = send("DELETE", path, &format!("Origin: {origin}\r\n")).await;
            assert_eq!(
                (real.status, real.header("access-control-allow-origin")),
                (status, Some(origin)),
                "{path}"
            );
        }
    }
    for fields in ["", "Origin: http://localhost:1\r\n", "Access-Control-Request-Method: GET\r\n"] {
        for path in ["/chat", "/nothing"] {
            assert_eq!(send("OPTIONS", path, fields).await.status, 405, "{path} {fields}");
        }
    }
}

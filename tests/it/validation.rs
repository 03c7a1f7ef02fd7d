//! What was validated is what is forwarded (design section 4).

use mock_ollama::{Capability, Mock, Model};
use serde_json::{Value, json};

use crate::harness::{Gateway, KEY, MODEL, assert_native_error, parsed, post};

async fn forwarded(gate: &Gateway, path: &str, body: &Value) -> (Value, Option<String>) {
    gate.mock.clear();
    let answer = gate.post(path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{body} {answer:?}");
    (parsed(&gate.mock.seen()[0].body), answer.header("x-portcullis-dropped").map(str::to_owned))
}

#[tokio::test]
async fn what_two_parsers_could_read_differently_is_refused() {
    let gate = Gateway::start().await;
    let rest = "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]";
    let deep =
        format!("{{\"model\":\"alpha\",\"format\":{}1{},{rest}}}", "{\"a\":".repeat(40), "}".repeat(40));
    for body in [
        format!("{{\"model\":\"alpha\",\"model\":\"beta\",{rest}}}"),
        format!("{{\"model\":\"alpha\",\"MODEL\":\"beta\",{rest}}}"),
        format!("{{\"model\":\"alpha\",\"\u{17f}tream\":false,{rest}}}"),
        format!("{{\"model\":\"alpha\",\"\\u212aeep_alive\":-1,{rest}}}"),
        format!("{{\"model\":\"alpha\",\"options\":{{}},\"OPTIONS\":{{}},{rest}}}"),
        format!("{{\"model\":\"alpha\",{rest}}} {{}}"),
        format!("\u{feff}{{\"model\":\"alpha\",{rest}}}"),
        "{\"model\":\"\\ud800\"}".into(),
        "[]".into(),
        "null".into(),
        String::new(),
        "{\"model\":NaN}".into(),
        "{\"model\":\"alpha\",}".into(),
        "{'model':'alpha'}".into(),
        deep,
    ] {
        let answer = gate.post("/api/chat", &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_native_error(&answer.body);
    }
    let answer = gate.send(&post("/api/chat"), b"{\"model\":\"\xff\"}").await;
    assert_eq!(answer.status, 400);
    gate.assert_nothing_upstream();
    gate.assert_well().await;
}

#[tokio::test]
async fn a_refusal_names_the_field_the_bound_and_the_value() {
    let gate = Gateway::start().await;
    for (field, value, words) in [
        ("temperature", json!(11), ["options.temperature", "10", "11"]),
        ("top_k", json!(1001), ["options.top_k", "1000", "1001"]),
        ("num_ctx", json!(0), ["options.num_ctx", "1048576", "0"]),
        ("num_predict", json!(1_000_001), ["options.num_predict", "1000000", "1000001"]),
    ] {
        let mut body = json!({"model": MODEL, "prompt": "x"});
        body["options"] = json!({field: value});
        let answer = gate.post("/api/generate", &body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        let text = assert_native_error(&answer.body).replace(',', "");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let answer = gate.post("/chat_api", "{\"model\":\"alpha\"}").await;
    assert!(answer.status == 400 && assert_native_error(&answer.body).contains("prompt"));
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn what_clients_send_passes_as_ollama_takes_it() {
    let sees = Model::plain(MODEL).with(&[Capability::Completion, Capability::Vision]);
    let embeds = Model::plain("all-minilm").with(&[Capability::Embedding]);
    let gate = Gateway::before(Mock::builder().models(vec![sees, embeds]).start().await.unwrap(), &[]);
    let picture = "iVBORw0KGgo=";
    let body = json!({
        "model": MODEL, "stream": false, "options": {"num_ctx": 1, "top_k": -1, "stop": vec!["x"; 64]}, "messages": [
            {"role": "document 1", "content": "x", "images": vec![picture; 62]},
            {"role": "user", "content": "y", "images": ["iVBO\r\nRw0KGgo=\n", "data:image/png;base64,iVBORw0KGgo="]},
        ],
    });
    let (sent, dropped) = forwarded(&gate, "/api/chat", &body).await;
    assert_eq!(sent["messages"][1]["images"], json!([picture, picture]));
    assert_eq!((&sent["options"], &sent["messages"][0]["role"]), (&body["options"], &json!("document 1")));
    assert_eq!(dropped, None);
    // A text that was cut between two units of UTF-16.
    gate.mock.clear();
    let cut = format!(
        r#"{{"model":"{MODEL}","stream":false,"messages":[{{"role":"user","content":"so \ud83d"}}],"keep_alive":"1m"}}"#
    );
    let answer = gate.post("/api/chat", &cut).await;
    assert_eq!((answer.status, answer.header("x-portcullis-dropped")), (200, Some("messages")));
    assert_eq!(parsed(&gate.mock.seen()[0].body)["messages"][0]["content"], "so \u{fffd}");
    let many = json!({"model": "all-minilm", "input": vec!["x"; 2_100]});
    let (sent, _) = forwarded(&gate, "/api/embed", &many).await;
    assert_eq!(sent["input"].as_array().unwrap().len(), 2_100);
}

#[tokio::test]
async fn what_ollama_would_not_take_says_what_to_send_instead() {
    let gate = Gateway::start().await;
    let turn = |key: &str, value: Value| json!({"messages": [{"role": "user", key: value}]});
    let tool = |parameters: Value| json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]});
    for (body, words) in [
        (
            turn("content", json!([{"type": "text", "text": "canary"}])),
            "messages[0].content: must be a string, not a list of parts",
        ),
        (turn("images", json!(["https://canary.example/a.png"])), "messages[0].images[0]: is a URL"),
        (
            turn("images", json!(["data:text/plain;base64,AAAA"])),
            "messages[0].images[0]: is a data: URI of another kind",
        ),
        (
            tool(json!({"properties": []})),
            "tools[0].function.parameters.properties: must be an object, not a list",
        ),
        (
            tool(json!({"properties": {"a": {"type": "array", "maxItems": 1_000_000_000}}})),
            "tools[0].function.parameters.properties.a.maxItems: must be a whole number from 0 to 10000, not 1000000000",
        ),
        (
            json!({"format": {"items": {"anyOf": [{"type": "string", "maxLength": 100_001}]}}}),
            "format.items.anyOf[0].maxLength: must be a whole number from 0 to 100000, not 100001",
        ),
        (
            json!({"format": {"pattern": "x".repeat(513)}}),
            "format.pattern: must have at most 512 bytes, not 513",
        ),
    ] {
        let answer = gate.post("/api/chat", &body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        let text = assert_native_error(&answer.body);
        assert!(text.starts_with(words) && !text.contains("canary"), "{text}");
    }
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn a_body_is_json_by_several_names_where_a_key_was_sent() {
    let gate = Gateway::start().await;
    let ask = async |key: &str, kind: &str| {
        let head = format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{key}{kind}");
        gate.send(&head, crate::harness::chat(false).as_bytes()).await.status
    };
    let (bearer, plain) = (format!("Authorization: Bearer {KEY}\r\n"), format!("x-api-key: {KEY}\r\n"));
    for key in [&bearer, &plain] {
        for kind in [
            "",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: text/plain;charset=UTF-8\r\n",
            "Content-Type: text/json\r\n",
            "Content-Type: application/x-ndjson\r\n",
            "Content-Type: application/json; charset=utf8\r\n",
            "Content-Type: application/json;charset=\"UTF8\"\r\n",
        ] {
            assert_eq!(ask(key, kind).await, 200, "{kind}");
        }
        for kind in ["text/html", "multipart/form-data", "text/plain; charset=iso-8859-1"] {
            assert_eq!(ask(key, &format!("Content-Type: {kind}\r\n")).await, 415, "{kind}");
        }
    }
}

#[tokio::test]
async fn shared_machines_are_protected_from_one_caller() {
    let gate = Gateway::start().await;
    let body = json!({
        "model": "ALPHA", "prompt": "x", "stream": false, "keep_alive": -1, "made_up": 1, "_debug_render_only": true,
        "options": {"num_gpu": 0, "num_thread": 64, "num_predict": 0, "temperature": 0.5, "seed": 7},
    });
    let (sent, dropped) = forwarded(&gate, "/api/generate", &body).await;
    assert_eq!(sent["model"], "alpha:latest");
    assert_eq!(sent["options"], json!({"temperature": 0.5, "seed": 7}));
    assert!(sent.get("made_up").is_none() && sent.get("_debug_render_only").is_none());
    assert!(sent["keep_alive"] != json!(-1), "{sent}");
    let dropped = dropped.unwrap();
    for name in ["keep_alive", "made_up", "_debug_render_only", "options.num_gpu", "options.num_thread"] {
        assert!(dropped.split(", ").any(|one| one == name), "{name} in {dropped}");
    }
    gate.mock.clear();
    for (body, status) in [
        (json!({"model": MODEL, "prompt": "", "keep_alive": 0}), 403),
        (json!({"model": MODEL, "prompt": "x", "template": "{{ range 3000000000 }}{{ end }}"}), 400),
        (json!({"model": "gpt-oss:120b-cloud", "prompt": "x"}), 403),
        (json!({"model": "../../etc/passwd", "prompt": "x"}), 400),
    ] {
        assert_eq!(gate.post("/api/generate", &body.to_string()).await.status, status, "{body}");
    }
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn limits_are_filled_in_and_context_can_be_pinned() {
    let gate = Gateway::with(&[
        ("PORTCULLIS_LIMITS_MAX_OUTPUT_TOKENS", "50"),
        ("PORTCULLIS_OPTIONS_NUM_CTX", "drop"),
    ])
    .await;
    let (sent, dropped) = forwarded(
        &gate,
        "/api/generate",
        &json!({"model": MODEL, "prompt": "x", "options": {"num_ctx": 8192}}),
    )
    .await;
    assert_eq!(sent["options"], json!({"num_predict": 50}));
    assert_eq!(dropped.as_deref(), Some("options.num_ctx"));
    let (sent, _) =
        forwarded(&gate, "/api/chat", &json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": -1}}))
            .await;
    assert_eq!(sent["options"], json!({"num_predict": 50}));
    let over = json!({"model": MODEL, "prompt": "x", "options": {"num_predict": 51}});
    assert_eq!(gate.post("/api/generate", &over.to_string()).await.status, 400);
}

#[tokio::test]
async fn a_request_that_names_no_model_gets_the_default_one() {
    let gate = Gateway::with(&[("OLLAMA_MODEL", "beta:7b")]).await;
    for body in
        [json!({"prompt": "x"}), json!({"prompt": "x", "model": null}), json!({"prompt": "x", "model": ""})]
    {
        let (sent, _) = forwarded(&gate, "/api/generate", &body).await;
        assert_eq!(sent["model"], "beta:7b");
    }
}

#[tokio::test]
async fn cloud_models_are_refused_under_any_name() {
    let gate = Gateway::start().await;
    // A local name that the mock lists with a remote_host.
    let answer = gate.post("/api/generate", &json!({"model": "faraway", "prompt": "x"}).to_string()).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    gate.assert_nothing_upstream();
}

#[tokio::test]
async fn bodies_are_bounded_and_typed() {
    let gate = Gateway::with(&[("PORTCULLIS_LIMITS_BODY", "1000")]).await;
    let body =
        |n: usize| format!("{{\"model\":\"alpha\",\"prompt\":\"{}\",\"stream\":false}}", "x".repeat(n - 44));
    for (n, status) in [(999, 200), (1000, 200), (1001, 413)] {
        let body = body(n);
        assert_eq!(body.len(), n);
        assert_eq!(gate.post("/api/generate", &body).await.status, status, "{n} bytes");
    }
    // Declared and never sent: refused by its length alone.
    let mut conn = gate.connect().await;
    conn.write(format!("{}Content-Length: 10000000000\r\n\r\nx", post("/api/generate")).as_bytes()).await;
    assert_eq!(conn.answer().await.status, 413);
    // Without a length: counted as it comes.
    let mut conn = gate.connect().await;
    conn.write(format!("{}Transfer-Encoding: chunked\r\n\r\n", post("/api/generate")).as_bytes()).await;
    for _ in 0..20 {
        conn.write(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes()).await;
    }
    assert_eq!(conn.answer().await.status, 413);
    for coding in ["gzip", "zstd"] {
        let head = format!("{}Content-Encoding: {coding}\r\n", post("/api/chat"));
        assert_eq!(gate.send(&head, b"x").await.status, 415);
    }
    let form = post("/api/generate").replace("application/json", "application/x-www-form-urlencoded");
    assert_eq!(
        gate.send(&form, body(100).as_bytes()).await.status,
        200,
        "people paste Ollama's own curl lines"
    );
    gate.assert_well().await;
}

//! Whole bodies: what every route makes of them.

use serde_json::{Value, json};

use super::testing::{no, ok, rules, sent, under};
use crate::dialect::Shape;
use crate::endpoint::Proxied::{self, Chat, ChatApi, Embed, Embeddings, Generate, Show};
use crate::validate::ValidateError;

const ROUTES: [Proxied; 6] = [Chat, Generate, ChatApi, Embed, Embeddings, Show];

#[test]
fn a_plain_chat_is_rebuilt() {
    let call = ok(
        Chat,
        r#" {"messages":[{"content":"hi é\u00e9\n","role":"user"}],"stream":false,"model":"Mistral"} "#,
    );
    let body =
        r#"{"model":"mistral:latest","stream":false,"messages":[{"role":"user","content":"hi éé\n"}]}"#;
    assert_eq!(String::from_utf8_lossy(&call.body), body);
    assert_eq!(
        (call.path, call.shape, call.stream, call.model.as_str()),
        ("/api/chat", Shape::Chat, false, "mistral:latest")
    );
    assert!(call.dropped.is_empty());
}

#[test]
fn every_field_of_generate_passes() {
    let body = json!({
        "model": "m:1", "stream": true, "prompt": "a\u{0}b", "suffix": "s", "system": "y", "images": ["AAAA"], "context": [1],
        "raw": true, "format": "json", "think": "low", "truncate": false, "logprobs": true, "top_logprobs": 20,
        "options": {"temperature": 0.7, "stop": ["x"]}, "keep_alive": "5m",
    });
    let call = ok(Generate, &body.to_string());
    assert_eq!((sent(&call), call.dropped.len(), call.stream), (body, 0, true));
    assert_eq!((call.path, call.shape), ("/api/generate", Shape::Generate));
}

#[test]
fn every_field_of_chat_passes() {
    let body = json!({
        "model": "m:1", "stream": false, "messages": [], "tools": [], "format": {"type": "object"}, "think": false,
        "truncate": true, "logprobs": false, "top_logprobs": 0, "options": {"seed": -5}, "keep_alive": 60,
    });
    assert_eq!(sent(&ok(Chat, &body.to_string())), body);
}

#[test]
fn embeddings_are_never_streamed() {
    let call = ok(Embed, r#"{"model":"e","input":["a"],"truncate":false,"dimensions":65536,"stream":true}"#);
    assert_eq!(
        sent(&call),
        json!({"model": "e:latest", "input": ["a"], "truncate": false, "dimensions": 65536})
    );
    assert_eq!(
        (call.path, call.shape, call.stream, call.dropped.len()),
        ("/api/embed", Shape::Embed, false, 0)
    );
    let call = ok(Embeddings, r#"{"model":"e","prompt":"a","stream":null,"options":{}}"#);
    assert_eq!(sent(&call), json!({"model": "e:latest", "prompt": "a"}));
    assert_eq!((call.path, call.shape, call.stream), ("/api/embeddings", Shape::Embeddings, false));
    for n in ["0", "65537", "-1", "1.5", "\"1\""] {
        assert!(
            no(Embed, &format!("{{\"dimensions\":{n}}}")).starts_with("dimensions: must be a whole number")
        );
    }
    for n in ["-1", "21", "true"] {
        assert!(
            no(Chat, &format!("{{\"top_logprobs\":{n}}}"))
                .starts_with("top_logprobs: must be a whole number")
        );
    }
}

#[test]
fn chat_api_generates_from_a_prompt() {
    let call = ok(
        ChatApi,
        r#"{"prompt":"p","system":"s","images":["AAAA"],"options":{"top_k":1},"think":true,"stream":true}"#,
    );
    let body = json!({
        "model": "qwen3:4b", "stream": true, "prompt": "p", "system": "s", "images": ["AAAA"], "think": true, "options": {"top_k": 1},
    });
    assert_eq!(
        (sent(&call), call.path, call.shape, call.stream),
        (body, "/api/generate", Shape::Generate, true)
    );
    let call = ok(ChatApi, r#"{"prompt":"p","stream":false,"messages":null,"raw":true}"#);
    assert_eq!((call.path, call.stream, &sent(&call)["stream"]), ("/api/generate", true, &true.into()));
    assert_eq!(call.dropped, ["raw", "stream"]);
    for missing in ["{}", r#"{"prompt":null}"#, r#"{"prompt":""}"#, r#"{"messages":[]}"#, r#"{"nope":true}"#]
    {
        assert_eq!(no(ChatApi, missing), "prompt: is required, and must not be empty");
    }
    assert_eq!(no(ChatApi, r#"{"prompt":["a"]}"#), "prompt: must be a string, not a list");
}

#[test]
fn stream_is_true_unless_it_is_false() {
    for (body, stream) in [("{}", true), (r#"{"stream":null}"#, true), (r#"{"stream":false}"#, false)] {
        let call = ok(Chat, body);
        assert_eq!((call.stream, &sent(&call)["stream"]), (stream, &stream.into()));
    }
    for route in ROUTES {
        let text = no(route, r#"{"model":"m","prompt":"p","stream":"perhaps"}"#);
        assert_eq!(text, "stream: must be true or false, not \"perhaps\"");
    }
}

#[test]
fn what_is_no_request_is_refused_everywhere() {
    for route in ROUTES {
        for body in [
            "",
            "  ",
            "null",
            "[]",
            "\"a\"",
            "{model: mistral}",
            "\u{feff}{}",
            "{} {}",
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","MODEL":"b"}"#,
            r#"{"MODEL":"b","model":"a"}"#,
            r#"{"model":"a","Model":null}"#,
            "{\"\u{17f}tream\":true}",
            "{\"Keep_alive\":0}",
            "{\"\u{212a}eep_alive\":0}",
            r#"{"options":{},"OPTIONS":{}}"#,
            r#"{"options":{},"options":{}}"#,
            r#"{"_DEBUG_render_only":true}"#,
            "{\"NAME\":\"a\"}",
            "{\"me\u{17f}\u{17f}ages\":[]}",
        ] {
            assert!(matches!(under(route, body, &rules()), Err(ValidateError::Json(_))), "{route:?} {body}");
        }
        for (body, text) in [
            (r#"{"model":7,"prompt":"p"}"#, "model: must be a string, not a number"),
            (r#"{"model":"mistral 7b","prompt":"p"}"#, "invalid model name \"mistral 7b\""),
            (r#"{"model":"a\u0000","prompt":"p"}"#, "invalid model name \"a\\0\""),
            (r#"{"model":"../../etc/passwd","prompt":"p"}"#, "invalid model name \"../../etc/passwd\""),
        ] {
            assert_eq!(no(route, body), text, "{route:?}");
        }
    }
    assert_eq!(no(Generate, r#"{"prompt":5}"#), "prompt: must be a string, not a number");
    assert!(matches!(under(Proxied::Tags, "{}", &rules()), Err(ValidateError::Json(_))));
}

#[test]
fn templates_are_refused_and_empty_texts_unset() {
    for route in [Chat, Generate, ChatApi] {
        let text = no(route, r#"{"prompt":"p","template":"{{ range 3000000000 }}{{ end }}"}"#);
        assert_eq!(text, "template: is not the caller's to set");
        assert!(no(route, r#"{"prompt":"p","template":1}"#).starts_with("template: must be a string"));
    }
    let call = ok(
        Generate,
        r#"{"prompt":"","template":"","system":"","suffix":"","format":"","raw":null,"context":null}"#,
    );
    assert_eq!(sent(&call), json!({"model": "qwen3:4b", "stream": true, "prompt": ""}));
    assert!(call.dropped.is_empty());
}

#[test]
fn what_is_dropped_is_named() {
    let call = ok(
        Chat,
        r#"{"foo":1,"_debug_render_only":true,"shift":false,"suffix":"x","options":{"num_gpu":1,"bar":2},"name":"n",
           "messages":[{"a":1},{"a":2}],"keep_alive":-1}"#,
    );
    let names = [
        "foo",
        "_debug_render_only",
        "suffix",
        "name",
        "messages.a",
        "shift",
        "options.bar",
        "options.num_gpu",
        "keep_alive",
    ];
    assert_eq!(call.dropped, names);
    assert_eq!(
        sent(&call),
        json!({"model": "qwen3:4b", "stream": true, "messages": [{}, {}], "keep_alive": 86400})
    );
    let mut rules = rules();
    rules.options.load_time = true;
    let call = under(Chat, r#"{"shift":false,"_debug_render_only":true}"#, &rules).unwrap();
    assert_eq!((&sent(&call)["shift"], call.dropped), (&false.into(), vec!["_debug_render_only".to_owned()]));
    assert!(under(Chat, r#"{"shift":1}"#, &rules).is_err());
}

#[test]
fn refusals_show_nothing_of_a_prompt() {
    for body in [
        r#"{"prompt":{"canary":1}}"#,
        r#"{"prompt":"p","system":["canary"]}"#,
        r#"{"prompt":"p","images":["canary!"]}"#,
        r#"{"prompt":"p","suffix":["canary"]}"#,
        r#"{"prompt":"p","template":"canary"}"#,
        r#"{"prompt":"canary"#,
    ] {
        let text = no(Generate, body);
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Numbers for the test below: xorshift, the same ones in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.roll(from.len())].to_owned()
    }

    fn value(&mut self, depth: usize) -> String {
        let plain = [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "1.0",
            "0.5",
            "1e3",
            "7",
            "1e30",
            "18446744073709551615",
            "\"\"",
            "\"json\"",
            "\"low\"",
            "\"a\\u0000\\ud83d\\ude00\\\"\\\\b\"",
            "\"AAAA\"",
            "\"5m\"",
            "\"x:7b\"",
            "\"LLAMA3\"",
            "\"a:cloud\"",
            "\"é\"",
        ];
        match self.roll(if depth == 0 { 4 } else { 7 }) {
            0..4 => self.pick(&plain),
            4 => {
                let items: Vec<_> = (0..self.roll(3)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        let keys = [
            "model",
            "prompt",
            "messages",
            "options",
            "stream",
            "keep_alive",
            "role",
            "content",
            "images",
            "top_k",
            "temperature",
            "num_predict",
            "num_ctx",
            "stop",
            "seed",
            "tools",
            "function",
            "name",
            "arguments",
            "tool_calls",
            "format",
            "think",
            "input",
            "context",
            "system",
            "foo",
            "shift",
            "Model",
            "\\u0072ole",
            "raw",
            "template",
            "dimensions",
            "type",
        ];
        let entries: Vec<_> =
            (0..self.roll(6)).map(|_| format!("\"{}\":{}", self.pick(&keys), self.value(depth))).collect();
        format!("{{{}}}", entries.join(","))
    }
}

/// Is everything in `sent` in `asked` too, but for what policy fills in or spells in its own way?
fn authorised(path: &str, asked: &Value, sent: &Value) -> bool {
    match (asked, sent) {
        (_, _) if matches!(path, ".model" | ".keep_alive" | ".stream") => true,
        (Value::Object(asked), Value::Object(sent)) => sent.iter().all(|(key, value)| {
            let at = format!("{path}.{key}");
            let filled = matches!(at.as_str(), ".model" | ".stream");
            filled || asked.get(key).is_some_and(|asked| authorised(&at, asked, value))
        }),
        (Value::Array(asked), Value::Array(sent)) => {
            asked.len() == sent.len() && asked.iter().zip(sent).all(|(a, s)| authorised(path, a, s))
        }
        (Value::Number(a), Value::Number(s)) => a == s || a.as_f64() == s.as_f64(),
        _ => asked == sent,
    }
}

#[test]
fn what_passes_is_strict_and_holds_only_what_was_asked() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut passed = 0;
    for _ in 0..10_000 {
        let body = dice.object(4);
        for route in [Chat, Generate, Embed, Embeddings, Show] {
            let Ok(call) = under(route, &body, &rules()) else { continue };
            passed += 1;
            let (asked, sent): (Value, _) = (serde_json::from_str(&body).unwrap(), sent(&call));
            assert!(authorised("", &asked, &sent), "{route:?}\n{body}\n{sent}");
            assert_eq!(sent["model"], call.model.as_str());
            assert!(
                sent.get("template").is_none() && sent.get("foo").is_none() && sent.get("shift").is_none()
            );
            // What passed once passes again, unchanged: nothing is left to drop.
            let again = under(route, std::str::from_utf8(&call.body).unwrap(), &rules()).unwrap();
            assert_eq!((again.body, again.dropped.len()), (call.body, 0), "{body}");
        }
    }
    assert!(passed > 2_000, "{passed}");
}

//! The catalogue's replies: `/api/tags`, `/api/show`, `/api/ps`.
//!
//! Takes entries of the library. No path of the file system is ever shown: where Ollama prints the path of a
//! blob, this prints the model's name.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::reply::to_text;
use crate::clock;
use crate::gguf::{self, Gguf};
use crate::infer::Resident;
use crate::library::Entry;

#[derive(Serialize)]
struct Details<'a> {
    parent_model: &'static str,
    format: &'static str,
    family: &'a str,
    families: [&'a str; 1],
    parameter_size: String,
    quantization_level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_length: Option<u64>,
}

fn details(gguf: &Gguf, lengths: bool) -> Details<'_> {
    let family = gguf.architecture();
    Details {
        parent_model: "",
        format: "gguf",
        family,
        families: [family],
        parameter_size: human(gguf.parameters()),
        quantization_level: gguf::quantization(gguf.meta.get("general.file_type").and_then(Value::as_u64)),
        context_length: gguf.of_architecture("context_length").filter(|_| lengths),
        embedding_length: gguf.of_architecture("embedding_length").filter(|_| lengths),
    }
}

fn capabilities(gguf: &Gguf) -> [&'static str; 1] {
    [if gguf.is_embedding() { "embedding" } else { "completion" }]
}

/// The answer of `/api/tags`.
pub fn tags<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let one = |entry: &Entry| {
        json!({
            "name": entry.name.as_str(),
            "model": entry.name.as_str(),
            "modified_at": clock::rfc3339(entry.modified),
            "size": entry.gguf.size,
            "digest": entry.gguf.digest,
            "details": details(&entry.gguf, true),
            "capabilities": capabilities(&entry.gguf),
        })
    };
    to_text(&json!({"models": entries.map(one).collect::<Vec<_>>()}))
}

/// The answer of `/api/ps`.
pub fn ps(resident: Option<&Resident>) -> String {
    let one = |resident: &Resident| {
        json!({
            "name": resident.entry.name.as_str(),
            "model": resident.entry.name.as_str(),
            "size": resident.size,
            "digest": resident.entry.gguf.digest,
            "details": details(&resident.entry.gguf, false),
            "expires_at": clock::rfc3339(resident.expires.unwrap_or_else(far)),
            "size_vram": 0,
            "context_length": resident.context,
        })
    };
    to_text(&json!({"models": resident.into_iter().map(one).collect::<Vec<_>>()}))
}

/// As far ahead as a Go duration reaches: how Ollama shows "for ever".
fn far() -> SystemTime {
    SystemTime::now() + std::time::Duration::from_nanos(i64::MAX.unsigned_abs())
}

/// The answer of `/api/show`; `gguf` has its lists where they were asked for.
pub fn show(entry: &Entry, gguf: &Gguf) -> String {
    let template = gguf.chat_template().unwrap_or("{{ prompt }}");
    let stops = if entry.is_chatml() { &["<|im_start|>", "<|im_end|>"][..] } else { &[] };
    let mut reply = Map::new();
    let name = &entry.name;
    let stop_lines = stops.iter().map(|stop| format!("PARAMETER stop {stop}")).collect::<Vec<_>>().join("\n");
    let modelfile =
        format!("# Modelfile written by portcullis-engine\nFROM {name}\nTEMPLATE {template:?}\n{stop_lines}");
    reply.insert("modelfile".into(), modelfile.into());
    if !stops.is_empty() {
        let lines: Vec<String> = stops.iter().map(|stop| format!("{:30} {stop:?}", "stop")).collect();
        reply.insert("parameters".into(), lines.join("\n").into());
    }
    reply.insert("template".into(), template.into());
    reply.insert("details".into(), json!(details(gguf, false)));
    reply.insert("model_info".into(), model_info(gguf).into());
    let tensor = |tensor: &gguf::Tensor| json!({"name": tensor.name, "type": gguf::tensor_kind(tensor.kind), "shape": tensor.shape});
    reply.insert("tensors".into(), gguf.tensors.iter().map(tensor).collect());
    reply.insert("capabilities".into(), json!(capabilities(gguf)));
    reply.insert("modified_at".into(), clock::rfc3339(entry.modified).into());
    to_text(&reply)
}

fn model_info(gguf: &Gguf) -> Map<String, Value> {
    // Ollama shows the template apart, and the name not at all.
    let hidden = ["general.name", "tokenizer.chat_template"];
    let mut info: Map<String, Value> = gguf
        .meta
        .iter()
        .filter(|(key, _)| !hidden.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    info.insert("general.parameter_count".into(), gguf.parameters().into());
    info
}

#[expect(clippy::cast_precision_loss, reason = "a figure of three digits for people")]
fn human(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 {
        format!("{:.1}B", count / 1e9)
    } else if count >= 1e6 {
        format!("{:.2}M", count / 1e6)
    } else {
        format!("{:.0}K", count / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(human(134_515_008), "134.52M");
        assert_eq!(human(8_030_261_312), "8.0B");
        assert_eq!(human(12_000), "12K");
    }

    #[test]
    fn nothing_resident_is_an_empty_list() {
        assert_eq!(ps(None), r#"{"models":[]}"#);
    }
}

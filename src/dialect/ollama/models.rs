//! Ollama's lists and facts about models, as they may be shown.
//!
//! Takes the upstream's own answer; promises the same shape without models that cannot be used here and without what tells about
//! its machine. A list is gone through entry by entry: one of megabytes costs no multiple of itself.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::types::{ModelName, is_cloud_name};

#[derive(Deserialize)]
struct List<'a> {
    // Go writes an empty list as null.
    #[serde(borrow)]
    models: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    models: Option<Vec<Name<'a>>>,
}

#[derive(Deserialize)]
struct Name<'a> {
    #[serde(borrow, default)]
    name: std::borrow::Cow<'a, str>,
}

/// The names in a list, in its order; none where it is none.
pub fn listed(list: &[u8]) -> Vec<String> {
    let named: Option<Named<'_>> = serde_json::from_slice(list).ok();
    named.and_then(|list| list.models).into_iter().flatten().map(|model| model.name.into_owned()).collect()
}

/// What is added to the entry of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// It is in memory.
    pub loaded: bool,
    /// It answers where a request names none.
    pub default: bool,
    /// The longest context that it was made for.
    pub context: Option<u64>,
}

/// `/api/tags` or `/api/ps` as they may be shown; `None` where it is no list. A model that gets no marks is left out.
pub fn list(body: &[u8], cloud_models: bool, marks: impl Fn(&str) -> Option<Marks>) -> Option<Vec<u8>> {
    let list: List<'_> = serde_json::from_slice(body).ok()?;
    let mut out = b"{\"models\":[".to_vec();
    for raw in list.models.unwrap_or_default() {
        let mut entry: Value = serde_json::from_str(raw.get()).ok()?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if !cloud_models && (!text("remote_host").is_empty() || is_cloud_name(text("name"))) {
            continue;
        }
        let Some(marks) = marks(text("name")) else { continue };
        without_paths(&mut entry);
        if let Some(entry) = entry.as_object_mut() {
            for (name, holds) in [("loaded", marks.loaded), ("default", marks.default)] {
                if holds {
                    entry.insert(name.into(), true.into());
                }
            }
            if let Some(length) = marks.context {
                entry.insert("context_length".into(), length.into());
            }
        }
        if out.last() != Some(&b'[') {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &entry).ok()?;
    }
    out.extend_from_slice(b"]}");
    Some(out)
}

/// `/api/show` as it may be shown; `None` where it is no object.
pub fn facts(body: &[u8], model: &ModelName) -> Option<Vec<u8>> {
    let mut facts: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
    if let Some(Value::String(text)) = facts.get_mut("modelfile") {
        *text = modelfile(text, model);
    }
    without_paths(&mut facts);
    serde_json::to_vec(&facts).ok()
}

/// The Modelfile with the model's name where the first path of the server's stood: programs read what it is made from there.
/// Further paths (projectors, adapters) and the comments at its head are left out.
fn modelfile(text: &str, model: &ModelName) -> String {
    let from = format!("FROM {model}");
    let (mut begun, mut named) = (false, false);
    let mut lines = Vec::new();
    for line in text.lines() {
        begun |= !(line.starts_with('#') || line.trim().is_empty());
        let source = line.starts_with("FROM ");
        if !begun || (line.starts_with("ADAPTER ") && is_path(line)) {
            continue;
        }
        if !(source && is_path(line)) {
            named |= source;
            lines.push(line);
        } else if !named {
            named = true;
            lines.push(&from);
        }
    }
    lines.join("\n")
}

fn is_path(line: &str) -> bool {
    line.contains(['/', '\\'])
}

/// A model made from a file names that file as its parent.
fn without_paths(entry: &mut Value) {
    if let Some(Value::String(parent)) = entry.pointer_mut("/details/parent_model")
        && ModelName::parse(parent).is_err()
    {
        parent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(body: &Value, cloud: bool, marked: &[&str]) -> Value {
        let marks = |name: &str| {
            let is = marked.contains(&name);
            Some(Marks { loaded: is, default: is, context: is.then_some(8192) })
        };
        serde_json::from_slice(&list(body.to_string().as_bytes(), cloud, marks).unwrap()).unwrap()
    }

    #[test]
    fn a_list_shows_what_can_be_used() {
        let body = json!({"models": [
            {"name": "alpha:latest", "size": 1, "details": {"parent_model": "/root/.ollama/models/blobs/sha256-1"}},
            {"name": "beta:latest", "details": {"parent_model": "alpha:latest"}},
            {"name": "gpt:120b-cloud"},
            {"name": "innocent:1b", "remote_host": "https://ollama.com:443"},
        ]});
        let expected = json!({"models": [
            {"name": "alpha:latest", "size": 1, "details": {"parent_model": ""}, "loaded": true, "default": true, "context_length": 8192},
            {"name": "beta:latest", "details": {"parent_model": "alpha:latest"}},
        ]});
        assert_eq!(shown(&body, false, &["alpha:latest"]), expected);
        assert_eq!(shown(&body, true, &[])["models"].as_array().unwrap().len(), 4);
        let only = |name: &str| (name == "beta:latest").then(Marks::default);
        let some = list(body.to_string().as_bytes(), false, only).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&some).unwrap()["models"].as_array().unwrap().len(), 1);
        assert_eq!(shown(&json!({"models": null}), false, &[]), json!({"models": []}));
        for broken in ["", "[]", "{\"models\":1}", "<html>"] {
            assert_eq!(list(broken.as_bytes(), true, |_| Some(Marks::default())), None, "{broken}");
        }
        assert_eq!(listed(body.to_string().as_bytes()).len(), 4);
        assert_eq!(listed(br#"{"models":[{"name":"a:latest"},{"model":"x"}]}"#), ["a:latest", ""]);
        assert!(listed(b"<html>").is_empty());
    }

    #[test]
    fn facts_tell_the_name_and_no_paths() {
        let model = ModelName::parse("Alpha").unwrap();
        let body = json!({
            "modelfile": "# Modelfile\nFROM /root/.ollama/models/blobs/sha256-1\nFROM /p/sha256-2\nADAPTER C:\\a\nTEMPLATE {{ .Prompt }}",
            "details": {"parent_model": "C:\\models\\a.gguf", "family": "llama"},
            "model_info": {"general.architecture": "llama"},
        });
        let shown: Value =
            serde_json::from_slice(&facts(body.to_string().as_bytes(), &model).unwrap()).unwrap();
        let expected = json!({
            "modelfile": "FROM alpha:latest\nTEMPLATE {{ .Prompt }}",
            "details": {"parent_model": "", "family": "llama"},
            "model_info": {"general.architecture": "llama"},
        });
        assert_eq!(shown, expected);
        assert_eq!(facts(b"[]", &model), None);
        for (written, shown) in [
            ("FROM llama3\nSYSTEM \"a\"", "FROM llama3\nSYSTEM \"a\""),
            ("# a\n\n# FROM b\nFROM C:\\models\\a.gguf\nADAPTER ./b", "FROM alpha:latest"),
            (
                "FROM /p\nSYSTEM \"\"\"\n# A heading\nFrom a/b\"\"\"",
                "FROM alpha:latest\nSYSTEM \"\"\"\n# A heading\nFrom a/b\"\"\"",
            ),
            ("FROM llama3\nFROM /p/sha256-2", "FROM llama3"),
            ("PARAMETER stop </s>\nFROMAGE /", "PARAMETER stop </s>\nFROMAGE /"),
        ] {
            assert_eq!(modelfile(written, &model), shown);
        }
    }
}

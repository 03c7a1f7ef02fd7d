//! `/api/embed` and its older sibling `/api/embeddings`.
//!
//! Vectors are made from the text's bytes: the same text gives the same one, of unit length. No meaning is promised.

use super::catalog::{Capability, Entry};
use super::names::Name;
use super::options::Options;
use super::reply::{Refusal, Reply, Whole};
use super::{Ask, NO_CLOUD, World};
use crate::go::fields::{self, Kind, Shape};
use crate::go::text::{json_string, since_epoch};
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;

const EMBED: Shape = Shape {
    name: "EmbedRequest",
    fields: &[
        ("model", Kind::Text),
        ("input", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("truncate", Kind::Flag),
        ("dimensions", Kind::Int),
        ("options", Kind::Options),
    ],
};

const EMBEDDINGS: Shape = Shape {
    name: "EmbeddingRequest",
    fields: &[
        ("model", Kind::Text),
        ("prompt", Kind::Text),
        ("keep_alive", Kind::KeepAlive),
        ("options", Kind::Options),
    ],
};

const DIMENSIONS: usize = 384;
const NO_EMBEDDINGS: &str = "This server does not support embeddings. Start it with `--embeddings`";

fn find(world: &World, model: &str) -> Result<Arc<Entry>, Refusal> {
    if model.trim().is_empty() {
        return Err(Refusal::new(404, format!("model '{model}' not found")));
    }
    let missing = |_: &Name| Refusal::new(404, format!("model {model:?} not found, try pulling it first"));
    let entry = world.find(model, NO_CLOUD, missing)?;
    entry.keep_until(since_epoch().as_secs() + 300);
    Ok(entry)
}

/// `POST /api/embed`.
pub(super) fn embed(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = fields::read(ask.body, &EMBED).map_err(|text| Refusal::new(400, text))?;
    let model = fields.text("model");
    let invalid = || Refusal::new(400, "invalid input type");
    let texts: Vec<&str> = match fields.get("input") {
        None => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().ok_or_else(invalid)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(invalid()),
    };
    let entry = find(world, model)?;
    Options::read(fields.get("options"))?;
    let mut body = format!("{{\"model\":{},\"embeddings\":[", json_string(model));
    if texts.is_empty() {
        body.push_str("]}");
        return Ok(Whole::json(200, body).into());
    }
    let tokens = |text: &&str| 2 + text.split_whitespace().count();
    let context = entry.model.context();
    if fields.flag("truncate") == Some(false) && texts.iter().any(|text| tokens(text) > context.min(2_048)) {
        return Err(Refusal::new(400, "the input length exceeds the context length"));
    }
    if !entry.model.can(Capability::Embedding) {
        return Err(Refusal::new(501, NO_EMBEDDINGS));
    }
    let wanted = fields.get("dimensions").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let dimensions = wanted.filter(|n| (1..DIMENSIONS).contains(n)).unwrap_or(DIMENSIONS);
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        push_vector(&mut body, text, dimensions);
    }
    let count: usize = texts.iter().map(|text| tokens(text).min(context)).sum();
    write!(body, "],\"total_duration\":15053507,\"load_duration\":1657300,\"prompt_eval_count\":{count}}}")
        .ok();
    Ok(Whole::json(200, body).into())
}

/// `POST /api/embeddings`.
pub(super) fn embeddings(world: &World, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let fields = fields::read(ask.body, &EMBEDDINGS).map_err(|text| Refusal::new(400, text))?;
    let model = fields.text("model");
    // The one route that does not fold the case of a name.
    if model.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(Refusal::new(404, format!("model {model:?} not found, try pulling it first")));
    }
    let entry = find(world, model)?;
    let prompt = fields.text("prompt");
    let mut body = "{\"embedding\":".to_owned();
    if prompt.is_empty() {
        body.push_str("[]");
    } else if entry.model.can(Capability::Embedding) {
        push_vector(&mut body, prompt, DIMENSIONS);
    } else {
        return Err(Refusal::new(500, NO_EMBEDDINGS));
    }
    body.push('}');
    Ok(Whole::json(200, body).into())
}

fn push_vector(out: &mut String, text: &str, dimensions: usize) {
    // FNV-1a of the text seeds a xorshift: reproducible, and enough for a stand-in.
    let seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let high = u32::try_from(state >> 32).unwrap_or_default();
        f64::from(high) / f64::from(u32::MAX) - 0.5
    };
    let raw: Vec<f64> = (0..dimensions).map(|_| next()).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    out.push('[');
    for (at, x) in raw.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(out, "{comma}{:.9}", x / length).ok();
    }
    out.push(']');
}

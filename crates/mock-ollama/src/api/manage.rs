//! The routes about models and the server: list, show, copy, delete, blobs, version, status, root.

use super::catalog::Model;
use super::names::Name;
use super::reply::{Refusal, Reply, Whole, go_json};
use super::routes::BLOB_PREFIX;
use super::{Ask, NO_CLOUD_DETAILS, World};
use crate::go::fields::{self, Fields, Kind, Shape};
use crate::go::text::since_epoch;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

const SHOW: Shape = Shape {
    name: "ShowRequest",
    fields: &[
        ("model", Kind::Text),
        ("name", Kind::Text),
        ("system", Kind::Text),
        ("template", Kind::Text),
        ("verbose", Kind::Flag),
        ("options", Kind::Options),
    ],
};
const DELETE: Shape = Shape { name: "DeleteRequest", fields: &[("model", Kind::Text), ("name", Kind::Text)] };
const COPY: Shape =
    Shape { name: "CopyRequest", fields: &[("source", Kind::Text), ("destination", Kind::Text)] };

type Answered = Result<Reply, Refusal>;

pub(super) fn read(ask: &Ask<'_>, shape: &Shape) -> Result<Fields, Refusal> {
    fields::read(ask.body, shape).map_err(|text| Refusal::new(400, text))
}

/// `sha256:` and the digest of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn root(_: &World, _: &Ask<'_>) -> Answered {
    Ok(Whole::text(200, "text/plain; charset=utf-8", "Ollama is running").into())
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn tags(world: &World, _: &Ask<'_>) -> Answered {
    Ok(Whole::json(200, go_json(&world.catalog.list())).into())
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn ps(world: &World, _: &Ask<'_>) -> Answered {
    Ok(Whole::json(200, go_json(&world.catalog.loaded(since_epoch().as_secs()))).into())
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn version(world: &World, _: &Ask<'_>) -> Answered {
    Ok(Whole::json(200, json!({ "version": world.version }).to_string()).into())
}

#[expect(clippy::unnecessary_wraps, reason = "a handler like the others")]
pub(super) fn status(world: &World, _: &Ask<'_>) -> Answered {
    let source = if world.cloud { "none" } else { "env" };
    let body = json!({ "cloud": { "disabled": !world.cloud, "source": source } });
    Ok(Whole::json(200, body.to_string()).into())
}

pub(super) fn show(world: &World, ask: &Ask<'_>) -> Answered {
    let fields = read(ask, &SHOW)?;
    if fields.model().is_empty() {
        return Err(Refusal::new(400, "model is required"));
    }
    let missing = |name: &Name| Refusal::new(404, format!("model '{}' not found", name.short()));
    let entry = world.find(fields.model(), NO_CLOUD_DETAILS, missing)?;
    Ok(Whole::json(200, go_json(entry.model.shown())).into())
}

pub(super) fn copy(world: &World, ask: &Ask<'_>) -> Answered {
    let fields = read(ask, &COPY)?;
    let (source, destination) = (fields.text("source"), fields.text("destination"));
    let name = |text: &str, which: &str| {
        Name::parse(text).ok_or_else(|| Refusal::new(400, format!("{which} {text:?} is invalid")))
    };
    let (from, to) = (name(source, "source")?, name(destination, "destination")?);
    let Some(entry) = world.catalog.find(&from.key()) else {
        return Err(Refusal::new(404, format!("model {source:?} not found")));
    };
    add_copy(world, &entry.model, &to);
    Ok(Whole::empty(200).into())
}

/// The same model under another name.
pub(super) fn add_copy(world: &World, model: &Model, to: &Name) {
    let mut copy = model.clone();
    copy.rename(&to.short());
    world.catalog.add(copy);
}

pub(super) fn delete(world: &World, ask: &Ask<'_>) -> Answered {
    let fields = read(ask, &DELETE)?;
    let text = fields.model();
    let name = Name::parse(text).ok_or_else(|| Refusal::new(400, format!("name {text:?} is invalid")))?;
    if world.catalog.remove(&name.key()) {
        Ok(Whole::empty(200).into())
    } else {
        Err(Refusal::new(404, format!("model '{text}' not found")))
    }
}

pub(super) fn blob(world: &World, ask: &Ask<'_>) -> Answered {
    let given = ask.target.strip_prefix(BLOB_PREFIX).unwrap_or_default();
    let hex = given.strip_prefix("sha256:").or_else(|| given.strip_prefix("sha256-"));
    let Some(hex) = hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    else {
        return Err(Refusal::new(400, "invalid digest format"));
    };
    let expected = format!("sha256:{}", hex.to_ascii_lowercase());
    let there = world.catalog.has_blob(&expected);
    if ask.method == "HEAD" {
        let missing = || Refusal::new(404, format!("blob {given:?} not found"));
        return there.then(|| Whole::empty(200).into()).ok_or_else(missing);
    }
    if there {
        return Ok(Whole::empty(200).into());
    }
    let got = digest(ask.body);
    if got != expected {
        return Err(Refusal::new(400, format!("digest mismatch, expected {given:?}, got {got:?}")));
    }
    world.catalog.add_blob(got);
    Ok(Whole::empty(201).into())
}

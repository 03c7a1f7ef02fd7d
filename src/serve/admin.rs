//! The admin API: keys, usage and the last rows of the audit, as the command line has them (docs/ADMIN.md).

use std::path::Path;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config;
use crate::endpoint::Refusal;
use crate::identify::issue::{self, IssueError, Wish};
use crate::identify::{ApiKey, Ring, keyfile};
use crate::record::{show, stamp};
use crate::respond::Failure;
use crate::store::keys::KeyRow;
use crate::store::{StoreError, wall};
use crate::types::KeyLimits;

/// A request to it, by an admin.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Vec<u8>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct NewKey {
    name: String,
    scopes: Vec<String>,
    models: Vec<String>,
    expires: Option<String>,
    limits: KeyLimits,
    note: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    overlap: Option<String>,
}

type Said = Result<(StatusCode, Value), Failure>;

/// Answers it.
pub(super) fn answer(ring: &Ring, folder: &Path, asked: &Asked) -> Said {
    let rest = asked.path.strip_prefix("/admin/").unwrap_or("");
    let parts: Vec<&str> = rest.split('/').collect();
    let verb = asked.method.as_str();
    match (parts.as_slice(), verb) {
        (["keys"], "GET") => {
            let rows = ring.with(|store| store.keys()).map_err(failed)?;
            Ok((StatusCode::OK, json!({"keys": rows.iter().map(shown).collect::<Vec<_>>()})))
        }
        (["keys"], "POST") => create(ring, &asked.body),
        (["keys", id], "GET") => found(ring, id).map(|row| (StatusCode::OK, shown(&row))),
        (["keys", id], "DELETE") => revoke(ring, folder, id),
        (["keys", id, "rotate"], "POST") => rotate(ring, folder, id, &asked.body),
        (["usage"], "GET") => usage(ring, &asked.query),
        (["audit"], "GET") => audit(ring, &asked.query),
        (["keys"], _) => Err(Refusal::Method("GET, POST").into()),
        (["keys", _], _) => Err(Refusal::Method("GET, DELETE").into()),
        (["keys", _, "rotate"], _) => Err(Refusal::Method("POST").into()),
        (["usage" | "audit"], _) => Err(Refusal::Method("GET").into()),
        _ => Err(Refusal::Unknown.into()),
    }
}

fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::Conflict(text) => Failure::refused(StatusCode::NOT_FOUND, text),
        other => {
            Failure::unavailable("the store of the keys cannot be used at the moment", other.to_string())
        }
    }
}

fn refused(error: IssueError) -> Failure {
    match error {
        IssueError::Field { .. } => Failure::refused(StatusCode::BAD_REQUEST, error.to_string()),
        IssueError::Store(error) => failed(error),
        IssueError::Key(error) => Failure::internal(error.to_string()),
    }
}

fn body<T: for<'de> Deserialize<'de> + Default>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::refused(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

fn seconds(field: &str, text: &str) -> Result<i64, Failure> {
    let wrong = || {
        let text = format!("{field}: {text:?} is no duration such as 30d, 24h or 90s");
        Failure::refused(StatusCode::BAD_REQUEST, text)
    };
    let duration = config::duration(text).ok_or_else(wrong)?;
    Ok(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

fn shown(row: &KeyRow) -> Value {
    row.as_json(wall(), stamp::of)
}

/// With the secret, the only time.
fn told((row, key): (KeyRow, ApiKey)) -> Value {
    let mut value = shown(&row);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("key".into(), key.reveal().into());
    }
    value
}

fn found(ring: &Ring, id: &str) -> Result<KeyRow, Failure> {
    let row = ring.with(|store| store.key(id)).map_err(failed)?;
    row.ok_or_else(|| Failure::refused(StatusCode::NOT_FOUND, format!("there is no key {id}")))
}

fn create(ring: &Ring, bytes: &[u8]) -> Said {
    let new: NewKey = body(bytes)?;
    let wish = Wish {
        name: new.name,
        scopes: new.scopes,
        models: new.models,
        expires_in: new.expires.as_deref().map(|text| seconds("expires", text)).transpose()?,
        limits: new.limits,
        note: new.note,
    };
    let made = ring.with(|store| Ok(issue::create(store, &wish))).map_err(failed)?.map_err(refused)?;
    Ok((StatusCode::CREATED, told(made)))
}

fn rotate(ring: &Ring, folder: &Path, id: &str, bytes: &[u8]) -> Said {
    let wish: Rotation = body(bytes)?;
    let overlap = seconds("overlap", wish.overlap.as_deref().unwrap_or("24h"))?;
    let (row, key) =
        ring.with(|store| Ok(issue::rotate(store, id, overlap))).map_err(failed)?.map_err(refused)?;
    if row.generated {
        keyfile::replace(folder, &key).map_err(|error| Failure::internal(error.to_string()))?;
    }
    Ok((StatusCode::OK, told((row, key))))
}

fn revoke(ring: &Ring, folder: &Path, id: &str) -> Said {
    ring.with(|store| store.revoke_key(id, wall())).map_err(failed)?;
    let row = found(ring, id)?;
    if row.generated {
        keyfile::forget(folder).map_err(|error| Failure::internal(error.to_string()))?;
    }
    Ok((StatusCode::OK, shown(&row)))
}

/// The value of one parameter; others are ignored.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn usage(ring: &Ring, query: &str) -> Said {
    let since = match parameter(query, "since") {
        None => stamp::day(wall().saturating_sub(30 * 86_400)),
        Some(day) if stamp::start_of(day).is_some() => day.to_owned(),
        Some(other) => {
            let text = format!("since: {other:?} is no day such as 2026-01-17");
            return Err(Failure::refused(StatusCode::BAD_REQUEST, text));
        }
    };
    let rows = ring.with(|store| store.usage(&since, parameter(query, "key"))).map_err(failed)?;
    let row = |row: &crate::store::usage::UsageRow| {
        json!({
            "day": row.day, "key_id": row.key_id, "model": row.model, "requests": row.requests,
            "prompt_tokens": row.prompt_tokens, "output_tokens": row.output_tokens, "gpu_ms": row.gpu_ms,
            "refused": row.refused, "cancelled": row.cancelled, "failed": row.failed,
        })
    };
    Ok((StatusCode::OK, json!({"usage": rows.iter().map(row).collect::<Vec<_>>()})))
}

fn audit(ring: &Ring, query: &str) -> Said {
    let count = parameter(query, "n").map_or(Ok(100), str::parse).ok().filter(|n| *n <= 1_000);
    let wrong = || Failure::refused(StatusCode::BAD_REQUEST, "n: must be a whole number up to 1000");
    let count = count.ok_or_else(wrong)?;
    let rows = ring.with(|store| store.tail(count, 0)).map_err(failed)?;
    Ok((StatusCode::OK, json!({"rows": rows.iter().map(show::as_json).collect::<Vec<_>>()})))
}

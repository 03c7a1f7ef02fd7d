//! The admin API: keys, usage and the last rows of the audit, as the command line has them (docs/ADMIN.md).
//!
//! Takes requests of admins; promises that what they change is recorded with the change, and what they are refused as well. Reads are
//! answered on a connection of their own (`reads`): however wide, they hold up no change of a key.

mod reads;

use std::path::Path;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::config;
use crate::endpoint::Refusal;
use crate::identify::issue::{self, IssueError, Wish, named};
use crate::identify::{ApiKey, Ring, keyfile};
use crate::record::{brief, mask, stamp};
use crate::respond::Failure;
use crate::store::actions::{Action, Actor};
use crate::store::keys::KeyRow;
use crate::store::{StoreError, wall};
use crate::types::KeyLimits;

pub(super) use reads::Reads;

/// A request to it, by an admin.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Vec<u8>,
    pub(super) by: Actor,
}

/// What it works on.
#[derive(Debug)]
pub(super) struct Admin<'a> {
    pub(super) ring: &'a Ring,
    pub(super) folder: &'a Path,
    pub(super) reads: &'a Reads,
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
pub(super) fn answer(admin: &Admin<'_>, asked: &Asked) -> Said {
    let rest = asked.path.strip_prefix("/admin/").unwrap_or("");
    let parts: Vec<&str> = rest.split('/').collect();
    let (ring, by) = (admin.ring, &asked.by);
    let (what, target, done) = match (parts.as_slice(), asked.method.as_str()) {
        (["keys"], "GET") => return admin.reads.keys(&asked.query),
        (["keys", id], "GET") => return admin.reads.key(id),
        (["usage"], "GET") => {
            let of = reads::parameter(&asked.query, "key").map_or("-", named);
            return seen(ring, &by.does("usage.read", of), admin.reads.usage(&asked.query));
        }
        (["audit"], "GET") => {
            return seen(ring, &by.does("audit.read", "-"), admin.reads.audit(&asked.query));
        }
        (["keys"], "POST") => ("key.create", "-", create(ring, &asked.body, by)),
        (["keys", id], "DELETE") => ("key.revoke", *id, revoke(admin, id, by)),
        (["keys", id, "rotate"], "POST") => ("key.rotate", *id, rotate(admin, id, &asked.body, by)),
        (["keys"], _) => return Err(Refusal::Method("GET, POST").into()),
        (["keys", _], _) => return Err(Refusal::Method("GET, DELETE").into()),
        (["keys", _, "rotate"], _) => return Err(Refusal::Method("POST").into()),
        (["usage" | "audit"], _) => return Err(Refusal::Method("GET").into()),
        _ => return Err(Refusal::Unknown.into()),
    };
    if let Err(failure) = &done {
        // The words may repeat what was sent; the status does not.
        let action = by.does(what, named(target)).refused(&failure.status.to_string());
        ring.with(|store| store.note_action(&action)).map_err(failed)?;
    }
    done
}

/// What an admin read is recorded, once a minute; nothing is shown that cannot be.
fn seen(ring: &Ring, reading: &Action, said: Said) -> Said {
    let said = said?;
    ring.with(|store| store.note_read(reading)).map_err(failed)?;
    Ok(said)
}

/// Somebody whose key is no admin's tried; recorded once a minute, for they may try as often as they like.
pub(super) fn note_refused(ring: &Ring, by: &Actor) -> Result<(), Failure> {
    let action = by.does("admin.refused", "-").refused(&StatusCode::FORBIDDEN.to_string());
    ring.with(|store| store.note_read(&action)).map_err(failed)
}

fn no_key(id: &str) -> Failure {
    Failure::refused(StatusCode::NOT_FOUND, format!("there is no key {}", named(id)))
}

fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::Conflict(text) => Failure::refused(StatusCode::NOT_FOUND, brief(&text)),
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
        .map_err(|error| error.to_string())
        // It may quote what was sent.
        .map_err(|text| if text.len() > 256 { brief(&text) } else { mask(&text).into_owned() })
        .map_err(|text| Failure::refused(StatusCode::BAD_REQUEST, format!("the body: {text}")))
}

fn seconds(field: &str, text: &str) -> Result<i64, Failure> {
    let wrong = || {
        let text = format!("{field}: \"{}\" is not a duration; write it as 30d, 24h or 90s", brief(text));
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
    ring.with(|store| store.key(id)).map_err(failed)?.ok_or_else(|| no_key(id))
}

fn create(ring: &Ring, bytes: &[u8], by: &Actor) -> Said {
    let new: NewKey = body(bytes)?;
    let wish = Wish {
        name: new.name,
        scopes: new.scopes,
        models: new.models,
        expires_in: new.expires.as_deref().map(|text| seconds("expires", text)).transpose()?,
        limits: new.limits,
        note: new.note,
    };
    let made = ring.with(|store| Ok(issue::create(store, &wish, by))).map_err(failed)?.map_err(refused)?;
    Ok((StatusCode::CREATED, told(made)))
}

/// The store decides what is a key; that its change is done, and its secret told, does not depend on the file.
fn in_file(done: Result<(), keyfile::KeyFileError>) {
    if let Err(error) = done {
        tracing::error!(%error, "the generated key was changed, but not in its file");
    }
}

fn rotate(admin: &Admin<'_>, id: &str, bytes: &[u8], by: &Actor) -> Said {
    let ring = admin.ring;
    let wish: Rotation = body(bytes)?;
    found(ring, id)?;
    let overlap = seconds("overlap", wish.overlap.as_deref().unwrap_or("24h"))?;
    let (row, key) =
        ring.with(|store| Ok(issue::rotate(store, id, overlap, by))).map_err(failed)?.map_err(refused)?;
    if row.generated {
        in_file(keyfile::replace(admin.folder, &key));
    }
    Ok((StatusCode::OK, told((row, key))))
}

fn revoke(admin: &Admin<'_>, id: &str, by: &Actor) -> Said {
    let ring = admin.ring;
    found(ring, id)?;
    ring.with(|store| issue::revoke(store, id, by)).map_err(failed)?;
    let row = found(ring, id)?;
    if row.generated {
        in_file(keyfile::forget(admin.folder));
    }
    Ok((StatusCode::OK, shown(&row)))
}

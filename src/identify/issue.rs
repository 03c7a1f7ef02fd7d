//! Issuing keys: what `portcullis key` and the admin API do with the store.
//!
//! Takes wishes as people write them; promises a key whose secret is shown to one reader once, and is nowhere else.

use super::key::{ApiKey, KeyError};
use super::keyring::digest;
use crate::record::{brief, stamp};
use crate::store::actions::Actor;
use crate::store::keys::{KeyRow, is_identity};
use crate::store::{Store, StoreError, wall};
use crate::types::{KeyLimits, ModelGlob, Scopes};
use serde_json::{Value, json};

/// Characters of a key's name; an identity's may be an address.
const MAX_NAME: usize = 128;
/// Characters of a note.
const MAX_NOTE: usize = 500;
/// Patterns of models.
const MAX_MODELS: usize = 100;

/// What a new key should be.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// What people call it.
    pub name: String,
    /// Names of scopes; none: inference and read.
    pub scopes: Vec<String>,
    /// Patterns of models; none: all.
    pub models: Vec<String>,
    /// Seconds from now.
    pub expires_in: Option<i64>,
    /// How much.
    pub limits: KeyLimits,
    /// Anything else.
    pub note: String,
}

/// Why there is no new key.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A field of the wish.
    #[error("{field}: {message}")]
    Field {
        /// Which.
        field: &'static str,
        /// The bound, and what came.
        message: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random bytes.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn refuse(field: &'static str, message: impl Into<String>) -> IssueError {
    IssueError::Field { field, message: message.into() }
}

fn line(field: &'static str, text: &str, most: usize) -> Result<String, IssueError> {
    let text = text.trim();
    match text.chars().count() {
        n if n > most => Err(refuse(field, format!("must have at most {most} characters, not {n}"))),
        _ if text.chars().any(char::is_control) => {
            Err(refuse(field, "must be one line of visible characters"))
        }
        // It is shown, and recorded for ever.
        _ if ApiKey::is_in(text) => {
            Err(refuse(field, "holds a key: it would stand in clear in the store and in its audit"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Is this a secret of the key of this row?
pub fn opens(store: &Store, row: &KeyRow, key: &ApiKey) -> Result<bool, StoreError> {
    let (digest, now) = (digest(key.reveal()), wall());
    let is_live = |ends_at: Option<i64>| ends_at.is_none_or(|end| end > now);
    Ok(store
        .secrets()?
        .iter()
        .any(|secret| secret.digest == digest && secret.key_id == row.id && is_live(secret.ends_at)))
}

/// As in the configuration: beyond these no limit limits anything.
fn bounded(limits: &KeyLimits) -> Result<(), IssueError> {
    const MOST: u64 = 1_000_000_000_000_000;
    for (field, value, most) in [
        ("requests_per_minute", limits.requests_per_minute.map(u64::from), 10_000_000),
        ("concurrent", limits.concurrent.map(u64::from), 10_000_000),
        ("tokens_per_minute", limits.tokens_per_minute, MOST),
        ("tokens_per_day", limits.tokens_per_day, MOST),
        ("tokens_per_month", limits.tokens_per_month, MOST),
        ("gpu_seconds_per_day", limits.gpu_seconds_per_day, 1_000_000_000),
    ] {
        if let Some(value) = value.filter(|value| *value > most) {
            return Err(refuse(field, format!("must be at most {most}, not {value}; 0 is no limit")));
        }
    }
    if limits.weight.is_some_and(|weight| !(1..=100).contains(&weight)) {
        return Err(refuse("weight", "must be a whole number from 1 to 100"));
    }
    Ok(())
}

/// A key's id as it may be repeated: in its place somebody may have put a whole key.
pub fn named(id: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':');
    if id.len() <= 24 && id.bytes().all(plain) { id } else { "-" }
}

/// What the record of an action says of a key: nothing of it is secret.
fn facts(row: &KeyRow) -> Value {
    json!({
        "name": row.name,
        "scopes": row.scopes.names(),
        "models": row.model_names(),
        "limits": row.limits,
        "note": row.note,
        "expires_at": row.expires_at.map(stamp::of),
    })
}

/// Makes a key. The secret is in what is returned, and nowhere else.
pub fn create(store: &mut Store, wish: &Wish, by: &Actor) -> Result<(KeyRow, ApiKey), IssueError> {
    let (row, key) = wished(store, wish)?;
    let action = by.does("key.create", &row.id).changing(Value::Null, facts(&row));
    store.add_key(&row, &digest(key.reveal()), Some(&action))?;
    Ok((row, key))
}

fn wished(store: &Store, wish: &Wish) -> Result<(KeyRow, ApiKey), IssueError> {
    let name = line("name", &wish.name, MAX_NAME)?;
    if name.is_empty() {
        return Err(refuse("name", "is required"));
    }
    // Cloudflare Access names people by address and service tokens by hexadecimal digits; elsewhere case may tell people apart.
    let name = if name.starts_with("access:") { name.to_ascii_lowercase() } else { name };
    if is_identity(&name) && store.keys()?.iter().any(|row| row.name == name && row.revoked_at.is_none()) {
        return Err(refuse(
            "name",
            "has a key already, and one identity has one set of limits; revoke that one first",
        ));
    }
    let names = wish.scopes.iter().flat_map(|list| list.split(',')).filter(|name| !name.trim().is_empty());
    let scopes = match names.clone().next() {
        None => Scopes::USE,
        Some(_) => Scopes::parse(names)
            .ok_or_else(|| refuse("scope", "must be inference, read or admin (several with commas)"))?,
    };
    if wish.models.len() > MAX_MODELS {
        return Err(refuse("model", format!("at most {MAX_MODELS} patterns, not {}", wish.models.len())));
    }
    let glob = |text: &String| {
        ModelGlob::parse(text).map_err(|error| {
            refuse("model", format!("\"{}\": {error}; such as qwen3:* or alpha", brief(text)))
        })
    };
    let models = wish.models.iter().map(glob).collect::<Result<_, _>>()?;
    if wish.expires_in.is_some_and(|seconds| seconds <= 0) {
        return Err(refuse("expires", "must lie ahead, such as 30d"));
    }
    bounded(&wish.limits)?;
    let (key, now) = (ApiKey::generate()?, wall());
    let row = KeyRow {
        id: key.id().to_owned(),
        name,
        scopes,
        models,
        limits: wish.limits,
        note: line("note", &wish.note, MAX_NOTE)?,
        created_at: now,
        expires_at: wish.expires_in.map(|seconds| now.saturating_add(seconds)),
        revoked_at: None,
        rotated_at: None,
        generated: false,
    };
    Ok((row, key))
}

/// Gives a key a new secret; the old one opens it for `overlap` seconds more.
pub fn rotate(store: &mut Store, id: &str, overlap: i64, by: &Actor) -> Result<(KeyRow, ApiKey), IssueError> {
    if store.key(id)?.is_none() {
        return Err(StoreError::Conflict(format!("there is no key {id}")).into());
    }
    let key = ApiKey::generate_for(id)?;
    let now = wall();
    let ends_at = now.saturating_add(overlap);
    let action =
        by.does("key.rotate", id).changing(Value::Null, json!({"old_secret_ends_at": stamp::of(ends_at)}));
    store.rotate_key(id, &digest(key.reveal()), (now, ends_at), Some(&action))?;
    let row = store.key(id)?.ok_or_else(|| StoreError::Conflict(format!("there is no key {id}")))?;
    Ok((row, key))
}

/// Ends a key; `false`: it had ended before.
pub fn revoke(store: &mut Store, id: &str, by: &Actor) -> Result<bool, StoreError> {
    let now = wall();
    let state = store.key(id)?.map(|row| row.state(now));
    let action = by.does("key.revoke", id).changing(json!({"state": state}), json!({"state": "revoked"}));
    store.revoke_key(id, now, Some(&action))
}

/// Takes the key of the key file into the store.
pub(super) fn adopt(store: &mut Store, key: &ApiKey) -> Result<(), StoreError> {
    let row = KeyRow {
        id: key.id().to_owned(),
        name: "generated".to_owned(),
        scopes: Scopes::USE,
        models: Vec::new(),
        limits: KeyLimits::default(),
        note: String::new(),
        created_at: wall(),
        expires_at: None,
        revoked_at: None,
        rotated_at: None,
        generated: true,
    };
    store.add_key(&row, &digest(key.reveal()), None)
}

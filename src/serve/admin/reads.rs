//! What the admin API shows: on a read connection of its own, page by page.
//!
//! Takes a query; promises at most [`MOST`] items and, where there are more, a cursor for the rest: `next`, to be sent as it is. A foreign
//! cursor is refused.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use serde_json::{Value, json};

use super::{Said, failed, no_key, shown};
use crate::record::{show, stamp};
use crate::respond::Failure;
use crate::store::usage::{After, UsageRow};
use crate::store::{Store, StoreError, wall};

/// Items of one answer.
const MOST: u32 = 1_000;
/// Where nobody says how many.
const USUAL: u32 = 200;

/// The connection, opened when it is first needed.
#[derive(Debug)]
pub(in crate::serve) struct Reads {
    folder: PathBuf,
    store: Mutex<Option<Store>>,
}

impl Reads {
    pub(in crate::serve) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), store: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, Failure> {
        let mut held = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match held.take() {
            Some(store) => store,
            None => Store::read_only(&self.folder).map_err(failed)?,
        };
        // A connection that failed is not kept.
        let done = work(&store).map_err(failed)?;
        *held = Some(store);
        Ok(done)
    }

    pub(super) fn keys(&self, query: &str) -> Said {
        let (limit, cursor) = (limit(query, "limit")?, cursor(query)?);
        let after = match cursor.as_deref().map(|parts| parts.split_once(FIELD)) {
            None => None,
            Some(parts) => {
                let (time, id) = parts.ok_or_else(foreign)?;
                Some((time.parse().map_err(|_| foreign())?, id.to_owned()))
            }
        };
        let rows = self.with(|store| store.keys_page(after.as_ref(), limit))?;
        let next = full(&rows, limit).map(|row| token(&[&row.created_at.to_string(), &row.id]));
        Ok((StatusCode::OK, json!({"keys": rows.iter().map(shown).collect::<Vec<_>>(), "next": next})))
    }

    pub(super) fn key(&self, id: &str) -> Said {
        let row = self.with(|store| store.key(id))?.ok_or_else(|| no_key(id))?;
        Ok((StatusCode::OK, shown(&row)))
    }

    pub(super) fn usage(&self, query: &str) -> Said {
        let since = match parameter(query, "since") {
            None => stamp::day(wall().saturating_sub(30 * 86_400)),
            Some(day) if stamp::start_of(day).is_some() => day.to_owned(),
            Some(_) => return Err(wrong("since: must be a day such as 2026-01-17")),
        };
        let (limit, cursor) = (limit(query, "limit")?, cursor(query)?);
        let after = cursor.as_deref().map(|parts| usage_after(parts).ok_or_else(foreign)).transpose()?;
        let key = parameter(query, "key");
        let rows = self.with(|store| store.usage_page(&since, key, after.as_ref(), limit))?;
        let next = full(&rows, limit).map(|row| token(&[&row.day, &row.key_id, &row.model]));
        Ok((StatusCode::OK, json!({"usage": rows.iter().map(sums).collect::<Vec<_>>(), "next": next})))
    }

    pub(super) fn audit(&self, query: &str) -> Said {
        let limit = limit(query, "n")?;
        let before = match cursor(query)? {
            None => i64::MAX,
            Some(seq) => seq.parse().map_err(|_| foreign())?,
        };
        let rows = self.with(|store| store.rows_between(limit, 0, before))?;
        // The oldest of them stands first.
        let next =
            rows.first().filter(|_| rows.len() == limit as usize).map(|row| token(&[&row.seq.to_string()]));
        Ok((
            StatusCode::OK,
            json!({"rows": rows.iter().map(show::as_json).collect::<Vec<_>>(), "next": next}),
        ))
    }
}

fn sums(row: &UsageRow) -> Value {
    json!({
        "day": row.day, "key_id": row.key_id, "model": row.model, "requests": row.requests,
        "prompt_tokens": row.prompt_tokens, "output_tokens": row.output_tokens, "gpu_ms": row.gpu_ms,
        "refused": row.refused, "cancelled": row.cancelled, "failed": row.failed,
    })
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::refused(StatusCode::BAD_REQUEST, text)
}

fn foreign() -> Failure {
    wrong("cursor: this list did not give it out; begin again without one")
}

/// The value of one parameter; others are ignored.
pub(super) fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn limit(query: &str, name: &str) -> Result<u32, Failure> {
    let text = parameter(query, name);
    let limit = text.map_or(Ok(USUAL), str::parse).ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| wrong(format!("{name}: must be a whole number from 1 to {MOST}")))
}

/// The last of a full page: behind it there may be more.
fn full<T>(rows: &[T], limit: u32) -> Option<&T> {
    rows.last().filter(|_| rows.len() == limit as usize)
}

/// Between the parts of a cursor: no id, day or model holds it.
const FIELD: char = '\u{1f}';

/// A place in a list, in hexadecimal digits: nothing that anybody should take apart.
fn token(parts: &[&str]) -> String {
    let text = parts.join(&FIELD.to_string());
    text.bytes()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

fn cursor(query: &str) -> Result<Option<String>, Failure> {
    let Some(text) = parameter(query, "cursor") else { return Ok(None) };
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|n| u8::try_from(n).ok())).collect();
    let bytes = digits.filter(|digits| digits.len().is_multiple_of(2)).map(|digits| {
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
    });
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Some).ok_or_else(foreign)
}

fn usage_after(parts: &str) -> Option<After> {
    let mut parts = parts.split(FIELD).map(str::to_owned);
    let after = After { day: parts.next()?, key_id: parts.next()?, model: parts.next()? };
    parts.next().is_none().then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let given = token(&["2026-01-17", "Ab12Cd34", "qwen3:4b"]);
        let back = cursor(&format!("limit=5&cursor={given}")).unwrap().unwrap();
        let after = usage_after(&back).unwrap();
        assert_eq!((&*after.day, &*after.key_id, &*after.model), ("2026-01-17", "Ab12Cd34", "qwen3:4b"));
        for foreign in ["zz", "abc", "ff", "'--"] {
            assert!(cursor(&format!("cursor={foreign}")).is_err(), "{foreign}");
        }
        assert!(usage_after("a").is_none());
        assert!(limit("limit=0", "limit").is_err() && limit("limit=1001", "limit").is_err());
    }
}

//! What operators do, recorded with what it changes.
//!
//! Takes an [`Action`]; promises that it is written in the transaction of its change (an outbox), so that neither is there without the
//! other, and that the next commit of the audit's writer seals it into the chain. A gateway that does not run loses nothing: the outbox
//! waits. Holds facts of keys as they are shown, never a secret.

use std::net::IpAddr;

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::audit::{AuditRow, Begin};
use super::{Store, StoreError};

/// A store came back from a backup.
pub const RESTORE: &str = "store.restore";
/// Facts of one side of a change.
const MOST: usize = 4 << 10;
/// Characters of a target and of an outcome.
const MOST_CHARS: usize = 128;
/// Sealed with one commit; the rest waits for the next.
const AT_ONCE: u32 = 256;
/// Who reads something again within so many milliseconds is not recorded again.
const AGAIN: i64 = 60_000;

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A key's id, or `cli:` and a user's number.
    pub by: String,
    /// `api` or `cli`.
    pub via: &'static str,
    /// Where they are.
    pub peer: Option<IpAddr>,
    /// The request that it came with; 0: none.
    pub request_id: u64,
}

impl Actor {
    /// What they do now, to this target; done, unless it is said otherwise.
    pub fn does(&self, what: &'static str, target: &str) -> Action {
        Action {
            by: self.clone(),
            what,
            target: target.chars().take(MOST_CHARS).collect(),
            before: Value::Null,
            after: Value::Null,
            refused: None,
        }
    }
}

/// Something that an operator did, or was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    by: Actor,
    /// Such as `key.create`.
    what: &'static str,
    target: String,
    before: Value,
    after: Value,
    refused: Option<String>,
}

impl Action {
    /// What changed, from this to that: the fields that differ, and nothing that is secret.
    #[must_use]
    pub fn changing(self, before: Value, after: Value) -> Self {
        Self { before: bounded(before), after: bounded(after), ..self }
    }

    /// It was not done.
    #[must_use]
    pub fn refused(self, why: &str) -> Self {
        Self { refused: Some(why.chars().take(MOST_CHARS).collect()), ..self }
    }
}

/// Long fields say how long they are.
fn bounded(mut facts: Value) -> Value {
    if facts.to_string().len() > MOST
        && let Some(fields) = facts.as_object_mut()
    {
        for value in fields.values_mut() {
            let bytes = value.to_string().len();
            if bytes > 256 {
                *value = json!({"bytes": bytes});
            }
        }
    }
    facts
}

/// Writes it, within the transaction of its change.
pub(super) fn note(change: &Connection, action: &Action) -> rusqlite::Result<()> {
    let mut statement = change.prepare_cached(
        "INSERT INTO actions (at, \"by\", via, peer, \"do\", target, before, after, outcome, request_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let facts = |value: &Value| (!value.is_null()).then(|| value.to_string());
    let Actor { by, via, peer, request_id } = &action.by;
    statement.execute(params![
        now(),
        by,
        via,
        peer.map(|peer| peer.to_string()),
        action.what,
        action.target,
        facts(&action.before),
        facts(&action.after),
        action.refused.as_ref().map_or_else(|| "done".to_owned(), |why| format!("refused: {why}")),
        (*request_id > 0).then(|| format!("{request_id:016x}"))
    ])?;
    Ok(())
}

/// Takes the oldest out of the outbox, as rows of the audit.
pub(super) fn take(change: &Connection) -> rusqlite::Result<Vec<AuditRow>> {
    let all = waiting(change)?;
    if let Some((last, _)) = all.last() {
        change.execute("DELETE FROM actions WHERE id <= ?1", [last])?;
    }
    Ok(all.into_iter().map(|(_, row)| row).collect())
}

fn waiting(db: &Connection) -> rusqlite::Result<Vec<(i64, AuditRow)>> {
    let mut query = db.prepare_cached(
        "SELECT id, at, \"by\", via, peer, \"do\", target, before, after, outcome, request_id FROM actions ORDER BY id LIMIT ?1",
    )?;
    query.query_map([AT_ONCE], row)?.collect()
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// As a row of the audit: `key.create` stands where a request has its route, and how it came where that has its method.
fn row(row: &Row<'_>) -> rusqlite::Result<(i64, AuditRow)> {
    let text = |at: usize| row.get::<_, String>(at);
    let optional = |at: usize| row.get::<_, Option<String>>(at);
    let facts = |at: usize| -> rusqlite::Result<Value> {
        Ok(optional(at)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    };
    let (by, via, what, target, outcome) = (text(2)?, text(3)?, text(5)?, text(6)?, text(9)?);
    let action = json!({
        "by": by, "via": via, "do": what, "target": target, "before": facts(7)?, "after": facts(8)?, "outcome": outcome,
    });
    let done = outcome == "done";
    let begin = Begin {
        request_id: optional(10)?.and_then(|id| u64::from_str_radix(&id, 16).ok()).unwrap_or(0),
        time: row.get(1)?,
        key_id: (via != "cli").then(|| by.as_str().into()),
        peer: optional(4)?.and_then(|peer| peer.parse().ok()),
        method: via.into(),
        route: what.into(),
        model: None,
        stream: false,
    };
    let reason = if done { format!("{by} on {target}") } else { format!("{by} on {target}: {outcome}") };
    Ok((
        row.get(0)?,
        AuditRow {
            dialect: "-".into(),
            ending: if done { "done".into() } else { "refused".into() },
            reason: Some(reason.into()),
            action: Some(action.to_string().into()),
            ..begin.interrupted()
        },
    ))
}

impl Store {
    /// Records what changed nothing here: a refused attempt, a backup, a restore.
    pub fn note_action(&mut self, action: &Action) -> Result<(), StoreError> {
        Ok(note(&self.db, action)?)
    }

    /// Records that somebody reads what only operators may, or tries to; once a minute for each who and what.
    pub fn note_read(&mut self, action: &Action) -> Result<(), StoreError> {
        let change = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let now = now();
        change.execute("DELETE FROM actions_read WHERE at <= ?1 OR at > ?2", [now - AGAIN, now])?;
        let new = change.execute(
            "INSERT OR IGNORE INTO actions_read (\"by\", \"do\", at) VALUES (?1, ?2, ?3)",
            params![action.by.by, format!("{} {}", action.what, action.target), now],
        )?;
        if new > 0 {
            note(&change, action)?;
        }
        Ok(change.commit()?)
    }

    /// Does something wait to be sealed?
    pub fn has_unsealed(&self) -> Result<bool, StoreError> {
        let mut query = self.db.prepare_cached("SELECT EXISTS (SELECT 1 FROM actions)")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// What waits to be sealed, the oldest first.
    pub fn unsealed_rows(&self) -> Result<Vec<AuditRow>, StoreError> {
        Ok(waiting(&self.db)?.into_iter().map(|(_, row)| row).collect())
    }

    /// When such actions were done that wait to be sealed, in milliseconds since 1970.
    pub(super) fn unsealed(&self, what: &str) -> Result<Vec<i64>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT at FROM actions WHERE \"do\" = ?1 ORDER BY id")?;
        Ok(query.query_map([what], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit::{Batch, ChainKey, FORM, Segment};
    use crate::store::testing::Folder;

    fn actor() -> Actor {
        Actor { by: "cli:1000".into(), via: "cli", peer: None, request_id: 0 }
    }

    #[test]
    fn an_action_waits_and_is_sealed_with_the_next_commit() {
        let folder = Folder::new();
        let (mut store, key) = (Store::open(&folder.0).unwrap(), ChainKey::of(&folder.0).unwrap());
        let action = actor().does("key.create", "Ab12Cd34").changing(Value::Null, json!({"name": "laptop"}));
        store.note_action(&action).unwrap();
        store.note_action(&actor().does("key.revoke", "nobody").refused("there is no key nobody")).unwrap();
        assert!(store.has_unsealed().unwrap());
        assert_eq!(store.unsealed_rows().unwrap().len(), 2);
        let segment = Segment {
            name: "a-1".into(),
            form: FORM,
            started_at: 1,
            ended_at: None,
            before: [0; 32],
            head: [0; 32],
            dropped: false,
            rows: 0,
            open: 0,
        };
        store.keep_segment(&key, &segment).unwrap();
        let after = store.append(&key, &segment, "a", &Batch::default(), &[]).unwrap();
        assert_eq!((after.rows, store.has_unsealed().unwrap()), (2, false));
        let rows = store.tail(10, 0).unwrap();
        let (first, second) = (&rows[0].row, &rows[1].row);
        assert_eq!((&*first.method, &*first.route, &*first.ending), ("cli", "key.create", "done"));
        let said: Value = serde_json::from_str(first.action.as_deref().unwrap()).unwrap();
        assert_eq!((&said["by"], &said["after"]["name"]), (&json!("cli:1000"), &json!("laptop")));
        assert_eq!(&*second.ending, "refused");
        assert_eq!(store.verify(&key, &[], None).unwrap().fault, None);
        store.db.execute("UPDATE audit SET action = replace(action, 'laptop', 'desk')", []).unwrap();
        assert!(store.verify(&key, &[], None).unwrap().fault.is_some(), "what was done is in the chain");
    }

    #[test]
    fn reads_are_recorded_once_a_minute_for_each_who_and_what() {
        let mut store = Store::in_memory();
        for _ in 0..3 {
            store.note_read(&actor().does("audit.read", "-")).unwrap();
            store.note_read(&actor().does("usage.read", "-")).unwrap();
            let other = Actor { by: "cli:7".into(), ..actor() };
            store.note_read(&other.does("usage.read", "-")).unwrap();
        }
        assert_eq!(store.unsealed_rows().unwrap().len(), 3);
        store.db.execute("UPDATE actions_read SET at = at - 60000", []).unwrap();
        store.note_read(&actor().does("usage.read", "-")).unwrap();
        assert_eq!(store.unsealed_rows().unwrap().len(), 4);
    }

    #[test]
    fn facts_are_bounded() {
        let models: Vec<_> = (0..100).map(|n| format!("{n}-{}", "x".repeat(100))).collect();
        let action = actor().does("key.create", &"t".repeat(1_000));
        let action = action.changing(Value::Null, json!({"name": "n", "models": models}));
        assert!(action.after.to_string().len() <= MOST && action.after["name"] == "n");
        assert_eq!(action.target.len(), MOST_CHARS);
    }
}

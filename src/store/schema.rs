//! The tables. Each form of them has a number; a store is brought up from one to the next, and never back.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// One statement list a form, from the first.
const FORMS: &[&str] = &[
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0);
CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  models TEXT NOT NULL,
  limits TEXT NOT NULL,
  note TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER,
  rotated_at INTEGER,
  generated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE secrets (
  digest BLOB PRIMARY KEY,
  key_id TEXT NOT NULL REFERENCES keys (id),
  created_at INTEGER NOT NULL,
  ends_at INTEGER
) WITHOUT ROWID;
CREATE INDEX secrets_of_key ON secrets (key_id);
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  boot TEXT NOT NULL,
  n INTEGER NOT NULL,
  time INTEGER NOT NULL,
  request_id TEXT NOT NULL,
  key_id TEXT,
  peer TEXT,
  method TEXT NOT NULL,
  route TEXT NOT NULL,
  model TEXT,
  dialect TEXT NOT NULL,
  stream INTEGER NOT NULL,
  bytes_in INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL,
  prompt_tokens INTEGER,
  output_tokens INTEGER,
  estimated INTEGER NOT NULL,
  queue_ms INTEGER,
  first_ms INTEGER,
  total_ms INTEGER NOT NULL,
  gpu_ms INTEGER,
  upstream TEXT,
  status INTEGER NOT NULL,
  ending TEXT NOT NULL,
  reason TEXT,
  count INTEGER NOT NULL,
  mac BLOB NOT NULL
);
CREATE TABLE audit_begin (
  boot TEXT NOT NULL,
  request_id TEXT NOT NULL,
  time INTEGER NOT NULL,
  key_id TEXT,
  peer TEXT,
  method TEXT NOT NULL,
  route TEXT NOT NULL,
  model TEXT,
  stream INTEGER NOT NULL,
  mac BLOB NOT NULL,
  PRIMARY KEY (boot, request_id)
) WITHOUT ROWID;
CREATE TABLE audit_chain (
  boot TEXT PRIMARY KEY,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  before BLOB NOT NULL,
  head BLOB NOT NULL,
  dropped INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  open INTEGER NOT NULL,
  mac BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE usage (
  day TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  requests INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  gpu_ms INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, model)
) WITHOUT ROWID;
",
    "
ALTER TABLE audit ADD COLUMN action TEXT;
ALTER TABLE audit_chain ADD COLUMN form INTEGER NOT NULL DEFAULT 1;
CREATE TABLE actions (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  \"by\" TEXT NOT NULL,
  via TEXT NOT NULL,
  peer TEXT,
  \"do\" TEXT NOT NULL,
  target TEXT NOT NULL,
  before TEXT,
  after TEXT,
  outcome TEXT NOT NULL,
  request_id TEXT
);
CREATE TABLE actions_read (
  \"by\" TEXT NOT NULL,
  \"do\" TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (\"by\", \"do\")
) WITHOUT ROWID;
",
];

/// Brings the tables to the form of this version.
pub(super) fn bring_up(db: &mut Connection) -> Result<(), StoreError> {
    let latest = i64::try_from(FORMS.len()).unwrap_or(i64::MAX);
    let form = |db: &Connection| db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
    let found = form(db)?;
    if found == latest {
        return Ok(());
    }
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    let found = form(&change)?;
    if found > latest {
        return Err(StoreError::Newer(found));
    }
    for statements in FORMS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        change.execute_batch(statements)?;
    }
    change.pragma_update(None, "user_version", latest)?;
    Ok(change.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_brought_up_once_and_never_back() {
        let mut db = Connection::open_in_memory().unwrap();
        bring_up(&mut db).unwrap();
        bring_up(&mut db).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(bring_up(&mut db), Err(StoreError::Newer(99))));
    }
}

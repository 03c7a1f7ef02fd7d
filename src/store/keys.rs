//! Keys in the store: what each may do, and the digests of its secrets. A secret itself is never here.

use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};

use super::actions::{self, Action};
use super::{Store, StoreError};
use crate::types::{KeyLimits, ModelGlob, Scopes};

/// A key. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its public part.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The models that it may use; none: all.
    pub models: Vec<ModelGlob>,
    /// How much.
    pub limits: KeyLimits,
    /// Anything else.
    pub note: String,
    /// When it was made.
    pub created_at: i64,
    /// From then on it is none.
    pub expires_at: Option<i64>,
    /// Since then it is none.
    pub revoked_at: Option<i64>,
    /// When its secret was last changed.
    pub rotated_at: Option<i64>,
    /// Made at the first start, since the operator gave none: it counts while that is so.
    pub generated: bool,
}

impl KeyRow {
    /// `active`, `expired` or `revoked`.
    pub fn state(&self, now: i64) -> &'static str {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            _ => "active",
        }
    }
}

impl KeyRow {
    /// The models as people write them: `*` for all.
    pub fn model_names(&self) -> Vec<&str> {
        if self.models.is_empty() { vec!["*"] } else { self.models.iter().map(ModelGlob::as_str).collect() }
    }

    /// As the API and the command line show it, with times as `stamp` writes them; never a secret.
    pub fn as_json(&self, now: i64, stamp: impl Fn(i64) -> String) -> serde_json::Value {
        serde_json::json!({
            "id": self.id,
            "name": self.name,
            "state": self.state(now),
            "scopes": self.scopes.names(),
            "models": self.model_names(),
            "limits": self.limits,
            "note": self.note,
            "created_at": stamp(self.created_at),
            "expires_at": self.expires_at.map(&stamp),
            "revoked_at": self.revoked_at.map(&stamp),
            "rotated_at": self.rotated_at.map(&stamp),
        })
    }
}

/// Is this the name of an identity that somebody signs for, so that the key holds that person's limits?
pub fn is_identity(name: &str) -> bool {
    ["access:", "oidc:"].iter().any(|prefix| name.starts_with(prefix))
}

/// SHA-256 of a whole key.
pub type Digest = [u8; 32];

/// A secret that opens a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Of the whole key.
    pub digest: Digest,
    /// The key.
    pub key_id: String,
    /// From then on it opens nothing: it was replaced.
    pub ends_at: Option<i64>,
}

const COLUMNS: &str =
    "id, name, scopes, models, limits, note, created_at, expires_at, revoked_at, rotated_at, generated";

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let scopes: String = row.get(2)?;
    let models: String = row.get(3)?;
    let limits: String = row.get(4)?;
    let broken = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "a key's column".into(), rusqlite::types::Type::Text)
    };
    let models: Vec<String> = serde_json::from_str(&models).map_err(|_| broken(3))?;
    Ok(KeyRow {
        id: row.get(0)?,
        name: row.get(1)?,
        scopes: Scopes::parse(scopes.split(',')).ok_or_else(|| broken(2))?,
        models: models.into_iter().map(ModelGlob::known).collect(),
        limits: serde_json::from_str(&limits).map_err(|_| broken(4))?,
        note: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        revoked_at: row.get(8)?,
        rotated_at: row.get(9)?,
        generated: row.get(10)?,
    })
}

impl Store {
    /// Puts in a new key with its secret; `action`: by whom.
    pub fn add_key(
        &mut self,
        row: &KeyRow,
        digest: &Digest,
        action: Option<&Action>,
    ) -> Result<(), StoreError> {
        let models: Vec<_> = row.models.iter().map(ModelGlob::as_str).collect();
        let text =
            |value: serde_json::Result<String>| value.map_err(|error| StoreError::Other(error.to_string()));
        let (models, limits) =
            (text(serde_json::to_string(&models))?, text(serde_json::to_string(&row.limits))?);
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken =
            change.query_row("SELECT 1 FROM keys WHERE id = ?1", [&row.id], |_| Ok(())).optional()?.is_some();
        if taken {
            return Err(StoreError::Conflict(format!("there is a key {} already", row.id)));
        }
        change.execute(
            &format!("INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"),
            params![
                row.id,
                row.name,
                row.scopes.names().join(","),
                models,
                limits,
                row.note,
                row.created_at,
                row.expires_at,
                row.revoked_at,
                row.rotated_at,
                row.generated
            ],
        )?;
        change.execute(
            "INSERT INTO secrets (digest, key_id, created_at) VALUES (?1, ?2, ?3)",
            params![digest, row.id, row.created_at],
        )?;
        changed(&change, action)?;
        Ok(change.commit()?)
    }

    /// All keys, in the order in which they were made. One that cannot be read opens nothing, and keeps no other from being read.
    pub fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let mut query =
            self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY created_at, id"))?;
        let rows = query.query_map([], key)?;
        Ok(rows
            .filter_map(|row| row.inspect_err(|error| tracing::warn!(%error, "a key cannot be read")).ok())
            .collect())
    }

    /// So many keys at most, in the order in which they were made, behind the one of this moment and id.
    pub fn keys_page(&self, after: Option<&(i64, String)>, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
        let is_behind = |row: &KeyRow| {
            after.is_none_or(|(made, id)| (row.created_at, row.id.as_str()) > (*made, id.as_str()))
        };
        // Of all: where one cannot be read, a page is as full as any.
        Ok(self.keys()?.into_iter().filter(is_behind).take(limit as usize).collect())
    }

    /// One key.
    pub fn key(&self, id: &str) -> Result<Option<KeyRow>, StoreError> {
        let mut query = self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?1"))?;
        Ok(query.query_row([id], key).optional()?)
    }

    /// The key that was made at the first start, whatever became of it.
    pub fn generated_key(&self) -> Result<Option<KeyRow>, StoreError> {
        let mut query =
            self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE generated LIMIT 1"))?;
        Ok(query.query_row([], key).optional()?)
    }

    /// All secrets.
    pub fn secrets(&self) -> Result<Vec<Secret>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT digest, key_id, ends_at FROM secrets")?;
        let rows = query.query_map([], |row| {
            Ok(Secret { digest: row.get(0)?, key_id: row.get(1)?, ends_at: row.get(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives a key a new secret; the ones before it open it until `ends_at`. Those that end now are gone, and what runs with them ends.
    pub fn rotate_key(
        &mut self,
        id: &str,
        digest: &Digest,
        (now, ends_at): (i64, i64),
        action: Option<&Action>,
    ) -> Result<(), StoreError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found = change.execute(
            "UPDATE keys SET rotated_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
            params![id, now],
        )?;
        if found == 0 {
            return Err(StoreError::Conflict(format!("there is no key {id} that could be rotated")));
        }
        change.execute(
            "UPDATE secrets SET ends_at = min(ifnull(ends_at, ?2), ?2) WHERE key_id = ?1",
            params![id, ends_at],
        )?;
        change.execute("DELETE FROM secrets WHERE key_id = ?1 AND ends_at <= ?2", params![id, now])?;
        change.execute(
            "INSERT INTO secrets (digest, key_id, created_at) VALUES (?1, ?2, ?3)",
            params![digest, id, now],
        )?;
        changed(&change, action)?;
        Ok(change.commit()?)
    }

    /// Ends a key. `false`: it had ended before, and nothing was done.
    pub fn revoke_key(&mut self, id: &str, now: i64, action: Option<&Action>) -> Result<bool, StoreError> {
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let revoked: Option<Option<i64>> = change
            .query_row("SELECT revoked_at FROM keys WHERE id = ?1", [id], |row| row.get(0))
            .optional()?;
        match revoked {
            None => return Err(StoreError::Conflict(format!("there is no key {id}"))),
            Some(Some(_)) => return Ok(false),
            Some(None) => {}
        }
        change.execute("UPDATE keys SET revoked_at = ?2 WHERE id = ?1", params![id, now])?;
        // Nothing opens it any more, whatever reads this table.
        change.execute("DELETE FROM secrets WHERE key_id = ?1", [id])?;
        changed(&change, action)?;
        change.commit()?;
        Ok(true)
    }

    /// Grows with every change of a key: whoever keeps keys in memory looks at this.
    pub fn generation(&self) -> Result<i64, StoreError> {
        let mut query = self.db.prepare_cached("SELECT value FROM meta WHERE name = 'generation'")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }
}

/// A change of a key, and who made it.
fn changed(change: &rusqlite::Transaction<'_>, action: Option<&Action>) -> rusqlite::Result<()> {
    change.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'", [])?;
    action.map_or(Ok(()), |action| actions::note(change, action))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    fn row(id: &str) -> KeyRow {
        KeyRow {
            id: id.into(),
            name: "laptop".into(),
            scopes: Scopes::USE,
            models: vec![ModelGlob::parse("qwen3:*").unwrap()],
            limits: KeyLimits { concurrent: Some(2), ..KeyLimits::default() },
            note: "a note".into(),
            created_at: 100,
            expires_at: Some(900),
            revoked_at: None,
            rotated_at: None,
            generated: false,
        }
    }

    #[test]
    fn a_key_is_kept_rotated_and_revoked() {
        let folder = Folder::new();
        let mut store = Store::open(&folder.0).unwrap();
        let before = store.generation().unwrap();
        store.add_key(&row("abc"), &[1; 32], None).unwrap();
        assert!(matches!(store.add_key(&row("abc"), &[2; 32], None), Err(StoreError::Conflict(_))));
        assert_eq!(store.key("abc").unwrap(), Some(row("abc")));
        assert_eq!(store.generation().unwrap(), before + 1);
        store.rotate_key("abc", &[3; 32], (200, 260), None).unwrap();
        let ends = |store: &Store| {
            let mut all: Vec<_> =
                store.secrets().unwrap().iter().map(|secret| (secret.digest[0], secret.ends_at)).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(ends(&store), [(1, Some(260)), (3, None)]);
        store.rotate_key("abc", &[4; 32], (230, 500), None).unwrap();
        assert_eq!(ends(&store), [(1, Some(260)), (3, Some(500)), (4, None)], "an end is never put off");
        store.rotate_key("abc", &[6; 32], (240, 240), None).unwrap();
        assert_eq!(ends(&store), [(6, None)], "without an overlap the old ones are gone at once");
        assert!(store.revoke_key("abc", 300, None).unwrap());
        assert!(!store.revoke_key("abc", 301, None).unwrap());
        assert_eq!(ends(&store), []);
        assert_eq!(store.key("abc").unwrap().unwrap().state(300), "revoked");
        assert!(matches!(store.rotate_key("abc", &[5; 32], (1, 2), None), Err(StoreError::Conflict(_))));
        assert!(matches!(store.revoke_key("nobody", 1, None), Err(StoreError::Conflict(_))));
        assert_eq!(row("x").state(900), "expired");
    }

    #[test]
    fn another_connection_sees_the_change() {
        let folder = Folder::new();
        let (mut one, other) = (Store::open(&folder.0).unwrap(), Store::open(&folder.0).unwrap());
        let before = other.generation().unwrap();
        one.add_key(&row("abc"), &[1; 32], None).unwrap();
        assert_ne!(other.generation().unwrap(), before);
        assert_eq!(other.keys().unwrap().len(), 1);
    }
}

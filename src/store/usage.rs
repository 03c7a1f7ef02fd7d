//! Usage: sums by day, key and model, kept while rows are written, so that nobody has to add up a million of them.

use rusqlite::params;

use super::{Store, StoreError};

/// Sums of one day, key and model. Empty names: no key, no model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRow {
    /// `2026-01-17`, UTC.
    pub day: String,
    /// The key's id.
    pub key_id: String,
    /// The canonical model.
    pub model: String,
    /// Admitted and refused ones.
    pub requests: u64,
    /// As the model server counted.
    pub prompt_tokens: u64,
    /// As the model server counted, or as counted here where a stream was cut.
    pub output_tokens: u64,
    /// The model server's work.
    pub gpu_ms: u64,
    /// Refused by the gateway.
    pub refused: u64,
    /// Left by their caller.
    pub cancelled: u64,
    /// Failed, or out of time.
    pub failed: u64,
}

impl UsageRow {
    /// Adds the figures of another row.
    pub fn join(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.output_tokens += other.output_tokens;
        self.gpu_ms += other.gpu_ms;
        self.refused += other.refused;
        self.cancelled += other.cancelled;
        self.failed += other.failed;
    }
}

/// What a key has used of its quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Tokens of today.
    pub day_tokens: u64,
    /// Tokens of this month.
    pub month_tokens: u64,
    /// The model server's work of today.
    pub day_gpu_ms: u64,
}

/// A place in the list of sums: the last row of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Its day.
    pub day: String,
    /// Its key.
    pub key_id: String,
    /// Its model.
    pub model: String,
}

impl Store {
    /// Sums since a day, included; of one key, or of all. The newest day first.
    pub fn usage(&self, since: &str, key: Option<&str>) -> Result<Vec<UsageRow>, StoreError> {
        self.usage_page(since, key, None, u32::MAX)
    }

    /// The same, so many at most, behind a place.
    pub fn usage_page(
        &self,
        since: &str,
        key: Option<&str>,
        after: Option<&After>,
        limit: u32,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT day, key_id, model, requests, prompt_tokens, output_tokens, gpu_ms, refused, cancelled, failed \
             FROM usage WHERE day >= ?1 AND (?2 IS NULL OR key_id = ?2) \
             AND (?3 IS NULL OR day < ?3 OR (day = ?3 AND (key_id, model) > (?4, ?5))) \
             ORDER BY day DESC, key_id, model LIMIT ?6",
        )?;
        let (day, of, model) = after
            .map_or((None, None, None), |after| (Some(&after.day), Some(&after.key_id), Some(&after.model)));
        let rows = query.query_map(params![since, key, day, of, model, limit], |row| {
            Ok(UsageRow {
                day: row.get(0)?,
                key_id: row.get(1)?,
                model: row.get(2)?,
                requests: row.get(3)?,
                prompt_tokens: row.get(4)?,
                output_tokens: row.get(5)?,
                gpu_ms: row.get(6)?,
                refused: row.get(7)?,
                cancelled: row.get(8)?,
                failed: row.get(9)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What every key has used of the quotas of this day and its month.
    pub fn spent(&self, day: &str) -> Result<Vec<(String, Spent)>, StoreError> {
        let month = format!("{}-01", day.get(..7).unwrap_or(day));
        let mut query = self.db.prepare_cached(
            "SELECT key_id, sum((prompt_tokens + output_tokens) * (day = ?1)), sum(prompt_tokens + output_tokens), \
             sum(gpu_ms * (day = ?1)) FROM usage WHERE day >= ?2 AND key_id <> '' GROUP BY key_id",
        )?;
        let rows = query.query_map(params![day, month], |row| {
            let spent = Spent { day_tokens: row.get(1)?, month_tokens: row.get(2)?, day_gpu_ms: row.get(3)? };
            Ok((row.get(0)?, spent))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Adds to the sums, within the transaction of the rows that they are of.
pub(super) fn add(change: &rusqlite::Connection, row: &UsageRow) -> rusqlite::Result<()> {
    let mut statement = change.prepare_cached(
        "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (day, key_id, model) DO UPDATE SET requests = requests + ?4, \
         prompt_tokens = prompt_tokens + ?5, output_tokens = output_tokens + ?6, gpu_ms = gpu_ms + ?7, \
         refused = refused + ?8, cancelled = cancelled + ?9, failed = failed + ?10",
    )?;
    statement.execute(params![
        row.day,
        row.key_id,
        row.model,
        row.requests,
        row.prompt_tokens,
        row.output_tokens,
        row.gpu_ms,
        row.refused,
        row.cancelled,
        row.failed
    ])?;
    Ok(())
}

//! Rows in and out of the table.

use std::borrow::Cow;
use std::net::IpAddr;

use rusqlite::{CachedStatement, Connection, Row, TransactionBehavior, params};

use super::{AuditRow, Batch, Begin, ChainKey, Chained, Mac, Segment};
use crate::store::usage::{self, UsageRow};
use crate::store::{Store, StoreError, actions};

const COLUMNS: &str = "boot, n, time, request_id, key_id, peer, method, route, model, dialect, stream, bytes_in, bytes_out, \
     prompt_tokens, output_tokens, estimated, queue_ms, first_ms, total_ms, gpu_ms, upstream, status, ending, reason, count, mac, action";

fn chained(row: &Row<'_>) -> rusqlite::Result<Chained> {
    let text = |at: usize| row.get::<_, String>(at).map(Cow::Owned);
    let id: String = row.get(4)?;
    let peer: Option<String> = row.get(6)?;
    let optional = |at: usize| row.get::<_, Option<String>>(at);
    let request_id = u64::from_str_radix(&id, 16).unwrap_or(0);
    let address: Option<IpAddr> = peer.as_deref().and_then(|peer| peer.parse().ok());
    let flags = [row.get::<_, i64>(11)?, row.get(16)?];
    let as_written = id == format!("{request_id:016x}")
        && peer == address.map(|address| address.to_string())
        && flags.iter().all(|flag| matches!(flag, 0 | 1));
    Ok(Chained {
        as_written,
        seq: row.get(0)?,
        segment: row.get(1)?,
        n: row.get(2)?,
        row: AuditRow {
            time: row.get(3)?,
            request_id,
            key_id: optional(5)?.map(Into::into),
            peer: address,
            method: text(7)?,
            route: text(8)?,
            model: optional(9)?.map(Into::into),
            dialect: text(10)?,
            stream: row.get(11)?,
            bytes_in: row.get(12)?,
            bytes_out: row.get(13)?,
            prompt_tokens: row.get(14)?,
            output_tokens: row.get(15)?,
            estimated: row.get(16)?,
            queue_ms: row.get(17)?,
            first_ms: row.get(18)?,
            total_ms: row.get(19)?,
            gpu_ms: row.get(20)?,
            upstream: optional(21)?.map(Cow::Owned),
            status: row.get(22)?,
            ending: text(23)?,
            reason: optional(24)?.map(Cow::Owned),
            count: row.get(25)?,
            action: optional(27)?.map(Into::into),
        },
        mac: row.get(26)?,
    })
}

/// The statement that a batch's rows are written with: made ready once, not once a row. Rows of requests have no action.
fn inserting(db: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    let columns = COLUMNS.trim_end_matches(", action");
    db.prepare_cached(&format!(
        "INSERT INTO audit ({columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)"
    ))
}

fn insert(
    statement: &mut CachedStatement<'_>,
    segment: &str,
    n: u64,
    row: &AuditRow,
    mac: &Mac,
) -> rusqlite::Result<()> {
    statement.execute(params![
        segment,
        n,
        row.time,
        format!("{:016x}", row.request_id),
        row.key_id,
        row.peer.map(|peer| peer.to_string()),
        row.method,
        row.route,
        row.model,
        row.dialect,
        row.stream,
        row.bytes_in,
        row.bytes_out,
        row.prompt_tokens,
        row.output_tokens,
        row.estimated,
        row.queue_ms,
        row.first_ms,
        row.total_ms,
        row.gpu_ms,
        row.upstream,
        row.status,
        row.ending,
        row.reason,
        row.count,
        mac
    ])?;
    Ok(())
}

fn begin(db: &Connection, key: &ChainKey, boot: &str, row: &Begin) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO audit_begin (boot, request_id, time, key_id, peer, method, route, model, stream, mac) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    statement.execute(params![
        boot,
        format!("{:016x}", row.request_id),
        row.time,
        row.key_id,
        row.peer.map(|peer| peer.to_string()),
        row.method,
        row.route,
        row.model,
        row.stream,
        key.begin(boot, row)
    ])?;
    Ok(())
}

fn keep(db: &Connection, key: &ChainKey, segment: &Segment) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT OR REPLACE INTO audit_chain (boot, started_at, ended_at, before, head, dropped, rows, open, form, mac) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    statement.execute(params![
        segment.name,
        segment.started_at,
        segment.ended_at,
        segment.before,
        segment.head,
        segment.dropped,
        segment.rows,
        segment.open,
        segment.form,
        segment.mac(key)
    ])?;
    Ok(())
}

impl Store {
    /// Writes a batch behind a segment's head, all of it or nothing; the segment as it is then.
    pub fn append(
        &mut self,
        key: &ChainKey,
        segment: &Segment,
        boot: &str,
        batch: &Batch,
        sums: &[UsageRow],
    ) -> Result<Segment, StoreError> {
        let mut next = segment.clone();
        let mut scratch = Vec::with_capacity(512);
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            // What operators did is sealed with the next commit, whoever makes it.
            let actions = actions::take(&change)?;
            let mut statement = inserting(&change)?;
            for row in batch.rows.iter().chain(&actions) {
                next.rows += 1;
                next.head = key.link(next.form, &next.head, row, &mut scratch);
                insert(&mut statement, &next.name, next.rows, row, &next.head)?;
                if let Some(action) = &row.action {
                    let at = change.last_insert_rowid();
                    change.execute("UPDATE audit SET action = ?2 WHERE seq = ?1", params![at, action])?;
                }
            }
        }
        {
            let mut delete =
                change.prepare_cached("DELETE FROM audit_begin WHERE boot = ?1 AND request_id = ?2")?;
            for id in &batch.ended {
                delete.execute(params![boot, format!("{id:016x}")])?;
            }
        }
        for row in batch.begins.values() {
            begin(&change, key, boot, row)?;
        }
        for sum in sums {
            usage::add(&change, sum)?;
        }
        next.open = batch.open;
        for segment in batch.closes.iter().chain([&next]) {
            keep(&change, key, segment)?;
        }
        change.commit()?;
        Ok(next)
    }

    /// Begins of other processes that may have died: their boots.
    pub fn begun_boots(&self) -> Result<Vec<String>, StoreError> {
        let mut query = self.db.prepare("SELECT DISTINCT boot FROM audit_begin")?;
        Ok(query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// The begins of a process that died, and how many more there were that nobody of us wrote.
    pub fn orphans(&self, key: &ChainKey, boot: &str) -> Result<(Vec<Begin>, u64), StoreError> {
        let mut query = self.db.prepare(
            "SELECT request_id, time, key_id, peer, method, route, model, stream, mac FROM audit_begin \
             WHERE boot = ?1 ORDER BY time",
        )?;
        let rows = query.query_map([boot], |row| {
            let (id, peer): (String, Option<String>) = (row.get(0)?, row.get(3)?);
            let begin = Begin {
                request_id: u64::from_str_radix(&id, 16).unwrap_or(0),
                time: row.get(1)?,
                key_id: row.get::<_, Option<String>>(2)?.map(Into::into),
                peer: peer.and_then(|peer| peer.parse().ok()),
                method: row.get::<_, String>(4)?.into(),
                route: row.get::<_, String>(5)?.into(),
                model: row.get::<_, Option<String>>(6)?.map(Into::into),
                stream: row.get(7)?,
            };
            Ok((begin, row.get::<_, Mac>(8)?))
        })?;
        let all: Vec<_> = rows.collect::<Result<_, _>>()?;
        let (ours, forged): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(begin, mac)| key.begin(boot, begin) == *mac);
        Ok((ours.into_iter().map(|(begin, _)| begin).collect(), forged.len() as u64))
    }

    /// Forgets the begins of a process.
    pub fn forget_begins(&mut self, boot: &str) -> Result<usize, StoreError> {
        Ok(self.db.execute("DELETE FROM audit_begin WHERE boot = ?1", [boot])?)
    }

    /// All segments, the oldest first.
    pub fn segments(&self) -> Result<Vec<(Segment, Mac)>, StoreError> {
        let mut query = self.db.prepare(
            "SELECT boot, started_at, ended_at, before, head, dropped, rows, open, form, mac FROM audit_chain ORDER BY started_at, boot",
        )?;
        let rows = query.query_map([], |row| {
            let segment = Segment {
                name: row.get(0)?,
                started_at: row.get(1)?,
                ended_at: row.get(2)?,
                before: row.get(3)?,
                head: row.get(4)?,
                dropped: row.get(5)?,
                rows: row.get(6)?,
                open: row.get(7)?,
                form: row.get(8)?,
            };
            Ok((segment, row.get(9)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps the facts of a segment.
    pub fn keep_segment(&mut self, key: &ChainKey, segment: &Segment) -> Result<(), StoreError> {
        Ok(keep(&self.db, key, segment)?)
    }

    /// Drops the rows of a segment that is old enough; its head stays. `mac`: the code of its facts, as it stands in the store. Facts that
    /// somebody changed are not signed anew.
    pub fn drop_segment(
        &mut self,
        key: &ChainKey,
        segment: &Segment,
        mac: &Mac,
    ) -> Result<usize, StoreError> {
        if segment.mac(key) != *mac {
            return Err(StoreError::Conflict(format!("the facts of segment {} were changed", segment.name)));
        }
        let change = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let gone = change.execute("DELETE FROM audit WHERE boot = ?1", [&segment.name])?;
        keep(&change, key, &Segment { dropped: true, ..segment.clone() })?;
        change.commit()?;
        Ok(gone)
    }

    /// The last rows, the oldest of them first; those behind `after` alone.
    pub fn tail(&self, count: u32, after: i64) -> Result<Vec<Chained>, StoreError> {
        self.rows_between(count, after, i64::MAX)
    }

    /// The last rows before a place in the table and behind another, the oldest of them first.
    pub fn rows_between(&self, count: u32, after: i64, before: i64) -> Result<Vec<Chained>, StoreError> {
        let mut query = self.db.prepare_cached(&format!(
            "SELECT seq, {COLUMNS} FROM audit WHERE seq > ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
        ))?;
        let rows = query.query_map(params![after, before, count], chained)?;
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The first rows behind a place in the table, the oldest of them first.
    pub fn rows_after(&self, after: i64, count: u32) -> Result<Vec<Chained>, StoreError> {
        let mut query = self.db.prepare_cached(&format!(
            "SELECT seq, {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        ))?;
        let rows = query.query_map(params![after, count], chained)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Shows every row since a moment (milliseconds since 1970) in the order of the table, until `each` says no.
    pub fn rows(&self, since: i64, mut each: impl FnMut(Chained) -> bool) -> Result<(), StoreError> {
        let mut query = self
            .db
            .prepare_cached(&format!("SELECT seq, {COLUMNS} FROM audit WHERE time >= ?1 ORDER BY seq"))?;
        let mut rows = query.query([since])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            // All that can go wrong here is a cell of another type or beyond its range.
            let row =
                chained(row).map_err(|_| StoreError::Conflict(format!("audit row {seq} was changed")))?;
            if !each(row) {
                break;
            }
        }
        Ok(())
    }
}

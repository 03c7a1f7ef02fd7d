//! The past: what dead processes left open, and what is old enough to go.

use std::collections::HashMap;
use std::fs::File;

use super::boots;
use super::sums::Sums;
use super::writer::SetupError;
use crate::store::audit::{Anchor, AuditRow, Batch, Begin, ChainKey, Mac, Segment};
use crate::store::{Folder, Store, StoreError, wall};

/// The process that wrote a segment, by its name.
fn boot_of(segment: &Segment) -> &str {
    segment.name.split('-').next().unwrap_or(&segment.name)
}

/// What a new chain begins with: the head of the last segment that nobody writes to any more.
pub(super) fn last_head(store: &Store, folder: &Folder) -> Result<Mac, SetupError> {
    let segments = store.segments()?;
    let closed = segments.iter().rev().find(|(segment, _)| segment.ended_at.is_some() && segment.rows > 0);
    Ok(match closed {
        Some((segment, _)) => segment.head,
        None => Anchor::before(folder)?.unwrap_or_default(),
    })
}

/// A segment whose process died, closed, and the requests that it had begun, as rows that say so.
#[derive(Debug)]
pub(super) struct Dead {
    closed: Segment,
    ended: Vec<u64>,
    rows: Vec<AuditRow>,
    /// Its mark, held until it is written, so that nobody else closes it too.
    _mark: Option<File>,
}

/// Segments of processes that died have ended with them.
pub(super) fn dead(store: &Store, key: &ChainKey, folder: &Folder) -> Result<Vec<Dead>, SetupError> {
    let mut all = Vec::new();
    let noted: HashMap<_, _> =
        boots::last_words(folder)?.into_iter().map(|head| (head.segment, head.rows)).collect();
    for (segment, mac) in store.segments()?.into_iter().filter(|(segment, _)| segment.ended_at.is_none()) {
        let boot = boot_of(&segment);
        let boots::Dead::Yes(mark) = boots::look(folder, boot)? else { continue };
        if segment.mac(key) != mac {
            tracing::error!(
                segment = segment.name,
                "the facts of this part of the audit were changed: it is left as it is"
            );
            continue;
        }
        let missing = noted.get(&segment.name).map_or(0, |rows| rows.saturating_sub(segment.rows));
        if missing > 0 {
            tracing::error!(
                segment = segment.name,
                missing,
                "rows of the audit are missing from its end: somebody took them, or the power failed (`portcullis audit verify`)"
            );
        }
        let (begins, forged) = store.orphans(key, boot)?;
        let missing = segment.open.saturating_sub(begins.len() as u64);
        let ended = begins.iter().map(|begin| begin.request_id).collect();
        let mut rows: Vec<_> = begins.into_iter().map(Begin::interrupted).collect();
        for (count, why) in [
            (missing, "begins of a process that died are missing from the store"),
            (forged, "begins of a process that died were changed or invented"),
        ] {
            if count > 0 {
                tracing::error!(count, why, "the audit was tampered with");
                rows.push(unknown(count, why));
            }
        }
        all.push(Dead { closed: Segment { ended_at: Some(wall()), ..segment }, ended, rows, _mark: mark });
    }
    Ok(all)
}

/// A row for requests of which nothing more is known.
fn unknown(count: u64, why: &'static str) -> AuditRow {
    let begin = Begin {
        request_id: 0,
        time: wall().saturating_mul(1_000),
        key_id: None,
        peer: None,
        method: "-".into(),
        route: "-".into(),
        model: None,
        stream: false,
    };
    AuditRow { count, reason: Some(why.into()), ..begin.interrupted() }
}

/// Writes the rows of what was interrupted into a segment, each dead one with its close in one commit; the segment as it is then.
pub(super) fn close(
    store: &mut Store,
    key: &ChainKey,
    segment: &Segment,
    folder: &Folder,
    all: Vec<Dead>,
) -> Result<Segment, SetupError> {
    let mut after = segment.clone();
    for Dead { closed, ended, rows, _mark } in all {
        if !rows.is_empty() {
            tracing::warn!(rows = rows.len(), "requests of a process that died are closed as interrupted");
        }
        let mut sums = Sums::default();
        for row in &rows {
            // It had begun: its model was there.
            sums.add(row, true);
        }
        let boot = boot_of(&closed).to_owned();
        let batch = Batch { rows, ended, closes: Some(closed), ..Batch::default() };
        after = store.append(key, &after, &boot, &batch, &sums.rows())?;
        // Those that are none of ours.
        store.forget_begins(&boot)?;
    }
    boots::forget_dead(folder)?;
    Ok(after)
}

/// Old segments go whole. One whose facts were changed stays, for somebody to look at.
pub(super) fn drop_old(store: &mut Store, key: &ChainKey, keep: Option<i64>) -> Result<(), StoreError> {
    let Some(keep) = keep else { return Ok(()) };
    let old = wall().saturating_sub(keep);
    for (segment, mac) in store.segments()? {
        if segment.dropped || segment.ended_at.is_none_or(|ended| ended > old) {
            continue;
        }
        match store.drop_segment(key, &segment, &mac) {
            Ok(rows) => tracing::info!(segment = segment.name, rows, "an old part of the audit was dropped"),
            Err(StoreError::Conflict(why)) => tracing::error!(why, "an old part of the audit is kept"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

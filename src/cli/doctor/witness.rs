//! What the gateway itself noted of a question: its row in the audit, and how many requests have a turn.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::cli::http::{Ask, Client};
use crate::config::{AuditMode, Config};
use crate::store::Store;
use crate::store::audit::AuditRow;

/// Rows are written within a second; a busy disk gets some more.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);
/// Rows that are looked at: other callers write some, too.
const LAST: u32 = 500;

/// What was found of a row.
#[derive(Debug)]
pub(super) enum Looked {
    Row(Box<AuditRow>),
    Nothing,
    /// The record cannot be read here.
    Cannot(String),
}

/// The last row that is wanted, as soon as it is there.
pub(super) fn look(config: &Config, patience: Duration, wanted: impl Fn(&AuditRow) -> bool) -> Looked {
    if config.audit.mode == AuditMode::Off {
        return Looked::Cannot("audit.mode is off, so nothing is recorded".into());
    }
    let folder = &config.data_dir;
    if !Store::is_in(folder) {
        return Looked::Cannot(format!("there is no record in {} (data.dir)", folder.display()));
    }
    let begun = Instant::now();
    loop {
        let rows = Store::read(folder).and_then(|store| store.tail(LAST, 0));
        match rows {
            Err(error) => return Looked::Cannot(error.to_string()),
            Ok(rows) => {
                if let Some(found) = rows.into_iter().rev().map(|chained| chained.row).find(&wanted) {
                    return Looked::Row(Box::new(found));
                }
            }
        }
        if begun.elapsed() > patience {
            return Looked::Nothing;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Requests that have a turn at the model server.
pub(super) fn running(operators: Option<&Client>) -> Option<u64> {
    let page = operators?.ask(Ask::get("/metrics")).ok().filter(|answer| answer.status == 200)?;
    let text = page.text();
    text.lines().find_map(|line| line.strip_prefix("portcullis_upstream_running ")?.trim().parse().ok())
}

/// Waits until no more than so many have a turn.
pub(super) fn settles(operators: Option<&Client>, most: u64, patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        if running(operators).is_some_and(|now| now <= most) {
            return true;
        }
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Milliseconds since 1970, as rows have them.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

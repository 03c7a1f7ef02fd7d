//! Verifying: every row against its code, every segment against its rows and its neighbours, and all against the heads that were noted
//! outside of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Anchor, ChainKey, Chained, Mac, Segment};
use crate::store::actions;
use crate::store::{Store, StoreError};

/// What does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The place in the table, where it is a row.
    pub seq: Option<i64>,
    /// What.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "row {seq}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// What was looked at, and the first fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rows.
    pub rows: u64,
    /// Segments.
    pub segments: u64,
    /// Noted heads.
    pub anchors: u64,
    /// When the store was restored from a backup, in milliseconds since 1970: rows that were written between the backup and then are in
    /// the files that were set aside.
    pub restored: Vec<i64>,
    /// The first fault.
    pub fault: Option<Fault>,
}

/// One segment while its rows go by.
struct Walk {
    segment: Segment,
    n: u64,
    head: Mac,
    anchors: BTreeMap<u64, Mac>,
}

impl Store {
    /// Looks at everything, as it is at one moment. `before`: the head of a store that was set aside. `anchors` must have been read before:
    /// the store then has at least the rows that they speak of.
    pub fn verify(
        &self,
        key: &ChainKey,
        anchors: &[Anchor],
        before: Option<Mac>,
    ) -> Result<Report, StoreError> {
        // Rows that are written meanwhile belong to a later state.
        self.db.execute_batch("SAVEPOINT one_state")?;
        let report = self.look_through(key, anchors, before);
        self.db.execute_batch("RELEASE one_state")?;
        report
    }

    fn look_through(
        &self,
        key: &ChainKey,
        anchors: &[Anchor],
        before: Option<Mac>,
    ) -> Result<Report, StoreError> {
        let restored = self.unsealed(actions::RESTORE)?;
        let mut report =
            Report { rows: 0, segments: 0, anchors: anchors.len() as u64, restored, fault: None };
        let mut walks = BTreeMap::new();
        let mut heads: BTreeSet<_> = before.into_iter().chain([[0; 32]]).collect();
        for (segment, mac) in self.segments()? {
            report.segments += 1;
            if segment.mac(key) != mac {
                return Ok(faulty(report, format!("segment {}: its facts were changed", segment.name)));
            }
            // An empty one has no head of its own: what stands before it must be there by itself.
            if segment.rows > 0 {
                heads.insert(segment.head);
            }
            let (n, head) = (0, segment.before);
            walks.insert(segment.name.clone(), Walk { segment, n, head, anchors: BTreeMap::new() });
        }
        for walk in walks.values() {
            if !heads.contains(&walk.segment.before) {
                let what = format!("segment {}: the segment before it is missing", walk.segment.name);
                return Ok(faulty(report, what));
            }
        }
        for anchor in anchors {
            let Some(walk) = walks.get_mut(&anchor.segment) else {
                return Ok(faulty(report, format!("segment {} was noted and is missing", anchor.segment)));
            };
            walk.anchors.insert(anchor.rows, anchor.head);
        }
        let mut scratch = Vec::new();
        let mut fault = None;
        self.rows(i64::MIN, |chained| {
            report.rows += 1;
            if chained.row.action.is_some() && chained.row.route == actions::RESTORE {
                report.restored.push(chained.row.time);
            }
            let seq = chained.seq;
            let what = match walks.get_mut(&chained.segment) {
                None => Some("inserted: its segment is unknown".to_owned()),
                Some(walk) => walk.step(key, &chained, &mut scratch),
            };
            fault = what.map(|what| Fault { seq: Some(seq), what });
            fault.is_none()
        })?;
        report.fault = fault.or_else(|| walks.values().find_map(Walk::ended));
        Ok(report)
    }
}

fn faulty(mut report: Report, what: String) -> Report {
    report.fault = Some(Fault { seq: None, what });
    report
}

impl Walk {
    /// The next row of this segment: what is wrong with it.
    fn step(&mut self, key: &ChainKey, chained: &Chained, scratch: &mut Vec<u8>) -> Option<String> {
        let expected = self.n + 1;
        if chained.n > expected {
            return Some(format!("{} row(s) before it are missing", chained.n - expected));
        }
        if chained.n < expected {
            return Some("inserted: there is a row with its number".into());
        }
        if chained.n > self.segment.rows {
            return Some("inserted: its segment ended before it".into());
        }
        let head = key.link(self.segment.form, &self.head, &chained.row, scratch);
        // What its form does not cover is not there.
        let beyond = self.segment.form < 2 && chained.row.action.is_some();
        if head != chained.mac || !chained.as_written || beyond {
            return Some("changed".into());
        }
        (self.n, self.head) = (expected, head);
        let noted = self.anchors.remove(&self.n);
        noted.filter(|noted| *noted != head).map(|_| "changed: another head was noted here".into())
    }

    /// All rows have gone by: what is missing.
    fn ended(&self) -> Option<Fault> {
        let fault = |what| Some(Fault { seq: None, what });
        let Segment { name, rows, head, dropped, .. } = &self.segment;
        if *dropped {
            return None;
        }
        if self.n < *rows {
            return fault(format!("segment {name}: the last {} row(s) are missing", rows - self.n));
        }
        if self.head != *head {
            return fault(format!("segment {name}: its head does not fit its rows"));
        }
        let noted = self.anchors.keys().next_back().copied().unwrap_or(0);
        let (first, there) = (self.n + 1, self.n);
        let what = format!(
            "segment {name}: rows {first} to {noted} are missing: {noted} were noted outside of the store, and {there} are there"
        );
        (noted > there).then(|| fault(what)).flatten()
    }
}

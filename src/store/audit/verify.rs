//! Verifying: every row against its code, every segment against its rows and its neighbours, and all against the heads that were noted
//! outside of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::chain::{from_hex, hex};
use super::{ChainKey, Mac, Segment};
use crate::store::{Store, StoreError};

/// A head that was noted outside of the store: a segment had so many rows, the last one with this code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The segment.
    pub segment: String,
    /// Its rows then.
    pub rows: u64,
    /// The code of the last.
    pub head: Mac,
}

impl Anchor {
    /// In the data folder; copies of its lines elsewhere are worth more.
    pub const FILE: &'static str = "audit.heads";

    /// Of a segment as it is.
    pub fn of(segment: &Segment) -> Self {
        Self { segment: segment.name.clone(), rows: segment.rows, head: segment.head }
    }

    /// Notes it in the data folder.
    pub fn note(&self, folder: &Path) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(Self::FILE))?;
        writeln!(file, "{self}")
    }

    /// Reads one, as it is shown.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (segment, rows, head) = (words.next()?, words.next()?.parse().ok()?, from_hex(words.next()?)?);
        Some(Self { segment: segment.to_owned(), rows, head })
    }

    /// The heads of a store that is set aside go with it.
    pub fn set_aside(folder: &Path, now: i64) -> io::Result<()> {
        match fs::rename(folder.join(Self::FILE), folder.join(format!("{}.damaged-{now}", Self::FILE))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The last head of the stores that were set aside: a new chain begins with it.
    pub fn before(folder: &Path) -> io::Result<Option<Mac>> {
        let prefix = format!("{}.damaged-", Self::FILE);
        let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let Some(last) = names.filter(|name| name.starts_with(&prefix)).max() else { return Ok(None) };
        let text = fs::read_to_string(folder.join(last))?;
        Ok(text.lines().filter_map(Self::parse).next_back().map(|anchor| anchor.head))
    }

    /// Those of the data folder.
    pub fn noted(folder: &Path) -> io::Result<Vec<Self>> {
        match fs::read_to_string(folder.join(Self::FILE)) {
            Ok(text) => Ok(text.lines().filter_map(Self::parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.segment, self.rows, hex(&self.head))
    }
}

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
    /// Looks at everything.
    /// `before`: the head of a store that was set aside.
    pub fn verify(
        &self,
        key: &ChainKey,
        anchors: &[Anchor],
        before: Option<Mac>,
    ) -> Result<Report, StoreError> {
        let mut report = Report { rows: 0, segments: 0, anchors: anchors.len() as u64, fault: None };
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
    fn step(&mut self, key: &ChainKey, chained: &super::Chained, scratch: &mut Vec<u8>) -> Option<String> {
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
        let head = key.link(&self.head, &chained.row, scratch);
        if head != chained.mac || !chained.as_written {
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
        (noted > self.n)
            .then(|| fault(format!("segment {name}: {noted} rows were noted, and {} are there", self.n)))
            .flatten()
    }
}

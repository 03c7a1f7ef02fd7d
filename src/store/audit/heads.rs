//! Heads that are noted outside of the store: whoever takes rows off its end, or puts an older store in its place, is found out by them.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::Path;

use super::chain::{from_hex, hex};
use super::{Mac, Segment};
use crate::store::{Folder, FolderError};

/// A file of heads that is larger keeps the last one of each segment alone: the chain proves those before it.
const LARGE: usize = 1 << 20;

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
    pub fn note(&self, folder: &Folder) -> Result<(), FolderError> {
        let written = folder.appendable(Self::FILE)?.write_all(format!("{self}\n").as_bytes());
        written.map_err(|error| FolderError::Io {
            what: "write",
            path: folder.path().join(Self::FILE),
            error,
        })
    }

    /// Reads one, as it is shown.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (segment, rows, head) = (words.next()?, words.next()?.parse().ok()?, from_hex(words.next()?)?);
        Some(Self { segment: segment.to_owned(), rows, head })
    }

    fn all(text: &[u8]) -> Vec<Self> {
        String::from_utf8_lossy(text).lines().filter_map(Self::parse).collect()
    }

    /// The heads of a store that is set aside go with it.
    pub fn set_aside(path: &Path, now: i64) -> Result<(), FolderError> {
        let folder = Folder::open(path)?;
        if folder.is_taken(Self::FILE) {
            folder.rename(Self::FILE, &format!("{}.damaged-{now}", Self::FILE))?;
        }
        Ok(())
    }

    /// The last head of the stores that were set aside: a new chain begins with it.
    pub fn before(folder: &Folder) -> Result<Option<Mac>, FolderError> {
        let prefix = format!("{}.damaged-", Self::FILE);
        let Some(last) = folder.names()?.into_iter().filter(|name| name.starts_with(&prefix)).max() else {
            return Ok(None);
        };
        let text = folder.read(&last)?.unwrap_or_default();
        Ok(Self::all(&text).pop().map(|anchor| anchor.head))
    }

    /// Those of the data folder.
    pub fn noted(folder: &Folder) -> Result<Vec<Self>, FolderError> {
        Ok(folder.read(Self::FILE)?.map(|text| Self::all(&text)).unwrap_or_default())
    }

    /// Keeps the file small.
    pub fn compact(folder: &Folder) -> Result<(), FolderError> {
        let text = folder.read(Self::FILE)?.unwrap_or_default();
        if text.len() <= LARGE {
            return Ok(());
        }
        let all = Self::all(&text);
        let last: HashMap<&str, usize> =
            all.iter().enumerate().map(|(at, anchor)| (anchor.segment.as_str(), at)).collect();
        let is_last = |(at, anchor): &(usize, &Self)| last.get(anchor.segment.as_str()) == Some(at);
        let kept = all.iter().enumerate().filter(is_last).map(|(_, anchor)| format!("{anchor}\n"));
        folder.write(Self::FILE, kept.collect::<String>().as_bytes())
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.segment, self.rows, hex(&self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[test]
    fn a_large_file_keeps_the_last_head_of_each_segment() {
        let place = testing::Folder::new();
        let folder = Folder::make(&place.0).unwrap();
        let head = |segment: &str, rows| Anchor { segment: segment.into(), rows, head: [7; 32] };
        let lines: Vec<_> =
            (0..20_000).map(|n| head(if n < 10_000 { "a" } else { "b" }, n).to_string()).collect();
        let text = lines.join(
            "
",
        );
        folder.write(Anchor::FILE, text.as_bytes()).unwrap();
        Anchor::compact(&folder).unwrap();
        assert!(Anchor::noted(&folder).unwrap() == [head("a", 9_999), head("b", 19_999)]);
        head("c", 1).note(&folder).unwrap();
        Anchor::compact(&folder).unwrap();
        assert_eq!(Anchor::noted(&folder).unwrap().len(), 3);
    }
}

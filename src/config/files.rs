//! The files that a configuration was read from, and how they looked then.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What changes with a file's content: device, inode, time of the last change in seconds and nanoseconds, size.
type Stamp = (u64, u64, i64, i64, u64);

/// Files, and how each looked; one that is not there has no looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files(Vec<(PathBuf, Option<Stamp>)>);

impl Files {
    /// Looks at files.
    pub fn look(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamp = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
        };
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// These as well.
    pub(super) fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The same files as they look now.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::look(self.0.iter().map(|(path, _)| path.clone()))
    }
}

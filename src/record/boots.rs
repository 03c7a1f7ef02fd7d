//! Marks of processes: a locked file each, so that another one knows which of them live, and what each wrote last.
//!
//! A mark holds the head of its process's part of the audit as it was with the last commit (`Mark::note`): whoever takes rows off the
//! store's end, and can write nothing else, is found out by it, while the process runs and after it died.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, flock};

use crate::store::audit::Anchor;
use crate::store::{Folder, FolderError};

/// In the data folder.
const FOLDER: &str = "boots";
/// Bytes of a noted head, filled up with blanks: one write replaces it whole.
const NOTE: usize = 160;

fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// The mark of this process, locked while it lives.
#[derive(Debug)]
pub(super) struct Mark {
    /// The name of this process.
    pub(super) boot: String,
    file: File,
}

impl Mark {
    /// A name for this process, and its mark.
    pub(super) fn make(data: &Folder) -> Result<Self, FolderError> {
        let fault = |error| FolderError::Io { what: "mark", path: data.path().join(FOLDER), error };
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes).map_err(|_| fault(io::Error::other("no random bytes")))?;
        let boot = bytes.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
        let file = data.below(FOLDER)?.make_new(&boot)?;
        if lock(&file) { Ok(Self { boot, file }) } else { Err(fault(io::Error::other("it is taken"))) }
    }

    /// Notes what was written last; `sync`: it is on the disk then.
    pub(super) fn note(&self, head: &Anchor, sync: bool) -> io::Result<()> {
        let line = format!("{head:<width$}\n", head = head.to_string(), width = NOTE - 1);
        self.file.write_all_at(line.as_bytes(), 0)?;
        if sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// Is a process dead?
#[derive(Debug)]
pub(super) enum Dead {
    /// It lives, or somebody closes what it left.
    No,
    /// Its mark, locked by us, if it is still there.
    Yes(Option<File>),
}

/// Looks whether a process is dead.
pub(super) fn look(data: &Folder, boot: &str) -> Result<Dead, FolderError> {
    let marks = data.below(FOLDER)?;
    if !marks.has(boot)? {
        return Ok(Dead::Yes(None));
    }
    let file = marks.open_or_make(boot)?;
    Ok(if lock(&file) { Dead::Yes(Some(file)) } else { Dead::No })
}

/// Its mark is no longer needed.
pub(super) fn forget(data: &Folder, boot: &str) {
    // One that stays is found unlocked, and means nothing more than its head says.
    let _gone = data.below(FOLDER).and_then(|marks| marks.remove(boot));
}

/// Removes the marks of all processes that are dead, once what they wrote last is noted where heads are kept.
pub fn forget_dead(data: &Folder) -> Result<(), FolderError> {
    for boot in data.below(FOLDER)?.names()? {
        if let Dead::Yes(Some(_mark)) = look(data, &boot)? {
            if let Some(head) = noted(&data.below(FOLDER)?, &boot)? {
                head.note(data)?;
            }
            forget(data, &boot);
        }
    }
    Ok(())
}

fn noted(marks: &Folder, boot: &str) -> Result<Option<Anchor>, FolderError> {
    let bytes = marks.read(boot)?.unwrap_or_default();
    Ok(Anchor::parse(&String::from_utf8_lossy(&bytes)))
}

/// What every process that has a mark wrote last.
pub fn last_words(data: &Folder) -> Result<Vec<Anchor>, FolderError> {
    let marks = data.below(FOLDER)?;
    let heads = marks.names()?.into_iter().map(|boot| noted(&marks, &boot));
    heads.filter_map(Result::transpose).collect()
}

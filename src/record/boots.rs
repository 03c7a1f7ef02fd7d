//! Marks of processes: a locked file each, so that another one knows which of them live.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

fn folder(data: &Path) -> PathBuf {
    data.join("boots")
}

fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// A name for this process, and the file that is locked while it lives.
pub(super) fn mark(data: &Path) -> io::Result<(String, File)> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    let boot = bytes.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(data))?;
    let file = File::create_new(folder(data).join(&boot))?;
    if lock(&file) { Ok((boot, file)) } else { Err(io::Error::other("the mark is taken")) }
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
pub(super) fn look(data: &Path, boot: &str) -> io::Result<Dead> {
    match File::open(folder(data).join(boot)) {
        Ok(file) if lock(&file) => Ok(Dead::Yes(Some(file))),
        Ok(_) => Ok(Dead::No),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Dead::Yes(None)),
        Err(error) => Err(error),
    }
}

/// Its mark is no longer needed.
pub(super) fn forget(data: &Path, boot: &str) {
    // One that stays is found unlocked, and means nothing.
    let _gone = fs::remove_file(folder(data).join(boot));
}

/// Removes the marks of all processes that are dead.
pub(super) fn forget_dead(data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder(data))? {
        let name = entry?.file_name();
        if let Some(boot) = name.to_str()
            && let Dead::Yes(Some(_mark)) = look(data, boot)?
        {
            forget(data, boot);
        }
    }
    Ok(())
}

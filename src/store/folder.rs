//! The data folder: every file in it is made, read, moved and removed through here.
//!
//! Takes the path of a folder; promises that files are reached from the folder's own descriptor and through no link, are nobody else's to
//! read, and belong to whom the folder belongs: what root makes in the folder of a service is the service's. Refuses, by name and with the
//! command that mends it, a folder that others can write to, and a file in it that is another user's, a link, or has a second name
//! elsewhere. (Root does not take on the owner's rights: below systemd's `/var/lib/private` the owner could not reach its own folder by
//! its path, and SQLite goes by paths.)

mod fault;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};

pub use fault::FolderError;

/// A file beside the store is read no further than this: keys and noted heads are small.
const MOST: u64 = 64 << 20;
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The data folder, held open.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Held>);

#[derive(Debug)]
struct Held {
    dir: OwnedFd,
    path: PathBuf,
    owner: Owner,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Hands over what root made.
    fn take(self, file: impl AsFd) -> Result<(), Errno> {
        if self.uid == 0 || !geteuid().is_root() {
            return Ok(());
        }
        rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

/// A file that is there, and what it is.
struct Found {
    file: File,
    mode: u32,
}

impl Folder {
    /// The folder of this path, which must be there. Nobody but its owner works in it, and root.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let fault =
            |error: Errno| FolderError::Io { what: "open", path: path.to_owned(), error: error.into() };
        // The path itself may be a link: the operator wrote it. Nothing below it may be one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(fault)?;
        let stat = rustix::fs::fstat(&dir).map_err(fault)?;
        if stat.st_mode & 0o022 != 0 {
            return Err(FolderError::Open { path: path.to_owned() });
        }
        let (us, owner) = (geteuid(), Owner { uid: stat.st_uid, gid: stat.st_gid });
        if us.as_raw() != owner.uid && !us.is_root() {
            return Err(FolderError::Foreign { path: path.to_owned(), owner: owner.uid, us: us.as_raw() });
        }
        let folder = Self(Arc::new(Held { dir, path: path.to_owned(), owner }));
        if us.as_raw() != owner.uid {
            folder.stays_where_it_is(owner.uid)?;
        }
        Ok(folder)
    }

    /// For root in somebody else's folder: SQLite goes by paths, and whoever owns a folder above could lead them elsewhere meanwhile.
    fn stays_where_it_is(&self, owner: u32) -> Result<(), FolderError> {
        let real = self.real_path()?;
        for (below, above) in real.ancestors().skip(1).enumerate() {
            let meta = above.symlink_metadata();
            let meta =
                meta.map_err(|error| FolderError::Io { what: "look at", path: above.to_owned(), error })?;
            // In a sticky folder such as /tmp everybody moves what is theirs alone, and the data folder itself is not root's.
            let is_shared = meta.mode() & 0o022 != 0;
            let is_sticky = meta.mode() & 0o1000 != 0 && below != 0;
            if meta.uid() != 0 || (is_shared && !is_sticky) {
                return Err(FolderError::Movable {
                    path: self.0.path.clone(),
                    above: above.to_owned(),
                    owner,
                });
            }
        }
        Ok(())
    }

    /// The folder of this path, made where it is not there.
    pub fn make(path: &Path) -> Result<Self, FolderError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| FolderError::Io { what: "create", path: path.to_owned(), error })?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    fn is_ours(&self) -> bool {
        geteuid().as_raw() == self.0.owner.uid
    }

    /// For a gateway: root's files would be in the way of whoever owns the folder, and starts one tomorrow.
    pub fn must_be_ours(&self) -> Result<(), FolderError> {
        match (geteuid().as_raw(), self.0.owner.uid) {
            (us, owner) if us == owner => Ok(()),
            (us, owner) => Err(FolderError::Foreign { path: self.0.path.clone(), owner, us }),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    fn fault(&self, what: &'static str, name: &str) -> impl Fn(Errno) -> FolderError {
        let path = self.at(name);
        move |error| FolderError::Io { what, path: path.clone(), error: error.into() }
    }

    fn judged(&self, name: &str, plain: bool, owner: u32) -> Result<(), FolderError> {
        match self.0.owner.uid {
            _ if !plain => Err(FolderError::Odd(self.at(name))),
            folder if folder != owner => Err(FolderError::Owner { path: self.at(name), owner, folder }),
            _ => Ok(()),
        }
    }

    /// Judges what stands under a name; `None`: nothing.
    fn judge(&self, name: &str) -> Result<Option<rustix::fs::Stat>, FolderError> {
        let stat = match rustix::fs::statat(&self.0.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.fault("look at", name)(error)),
        };
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
        self.judged(name, plain, stat.st_uid).map(|()| Some(stat))
    }

    /// Is there a plain file of the folder's owner under this name?
    pub fn has(&self, name: &str) -> Result<bool, FolderError> {
        self.judge(name).map(|found| found.is_some())
    }

    /// Is anything under this name, whatever it is?
    pub fn is_taken(&self, name: &str) -> bool {
        rustix::fs::statat(&self.0.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn open_file(&self, name: &str, flags: OFlags, what: &'static str) -> Result<Found, FolderError> {
        let made = flags.contains(OFlags::EXCL);
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.0.dir, name, flags, PRIVATE);
        let file = File::from(opened.map_err(|error| match error {
            Errno::LOOP => FolderError::Odd(self.at(name)),
            error => self.fault(what, name)(error),
        })?);
        if made {
            self.0.owner.take(&file).map_err(self.fault(what, name))?;
        }
        // What was opened is judged, and not what stood there before.
        let meta = file.metadata().map_err(|error| FolderError::Io { what, path: self.at(name), error })?;
        self.judged(name, meta.is_file() && meta.nlink() == 1, meta.uid())?;
        Ok(Found { file, mode: meta.mode() })
    }

    /// Opens a file, made where it is not there.
    fn open_made(&self, name: &str, flags: OFlags, what: &'static str) -> Result<File, FolderError> {
        // Made first, so that it is known who made it.
        match self.open_file(name, flags | OFlags::CREATE | OFlags::EXCL, what) {
            Err(FolderError::Io { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_file(name, flags, what).map(|found| found.file)
            }
            found => found.map(|found| found.file),
        }
    }

    /// The content of a file; `None` where it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        self.read_found(name).map(|found| found.map(|(bytes, _)| bytes))
    }

    /// The text of a file that nobody else may read.
    pub fn read_secret(&self, name: &str) -> Result<Option<String>, FolderError> {
        match self.read_found(name)? {
            Some((_, mode)) if mode & 0o077 != 0 => Err(FolderError::Mode(self.at(name))),
            found => Ok(found.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())),
        }
    }

    fn read_found(&self, name: &str) -> Result<Option<(Vec<u8>, u32)>, FolderError> {
        if self.judge(name)?.is_none() {
            return Ok(None);
        }
        let Found { file, mode } = match self.open_file(name, OFlags::RDONLY, "read") {
            // It went away meanwhile.
            Err(FolderError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map_err(|error| FolderError::Io {
            what: "read",
            path: self.at(name),
            error,
        })?;
        Ok(Some((bytes, mode)))
    }

    /// Keeps a file from everybody but its owner. It is not opened for reading: closing any descriptor of a file that SQLite has open in
    /// this process would take SQLite's locks away (POSIX, `fcntl`).
    pub fn close_to_others(&self, name: &str) -> Result<(), FolderError> {
        let fault = self.fault("close", name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(&self.0.dir, name, flags, Mode::empty()).map_err(&fault)?;
        let stat = rustix::fs::fstat(&held).map_err(&fault)?;
        let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
        self.judged(name, plain, stat.st_uid)?;
        if Mode::from_raw_mode(stat.st_mode).intersection(Mode::RWXG | Mode::RWXO).is_empty() {
            return Ok(());
        }
        // Through the descriptor: what was judged is what is changed.
        match rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), PRIVATE) {
            Err(Errno::NOENT) if self.is_ours() => {
                rustix::fs::chmodat(&self.0.dir, name, PRIVATE, AtFlags::empty()).map_err(&fault)
            }
            changed => changed.map_err(&fault),
        }
    }

    /// The folder's path as it is now, through no link: of the descriptor, and not of the name that was opened once.
    pub fn real_path(&self) -> Result<PathBuf, FolderError> {
        let path = match fs::read_link(format!("/proc/self/fd/{}", self.0.dir.as_raw_fd())) {
            // An empty root has no `/proc`; in a folder of ours nobody but us exchanges anything.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_ours() => {
                fs::canonicalize(&self.0.path)
            }
            path => path,
        };
        path.map_err(|error| FolderError::Io { what: "find", path: self.0.path.clone(), error })
    }

    /// A file to write to, made where it is not there, for its owner alone.
    pub fn open_or_make(&self, name: &str) -> Result<File, FolderError> {
        self.open_made(name, OFlags::RDWR, "open")
    }

    /// A file to write behind its end.
    pub fn appendable(&self, name: &str) -> Result<File, FolderError> {
        self.open_made(name, OFlags::WRONLY | OFlags::APPEND, "write")
    }

    /// A file that was not there.
    pub fn make_new(&self, name: &str) -> Result<File, FolderError> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, "make").map(|found| found.file)
    }

    /// A file that is not there yet, and stays ours until it is handed over: what it holds is not known to be the owner's yet.
    pub fn make_ours(&self, name: &str) -> Result<File, FolderError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0.dir, name, flags, PRIVATE).map_err(self.fault("make", name))?;
        Ok(file.into())
    }

    /// Gives such a file to the folder's owner.
    pub fn hand_over(&self, file: &File, name: &str) -> Result<(), FolderError> {
        self.0.owner.take(file).map_err(self.fault("hand over", name))
    }

    /// Opens a file that somebody names, to read all of it. Root for somebody else takes it from where it is, and through no link: whoever
    /// lays one chooses what is read.
    pub fn open_from(&self, path: &Path) -> Result<File, FolderError> {
        let fault =
            |error: Errno| FolderError::Io { what: "read", path: path.to_owned(), error: error.into() };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = if self.is_ours() { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
        let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve);
        let file = File::from(opened.map_err(|error| match error {
            Errno::LOOP => FolderError::Link(path.to_owned()),
            error => fault(error),
        })?);
        let meta = file.metadata();
        let meta = meta.map_err(|error| FolderError::Io { what: "read", path: path.to_owned(), error })?;
        if !meta.is_file() || (meta.nlink() != 1 && !self.is_ours()) {
            return Err(FolderError::Odd(path.to_owned()));
        }
        Ok(file)
    }

    /// A file with this content, whole or not at all: a crash in between leaves no half.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), FolderError> {
        let draft = format!("{name}.{}", std::process::id());
        self.write_draft(&draft, content)?;
        self.rename(&draft, name)
    }

    /// A new file with this content, on the disk; what a crash left under its name is made anew.
    pub fn write_draft(&self, draft: &str, content: &[u8]) -> Result<(), FolderError> {
        self.remove(draft)?;
        let mut file = self.make_new(draft)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(|error| FolderError::Io { what: "write", path: self.at(draft), error })
    }

    /// Gives a file a name, unless something has it: `false`.
    pub fn rename_new(&self, from: &str, to: &str) -> Result<bool, FolderError> {
        match rustix::fs::renameat_with(&self.0.dir, from, &self.0.dir, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(self.fault("write", to)(error)),
        }
    }

    /// Gives what is under a name another one. A link is moved, and not what it leads to.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        rustix::fs::renameat(&self.0.dir, from, &self.0.dir, to).map_err(self.fault("rename", from))
    }

    /// Removes a file, if it is there. A link is removed, and not what it leads to.
    pub fn remove(&self, name: &str) -> Result<(), FolderError> {
        match rustix::fs::unlinkat(&self.0.dir, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(self.fault("remove", name)(error)),
            _ => Ok(()),
        }
    }

    /// The folder below this one, made where it is not there.
    pub fn below(&self, name: &str) -> Result<Self, FolderError> {
        let fault = self.fault("open", name);
        let made = match rustix::fs::mkdirat(&self.0.dir, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(self.fault("create", name)(error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.0.dir, name, flags, Mode::empty()).map_err(&fault)?;
        if made {
            self.0.owner.take(&dir).map_err(&fault)?;
        }
        let stat = rustix::fs::fstat(&dir).map_err(&fault)?;
        let (path, owner) = (self.at(name), self.0.owner);
        match (stat.st_uid, stat.st_mode & 0o022) {
            (uid, _) if uid != owner.uid => Err(FolderError::Owner { path, owner: uid, folder: owner.uid }),
            (_, 0) => Ok(Self(Arc::new(Held { dir, path, owner }))),
            _ => Err(FolderError::Open { path }),
        }
    }

    /// The names in it.
    pub fn names(&self) -> Result<Vec<String>, FolderError> {
        let fault = self.fault("look into", "");
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0.dir).map_err(&fault)? {
            if let Ok(name) = entry.map_err(&fault)?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What was renamed and made is on the disk.
    pub fn sync(&self) -> Result<(), FolderError> {
        rustix::fs::fsync(&self.0.dir).map_err(self.fault("write", ""))
    }
}

#[cfg(test)]
mod tests;

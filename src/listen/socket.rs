//! A Unix socket beside the port: the file's permissions decide who may connect.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{UnixListener, UnixStream as Accepted};

/// A bound socket. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor's file is not ours to remove.
    identity: (u64, u64),
}

impl Socket {
    /// Binds with these permissions, in place of a file that nobody listens behind. Must run in a runtime.
    ///
    /// It is bound within a folder that is ours alone, and moved when its permissions are right: it is never there with others, and a
    /// successor takes over without a moment in which nobody listens.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        make_way(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let private = Private::new(PathBuf::from(name))?;
        let fresh = private.0.join("s");
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
        let meta = fs::symlink_metadata(&fresh)?;
        fs::rename(&fresh, path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (meta.dev(), meta.ino()) })
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Is there nothing, or a socket that nobody listens behind? Whatever else lies there is not ours to replace.
fn make_way(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if !meta.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Never waits: a listener whose backlog is full is one all the same.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let knock = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&knock, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(other) => Err(other.into()),
    }
}

/// A folder of ours, gone with this.
struct Private(PathBuf);

impl Private {
    fn new(path: PathBuf) -> io::Result<Self> {
        // In a container our number is always the same: what we left when we were killed is ours to take away.
        drop(Self(path.clone()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Where binding failed, nothing is in it.
        let _gone = fs::remove_file(self.0.join("s"));
        let _gone = fs::remove_dir(&self.0);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity) {
            // It may be gone already.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

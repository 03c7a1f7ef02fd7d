//! A Unix socket beside the port: the file's permissions decide who may connect.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

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
    /// It is bound under another name and renamed, so that it is never there with other permissions, and a successor takes over without a
    /// moment in which nobody listens.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            Err(_) => {}
        }
        // Whatever else lies there is not ours to replace.
        if fs::symlink_metadata(path).is_ok_and(|meta| !is_socket(&meta)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(name);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
        fs::rename(&fresh, path)?;
        let meta = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: (meta.dev(), meta.ino()) })
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

fn is_socket(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_socket()
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity) {
            // It may be gone already.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

//! Why the data folder, or a file in it, is not used: what was found, and the command that mends it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the folder, or a file in it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be opened, made, written.
    #[error("cannot {what} {path}: {}", said(.error))]
    Io {
        /// The attempt.
        what: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Whoever can write to it can take its place.
    #[error("the data folder {shown} can be written by others; run: chmod go-w {shown} (where that has no effect, let data.dir name another folder)", shown = .path.display())]
    Open {
        /// The folder.
        path: PathBuf,
    },
    /// It is somebody else's, as is a folder above it.
    #[error("the data folder {} belongs to uid {owner}, and others than root could put another in its place ({}); work in it as that user: sudo -u '#{owner}' portcullis …", .path.display(), .above.display())]
    Movable {
        /// The folder.
        path: PathBuf,
        /// The one above.
        above: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is somebody else's, and we are not root.
    #[error("the data folder {shown} belongs to uid {owner}, and this is uid {us}; {}", whose(*owner, *us, .path), shown = .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs.
        us: u32,
    },
    /// A file that its folder's owner did not make.
    #[error("{shown} belongs to uid {owner}, and its folder to uid {folder}; if it is the gateway's own: chown {folder} {shown}", shown = .path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        folder: u32,
    },
    /// A way to a file that somebody else may have laid.
    #[error("{} is a link, or is reached through one, and root follows none for somebody else; name the file itself", .0.display())]
    Link(PathBuf),
    /// It leads somewhere else.
    #[error("{} must be a regular file with one name, not a link, a folder or a device; move it away", .0.display())]
    Odd(PathBuf),
    /// Others could read a secret.
    #[error("{path} can be read by others; run: chmod 600 {path}", path = .0.display())]
    Mode(PathBuf),
}

/// A service's folder is for its user; one of root's was mostly made by accident.
fn whose(owner: u32, us: u32, path: &Path) -> String {
    if owner == 0 {
        format!("if it is meant for this user: chown -R {us} {}", path.display())
    } else {
        format!("run it as that user: sudo -u '#{owner}' portcullis …")
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".into(),
        kind => kind.to_string(),
    }
}

//! The generated key: made at first start, kept in clear in a file of mode 0600 in the data folder, the one key that is.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::key::{ApiKey, KeyError};

const FILE: &str = "generated.key";

/// Why there is no generated key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The folder or the file cannot be used.
    #[error("cannot {what} {path}: {}", .error.kind())]
    Io {
        /// The attempt.
        what: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could read it.
    #[error("{0} can be read by others; run: chmod 600 {0}")]
    Mode(PathBuf),
    /// The file holds something else.
    #[error("{0} holds no key; delete it to have a new one made")]
    Content(PathBuf),
    /// No random bytes.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The key of the data folder, made where there is none; `true`: it is new.
pub fn generated_key(folder: &Path) -> Result<(ApiKey, bool), KeyFileError> {
    let path = folder.join(FILE);
    let fault = |what, path: &Path| {
        let path = path.to_owned();
        move |error| KeyFileError::Io { what, path, error }
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mode = fs::metadata(&path).map_err(fault("read", &path))?.mode();
            if mode & 0o077 != 0 {
                return Err(KeyFileError::Mode(path));
            }
            let key = ApiKey::parse(text.trim()).map_err(|_| KeyFileError::Content(path))?;
            Ok((key, false))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(fault("create", folder))?;
            let key = ApiKey::generate()?;
            write_new(folder, &path, &key).map_err(fault("write", &path))?;
            Ok((key, true))
        }
        Err(error) => Err(fault("read", &path)(error)),
    }
}

/// Whole or not at all: a crash in between leaves no half key.
fn write_new(folder: &Path, path: &Path, key: &ApiKey) -> io::Result<()> {
    let draft = folder.join(format!("{FILE}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", key.reveal())?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn made_once_and_only_for_its_owner() {
        let folder = std::env::temp_dir().join(format!("portcullis-key-{}", std::process::id()));
        let (first, new) = generated_key(&folder).unwrap();
        assert!(new);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(generated_key(&folder).unwrap(), (first, false));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(generated_key(&folder), Err(KeyFileError::Mode(_))));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(FILE), "nonsense").unwrap();
        assert!(matches!(generated_key(&folder), Err(KeyFileError::Content(_))));
        fs::remove_dir_all(folder).unwrap();
    }
}

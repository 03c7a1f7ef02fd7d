//! The generated key: made at first start, kept in clear in a file of mode 0600 in the data folder, the one key that is.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::issue;
use super::key::{ApiKey, KeyError};
use crate::store::{Store, StoreError};

/// In the data folder.
pub const FILE: &str = "generated.key";

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
    /// The store of the keys.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The key of the data folder, made at the first start; `true`: it is new. None where it was revoked.
pub fn generated_key(folder: &Path, store: &mut Store) -> Result<Option<(ApiKey, bool)>, KeyFileError> {
    let before = store.generated_key()?;
    if before.as_ref().is_some_and(|row| row.revoked_at.is_some()) {
        forget(folder)?;
        return Ok(None);
    }
    let (key, new) = match read(folder)? {
        Some(key) => (key, false),
        // Somebody deleted the file: nobody has the key any more, and its place is taken.
        None if before.is_some() => return Ok(None),
        None => (make(folder)?, true),
    };
    if before.is_none() {
        issue::adopt(store, &key)?;
    }
    Ok(Some((key, new)))
}

/// The key of the data folder is none any more.
pub fn forget(folder: &Path) -> Result<(), KeyFileError> {
    let path = folder.join(FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KeyFileError::Io { what: "remove", path, error })
        }
        _ => Ok(()),
    }
}

/// The key of the data folder has another secret now.
pub fn replace(folder: &Path, key: &ApiKey) -> Result<(), KeyFileError> {
    let path = folder.join(FILE);
    write_new(folder, &path, key).map_err(|error| KeyFileError::Io { what: "write", path, error })
}

/// The key that the file holds, if it is there.
pub fn read(folder: &Path) -> Result<Option<ApiKey>, KeyFileError> {
    let path = folder.join(FILE);
    let fault = |error| KeyFileError::Io { what: "read", path: path.clone(), error };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    if fs::metadata(&path).map_err(fault)?.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode(path));
    }
    ApiKey::parse(text.trim()).map(Some).map_err(|_| KeyFileError::Content(path))
}

fn make(folder: &Path) -> Result<ApiKey, KeyFileError> {
    let fault = |what, path: &Path, error| KeyFileError::Io { what, path: path.to_owned(), error };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| fault("create", folder, error))?;
    let (key, path) = (ApiKey::generate()?, folder.join(FILE));
    write_new(folder, &path, &key).map_err(|error| fault("write", &path, error))?;
    Ok(key)
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
        let mut store = Store::in_memory();
        let mut ask = || generated_key(&folder, &mut store);
        let (first, new) = ask().unwrap().unwrap();
        assert!(new);
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(ask().unwrap(), Some((first, false)));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(ask(), Err(KeyFileError::Mode(_))));
        fs::set_permissions(folder.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(FILE), "nonsense").unwrap();
        assert!(matches!(ask(), Err(KeyFileError::Content(_))));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_older_file_is_adopted_and_a_revoked_key_is_forgotten() {
        let folder = std::env::temp_dir().join(format!("portcullis-key-old-{}", std::process::id()));
        let (key, mut store) = (make(&folder).unwrap(), Store::in_memory());
        assert_eq!(generated_key(&folder, &mut store).unwrap(), Some((key.clone(), false)));
        assert_eq!(store.generated_key().unwrap().unwrap().id, key.id());
        store.revoke_key(key.id(), 5).unwrap();
        assert_eq!(generated_key(&folder, &mut store).unwrap(), None);
        assert!(!folder.join(FILE).exists(), "the file went with the key");
        assert_eq!(generated_key(&folder, &mut store).unwrap(), None, "no second one is made");
        fs::remove_dir_all(folder).unwrap();
    }
}
